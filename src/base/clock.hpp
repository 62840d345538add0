// Clock: the port through which devices learn the time. Virtual nanoseconds since the machine was
// powered on: monotonic, stopped while the machine is paused, saved and restored with it. Devices
// that act by themselves say when (next_deadline) and are called (advance); they own no thread and
// no host timer. Freestanding; called under the lock of whoever owns the device.
#pragma once

#include "base/types.hpp"

namespace nacre::time {

inline constexpr u64 kNever = ~u64{0};
inline constexpr u64 kNsPerSecond = 1'000'000'000;

class Clock {
 public:
  virtual u64 now_ns() = 0;

 protected:
  ~Clock() = default;
};

// An instant as a time stamp counter and a Clock show it.
struct Instant {
  u64 tsc = 0;
  u64 ns = 0;
};

// The date: nanoseconds since 1970-01-01 00:00 UTC. May jump, unlike Clock.
class WallClock {
 public:
  virtual u64 unix_ns() = 0;

 protected:
  ~WallClock() = default;
};

// value * multiplier / divisor, rounded down, without a 128-bit division (which would need a library
// that the bare-metal build does not have). Exact while divisor * multiplier < 2^64; saturates.
constexpr u64 scale(u64 value, u64 multiplier, u64 divisor) {
  const u64 whole = value / divisor;
  const u64 part = (value % divisor) * multiplier / divisor;
  if (multiplier != 0 && whole > (~u64{0} - part) / multiplier) return ~u64{0};
  return whole * multiplier + part;
}
constexpr u64 scale_up(u64 value, u64 multiplier, u64 divisor) {
  const u64 low = scale(value, multiplier, divisor);
  const bool exact = (value % divisor) * multiplier % divisor == 0;
  return exact || low == ~u64{0} ? low : low + 1;
}
// a + b, or kNever when that does not fit.
constexpr u64 add_saturating(u64 a, u64 b) {
  return a > ~b ? ~u64{0} : a + b;
}

// The tick of a counter that runs at `hz` from time 0, and the first instant at which it shows `tick`.
constexpr u64 ticks_at(u64 ns, u64 hz) {
  return scale(ns, hz, kNsPerSecond);
}
constexpr u64 instant_of(u64 tick, u64 hz) {
  return scale_up(tick, kNsPerSecond, hz);
}

}  // namespace nacre::time
