// TscClock: virtual time made from the host's time stamp counter, so that the guest's TSC and every other
// clock of its machine run in step, and reading the time is no system call. now() and tsc() may be called
// from any thread; they use general registers only.
#pragma once

#include <x86intrin.h>

#include "base/types.hpp"

namespace nacre::host {

// The two clocks read at the same instant.
struct ClockPair {
  u64 tsc = 0;
  u64 monotonic_ns = 0;  // CLOCK_MONOTONIC
  static ClockPair read();
};

// The counter's frequency: what the kernel found at its boot, when /proc/cpuinfo tells it and `since` (taken
// a millisecond or more ago) agrees; measured against `since` otherwise. Takes some 50 µs.
u64 tsc_frequency(const ClockPair& since);

class TscClock {
 public:
  // Time starts now at 0, and passes 2^slower times slower than the host's.
  explicit TscClock(u64 hz, unsigned slower = 0);

  [[nodiscard]] u64 hz() const { return hz_; }
  // The host's counter, unless time was slowed down.
  [[nodiscard]] u64 tsc() const {
    const u64 count = __rdtsc();
    return slower_ == 0 ? count : start_ + static_cast<u64>(static_cast<i64>(count - start_) >> slower_);
  }
  // How long the host must wait for these nanoseconds to pass here.
  [[nodiscard]] u64 on_host(u64 ns) const { return ns > ~u64{0} >> slower_ ? ~u64{0} : ns << slower_; }
  [[nodiscard]] u64 now() const { return at(tsc()); }
  // What now() is, was or will be when the counter shows `count`.
  [[nodiscard]] u64 at(u64 count) const {
    const u64 passed = count - start_;
    // A thread may have moved to a processor whose counter is a few ticks behind.
    if (static_cast<i64>(passed) < 0) return 0;
    return static_cast<u64>(static_cast<u128>(passed) * multiplier_ >> 32);
  }

 private:
  u64 hz_;
  u64 multiplier_;  // ns per tick, times 2^32
  u64 start_;
  unsigned slower_;
};

}  // namespace nacre::host
