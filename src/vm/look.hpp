// Look: when a vCPU's thread has its processor come out of an engine in which it sleeps, to see whether anything will
// wake it. The thread's own.
#pragma once

#include <time.h>

#include "host/kick_timer.hpp"

namespace nacre::vm {

class Look {
 public:
  static Result<Look> create() { return Look(TRY(host::KickTimer::create())); }

  // After a kick. When true, it is armed for the next time.
  bool is_due() {
    const u64 now = monotonic();
    if (now < due_) return false;
    arm(now);
    return true;
  }

  bool all_were_deaf = false;  // at the last look

 private:
  static constexpr u64 kInterval = 2'000'000'000;  // ns

  explicit Look(host::KickTimer timer) : timer_(std::move(timer)) { arm(monotonic()); }
  static u64 monotonic() {
    timespec time = {};
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<u64>(time.tv_sec) * 1'000'000'000 + static_cast<u64>(time.tv_nsec);
  }
  void arm(u64 now) {
    due_ = now + kInterval;
    timer_.arm_after(kInterval);
  }

  host::KickTimer timer_;
  u64 due_ = 0;
};

}  // namespace nacre::vm
