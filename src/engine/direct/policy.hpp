// Policy: which address spaces run directly. To begin costs: every page that a program touches is a fault
// first. So a space is given a credit in proportion to what its user code has computed under the translator,
// and from then on its account is kept in measured processor time: what native code saves against what the
// way in and out, the faults and the waking cost. When the account is empty, the translator has it back, and
// each next try takes twice as much computing to earn. So a program that computes is found within a few timer
// ticks, one that asks its kernel for things or changes its mappings all the time is left alone, and no more
// than about an eighth of its time is ever lost by trying. Owned by the vCPU's thread.
#pragma once

#include "base/types.hpp"

namespace nacre::direct {

// What a stay in guest code, or several, took; ns of processor time.
struct Stay {
  u64 native = 0;  // in guest code
  u64 spent = 0;   // in all, by both processes
  u64 wakes = 0;   // times that one waited for the other, which an idle host takes its time for
};

class Policy {
 public:
  explicit Policy(u64 ticks_per_second) : millisecond_(static_cast<i64>(ticks_per_second / 1000)) {}

  // The guest has changed its address space. General registers only.
  void switched(u64 now) { switched_ = now; }

  // User code of this space was interrupted at `now` (host TSC), in the translator or natively.
  void interrupted(u64 cr3, u64 now) {
    cr3 = root(cr3);
    Space& space = at(cr3);
    if (space.cr3 != cr3) space = {.cr3 = cr3};
    const u64 since = later(space.seen, switched_);
    space.seen = now;
    if (space.direct) return;
    space.computed += at_most(static_cast<i64>(now - since), kLongestTick * millisecond_);
    if (static_cast<i64>(now - space.not_before) < 0) return;
    const i64 credit = space.computed >> (kShare + space.backed_off);
    if (credit < millisecond_ / 2) return;
    space.direct = true;
    space.credit = credit;
    space.computed = 0;
  }

  [[nodiscard]] bool direct(u64 cr3) const { return at(cr3).direct && at(cr3).cr3 == root(cr3); }

  // Whether a stay that is not over has used up the credit.
  [[nodiscard]] bool used_up(u64 cr3, const Stay& stay) const {
    const Space& space = at(cr3);
    return space.cr3 == root(cr3) && space.credit + gain(stay) < 0;
  }

  // A stay is over.
  void came_back(u64 cr3, const Stay& stay) {
    cr3 = root(cr3);
    Space& space = at(cr3);
    if (space.cr3 != cr3) return;
    space.credit += gain(stay);
    if (space.credit > kMostCredit * millisecond_) {
      space.credit = kMostCredit * millisecond_;
      space.backed_off = 0;
    }
    if (space.credit < 0) {
      space.direct = false;
      space.computed = 0;
      if (space.backed_off < kMostBackOff) space.backed_off++;
    }
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
    u64 seen = 0, not_before = 0;
    i64 computed = 0, credit = 0;  // TSC ticks
    u32 backed_off = 0;
    bool direct = false;
  };
  static constexpr unsigned kShare = 3;    // as a shift: of what it has computed
  static constexpr i64 kLongestTick = 10;  // ms; longer, and it slept in between
  static constexpr i64 kMostCredit = 4;    // ms
  static constexpr i64 kWakeCost = 5'000;  // ns
  static constexpr u32 kMostBackOff = 7;
  static constexpr usize kSpaces = 64;

  // The PCID in its low bits is another each time the guest has run out of them.
  static u64 root(u64 cr3) { return cr3 & ~u64{kPageSize - 1}; }
  static u64 later(u64 a, u64 b) { return static_cast<i64>(a - b) > 0 ? a : b; }
  static i64 at_most(i64 value, i64 most) { return value < 0 ? 0 : value < most ? value : most; }
  Space& at(u64 cr3) { return spaces_[(cr3 >> 12) % kSpaces]; }
  [[nodiscard]] const Space& at(u64 cr3) const { return spaces_[(cr3 >> 12) % kSpaces]; }
  // TSC ticks won: the translator would have taken at least twice the native time (docs/adr/0010).
  [[nodiscard]] i64 gain(const Stay& stay) const {
    const i64 ns = 2 * static_cast<i64>(stay.native) - static_cast<i64>(stay.spent) -
                   static_cast<i64>(stay.wakes) * kWakeCost;
    const i64 counted = ns > kLongest ? kLongest : ns < -kLongest ? -kLongest : ns;
    return counted / 1000 * millisecond_ / 1000;
  }
  static constexpr i64 kLongest = 1'000'000'000;  // ns that a stay may count for

  i64 millisecond_;
  u64 switched_ = 0;
  Space spaces_[kSpaces];
};

}  // namespace nacre::direct
