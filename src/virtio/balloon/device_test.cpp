#include "virtio/balloon/device.hpp"

#include <gtest/gtest.h>

#include "virtio/balloon/balloon_sequence.hpp"

namespace nacre::virtio::balloon {
namespace {

using testing::Driver;
using testing::Guest;
using F = BalloonFeature;
using Ranges = std::vector<std::pair<u64, u64>>;

struct BalloonTest : ::testing::TestWithParam<u64> {
  Guest guest;
  RecordedBallast ballast;
  Balloon balloon{guest.space, guest.ports(), ballast};
  Driver driver{guest, balloon};

  void bring_up(u64 features = F::stats | F::reporting) {
    ASSERT_TRUE(driver.bring_up(Feature::version_1 | GetParam() | features, 16));
  }
  void give(unsigned queue, const std::vector<u32>& pages) {
    const u64 at = driver.put(pages.data(), pages.size() * 4);
    driver.add(queue, {{at, static_cast<u32>(pages.size() * 4)}}, {});
    driver.kick(queue);
    EXPECT_EQ(driver.used(queue).size(), 1u);
  }
};

TEST_P(BalloonTest, TheGuestIsAskedAndAnswers) {
  bring_up();
  balloon.set_target(300);
  driver.transport().config_interrupt();
  EXPECT_EQ(driver.config_interrupts(), 1u);
  EXPECT_EQ(driver.read(BarLayout::device, 4), 300u);
  driver.write(BarLayout::device + 4, 4, 299);
  driver.write(BarLayout::device, 4, 1);  // not its to write
  EXPECT_EQ(balloon.actual(), 299u);
  EXPECT_EQ(driver.read(BarLayout::device, 8), u64{299} << 32 | 300);
}

TEST_P(BalloonTest, PagesInARowAreLetGoTogether) {
  bring_up();
  give(0, {5, 6, 7, 20, 22, 23, 21});
  EXPECT_EQ(ballast.released,
            (Ranges{{0x5000, 0x3000}, {0x14000, 0x1000}, {0x16000, 0x2000}, {0x15000, 0x1000}}));
}

TEST_P(BalloonTest, PagesThatAreNotMemoryAreNotTouched) {
  bring_up();
  give(0, {1 << 20, 0xffff'ffff, static_cast<u32>(Guest::kRam >> 12), 3});
  EXPECT_EQ(ballast.released, (Ranges{{0x3000, 0x1000}}));
  EXPECT_TRUE(guest.complaints.empty());
}

TEST_P(BalloonTest, DeflatingLetsNothingGo) {
  bring_up();
  give(1, {5, 6, 7});
  EXPECT_TRUE(ballast.released.empty());
}

TEST_P(BalloonTest, ReportedPagesAreLetGoBeforeTheyAreGivenBack) {
  bring_up();
  driver.add(3, {}, {{0x20'0000, 0x10'0000}, {0x10'0800, 0x1800}, {0x10'4800, 0x800}});
  driver.kick(3);
  EXPECT_EQ(ballast.released, (Ranges{{0x20'0000, 0x10'0000}, {0x10'1000, 0x1000}}));
  EXPECT_EQ(driver.used(3).size(), 1u);
}

TEST_P(BalloonTest, WithoutStatisticsReportingMovesUp) {
  bring_up(F::reporting);
  driver.add(2, {}, {{0x20'0000, 0x1000}});
  driver.kick(2);
  EXPECT_EQ(ballast.released.size(), 1u);
}

TEST_P(BalloonTest, StatisticsComeWhenAskedFor) {
  bring_up();
  u8 entries[20] = {4, 0, 0x39, 0x30, 0, 0, 0, 0, 0, 0, 99, 0, 1};
  const u64 at = driver.put(entries, sizeof entries);
  driver.add(2, {{at, sizeof entries}}, {});
  driver.kick(2);
  EXPECT_EQ(balloon.statistic(Statistic::FreeMemory), 12345u);
  EXPECT_EQ(driver.used(2).size(), 0u);  // kept until more are wanted
  balloon.request_statistics();
  balloon.run();
  EXPECT_EQ(driver.used(2).size(), 1u);
  EXPECT_EQ(driver.interrupts(2), 1u);
  guest.store<u8>(at + 2, 0x40);
  driver.add(2, {{at, sizeof entries}}, {});
  driver.kick(2);
  EXPECT_EQ(balloon.statistic(Statistic::FreeMemory), 12352u);
  EXPECT_EQ(ballast.reports, 2u);
}

TEST_P(BalloonTest, ItsStateComesBack) {
  bring_up();
  balloon.set_target(7);
  driver.write(BarLayout::device + 4, 4, 6);
  const auto transport = driver.transport().state();
  const Balloon::State state = balloon.state();
  driver.reset();
  ASSERT_TRUE(driver.transport().load(transport).ok());
  ASSERT_TRUE(balloon.load(state).ok());
  EXPECT_EQ(balloon.state(), state);
  EXPECT_EQ(driver.read(BarLayout::device, 8), u64{6} << 32 | 7);
}

INSTANTIATE_TEST_SUITE_P(Formats, BalloonTest, ::testing::Values(0, Feature::packed | Feature::event_index),
                         [](const auto& format) { return format.param == 0 ? "split" : "packed"; });

TEST(Balloon, SurvivesRandomSequences) {
  nacre::testing::run_random_sequences(balloon_sequence, 1000);
}

}  // namespace
}  // namespace nacre::virtio::balloon
