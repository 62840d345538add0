// Policy: which address spaces run directly. One whose user code a timer interrupts is tried: at once when it
// has had the processor to itself for a while, else at the second time in a row. It keeps a credit that
// native time fills and every way out of guest code costs. When that is used up, the translator has it for a
// while, each time for longer. So a program that computes is found within a timer tick, one that asks its
// kernel for things costs some tens of exits now and then, and one that gives way to others all the time is
// left alone. Owned by the vCPU's thread.
#pragma once

#include "base/types.hpp"

namespace nacre::direct {

class Policy {
 public:
  explicit Policy(u64 ticks_per_second) : millisecond_(static_cast<i64>(ticks_per_second / 1000)) {}

  // The guest has changed its address space. General registers only.
  void switched(u64 now) { switched_ = now; }

  // User code of this space was interrupted at `now` (host TSC).
  void interrupted(u64 cr3, u64 now) {
    cr3 = root(cr3);
    Space& space = at(cr3);
    if (space.cr3 != cr3) space = {.cr3 = cr3};
    const bool alone = since(now, switched_) > millisecond_;
    const bool again = space.last_seen != 0 && since(now, space.last_seen) < 40 * millisecond_;
    space.last_seen = now;
    if (!space.direct && (alone || again) && since(now, space.not_before) >= 0) {
      space.direct = true;
      space.credit = millisecond_;
    }
  }

  [[nodiscard]] bool direct(u64 cr3) const { return at(cr3).direct && at(cr3).cr3 == root(cr3); }

  // A stay in guest code has ended; `spent` ns of processor time in it (not of the clock: waking the stub
  // takes long on an idle host, and is a cost), `faults` pages asked for on the way; `from_nothing`: all
  // mappings had to be made anew, as after a switch of address spaces.
  void came_back(u64 cr3, u64 now, u64 spent, u64 faults, bool kicked, bool from_nothing) {
    cr3 = root(cr3);
    Space& space = at(cr3);
    if (space.cr3 != cr3) return;
    const i64 most = kMostCredit * millisecond_;
    const i64 longest = kMostCredit * 1'000'000;
    space.credit +=
        (static_cast<i64>(spent) < longest ? static_cast<i64>(spent) : longest) * millisecond_ / 1'000'000;
    space.credit -= static_cast<i64>(faults) * (millisecond_ / kFaultsPerMillisecond);
    if (from_nothing) space.credit -= millisecond_ / 10;
    if (!kicked) space.credit -= millisecond_ / kExitsPerMillisecond;
    if (space.credit > most) {
      space.credit = most;
      if (kicked) space.backed_off = 0;
    }
    if (space.credit < 0) stay_away(space, now);
  }

  // What this space runs now cannot run directly; it may come to something else soon.
  void refuse(u64 cr3, u64 now) {
    cr3 = root(cr3);
    Space& space = at(cr3);
    if (space.cr3 != cr3) return;
    space.direct = false;
    space.not_before = now + static_cast<u64>(20 * millisecond_);
  }

 private:
  struct Space {
    u64 cr3 = ~u64{0};
    u64 last_seen = 0, not_before = 0;
    i64 credit = 0;  // TSC ticks
    u32 backed_off = 0;
    bool direct = false;
  };
  static constexpr i64 kMostCredit = 2;            // ms
  static constexpr i64 kExitsPerMillisecond = 50;  // at which nothing is won
  static constexpr i64 kFaultsPerMillisecond = 80;
  static constexpr u32 kMostBackOff = 6;
  static constexpr usize kSpaces = 64;

  // The PCID in its low bits is another each time the guest has run out of them.
  static u64 root(u64 cr3) { return cr3 & ~u64{kPageSize - 1}; }
  static i64 since(u64 now, u64 then) { return static_cast<i64>(now - then); }
  Space& at(u64 cr3) { return spaces_[(cr3 >> 12) % kSpaces]; }
  [[nodiscard]] const Space& at(u64 cr3) const { return spaces_[(cr3 >> 12) % kSpaces]; }
  void stay_away(Space& space, u64 now) {
    space.direct = false;
    space.last_seen = 0;
    space.not_before = now + (static_cast<u64>(20 * millisecond_) << space.backed_off);
    if (space.backed_off < kMostBackOff) space.backed_off++;
  }

  i64 millisecond_;
  u64 switched_ = 0;
  Space spaces_[kSpaces];
};

}  // namespace nacre::direct
