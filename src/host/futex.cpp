#include "host/futex.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

namespace nacre::host {

static_assert(sizeof(std::atomic<u32>) == sizeof(u32));

void futex_wait(std::atomic<u32>& word, u32 expected, u64 ns) {
  timespec time = {static_cast<time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)};
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, expected, ns == kForever ? nullptr : &time, nullptr, 0);
}

void futex_wake(std::atomic<u32>& word, int threads) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, threads, nullptr, nullptr, 0);
}

}  // namespace nacre::host
