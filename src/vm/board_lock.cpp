#include "vm/board_lock.hpp"

#include "vm/futex.hpp"

namespace nacre::vm {

void BoardLock::lock_contended() {
  while (word_.exchange(kAwaited, std::memory_order_acquire) != kFree) futex_wait(word_, kAwaited);
}

void BoardLock::wake_one() {
  futex_wake(word_, 1);
}

}  // namespace nacre::vm
