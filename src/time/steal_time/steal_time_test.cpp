#include "time/steal_time/steal_time.hpp"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "time/steal_time/steal_time_sequence.hpp"

namespace nacre::time {
namespace {

struct Info {
  u64 steal;
  u32 version, flags;
  u8 preempted;
};

struct Bench {
  StealMemory memory;
  StealTime steal{{memory, memory}};
  Info info(usize at = 0) {
    Info value = {};
    std::memcpy(&value, memory.bytes + at, 17);
    return value;
  }
};

TEST(StealTime, says_whether_it_is_off_and_for_how_long_it_was) {
  Bench bench;
  ASSERT_TRUE(bench.steal.msr_write(0x1041));
  EXPECT_EQ(bench.steal.msr_read(), 0x1041u);
  EXPECT_EQ(bench.info(0x40).version, 2u);
  bench.steal.leaves();
  EXPECT_EQ(bench.info(0x40).preempted, 1);
  EXPECT_FALSE(bench.steal.comes_back(700));
  EXPECT_EQ(bench.info(0x40).preempted, 0);
  EXPECT_EQ(bench.info(0x40).steal, 700u);
  EXPECT_EQ(bench.info(0x40).version, 4u);
  bench.steal.leaves();
  EXPECT_FALSE(bench.steal.comes_back(0));  // it had no work
  bench.steal.leaves();
  EXPECT_FALSE(bench.steal.comes_back(5));
  EXPECT_EQ(bench.info(0x40).steal, 705u);
}

TEST(StealTime, hands_on_that_the_TLB_is_to_be_flushed) {
  Bench bench;
  ASSERT_TRUE(bench.steal.msr_write(0x1001));
  bench.steal.leaves();
  bench.memory.bytes[16] |= 2;  // as a guest does that finds bit 0 set
  EXPECT_TRUE(bench.steal.comes_back(0));
  EXPECT_EQ(bench.info().preempted, 0);
  bench.steal.leaves();
  EXPECT_FALSE(bench.steal.comes_back(0));
}

TEST(StealTime, refuses_reserved_bits_and_what_is_not_memory) {
  Bench bench;
  ASSERT_TRUE(bench.steal.msr_write(0x1001));
  EXPECT_FALSE(bench.steal.msr_write(0x1003));
  EXPECT_FALSE(bench.steal.msr_write(0x1021));
  EXPECT_FALSE(bench.steal.msr_write(0x2001));
  EXPECT_EQ(bench.steal.msr_read(), 0x1001u);
  EXPECT_TRUE(bench.steal.msr_write(0x2000));  // not enabled: nothing is there to be written
}

TEST(StealTime, writes_nothing_while_disabled) {
  Bench bench;
  ASSERT_TRUE(bench.steal.msr_write(0x1001));
  ASSERT_TRUE(bench.steal.msr_write(0));
  const std::vector<u8> before(bench.memory.bytes, bench.memory.bytes + sizeof bench.memory.bytes);
  bench.steal.leaves();
  EXPECT_FALSE(bench.steal.comes_back(1000));
  EXPECT_EQ(before, std::vector<u8>(bench.memory.bytes, bench.memory.bytes + sizeof bench.memory.bytes));
}

TEST(StealTime, is_saved_and_loaded) {
  Bench bench, other;
  ASSERT_TRUE(bench.steal.msr_write(0x1001));
  static_cast<void>(bench.steal.comes_back(9));
  ASSERT_TRUE(other.steal.load(bench.steal.state()).ok());
  EXPECT_EQ(other.steal.state(), bench.steal.state());
  static_cast<void>(other.steal.comes_back(1));
  EXPECT_EQ(other.info().steal, 10u);
  StealTime::State state = bench.steal.state();
  state.version++;
  EXPECT_FALSE(other.steal.load(state).ok());
  state = bench.steal.state();
  state.msr |= 2;
  EXPECT_FALSE(other.steal.load(state).ok());
}

TEST(StealTime, bears_any_use) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; round++) {
    std::vector<u8> bytes(200);
    for (u8& byte : bytes) byte = static_cast<u8>(random());
    steal_time_sequence(nacre::testing::ByteSource(bytes));
  }
}

}  // namespace
}  // namespace nacre::time
