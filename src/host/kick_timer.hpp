// KickTimer: sends the kick signal to one thread at a CLOCK_MONOTONIC instant. Made on that thread; armed from
// any thread, async-signal-safe, with general registers only.
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

  // Nanoseconds of CLOCK_MONOTONIC; an instant in the past kicks at once. Replaces what was armed.
  void arm(u64 instant) const;
  void disarm() const;

 private:
  explicit KickTimer(timer_t timer) : timer_(timer), valid_(true) {}

  timer_t timer_;
  bool valid_;
};

}  // namespace nacre::host
