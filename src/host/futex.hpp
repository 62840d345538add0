// futex(2) on a word of this process. Async-signal-safe; general registers only.
#pragma once

#include <atomic>

#include "base/types.hpp"

namespace nacre::host {

inline constexpr u64 kForever = ~u64{0};

// Sleeps while `word` holds `expected`, until woken, a signal, or `ns` nanoseconds have passed.
void futex_wait(std::atomic<u32>& word, u32 expected, u64 ns = kForever);
void futex_wake(std::atomic<u32>& word, int threads);

}  // namespace nacre::host
