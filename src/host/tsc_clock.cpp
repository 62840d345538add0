#include "host/tsc_clock.hpp"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "host/fd.hpp"

namespace nacre::host {
namespace {

constexpr u64 kNsPerSecond = 1'000'000'000;

u64 kernel_clock() {
  timespec time = {};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<u64>(time.tv_sec) * kNsPerSecond + static_cast<u64>(time.tv_nsec);
}

u64 measured(const ClockPair& since) {
  ClockPair now = ClockPair::read();
  while (now.monotonic_ns - since.monotonic_ns < kNsPerSecond / 1000) now = ClockPair::read();
  return static_cast<u64>(static_cast<u128>(now.tsc - since.tsc) * kNsPerSecond /
                          (now.monotonic_ns - since.monotonic_ns));
}

// BogoMIPS is twice the TSC frequency in MHz, with two digits: good to 2 parts in a million. 0: not told.
u64 told_by_kernel() {
  const UniqueFd file(open("/proc/cpuinfo", O_RDONLY | O_CLOEXEC));
  char text[4096];
  const ssize_t length = file ? read(file.number(), text, sizeof text - 1) : 0;
  if (length <= 0) return 0;
  text[length] = 0;
  const char* line = strstr(text, "bogomips");
  const char* colon = line == nullptr ? nullptr : strchr(line, ':');
  if (colon == nullptr) return 0;
  return static_cast<u64>(strtod(colon + 1, nullptr) * 1e6 / 2);
}

}  // namespace

ClockPair ClockPair::read() {
  // The reading that took least is the one least disturbed between its two halves.
  ClockPair best;
  u64 least = ~u64{0};
  for (int i = 0; i < 5; ++i) {
    const u64 before = __rdtsc();
    const u64 ns = kernel_clock();
    const u64 after = __rdtsc();
    if (after - before < least) {
      least = after - before;
      best = {before + (after - before) / 2, ns};
    }
  }
  return best;
}

u64 tsc_frequency(const ClockPair& since) {
  const u64 found = measured(since);
  const u64 told = told_by_kernel();
  const u64 difference = told > found ? told - found : found - told;
  return told != 0 && difference < found / 2000 ? told : found;
}

TscClock::TscClock(u64 hz, unsigned slower)
    : hz_(hz),
      multiplier_(static_cast<u64>((static_cast<u128>(kNsPerSecond) << 32) / hz)),
      start_(__rdtsc()),
      slower_(slower) {}

}  // namespace nacre::host
