// Mappings: which pages of guest RAM the stub has mapped where, and the orders that change it. Pages are
// mapped when they are first touched, with a few neighbours, as the guest's page tables allow; what a flush
// makes stale goes before the guest's next user instruction. A page is never writable and executable: one
// that runs is marked PageFlag::code like one that was translated, so that every write to it is noticed. One
// with instructions that must not run natively runs as a copy in which they trap (page_scan.hpp). Other vCPUs
// hear of what is mapped writable or runs by PageClaims, and say through the engine what is to be forgotten.
// Owned by the vCPU's thread.
#pragma once

#include <unordered_map>

#include "cpu/mmu.hpp"
#include "engine/direct/protocol.hpp"
#include "engine/direct/stub_process.hpp"

namespace nacre::direct {

// The engine, which keeps writers and code of a page apart: its own and those of other vCPUs.
class PageClaims {
 public:
  // The stub is going to have the page writable, and forgets it when the engine says so. False: the page holds code.
  virtual bool claim_write(u8* flags) = 0;
  // The page is marked as code, and nobody writes to it past the engine from now on: its bytes may be read, and
  // run. True: what was known of them before does not hold.
  virtual bool claim_code(GuestPhysical page, const u8* host_page, u8* flags) = 0;

 protected:
  ~PageClaims() = default;
};

class Mappings {
 public:
  Mappings(const memory::AddressSpace& memory, cpu::TranslationObserver& observer, PageClaims& claims);

  // Where copies of pages are; nothing runs as a copy before.
  void set_copies(u8* first) { copies_ = first; }

  // Where the stub itself is: nothing is ever mapped near it.
  void set_forbidden(u64 start, u64 bytes);
  // Nothing is mapped (a new stub).
  void reset();

  // These only take note, without allocating: they are called while vector registers are the guest's.
  void forget_all() { all_ = true; }
  void forget_all_code() { all_ = all_code_ = true; }
  void forget_page(u64 linear);
  void forget_physical(u64 page);

  // Writes the orders for what was forgotten, at most kMaxForgotten of them; returns how many.
  [[nodiscard]] u32 catch_up(Order* orders);
  static constexpr u32 kMaxForgotten = 64;

  // The stub lacks a page that guest code wants. Writes orders that give it, at most `room` (>= 1). 0: guest
  // code may not, or not natively; the interpreter must do the instruction.
  [[nodiscard]] u32 serve(const cpu::State& state, u64 address, cpu::AccessType type, Order* orders,
                          u32 room);

  // How `linear` is mapped: PROT_*, 0 for not at all.
  [[nodiscard]] u32 protection(u64 linear) const;

  [[nodiscard]] usize pages() const { return pages_.size(); }

 private:
  struct Page {
    u64 physical = 0;
    u32 protection = 0;
  };
  [[nodiscard]] bool forbidden(u64 linear) const { return linear - forbidden_start_ < forbidden_bytes_; }
  [[nodiscard]] bool to_file(u64 physical, u64& offset) const;
  // Where a page is to come from. Protection 0: from nowhere.
  struct Source {
    u32 protection = 0;
    int file = kRamFile;
    u64 offset = 0;
  };
  [[nodiscard]] Source source(u64 linear, const cpu::Translation& page, cpu::AccessType type);
  [[nodiscard]] bool may_run(u64 linear, u64 physical, bool writable, Source& source);
  [[nodiscard]] i32 look_at_code(u64 physical, const u8* host, bool writable);
  void forget_code(u64 physical);
  [[nodiscard]] bool seam_is_clean(u64 first, u64 second) const;
  void note(u64 linear, u64 physical, u32 protection);
  void drop(u64 linear);

  const memory::AddressSpace& memory_;
  cpu::TranslationObserver& observer_;
  PageClaims& claims_;
  const u8* ram_ = nullptr;  // where the file's first byte is mapped here
  u64 forbidden_start_ = 0, forbidden_bytes_ = 0;

  std::unordered_map<u64, Page> pages_;         // by linear address
  std::unordered_multimap<u64, u64> physical_;  // the other way round
  static constexpr i32 kAsItIs = -1, kNever = -2;
  std::unordered_map<u64, i32>
      code_;  // by physical address, while marked as code: its copy, kAsItIs or kNever
  u8* copies_ = nullptr;
  u32 free_copies_ = 0;
  u16 free_copy_[kCopies] = {};

  bool large_ =
      false;  // something is mapped out of a large page: INVLPG of any address in it flushes all of it
  bool all_ = false, all_code_ = false;
  u32 linear_count_ = 0, physical_count_ = 0;
  u64 forgotten_linear_[16] = {};
  u64 forgotten_physical_[16] = {};
};

}  // namespace nacre::direct
