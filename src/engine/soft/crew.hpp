// Crew: the vCPUs of one guest, and what they must tell each other because each translates code for itself.
// docs/adr/0009-many-processors.md has the protocol and why it is right.
//
// For every page of RAM it keeps who may have a write tag for it and who may have blocks of it. What one does
// to a page that concerns others is posted into their mailboxes; those who are in translated code at that
// time are made to come out of it; for write tags that is waited for. Everybody answers his mailbox before he enters
// translated code. What is said of translated code, tags and blocks goes for native code (engine/direct), and
// what its stub has mapped writable and executable.
//
// Threads: join() before any other; the rest the member's own. Devices that store to memory are
// vm/dma_tracker's: every member hears of it by Vcpu::memory_changed(). General registers only.
#pragma once

#include <array>
#include <atomic>
#include <memory>

#include "engine/context.hpp"
#include "engine/direct/direct.hpp"
#include "engine/soft/context.hpp"
#include "engine/soft/library.hpp"
#include "host/mapping.hpp"
#include "host/plain_lock.hpp"
#include "host/signals.hpp"

namespace nacre::soft {

class Crew final : public engine::Group {
 public:
  static constexpr unsigned kMost = 32;

  // What somebody wants of a member; the low bits of a page's address.
  struct Request {
    static constexpr u64 drop_blocks = 1, drop_write_tags = 2;
    static constexpr u64 all = drop_blocks | drop_write_tags;
  };
  struct Answer {
    u64 requests[16] = {};  // page | Request
    unsigned count = 0;
    u64 of_all_pages = 0;  // Request, when there were too many
  };

  static Result<std::unique_ptr<Crew>> create(const memory::AddressSpace& memory, unsigned members);

  [[nodiscard]] unsigned members() const { return count_; }
  // Of them all.
  [[nodiscard]] Library& library() { return *library_; }

  void join(unsigned me, Context& context);
  void leave(unsigned me);
  // Before the first run: whom to kick, and what its native code is stopped by (null: it has none).
  void on_thread(unsigned me, const host::KickableThread& thread, direct::Direct* direct);

  // The member is going to have a write tag for the page, unless this says that it holds code.
  [[nodiscard]] bool claim_write(unsigned me, u8* flags);
  // The member is going to read the page's bytes and translate them.
  struct CodeClaim {
    bool fresh = false;     // what it knew of them before, it must not use
    bool own_tags = false;  // it must drop its own write tags
  };
  CodeClaim claim_code(unsigned me, GuestPhysical page, u8* flags);
  // Bytes of a page with code were written by the member, which drops its own blocks of it.
  void code_written(unsigned me, GuestPhysical page, u8* flags);

  // Outside translated code, on the way in, after Context::exit_request was cleared; `requested`: it was set.
  // False: nothing is wanted.
  bool answer(unsigned me, bool requested, Answer& answer) {
    Member& own = members_[me];
    if (!requested && own.pending.load(std::memory_order_relaxed) == 0) return false;
    return take(own, answer);
  }

 private:
  struct alignas(64) Member {
    std::atomic<Context*> context = nullptr;
    std::atomic<u32> pending = 0;  // the mailbox is not empty
    std::atomic<u32> served = 0;   // grows after every request to come out, before the mailbox is looked into
    std::atomic<u32> awaited = 0;  // somebody sleeps on `served`
    std::atomic<u64> of_all_pages = 0;
    std::array<std::atomic<u64>, 16> mailbox = {};
    host::KickableThread thread;
    direct::Direct* direct = nullptr;
  };
  // Sets of members, of one page.
  struct Page {
    std::atomic<u32> writers, executors;
  };

  Crew(host::Mapping pages, std::unique_ptr<Library> library, const u8* first_flags, unsigned members)
      : pages_(std::move(pages)), library_(std::move(library)), first_flags_(first_flags), count_(members) {}

  // Held while a page's mark of code is set or taken away, and in the latter case until nobody runs the code any more: so
  // who writes there next either finds the mark, or nobody who would have to be told.
  [[nodiscard]] host::PlainLock& lock_of(const u8* flags) {
    return locks_[static_cast<usize>(flags - first_flags_) % kLocks].lock;
  }
  [[nodiscard]] Page& page(const u8* flags) const {
    return reinterpret_cast<Page*>(pages_.data())[flags - first_flags_];
  }
  static bool take(Member& own, Answer& answer);
  static void post(Member& to, u64 request);
  void forget_code(u32 but, GuestPhysical page, u8* flags);
  void shoot(u32 members, u64 request);
  static void wait(Member& member, u32 served);

  host::Mapping pages_;
  std::unique_ptr<Library> library_;
  const u8* first_flags_;
  unsigned count_;
  std::array<Member, kMost> members_;
  static constexpr usize kLocks = 64;
  struct alignas(64) PageLock {
    host::PlainLock lock;
  };
  std::array<PageLock, kLocks> locks_;
};

}  // namespace nacre::soft
