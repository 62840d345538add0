// KickTimer: sends the kick signal (with SI_TIMER in si_code) to one thread some time from now. Made on that
// thread; armed from any thread, async-signal-safe, with general registers only.
#pragma once

#include <time.h>

#include "base/result.hpp"
#include "base/types.hpp"

namespace nacre::host {

class KickTimer {
 public:
  // For the calling thread.
  static Result<KickTimer> create();
  KickTimer(KickTimer&& other) noexcept : timer_(other.timer_), valid_(other.valid_) { other.valid_ = false; }
  KickTimer(const KickTimer&) = delete;
  KickTimer& operator=(const KickTimer&) = delete;
  KickTimer& operator=(KickTimer&&) = delete;
  ~KickTimer() {
    if (valid_) timer_delete(timer_);
  }

  // After `ns` nanoseconds of CLOCK_MONOTONIC, or at once for 0. Replaces what was armed. The delay is
  // relative because callers' clocks drift against the kernel's by some parts in a million.
  void arm_after(u64 ns) const;
  void disarm() const;

 private:
  explicit KickTimer(timer_t timer) : timer_(timer), valid_(true) {}

  timer_t timer_;
  bool valid_;
};

}  // namespace nacre::host
