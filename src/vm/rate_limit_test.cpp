#include "vm/rate_limit.hpp"

#include <gtest/gtest.h>

namespace nacre::vm {
namespace {

constexpr u64 kStart = 1'000 * RateLimit::kSecond;

// As many operations as may start until `end`, each as soon as it may.
u64 started(RateLimit& limit, u64 from, u64 end, u64 bytes) {
  u64 count = 0;
  for (u64 now = from; now < end; ++count) {
    const u64 wait = limit.wait(now);
    now += wait;
    if (now >= end) break;
    limit.take(now, bytes);
  }
  return count;
}

TEST(RateLimit, WithoutOneNothingWaits) {
  RateLimit limit({});
  limit.take(kStart, u64{1} << 32);
  EXPECT_EQ(limit.wait(kStart), 0u);
}

TEST(RateLimit, OperationsComeAtTheRateAfterABurst) {
  RateLimit limit({.operations = 100});
  const u64 in_a_second = started(limit, kStart, kStart + RateLimit::kSecond, 4096);
  EXPECT_GE(in_a_second, 110u);
  EXPECT_LE(in_a_second, 111u);
  EXPECT_EQ(started(limit, kStart + RateLimit::kSecond, kStart + 11 * RateLimit::kSecond, 4096), 1000u);
}

TEST(RateLimit, BytesToo) {
  RateLimit limit({.bytes = 10 * 4096});
  started(limit, kStart, kStart + RateLimit::kSecond, 4096);
  EXPECT_EQ(started(limit, kStart + RateLimit::kSecond, kStart + 11 * RateLimit::kSecond, 4096), 100u);
}

TEST(RateLimit, ALargeOperationStartsAndIsPaidForAfterwards) {
  RateLimit limit({.bytes = 1000});
  EXPECT_EQ(limit.wait(kStart), 0u);
  limit.take(kStart, 1'000'000);
  EXPECT_EQ(limit.wait(kStart), 1000 * RateLimit::kSecond - RateLimit::kBurst);
  EXPECT_EQ(limit.wait(kStart + 1000 * RateLimit::kSecond), 0u);
}

TEST(RateLimit, TheStricterOneCounts) {
  RateLimit limit({.operations = 1'000'000, .bytes = 4096});
  limit.take(kStart, 8192);
  EXPECT_EQ(limit.wait(kStart), 2 * RateLimit::kSecond - RateLimit::kBurst);
}

TEST(RateLimit, IdleTimeIsNotSavedUpBeyondTheBurst) {
  RateLimit limit({.operations = 10});
  limit.take(kStart, 0);
  EXPECT_LE(started(limit, kStart + 100 * RateLimit::kSecond, kStart + 101 * RateLimit::kSecond, 0), 12u);
}

TEST(RateLimit, TheLargestOperationAtTheLowestRateDoesNotOverflow) {
  RateLimit limit({.operations = 1, .bytes = 1});
  limit.take(kStart, u64{1} << 32);
  EXPECT_EQ(limit.wait(kStart), (u64{1} << 32) * RateLimit::kSecond - RateLimit::kBurst);
}

}  // namespace
}  // namespace nacre::vm
