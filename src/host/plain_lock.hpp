// PlainLock: a mutex of one word on futex(2), for vCPU threads that take it while vector registers hold the guest's
// values: unlike the library's it is known to use general registers only. Not recursive.
#pragma once

#include <atomic>

#include "base/types.hpp"

namespace nacre::host {

class PlainLock {
 public:
  void lock() {
    u32 expected = kFree;
    if (!word_.compare_exchange_strong(expected, kHeld, std::memory_order_acquire)) lock_contended();
  }
  void unlock() {
    if (word_.exchange(kFree, std::memory_order_release) == kAwaited) wake_one();
  }

 private:
  static constexpr u32 kFree = 0, kHeld = 1, kAwaited = 2;

  void lock_contended();
  void wake_one();

  std::atomic<u32> word_ = kFree;
};

}  // namespace nacre::host
