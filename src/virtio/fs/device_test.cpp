#include "virtio/fs/device.hpp"

#include <gtest/gtest.h>

#include "virtio/fs/fs_sequence.hpp"

namespace nacre::virtio::fs {
namespace {

using testing::Driver;
using testing::Guest;

struct FsTest : ::testing::TestWithParam<u64> {
  Guest guest;
  EchoServer server;
  Fs fs{guest.space, guest.ports(), server, "work"};
  Driver driver{guest, fs};

  void SetUp() override {
    server.device = &fs;
    ASSERT_TRUE(driver.bring_up(Feature::version_1 | GetParam(), 16));
  }
  u64 ask(const std::string& text, u32 room, unsigned queue = 1) {
    const u64 at = driver.put(text.data(), text.size());
    const u64 answer = driver.allocate(room);
    driver.add(queue, {{at, static_cast<u32>(text.size())}}, {{answer, room}});
    driver.kick(queue);
    fs.run();
    return answer;
  }
};

TEST_P(FsTest, TellsItsTagAndQueues) {
  EXPECT_EQ(driver.read(BarLayout::device, 4), 0x6b726f77u);  // "work"
  EXPECT_EQ(driver.read(BarLayout::device + 4, 4), 0u);
  EXPECT_EQ(driver.read(BarLayout::device + kTagBytes, 4), 1u);
}

TEST_P(FsTest, CarriesRequestsAndAnswersOnBothQueues) {
  for (const unsigned queue : {0u, 1u}) {
    const u64 at = ask("what is this", 100, queue);
    const auto used = driver.used(queue);
    ASSERT_EQ(used.size(), 1u);
    EXPECT_EQ(used[0].written, 12u);
    EXPECT_EQ(std::string(reinterpret_cast<char*>(guest.at(at)), 12), "what is this");
  }
}

TEST_P(FsTest, WhatWasWrittenIsTold) {
  const u64 at = driver.allocate(kPageSize, kPageSize);
  guest.flags[at / kPageSize] = memory::PageFlag::code;
  const u64 text = driver.put("x", 1);
  driver.add(1, {{text, 1}}, {{at, kPageSize}});
  driver.kick(1);
  fs.run();
  ASSERT_FALSE(guest.dma.empty());
  EXPECT_EQ(guest.dma[0].first, at);
}

TEST_P(FsTest, AnswersComeInAnyOrder) {
  server.holds = true;
  for (const char* text : {"one", "two", "three"}) ask(text, 100);
  EXPECT_EQ(fs.under_way(), 3u);
  EXPECT_TRUE(driver.used(1).empty());
  server.holds = false;
  fs.run();
  EXPECT_EQ(fs.under_way(), 0u);
  EXPECT_EQ(driver.used(1).size(), 3u);
}

TEST_P(FsTest, AResetWaitsForWhatIsUnderWay) {
  server.holds = true;
  ask("one", 100);
  driver.set_status(0);
  server.holds = true;
  fs.run();  // reset() lets the server answer
  EXPECT_EQ(server.resets, 1u);
  EXPECT_EQ(driver.status(), 0);
  EXPECT_EQ(fs.under_way(), 0u);
  ASSERT_TRUE(driver.bring_up(Feature::version_1 | GetParam(), 16));
  EXPECT_EQ(server.resets, 1u);
}

INSTANTIATE_TEST_SUITE_P(Formats, FsTest, ::testing::Values(0, Feature::packed | Feature::event_index),
                         [](const auto& format) { return format.param == 0 ? "split" : "packed"; });

TEST(Fs, SurvivesRandomSequences) {
  nacre::testing::run_random_sequences(fs_sequence, 1000);
}

}  // namespace
}  // namespace nacre::virtio::fs
