#include "time/rtc/rtc.hpp"

#include <gtest/gtest.h>

#include "time/rtc/rtc_sequence.hpp"

namespace nacre::time {
namespace {

struct Bench {
  nacre::testing::ManualClock clock;  // 2023-11-14 22:13:20 UTC, a Tuesday
  nacre::testing::RecordedLine irq8;
  Rtc rtc{clock, clock, irq8};

  u8 read(u8 index) {
    rtc.write(0, index);
    return rtc.read(1);
  }
  void write(u8 index, u8 value) {
    rtc.write(0, index);
    rtc.write(1, value);
  }
  void at(u64 ns) {
    clock.now = ns;
    rtc.advance(ns);
  }
};

TEST(Rtc, shows_the_date_in_bcd_at_a_stated_instant) {
  Bench bench;
  const u8 expected[] = {0x20, 0x00, 0x13, 0x00, 0x22, 0x00, 0x03, 0x14, 0x11, 0x23, 0x26, 0x02, 0x00, 0x80};
  for (u8 i = 0; i < sizeof expected; ++i) EXPECT_EQ(bench.read(i), expected[i]) << int{i};
  EXPECT_EQ(bench.read(0x32), 0x20);
}

TEST(Rtc, shows_binary_and_12_hour_formats_when_asked) {
  Bench bench;
  bench.write(0x0b, 0x04);  // binary, 12 hours
  EXPECT_EQ(bench.read(0), 20);
  EXPECT_EQ(bench.read(2), 13);
  EXPECT_EQ(bench.read(4), 0x80 | 10);
  EXPECT_EQ(bench.read(9), 23);
  EXPECT_EQ(bench.read(0x32), 20);
  bench.clock.wall_offset += 2 * 3600 * kNsPerSecond;  // past midnight
  EXPECT_EQ(bench.read(4), 12);
  EXPECT_EQ(bench.read(7), 15);
}

TEST(Rtc, keeps_a_date_that_the_guest_sets) {
  Bench bench;
  bench.write(0x0b, 0x82);  // SET
  const u8 date[][2] = {{0, 0x58}, {2, 0x59}, {4, 0x23}, {7, 0x28}, {8, 0x02}, {9, 0x24}, {0x32, 0x20}};
  for (const auto& [index, value] : date) bench.write(index, value);
  bench.at(5 * kNsPerSecond);
  EXPECT_EQ(bench.read(0), 0x58);  // stands still
  bench.write(0x0b, 0x02);
  bench.at(8 * kNsPerSecond);
  EXPECT_EQ(bench.read(0), 0x01);
  EXPECT_EQ(bench.read(4), 0x00);
  EXPECT_EQ(bench.read(7), 0x29);  // a leap year
  EXPECT_EQ(bench.read(8), 0x02);
}

TEST(Rtc, nonsense_in_the_date_registers_is_survived) {
  Bench bench;
  bench.write(0x0b, 0x82);
  for (const u8 index : std::initializer_list<u8>{0, 2, 4, 7, 8, 9, 0x32}) bench.write(index, 0xff);
  bench.write(0x0b, 0x02);
  EXPECT_LE(bench.read(8), 0x12);
  EXPECT_GE(bench.read(7), 0x01);
}

TEST(Rtc, announces_an_update_before_the_second_changes) {
  Bench bench;
  bench.clock.now = kNsPerSecond - 244'001;
  EXPECT_EQ(bench.read(0x0a) & 0x80, 0);
  bench.clock.now = kNsPerSecond - 244'000;
  EXPECT_EQ(bench.read(0x0a) & 0x80, 0x80);
  bench.clock.now = kNsPerSecond;
  EXPECT_EQ(bench.read(0x0a) & 0x80, 0);
}

TEST(Rtc, interrupts_when_an_update_ended) {
  Bench bench;
  bench.clock.now = 300'000'000;
  bench.write(0x0b, 0x12);
  EXPECT_EQ(bench.rtc.next_deadline(), kNsPerSecond);
  bench.at(kNsPerSecond - 1);
  EXPECT_FALSE(bench.irq8.level);
  bench.at(kNsPerSecond);
  EXPECT_TRUE(bench.irq8.level);
  EXPECT_EQ(bench.read(0x0c), 0xd0);  // flags are set whether they interrupt or not: PF too
  EXPECT_FALSE(bench.irq8.level);
  EXPECT_EQ(bench.read(0x0c), 0);
  EXPECT_EQ(bench.rtc.next_deadline(), 2 * kNsPerSecond);
}

TEST(Rtc, interrupts_periodically_at_the_selected_rate) {
  Bench bench;
  bench.write(0x0b, 0x42);  // rate 6: 1024 Hz
  EXPECT_EQ(bench.rtc.next_deadline(), instant_of(32, 32'768));
  bench.at(976'563);
  EXPECT_TRUE(bench.irq8.level);
  EXPECT_EQ(bench.rtc.next_deadline(), kNever);  // until the cause is read
  EXPECT_EQ(bench.read(0x0c), 0xc0);
  EXPECT_EQ(bench.rtc.next_deadline(), instant_of(64, 32'768));
  bench.write(0x0a, 0x2f);  // 2 Hz
  EXPECT_EQ(bench.rtc.next_deadline(), kNsPerSecond / 2);
  bench.write(0x0a, 0x21);  // 256 Hz
  EXPECT_EQ(bench.rtc.next_deadline(), instant_of(128, 32'768));
  bench.write(0x0a, 0x20);
  EXPECT_EQ(bench.rtc.next_deadline(), kNever);
}

TEST(Rtc, sounds_the_alarm_at_its_time_and_with_wildcards) {
  Bench bench;
  bench.write(1, 0x30);
  bench.write(3, 0x13);
  bench.write(5, 0x22);
  bench.write(0x0b, 0x22);
  EXPECT_EQ(bench.rtc.next_deadline(), 10 * kNsPerSecond);
  bench.at(10 * kNsPerSecond);
  EXPECT_TRUE(bench.irq8.level);
  EXPECT_EQ(bench.read(0x0c), 0xf0);
  bench.write(1, 0xc0);
  bench.write(3, 0xff);
  bench.write(5, 0xff);
  EXPECT_EQ(bench.rtc.next_deadline(), 11 * kNsPerSecond);
  bench.write(3, 0x20);  // every second of minute 20, any hour
  bench.read(0x0c);
  for (u64 s = 11; s < 400; ++s) bench.at(s * kNsPerSecond);  // wakes at least each minute
  EXPECT_FALSE(bench.irq8.level);
  bench.at(400 * kNsPerSecond);
  EXPECT_TRUE(bench.irq8.level);
}

TEST(Rtc, an_impossible_alarm_never_sounds) {
  Bench bench;
  bench.write(5, 0x35);
  bench.write(0x0b, 0x22);
  for (u64 s = 0; s < 90'000; s += 60) bench.at(s * kNsPerSecond);
  EXPECT_FALSE(bench.irq8.level);
}

TEST(Rtc, set_clears_update_interrupts) {
  Bench bench;
  bench.write(0x0b, 0x92);
  EXPECT_EQ(bench.read(0x0b), 0x82);
}

TEST(Rtc, keeps_128_bytes_of_memory) {
  Bench bench;
  for (u8 i = 0x0e; i < 0x80; ++i) {
    if (i != Rtc::kCentury) bench.write(i, static_cast<u8>(i ^ 0x5a));
  }
  for (u8 i = 0x0e; i < 0x80; ++i) {
    if (i != Rtc::kCentury) {
      EXPECT_EQ(bench.read(i), i ^ 0x5a);
    }
  }
  bench.rtc.set_nvram(0x34, 0x77);
  bench.rtc.set_nvram(0x0a, 0x77);  // not memory
  EXPECT_EQ(bench.read(0x34), 0x77);
  EXPECT_EQ(bench.read(0x80 | 0x0a), 0x26);  // bit 7 of the index is not part of it
}

TEST(Rtc, reset_stops_interrupts_and_keeps_date_and_memory) {
  Bench bench;
  bench.write(0x40, 0x12);
  bench.write(0x0b, 0x7a);
  bench.at(kNsPerSecond);
  bench.rtc.reset();
  EXPECT_FALSE(bench.irq8.level);
  EXPECT_EQ(bench.read(0x0b), 0x02);
  EXPECT_EQ(bench.read(0x40), 0x12);
  EXPECT_EQ(bench.read(0), 0x21);
}

TEST(Rtc, state_makes_a_round_trip_and_damage_is_refused) {
  Bench before;
  before.write(0x0b, 0x82);
  before.write(9, 0x30);
  before.write(0x0b, 0x12);
  Bench after;
  EXPECT_TRUE(after.rtc.load(before.rtc.state()).ok());
  EXPECT_EQ(after.rtc.state(), before.rtc.state());
  EXPECT_EQ(after.read(9), 0x30);
  EXPECT_EQ(after.rtc.next_deadline(), kNsPerSecond);
  Rtc::State state = before.rtc.state();
  state.offset_s = i64{1} << 60;
  EXPECT_FALSE(after.rtc.load(state).ok());
  state = before.rtc.state();
  state.version = 3;
  EXPECT_FALSE(after.rtc.load(state).ok());
}

TEST(Rtc, survives_random_sequences) {
  nacre::testing::run_random_sequences(rtc_sequence, 2000);
}

}  // namespace
}  // namespace nacre::time
