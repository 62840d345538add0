#include "engine/direct/policy.hpp"

#include <gtest/gtest.h>

namespace nacre::direct {
namespace {

constexpr u64 kSecond = 2'000'000'000, kMillisecond = kSecond / 1000;
constexpr u64 kSpace = 0x1234000, kOther = 0x5678000;

TEST(Policy, what_computes_alone_is_tried_at_the_first_tick) {
  Policy policy(kSecond);
  policy.switched(100 * kMillisecond);
  EXPECT_FALSE(policy.direct(kSpace));
  policy.interrupted(kSpace, 104 * kMillisecond);
  EXPECT_TRUE(policy.direct(kSpace));
  EXPECT_FALSE(policy.direct(kOther));
}

TEST(Policy, what_has_just_come_is_tried_at_the_second_tick) {
  Policy policy(kSecond);
  policy.switched(100 * kMillisecond);
  policy.interrupted(kSpace, 100 * kMillisecond + 1000);
  EXPECT_FALSE(policy.direct(kSpace));
  policy.switched(104 * kMillisecond);
  policy.interrupted(kSpace, 104 * kMillisecond + 1000);
  EXPECT_TRUE(policy.direct(kSpace));
}

TEST(Policy, what_comes_back_all_the_time_is_left_to_the_translator_ever_longer) {
  Policy policy(kSecond);
  u64 now = 100 * kMillisecond, last_wait = 0;
  for (int round = 0; round < 4; round++) {
    const u64 asked = now;
    while (!policy.direct(kSpace)) {
      now += 4 * kMillisecond;
      policy.interrupted(kSpace, now);
      ASSERT_LT(now, asked + kSecond);
    }
    const u64 wait = now - asked;
    EXPECT_TRUE(round == 0 || wait > last_wait) << round;
    last_wait = wait;
    unsigned exits = 0;
    for (; policy.direct(kSpace); exits++) policy.came_back(kSpace, now += 1000, 500, 0, false, false);
    EXPECT_LT(exits, 60U);
  }
}

TEST(Policy, what_computes_between_its_calls_stays) {
  Policy policy(kSecond);
  policy.interrupted(kSpace, 100 * kMillisecond);
  u64 now = 100 * kMillisecond;
  for (int i = 0; i < 1000; i++) {
    now += kMillisecond / 4;
    policy.came_back(kSpace, now, 250'000, 1, false, false);
    ASSERT_TRUE(policy.direct(kSpace)) << i;
  }
}

// Each stay takes 100 us of the clock, for waking the stub, but next to nothing of the processor.
TEST(Policy, what_gives_way_all_the_time_is_left_alone_however_long_a_stay_takes) {
  Policy policy(kSecond);
  policy.interrupted(kSpace, 100 * kMillisecond);
  policy.interrupted(kSpace, 104 * kMillisecond);
  ASSERT_TRUE(policy.direct(kSpace));
  u64 now = 104 * kMillisecond;
  unsigned stays = 0;
  for (; policy.direct(kSpace) && stays < 1000; stays++) {
    policy.came_back(kSpace, now += kMillisecond / 10, 3'000, 2, false, true);
  }
  EXPECT_LT(stays, 20U);
}

TEST(Policy, what_was_refused_comes_again_later) {
  Policy policy(kSecond);
  policy.interrupted(kSpace, 100 * kMillisecond);
  policy.refuse(kSpace, 100 * kMillisecond);
  EXPECT_FALSE(policy.direct(kSpace));
  policy.interrupted(kSpace, 110 * kMillisecond);
  EXPECT_FALSE(policy.direct(kSpace));
  policy.interrupted(kSpace, 124 * kMillisecond);
  EXPECT_TRUE(policy.direct(kSpace));
}

}  // namespace
}  // namespace nacre::direct
