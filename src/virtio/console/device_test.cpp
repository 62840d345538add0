#include "virtio/console/device.hpp"

#include <gtest/gtest.h>

#include "virtio/console/console_sequence.hpp"

namespace nacre::virtio::console {
namespace {

using testing::Driver;
using testing::Guest;

struct ConsoleTest : ::testing::TestWithParam<u64> {
  Guest guest;
  TextTerminal terminal;
  Console console{guest.space, guest.ports(), terminal};
  Driver driver{guest, console};

  void SetUp() override {
    ASSERT_TRUE(driver.bring_up(Feature::version_1 | ConsoleFeature::size | GetParam(), 16));
  }
  void print(const std::string& text) {
    const u64 at = driver.put(text.data(), text.size());
    const u32 half = static_cast<u32>(text.size() / 2);
    driver.add(1, {{at, half}, {at + half, static_cast<u32>(text.size()) - half}}, {});
    driver.kick(1);
  }
  u64 offer(u32 bytes) {
    const u64 at = driver.allocate(bytes);
    driver.add(0, {}, {{at, bytes}});
    driver.kick(0);
    return at;
  }
  std::string text(u64 at, u32 bytes) { return {reinterpret_cast<char*>(guest.at(at)), bytes}; }
};

TEST_P(ConsoleTest, ShowsWhatTheGuestPrints) {
  print("hello ");
  print("world\n");
  EXPECT_EQ(terminal.shown, "hello world\n");
  EXPECT_EQ(driver.used(1).size(), 2u);
}

TEST_P(ConsoleTest, ATerminalThatIsSlowLosesNothingAndRepeatsNothing) {
  terminal.room = 5;
  print("hello world");
  print(" and all");
  EXPECT_EQ(driver.used(1).size(), 0u);
  terminal.room = 3;
  console.run();
  EXPECT_EQ(terminal.shown, "hello wo");
  terminal.room = 100;
  console.run();
  EXPECT_EQ(terminal.shown, "hello world and all");
  EXPECT_EQ(driver.used(1).size(), 2u);
}

TEST_P(ConsoleTest, GivesWhatIsTypedAsItComes) {
  const u64 first = offer(4), second = offer(100);
  terminal.typed = "abcdef";
  console.run();
  const auto used = driver.used(0);
  ASSERT_EQ(used.size(), 2u);
  EXPECT_EQ(used[0].written, 4u);
  EXPECT_EQ(used[1].written, 2u);
  EXPECT_EQ(text(first, 4), "abcd");
  EXPECT_EQ(text(second, 2), "ef");
}

TEST_P(ConsoleTest, WithoutInputBuffersStayAndWithoutBuffersInput) {
  const u64 at = offer(10);
  EXPECT_EQ(driver.used(0).size(), 0u);
  terminal.typed = "x";
  console.run();
  EXPECT_EQ(driver.used(0).size(), 1u);
  EXPECT_EQ(text(at, 1), "x");
  terminal.typed = "more";
  console.run();
  EXPECT_EQ(terminal.typed, "more");
  offer(10);
  EXPECT_EQ(terminal.typed, "");
}

TEST_P(ConsoleTest, TellsItsSize) {
  const u8 generation = console.generation();
  EXPECT_TRUE(console.resize(100, 30));
  EXPECT_FALSE(console.resize(100, 30));
  EXPECT_EQ(driver.read(BarLayout::device, 2), 100u);
  EXPECT_EQ(driver.read(BarLayout::device + 2, 2), 30u);
  EXPECT_NE(console.generation(), generation);
}

// Linux looks at the size when it changes, and not before.
TEST_P(ConsoleTest, TellsANewDriverOfTheSizeThatItFinds) {
  EXPECT_EQ(driver.config_interrupts(), 0u);
  console.resize(100, 30);
  driver.reset();
  ASSERT_TRUE(driver.bring_up(Feature::version_1 | ConsoleFeature::size | GetParam(), 16));
  console.run();
  EXPECT_EQ(driver.config_interrupts(), 1u);
  console.run();
  EXPECT_EQ(driver.config_interrupts(), 1u);
}

TEST_P(ConsoleTest, IsSavedAndLoaded) {
  console.resize(100, 30);
  TextTerminal other;
  Guest elsewhere;
  Console copy(elsewhere.space, elsewhere.ports(), other);
  ASSERT_TRUE(copy.load(console.state()));
  EXPECT_EQ(copy.state(), console.state());
  Console::State wrong = console.state();
  wrong.version = 9;
  EXPECT_FALSE(copy.load(wrong));
}

INSTANTIATE_TEST_SUITE_P(Formats, ConsoleTest, ::testing::Values(0, Feature::packed | Feature::event_index),
                         [](const auto& format) { return format.param == 0 ? "split" : "packed"; });

TEST(Console, SurvivesRandomSequences) {
  nacre::testing::run_random_sequences(console_sequence, 1000);
}

}  // namespace
}  // namespace nacre::virtio::console
