#include "engine/soft/crew.hpp"

#include <linux/membarrier.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <mutex>

#include "host/futex.hpp"

namespace nacre::soft {
namespace {

constexpr u32 bit(unsigned member) {
  return u32{1} << member;
}

// One of 1 GiB with systemd fills it.
usize library_bytes(usize ram) {
  constexpr usize kLeast = 8 * kMiB, kMost = 256 * kMiB;
  const usize bytes = ram / 16;
  return bytes < kLeast ? kLeast : bytes > kMost ? kMost : bytes;
}

// Every running thread of the process passes a full fence between the call and the return.
void fence_all() {
  syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
}

u32 inside(const Context& context) {
  return __atomic_load_n(&context.inside, __ATOMIC_ACQUIRE);
}

}  // namespace

Result<std::unique_ptr<Crew>> Crew::create(const memory::AddressSpace& memory, unsigned members) {
  NACRE_CHECK(members <= kMost);
  // RAM's flags are one array, whatever holes lie between its regions; in tests it may have some of its own.
  const u8* first = nullptr;
  const u8* end = nullptr;
  for (usize i = 0; i < memory.region_count(); ++i) {
    const memory::Region& region = memory.region(i);
    if (region.page_flags == nullptr) continue;
    const u8* region_end = region.page_flags + (region.size >> kPageShift);
    if (first == nullptr || region.page_flags < first) first = region.page_flags;
    if (end == nullptr || region_end > end) end = region_end;
  }
  const usize bytes = members == 1 ? 0 : static_cast<usize>(end - first) * sizeof(Page);
  auto pages = TRY(host::Mapping::anonymous((bytes + kPageSize) & ~(kPageSize - 1)));
  // While there is one thread this is quick; later it would wait for all processors.
  if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) != 0 && members > 1)
    return Error(
        "engine soft needs membarrier(2) for several processors, which this host refuses; use --cpus 1");
  auto library = TRY(Library::create(library_bytes(static_cast<usize>(end - first) << kPageShift)));
  return std::unique_ptr<Crew>(new Crew(std::move(pages), std::move(library), first, members));
}

void Crew::join(unsigned me, Context& context) {
  members_[me].context.store(&context);
}

void Crew::leave(unsigned me) {
  members_[me].context.store(nullptr);
}

void Crew::on_thread(unsigned me, const host::KickableThread& thread, direct::Direct* direct) {
  members_[me].thread = thread;
  members_[me].direct = direct;
  members_[me].served.fetch_add(1);  // which is read before it
}

// Sets first, then looks: claim_code() does it the other way round, so one of the two sees the other.
bool Crew::claim_write(unsigned me, u8* flags) {
  if (count_ > 1) page(flags).writers.fetch_or(bit(me));
  const u8 now = __atomic_load_n(flags, __ATOMIC_SEQ_CST);
  if ((now & memory::PageFlag::code) != 0) return false;
  if ((now & memory::PageFlag::dirty) == 0)
    __atomic_fetch_or(flags, memory::PageFlag::dirty, __ATOMIC_RELAXED);
  return true;
}

Crew::CodeClaim Crew::claim_code(unsigned me, GuestPhysical address, u8* flags) {
  const u8 before = __atomic_load_n(flags, __ATOMIC_SEQ_CST);
  if (count_ == 1) {
    if ((before & memory::PageFlag::code) != 0) return {};
    __atomic_fetch_or(flags, memory::PageFlag::code, __ATOMIC_SEQ_CST);
    return {.fresh = true, .own_tags = true};
  }
  Page& sets = page(flags);
  if ((before & memory::PageFlag::code) != 0 && (sets.executors.load() & bit(me)) != 0) return {};
  {
    const std::lock_guard held(lock_of(flags));
    sets.executors.fetch_or(bit(me));
    __atomic_fetch_or(flags, memory::PageFlag::code, __ATOMIC_SEQ_CST);
  }
  // Who comes into the set from now on sees the flag. Those who were in it are told before anybody else could
  // clear the flag and let them in again.
  const u32 writers = sets.writers.exchange(0);
  shoot(writers & ~bit(me), address.value() | Request::drop_write_tags);
  return {.fresh = true, .own_tags = (writers & bit(me)) != 0};
}

void Crew::code_written(unsigned me, GuestPhysical address, u8* flags) {
  forget_code(bit(me), address, flags);
}

