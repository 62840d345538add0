#include "time/pvclock/pvclock.hpp"

#include <gtest/gtest.h>

#include "time/pvclock/pvclock_sequence.hpp"

namespace nacre::time {
namespace {

struct TimeInfo {
  u32 version, pad;
  u64 tsc_timestamp, system_time;
  u32 mul;
  i8 shift;
  u8 flags, pad2[2];
};

struct Bench {
  Bench() { memory.clock = &clock; }

  nacre::testing::ManualClock clock;
  RecordedMemory memory;
  PvClock pvclock{{clock, clock, memory, memory}, 2'500'000, PvClock::Stability::Stable};

  TimeInfo info(usize at = 0) {
    TimeInfo value;
    std::memcpy(&value, memory.bytes + at, sizeof value);
    return value;
  }
};

// As a guest computes: Linux, arch/x86/include/asm/pvclock.h describes the formula.
u64 scaled(const TscScale& scale, u64 ticks) {
  const u64 shifted = scale.shift < 0 ? ticks >> -scale.shift : ticks << scale.shift;
  return static_cast<u64>(static_cast<u128>(shifted) * scale.multiplier >> 32);
}

TEST(PvClock, scale_is_exact_to_a_few_parts_in_a_billion) {
  for (u64 khz : {u64{1}, u64{1'000}, u64{999'999}, u64{1'000'000}, u64{2'000'000}, u64{2'593'906},
                  u64{3'000'000}, u64{5'700'000}, u64{1} << 32}) {
    const TscScale scale = tsc_scale(khz);
    const u64 second = khz * 1000;
    const u64 ns = scaled(scale, second);
    EXPECT_LE(ns, kNsPerSecond) << khz;
    EXPECT_GE(ns, kNsPerSecond - 4) << khz;
  }
  EXPECT_EQ(tsc_scale(1'000'000), (TscScale{0x8000'0000, 1}));
  EXPECT_EQ(tsc_scale(2'000'000), (TscScale{0x8000'0000, 0}));
  EXPECT_EQ(tsc_scale(4'000'000), (TscScale{0x8000'0000, -1}));
}

TEST(PvClock, publishes_time_under_the_version_protocol) {
  Bench bench;
  bench.clock.now = 5'000'000'123;
  bench.memory.tsc = 77;
  EXPECT_TRUE(bench.pvclock.msr_write(PvClock::kSystemTimeMsr, 0x1001));
  EXPECT_EQ(bench.memory.versions, (std::vector<u32>{1, 1, 2}));
  const TimeInfo info = bench.info();
  EXPECT_EQ(info.tsc_timestamp, 77U);
  EXPECT_EQ(info.system_time, 5'000'000'123U);
  EXPECT_EQ(info.flags, PvClock::kTscStable);
  EXPECT_EQ(scaled({info.mul, info.shift}, 2'500'000'000), kNsPerSecond - 1);
  bench.clock.now += 1000;
  bench.pvclock.refresh();
  EXPECT_EQ(bench.info().version, 4U);
  EXPECT_EQ(bench.info().system_time, 5'000'001'123U);
}

TEST(PvClock, tells_the_guest_that_it_stood_still) {
  Bench bench;
  bench.pvclock.msr_write(PvClock::kSystemTimeMsr, 0x1001);
  bench.pvclock.refresh(PvClock::Refresh::Resumed);
  EXPECT_EQ(bench.info().flags, PvClock::kTscStable | PvClock::kGuestStopped);
  bench.pvclock.refresh();
  EXPECT_EQ(bench.info().flags, PvClock::kTscStable);
}

TEST(PvClock, stops_when_disabled) {
  Bench bench;
  bench.pvclock.msr_write(PvClock::kSystemTimeMsr, 0x1001);
  bench.pvclock.msr_write(PvClock::kSystemTimeMsr, 0);
  bench.memory.versions.clear();
  bench.pvclock.refresh();
  EXPECT_TRUE(bench.memory.versions.empty());
}

TEST(PvClock, refuses_addresses_that_are_not_ram) {
  Bench bench;
  EXPECT_FALSE(bench.pvclock.msr_write(PvClock::kSystemTimeMsr, 0x5001));
  EXPECT_FALSE(bench.pvclock.msr_write(PvClock::kWallClockMsr, ~u64{0}));
  EXPECT_FALSE(bench.pvclock.msr_write(0x4b564d02, 0));
  u64 value = 1;
  EXPECT_TRUE(bench.pvclock.msr_read(PvClock::kSystemTimeMsr, value));
  EXPECT_EQ(value, 0U);
}

TEST(PvClock, tells_the_date_of_the_clocks_zero) {
  Bench bench;
  bench.clock.now = 90 * kNsPerSecond;
  bench.clock.wall_offset += 250;
  EXPECT_TRUE(bench.pvclock.msr_write(PvClock::kWallClockMsr, 0x1100));
  u32 words[3];
  std::memcpy(words, bench.memory.bytes + 0x100, sizeof words);
  EXPECT_EQ(words[0], 2U);
  EXPECT_EQ(words[1], 1'700'000'000U);
  EXPECT_EQ(words[2], 250U);
}

TEST(PvClock, a_restored_clock_goes_on_with_its_versions) {
  Bench before;
  before.pvclock.msr_write(PvClock::kSystemTimeMsr, 0x1001);
  Bench after;
  EXPECT_TRUE(after.pvclock.load(before.pvclock.state()).ok());
  after.pvclock.refresh();
  EXPECT_EQ(after.info().version, 4U);
  PvClock::State state = before.pvclock.state();
  state.version = 0;
  EXPECT_FALSE(after.pvclock.load(state).ok());
}

TEST(PvClock, survives_random_sequences) {
  nacre::testing::run_random_sequences(pvclock_sequence, 2000);
}

}  // namespace
}  // namespace nacre::time
