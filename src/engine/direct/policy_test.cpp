#include "engine/direct/policy.hpp"

#include <gtest/gtest.h>

namespace nacre::direct {
namespace {

constexpr u64 kSecond = 2'000'000'000, kMillisecond = kSecond / 1000;  // TSC
constexpr u64 kSpace = 0x1234000, kOther = 0x5678000;
constexpr u64 kMicrosecond = 1000;  // of processor time
// Next to nothing done natively, and dear.
constexpr Stay kWasted = {.native = 500, .spent = 30 * kMicrosecond, .wakes = 1};

// Interrupts the space every 4 ms until it is to run directly; returns when that is.
u64 compute(Policy& policy, u64 now, u64 space = kSpace) {
  for (const u64 began = now; !policy.direct(space) && now - began < 10 * kSecond;) {
    now += 4 * kMillisecond;
    policy.interrupted(space, now);
  }
  return now;
}

TEST(Policy, what_computes_alone_is_tried_within_two_ticks) {
  Policy policy(kSecond);
  policy.switched(100 * kMillisecond);
  EXPECT_FALSE(policy.direct(kSpace));
  EXPECT_LE(compute(policy, 100 * kMillisecond), 108 * kMillisecond);
  EXPECT_TRUE(policy.direct(kSpace));
  EXPECT_FALSE(policy.direct(kOther));
}

// Two programs take turns of which each tick sees the last 100 us: only these count.
TEST(Policy, what_others_computed_does_not_count) {
  Policy policy(kSecond);
  u64 now = 100 * kMillisecond;
  for (int i = 0; i < 30; i++) {
    now += 4 * kMillisecond;
    policy.switched(now - kMillisecond / 10);
    policy.interrupted(i % 2 != 0 ? kSpace : kOther, now);
  }
  EXPECT_FALSE(policy.direct(kSpace));
  EXPECT_FALSE(policy.direct(kOther));
}

TEST(Policy, what_comes_back_all_the_time_is_left_to_the_translator_ever_longer) {
  Policy policy(kSecond);
  u64 now = 100 * kMillisecond, last_wait = 0;
  policy.switched(now);
  for (int round = 0; round < 6; round++) {
    const u64 asked = now;
    now = compute(policy, now);
    const u64 wait = now - asked;
    ASSERT_TRUE(policy.direct(kSpace));
    EXPECT_TRUE(round == 0 || wait + 4 * kMillisecond >= 2 * last_wait) << round;
    last_wait = wait;
    u64 spent = 0;
    for (; policy.direct(kSpace); spent += kWasted.spent) policy.came_back(kSpace, kWasted);
    // ns against ticks of half a ns: an eighth, and the last stay.
    EXPECT_LE(spent, wait / 2 / 8 + 2 * kWasted.spent) << round;
  }
  EXPECT_GT(last_wait, 100 * kMillisecond);
}

TEST(Policy, what_computes_between_its_calls_stays) {
  Policy policy(kSecond);
  compute(policy, 100 * kMillisecond);
  for (int i = 0; i < 1000; i++) {
    policy.came_back(kSpace, {.native = 250 * kMicrosecond, .spent = 290 * kMicrosecond, .wakes = 2});
    ASSERT_TRUE(policy.direct(kSpace)) << i;
  }
}

// All its pages are asked for again after each switch of address spaces. They cost 2 ms of the 6 that it has.
TEST(Policy, what_has_to_begin_anew_stays_if_that_is_worth_it) {
  Policy policy(kSecond);
  compute(policy, 100 * kMillisecond);
  for (int i = 0; i < 100; i++) {
    policy.came_back(kSpace, {.native = 4'000 * kMicrosecond, .spent = 6'000 * kMicrosecond, .wakes = 60});
    ASSERT_TRUE(policy.direct(kSpace)) << i;
  }
  for (int i = 0; i < 10; i++)
    policy.came_back(kSpace, {.native = 1'000 * kMicrosecond, .spent = 6'000 * kMicrosecond, .wakes = 60});
  EXPECT_FALSE(policy.direct(kSpace));
}

TEST(Policy, a_stay_ends_when_the_credit_is_used_up) {
  Policy policy(kSecond);
  compute(policy, 100 * kMillisecond);
  EXPECT_FALSE(policy.used_up(kSpace, {.native = 0, .spent = 300 * kMicrosecond, .wakes = 10}));
  EXPECT_TRUE(policy.used_up(kSpace, {.native = 0, .spent = 3'000 * kMicrosecond, .wakes = 100}));
  EXPECT_FALSE(
      policy.used_up(kSpace, {.native = 3'000 * kMicrosecond, .spent = 6'000 * kMicrosecond, .wakes = 10}));
}

// What a stay was worth long ago is no reason to bear ever more.
TEST(Policy, credit_is_not_heaped_up) {
  Policy policy(kSecond);
  compute(policy, 100 * kMillisecond);
  policy.came_back(kSpace,
                   {.native = 60'000'000 * kMicrosecond, .spent = 60'000'000 * kMicrosecond, .wakes = 1});
  EXPECT_TRUE(policy.direct(kSpace));
  EXPECT_TRUE(policy.used_up(kSpace, {.native = 0, .spent = 5'000 * kMicrosecond, .wakes = 0}));
}

TEST(Policy, what_was_refused_comes_again_later) {
  Policy policy(kSecond);
  u64 now = compute(policy, 100 * kMillisecond);
  policy.refuse(kSpace, now);
  EXPECT_FALSE(policy.direct(kSpace));
  for (int i = 0; i < 4; i++) {
    now += 4 * kMillisecond;
    policy.interrupted(kSpace, now);
    EXPECT_FALSE(policy.direct(kSpace)) << i;
  }
  EXPECT_LE(compute(policy, now), now + 8 * kMillisecond);
}

}  // namespace
}  // namespace nacre::direct
