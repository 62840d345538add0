#include "storage/loop.hpp"

#include "storage/thread_loop.hpp"
#include "storage/uring_loop.hpp"

namespace nacre::storage {

Result<std::unique_ptr<Loop>> Loop::create(Kind kind) {
  if (kind != Kind::Threads) {
    auto loop = UringLoop::create();
    if (loop || kind == Kind::IoUring) return loop;
  }
  return ThreadLoop::create();
}

}  // namespace nacre::storage
