#include "virtio/rng/device.hpp"

#include <gtest/gtest.h>

#include "virtio/rng/rng_sequence.hpp"

namespace nacre::virtio::rng {
namespace {

using testing::Driver;
using testing::Guest;

struct RngTest : ::testing::TestWithParam<u64> {
  Guest guest;
  CountingEntropy entropy;
  Rng rng{guest.space, guest.ports(), entropy};
  Driver driver{guest, rng};
};

TEST_P(RngTest, FillsEveryBufferOfARequestAndInterrupts) {
  ASSERT_TRUE(driver.bring_up(Feature::version_1 | GetParam()));
  const u64 first = driver.allocate(10), second = driver.allocate(100);
  const u16 id = driver.add(0, {}, {{first, 10}, {second, 100}});
  driver.kick(0);
  const auto used = driver.used(0);
  ASSERT_EQ(used.size(), 1u);
  EXPECT_EQ(used[0].id, id);
  EXPECT_EQ(used[0].written, 110u);
  EXPECT_EQ(guest.load<u8>(first), 1);
  EXPECT_EQ(guest.load<u8>(second + 99), 110);
  EXPECT_EQ(driver.interrupts(0), 1u);
}

TEST_P(RngTest, GivesAtMostItsShareOfALargeRequest) {
  ASSERT_TRUE(driver.bring_up(Feature::version_1 | GetParam()));
  const u64 at = driver.allocate(2 * Rng::kMostBytes);
  driver.add(0, {}, {{at, 2 * Rng::kMostBytes}});
  driver.kick(0);
  const auto used = driver.used(0);
  ASSERT_EQ(used.size(), 1u);
  EXPECT_EQ(used[0].written, Rng::kMostBytes);
  EXPECT_EQ(guest.load<u8>(at + Rng::kMostBytes), 0);
}

TEST_P(RngTest, ManyRequestsAllComeBack) {
  ASSERT_TRUE(driver.bring_up(Feature::version_1 | GetParam(), 16));
  const u64 at = driver.allocate(64);
  unsigned back = 0;
  for (unsigned i = 0; i < 200; ++i) {
    for (unsigned n = 0; n <= i % 4; ++n) driver.add(0, {}, {{at, 16}, {at + 16, 16}, {at + 32, 3}});
    driver.kick(0);
    back += static_cast<unsigned>(driver.used(0).size());
  }
  EXPECT_EQ(back, 500u);
  EXPECT_TRUE(guest.complaints.empty());
}

INSTANTIATE_TEST_SUITE_P(Rings, RngTest,
                         ::testing::Values(0, Feature::event_index, Feature::packed,
                                           Feature::packed | Feature::event_index));

TEST(Rng, SurvivesRandomSequences) {
  nacre::testing::run_random_sequences(rng_sequence, 1000);
}

}  // namespace
}  // namespace nacre::virtio::rng
