// ProcessorWake: where a halted vCPU thread sleeps and how others wake it. A wake that comes first is kept,
// so none is lost. Threads: wake() any, async-signal-safe, general registers only; sleep() its vCPU's.
#pragma once

#include <atomic>

#include "host/futex.hpp"

namespace nacre::vm {

class ProcessorWake {
 public:
  // True when it slept: its thread is not in guest code, and looks around before it goes there.
  bool wake() {
    if (state_.exchange(kWoken) != kAsleep) return false;
    host::futex_wake(state_, 1);
    return true;
  }
  // Returns when woken, after `ns` nanoseconds, or after a signal.
  void sleep(u64 ns) {
    u32 expected = kAwake;
    if (state_.compare_exchange_strong(expected, kAsleep)) host::futex_wait(state_, kAsleep, ns);
    state_.store(kAwake);
  }

 private:
  static constexpr u32 kAwake = 0, kWoken = 1, kAsleep = 2;
  std::atomic<u32> state_ = kAwake;
};

}  // namespace nacre::vm
