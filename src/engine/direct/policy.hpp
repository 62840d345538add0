// Policy: which address spaces run directly. One that has been computing at two looks in a row (timer ticks) is
// tried; it keeps a credit that native time fills and every way out of guest code costs. When that is used up,
// the translator has it for a while, each time for longer. Owned by the vCPU's thread.
#pragma once

#include "base/types.hpp"

namespace nacre::direct {

class Policy {
 public:
  explicit Policy(u64 ticks_per_second) : millisecond_(ticks_per_second / 1000) {}

  // User code of this space was interrupted at `now` (host TSC).
  void interrupted(u64 cr3, u64 now) {
    Space& space = at(cr3);
    if (space.cr3 != cr3) space = {.cr3 = cr3};
    if (now - space.last_seen > 40 * millisecond_) space.seen = 0;
    space.last_seen = now;
    if (space.seen < kEnough) space.seen++;
    if (!space.direct && space.seen == kEnough && static_cast<i64>(now - space.not_before) >= 0) {
      space.direct = true;
      space.credit = static_cast<i64>(kMostCredit * millisecond_);
    }
  }

  [[nodiscard]] bool direct(u64 cr3) { return at(cr3).cr3 == cr3 && at(cr3).direct; }

  // A stay in guest code has ended; `spent` native time, `faults` pages asked for on the way; `from_nothing`: all
  // mappings had to be made anew, as after a switch of address spaces.
  void came_back(u64 cr3, u64 now, u64 spent, u64 faults, bool kicked, bool from_nothing) {
    Space& space = at(cr3);
    if (space.cr3 != cr3) return;
    const i64 millisecond = static_cast<i64>(millisecond_);
    space.credit += static_cast<i64>(spent) - static_cast<i64>(faults) * millisecond / 50;
    if (from_nothing) space.credit -= millisecond / 5;
    if (!kicked) space.credit -= millisecond / 20;
    // Time on a busy host counts what the guest did not have; so there is a limit of another kind as well.
    space.exits = kicked ? 0 : space.exits + 1;
    if (space.exits > kMostExits) space.credit = -1;
    if (space.credit > kMostCredit * millisecond) {
      space.credit = kMostCredit * millisecond;
      if (kicked) space.backed_off = 0;
    }
    if (space.credit < 0) stay_away(space, now);
  }

  // What this space runs now cannot run directly; it may come to something else soon.
  void refuse(u64 cr3, u64 now) {
    Space& space = at(cr3);
    if (space.cr3 != cr3) return;
    space.direct = false;
    space.exits = 0;
    space.not_before = now + 20 * millisecond_;
  }

 private:
  struct Space {
    u64 cr3 = ~u64{0};
    u64 last_seen = 0, not_before = 0;
    i64 credit = 0;  // TSC ticks
    u32 seen = 0, backed_off = 0, exits = 0;
    bool direct = false;
  };
  static constexpr u32 kEnough = 2;
  static constexpr i64 kMostCredit = 2;  // ms
  static constexpr u32 kMostExits = 24;  // between two interruptions
  static constexpr u32 kMostBackOff = 6;
  static constexpr usize kSpaces = 64;

  Space& at(u64 cr3) { return spaces_[(cr3 >> 12) % kSpaces]; }
  void stay_away(Space& space, u64 now) {
    space.direct = false;
    space.seen = 0;
    space.exits = 0;
    space.not_before = now + ((20 * millisecond_) << space.backed_off);
    if (space.backed_off < kMostBackOff) space.backed_off++;
  }

  u64 millisecond_;
  Space spaces_[kSpaces];
};

}  // namespace nacre::direct
