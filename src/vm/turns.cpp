#include "vm/turns.hpp"

#include "host/futex.hpp"

namespace nacre::vm {
namespace {

// ns. A turn is worth taking from somebody who has had so much more than who wants it.
constexpr u64 kSlice = 1'000'000;
// What is left to who has slept of what it did not use: enough to come before those who compute.
constexpr u64 kSlept = 2'000'000;
// From then on a kernel that can be interrupted is good enough, or anything.
constexpr u64 kPolite = 500'000, kPatient = 5'000'000;
// The shortest wait before asking again.
constexpr u64 kAgain = 100'000;

constexpr u32 bit(unsigned i) {
  return u32{1} << i;
}

}  // namespace

Turns::Asked Turns::how_much(unsigned i) const {
  const u64 since = members_[i].asked_at.load(std::memory_order_relaxed), now = clock_();
  const u64 waited = now > since ? now - since : 0;
  if (waited < kPolite) return Asked::InUserMode;
  return waited < kPatient ? Asked::WithInterruptsOn : Asked::AtOnce;
}

u64 Turns::used_by_now(unsigned i, u64 now) const {
  const Member& member = members_[i];
  const bool running = (running_ & bit(i)) != 0;
  return member.used + (running && now > member.taken_at ? now - member.taken_at : 0);
}

// Of a set that is not empty.
unsigned Turns::who_used(u32 set, bool most, u64 now) const {
  auto found = static_cast<unsigned>(__builtin_ctz(set));
  for (u32 left = set & (set - 1); left != 0; left &= left - 1) {
    const auto i = static_cast<unsigned>(__builtin_ctz(left));
    const u64 used = used_by_now(i, now), best = used_by_now(found, now);
    if (most ? used > best : used < best) found = i;
  }
  return found;
}

void Turns::grant(unsigned i, u64 now) {
  --free_;
  running_ |= bit(i);
  waiting_ &= ~bit(i);
  members_[i].taken_at = now;
  members_[i].asked_at.store(0, std::memory_order_relaxed);
  if (members_[i].used > floor_) floor_ = members_[i].used;
}

// Whose turn i is to have, if anybody's (-1: nobody's yet), and how long to wait before looking again.
u64 Turns::ask_for_one(unsigned i, u64 now, int& whom) {
  whom = -1;
  const unsigned victim = who_used(running_, true, now);
  const u64 had = used_by_now(victim, now), due = members_[i].used + kSlice;
  if (had < due) return due - had < kAgain ? kAgain : due - had;
  if (members_[victim].asked_at.load(std::memory_order_relaxed) == 0)
    members_[victim].asked_at.store(now | 1, std::memory_order_relaxed);
  whom = static_cast<int>(victim);
  return kAgain;
}

u64 Turns::take(unsigned i) {
  Member& own = members_[i];
  std::unique_lock held(lock_);
  const u64 began = clock_();
  u64 now = began;
  const u64 least = floor_ > kSlept ? floor_ - kSlept : 0;
  if (own.used < least) own.used = least;
  own.has_turn = true;
  if (free_ != 0) {
    grant(i, now);
    return 0;
  }
  own.granted.store(0);
  waiting_ |= bit(i);
  while ((running_ & bit(i)) == 0) {
    int whom = -1;
    const u64 wait = ask_for_one(i, now, whom);
    held.unlock();
    if (whom >= 0) kick_(static_cast<unsigned>(whom));
    host::futex_wait(own.granted, 0, wait);
    held.lock();
    now = clock_();
  }
  return now - began;
}

void Turns::give(unsigned i) {
  Member& own = members_[i];
  std::unique_lock held(lock_);
  const u64 now = clock_();
  own.used = used_by_now(i, now);
  own.has_turn = false;
  own.asked_at.store(0, std::memory_order_relaxed);
  running_ &= ~bit(i);
  ++free_;
  if (waiting_ == 0) return;
  const unsigned next = who_used(waiting_, false, now);
  grant(next, now);
  members_[next].granted.store(1);
  held.unlock();
  host::futex_wake(members_[next].granted, 1);
}

}  // namespace nacre::vm
