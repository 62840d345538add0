#include "host/plain_lock.hpp"

#include "host/futex.hpp"

namespace nacre::host {

void PlainLock::lock_contended() {
  while (word_.exchange(kAwaited, std::memory_order_acquire) != kFree) futex_wait(word_, kAwaited);
}

void PlainLock::wake_one() {
  futex_wake(word_, 1);
}

}  // namespace nacre::host