// Nobody waits for the lock in translated code, and only those in translated code are waited for.
void Crew::forget_code(u32 but, GuestPhysical address, u8* flags) {
  const std::lock_guard held(lock_of(flags));
  const u32 executors = count_ == 1 ? 0 : page(flags).executors.exchange(0);
  shoot(executors & ~but, address.value() | Request::drop_blocks);
  __atomic_fetch_and(flags, static_cast<u8>(~memory::PageFlag::code), __ATOMIC_SEQ_CST);
}

// A mailbox is a set: what is there already is exchanged for itself, so that whoever takes it has seen what
// we did.
void Crew::post(Member& to, u64 request) {
  bool posted = false;
  for (usize i = 0; i < to.mailbox.size() && !posted; ++i) {
    u64 there = to.mailbox[i].load(std::memory_order_relaxed);
    posted = (there == 0 || there == request) && to.mailbox[i].compare_exchange_strong(there, request);
  }
  if (!posted) to.of_all_pages.fetch_or(request & Request::all);
  to.pending.store(1);
}

bool Crew::take(Member& own, Answer& answer) {
  // Also when the mailbox is empty: what was posted may have been taken before its sender looked where we
  // are.
  own.served.fetch_add(1);
  own.pending.store(0);
  answer.count = 0;
  for (std::atomic<u64>& slot : own.mailbox) {
    if (slot.load(std::memory_order_relaxed) == 0) continue;
    answer.requests[answer.count++] = slot.exchange(0);
  }
  answer.of_all_pages = own.of_all_pages.exchange(0);
  if (own.awaited.load() != 0) host::futex_wake(own.served, 1 << 30);
  return answer.count != 0 || answer.of_all_pages != 0;
}

void Crew::shoot(u32 members, u64 request) {
  if (members == 0) return;
  for (u32 left = members; left != 0; left &= left - 1) {
    Member& member = members_[static_cast<unsigned>(__builtin_ctz(left))];
    post(member, request);
    if (Context* context = member.context.load())
      context->exit_request.store(1);
  }
  // Whoever goes in says so first and looks for a request then, with plain accesses: after this, either he
  // has seen the request or we see him.
  fence_all();
  u32 kicked = 0, to_be_seen_outside = 0;
  u32 served[kMost];
  for (u32 left = members; left != 0; left &= left - 1) {
    const auto i = static_cast<unsigned>(__builtin_ctz(left));
    Context* context = members_[i].context.load();
    served[i] = members_[i].served.load();
    const u32 where = context == nullptr ? 0 : inside(*context);
    if (where == 0) continue;
    // Native code that has gone on to the translator meanwhile has looked into its mailbox on the way. It may have done so
    // before it went in, too, and before `served` was read: then nothing is requested any more, and the stop not heeded.
    if (where == direct::Direct::kInside) {
      context->exit_request.store(1);
      members_[i].direct->interrupt();
      to_be_seen_outside |= bit(i);
    } else if (!members_[i].thread.kick() || (request & Request::drop_write_tags) != 0) {
      to_be_seen_outside |= bit(i);
    }
    kicked |= bit(i);
  }
  // A thread takes a signal before it goes on in user mode, and after this every one has been in the kernel since it was
  // kicked, or is not running. So no translated code runs on, but for what is left of an instruction that was begun: and
  // that may be as it was. It must not be a store to what is code now, so that is waited for.
  if (kicked != to_be_seen_outside) fence_all();
  for (u32 left = to_be_seen_outside; left != 0; left &= left - 1) {
    const auto i = static_cast<unsigned>(__builtin_ctz(left));
    wait(members_[i], served[i]);
  }
}

// Until the member has been outside.
void Crew::wait(Member& member, u32 served) {
  constexpr unsigned kSpins = 500;  // some ten microseconds: a signal's way, when its thread is running
  constexpr u64 kNap = 1'000'000;  // ns
  for (unsigned n = 0;; ++n) {
    const Context* context = member.context.load();
    if (context == nullptr || inside(*context) == 0 || member.served.load() != served) return;
    if (n < kSpins) {
      __builtin_ia32_pause();
      continue;
    }
    member.awaited.fetch_add(1);
    if (inside(*context) != 0) host::futex_wait(member.served, served, kNap);
    member.awaited.fetch_sub(1);
  }
}

}  // namespace nacre::soft
