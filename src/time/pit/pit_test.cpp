#include "time/pit/pit.hpp"

#include <gtest/gtest.h>

#include "time/pit/pit_sequence.hpp"

namespace nacre::time {
namespace {

struct Bench {
  nacre::testing::ManualClock clock;
  nacre::testing::RecordedLine irq0;
  Pit pit{clock, irq0};

  // The first instant at which `ticks` ticks have passed.
  void at_tick(u64 tick) {
    clock.now = instant_of(tick, Pit::kHz);
    pit.advance(clock.now);
  }
  void program(unsigned counter, unsigned mode, u16 count) {
    pit.write(3, static_cast<u8>(counter << 6 | 0x30 | mode << 1));
    pit.write(static_cast<u16>(counter), static_cast<u8>(count));
    pit.write(static_cast<u16>(counter), static_cast<u8>(count >> 8));
  }
  u16 latched(unsigned counter) {
    pit.write(3, static_cast<u8>(counter << 6));
    const unsigned low = pit.read(static_cast<u16>(counter));
    return static_cast<u16>(low | u32{pit.read(static_cast<u16>(counter))} << 8);
  }
  u8 status(unsigned counter) {
    pit.write(3, static_cast<u8>(0xe0 | 2u << counter));
    return pit.read(static_cast<u16>(counter));
  }
};

TEST(Pit, ticks_and_instants_agree) {
  for (u64 tick : {u64{0}, u64{1}, u64{2}, u64{1'193'181}, u64{1'193'182}, u64{123'456'789'012}}) {
    EXPECT_EQ(ticks_at(instant_of(tick, Pit::kHz), Pit::kHz), tick);
    if (tick != 0) {
      EXPECT_EQ(ticks_at(instant_of(tick, Pit::kHz) - 1, Pit::kHz), tick - 1);
    }
  }
}

TEST(Pit, is_silent_after_reset) {
  Bench bench;
  EXPECT_EQ(bench.pit.next_deadline(), kNever);
  EXPECT_FALSE(bench.irq0.level);
  EXPECT_EQ(bench.pit.read(3), 0);
}

TEST(Pit, mode_0_rises_once_at_terminal_count) {
  Bench bench;
  bench.program(0, 0, 1000);
  EXPECT_EQ(bench.pit.next_deadline(), instant_of(1001, Pit::kHz));
  bench.at_tick(1000);
  EXPECT_FALSE(bench.irq0.level);
  EXPECT_EQ(bench.latched(0), 1);
  bench.at_tick(1001);
  EXPECT_TRUE(bench.irq0.level);
  EXPECT_EQ(bench.irq0.rises, 1U);
  EXPECT_EQ(bench.pit.next_deadline(), kNever);
  bench.at_tick(1003);
  EXPECT_EQ(bench.latched(0), 0xfffe);  // runs on
}

TEST(Pit, mode_0_stops_between_the_bytes_of_a_new_count) {
  Bench bench;
  bench.program(0, 0, 10);
  bench.at_tick(20);
  EXPECT_TRUE(bench.irq0.level);
  bench.pit.write(0, 5);
  EXPECT_FALSE(bench.irq0.level);
  bench.at_tick(40);
  EXPECT_FALSE(bench.irq0.level);
  bench.pit.write(0, 0);
  bench.at_tick(45);
  EXPECT_FALSE(bench.irq0.level);
  bench.at_tick(46);
  EXPECT_TRUE(bench.irq0.level);
}

TEST(Pit, mode_2_gives_an_edge_every_period_and_merges_missed_ones) {
  Bench bench;
  bench.program(0, 2, 1193);
  bench.irq0.rises = 0;
  bench.at_tick(1193);
  EXPECT_EQ(bench.irq0.rises, 0U);
  EXPECT_FALSE(bench.irq0.level);  // the last tick of the period is low
  bench.at_tick(1194);
  EXPECT_EQ(bench.irq0.rises, 1U);
  EXPECT_EQ(bench.pit.next_deadline(), instant_of(1 + 2 * 1193, Pit::kHz));
  bench.at_tick(1 + 5 * 1193 + 7);
  EXPECT_EQ(bench.irq0.rises, 2U);
  EXPECT_EQ(bench.pit.next_deadline(), instant_of(1 + 6 * 1193, Pit::kHz));
  EXPECT_EQ(bench.latched(0), 1193 - 7);
}

TEST(Pit, mode_2_takes_a_new_count_at_the_end_of_the_period) {
  Bench bench;
  bench.program(0, 2, 1000);
  bench.at_tick(301);
  bench.pit.write(0, 100);
  bench.pit.write(0, 0);
  EXPECT_EQ(bench.status(0) & 0x40, 0x40);  // null count
  EXPECT_EQ(bench.latched(0), 700);
  EXPECT_EQ(bench.pit.next_deadline(), instant_of(1001, Pit::kHz));
  bench.at_tick(1001);
  EXPECT_EQ(bench.status(0) & 0x40, 0);
  EXPECT_EQ(bench.latched(0), 100);
  EXPECT_EQ(bench.pit.next_deadline(), instant_of(1101, Pit::kHz));
}

TEST(Pit, mode_3_is_a_square_wave_counting_by_two) {
  Bench bench;
  bench.program(0, 3, 10);
  const bool expected[] = {true, true, true, true, true, false, false, false, false, false, true};
  for (u64 i = 0; i < 11; ++i) {
    bench.at_tick(1 + i);
    EXPECT_EQ(bench.irq0.level, expected[i]) << i;
  }
  bench.at_tick(1 + 12);
  EXPECT_EQ(bench.latched(0), 6);
  EXPECT_EQ(bench.status(0) & 0xbf, 0x80 | 0x30 | 0x06);
}

TEST(Pit, a_count_of_0_is_65536) {
  Bench bench;
  bench.program(0, 2, 0);
  EXPECT_EQ(bench.pit.next_deadline(), instant_of(65'537, Pit::kHz));
  EXPECT_EQ(bench.latched(0), 0);
}

TEST(Pit, bcd_counts_in_decimal) {
  Bench bench;
  bench.pit.write(3, 0x31);  // counter 0, mode 0, BCD
  bench.pit.write(0, 0x00);
  bench.pit.write(0, 0x10);  // 1000
  EXPECT_EQ(bench.pit.next_deadline(), instant_of(1001, Pit::kHz));
  bench.at_tick(2);
  EXPECT_EQ(bench.latched(0), 0x0999);
}

TEST(Pit, mode_4_strobes_low_for_one_tick) {
  Bench bench;
  bench.program(0, 4, 5);
  EXPECT_TRUE(bench.irq0.level);
  bench.at_tick(6);
  EXPECT_FALSE(bench.irq0.level);
  bench.at_tick(7);
  EXPECT_TRUE(bench.irq0.level);
}

TEST(Pit, counter_2_measures_for_linux_through_port_61) {
  Bench bench;
  bench.pit.write_port61(0x01);  // gate up, speaker off: as pit_calibrate_tsc does
  bench.program(2, 0, 59'659);   // 50 ms
  EXPECT_EQ(bench.pit.read_port61() & 0x21, 0x01);
  bench.at_tick(59'659);
  EXPECT_EQ(bench.pit.read_port61() & 0x20, 0);
  bench.at_tick(59'660);
  EXPECT_EQ(bench.pit.read_port61() & 0x20, 0x20);
}

TEST(Pit, the_gate_holds_mode_0_and_triggers_mode_1) {
  Bench bench;
  bench.pit.write_port61(1);
  bench.program(2, 0, 100);
  bench.at_tick(41);
  bench.pit.write_port61(0);
  bench.at_tick(500);
  EXPECT_EQ(bench.latched(2), 60);
  bench.pit.write_port61(1);
  bench.at_tick(559);
  EXPECT_EQ(bench.pit.read_port61() & 0x20, 0);
  bench.at_tick(560);
  EXPECT_EQ(bench.pit.read_port61() & 0x20, 0x20);

  bench.pit.write_port61(0);
  bench.program(2, 1, 10);
  bench.at_tick(600);
  EXPECT_EQ(bench.pit.read_port61() & 0x20, 0x20);  // waits for its trigger
  bench.pit.write_port61(1);
  bench.at_tick(601);
  EXPECT_EQ(bench.pit.read_port61() & 0x20, 0);
  bench.at_tick(611);
  EXPECT_EQ(bench.pit.read_port61() & 0x20, 0x20);
}

TEST(Pit, a_low_gate_holds_the_square_wave_high_and_restarts_it) {
  Bench bench;
  bench.pit.write_port61(1);
  bench.program(2, 3, 100);
  bench.at_tick(61);
  EXPECT_EQ(bench.pit.read_port61() & 0x20, 0);
  bench.pit.write_port61(0);
  EXPECT_EQ(bench.pit.read_port61() & 0x20, 0x20);
  bench.at_tick(1000);
  bench.pit.write_port61(1);
  bench.at_tick(1001);
  EXPECT_EQ(bench.latched(2), 100);
}

TEST(Pit, port_61_toggles_refresh_and_keeps_the_speaker_bits) {
  Bench bench;
  bench.pit.write_port61(0xff);
  EXPECT_EQ(bench.pit.read_port61() & 0x0f, 0x0f);
  const u8 before = bench.pit.read_port61() & 0x10;
  bench.clock.now += 15'085;
  EXPECT_NE(bench.pit.read_port61() & 0x10, before);
}

TEST(Pit, read_back_latches_status_before_count_and_keeps_the_first) {
  Bench bench;
  bench.program(1, 2, 0x1234);
  bench.at_tick(1);
  bench.pit.write(3, 0xc4);  // count and status of counter 1
  bench.at_tick(100);
  bench.pit.write(3, 0xc4);
  EXPECT_EQ(bench.pit.read(1), 0x80 | 0x30 | 0x04);
  EXPECT_EQ(bench.pit.read(1), 0x34);
  EXPECT_EQ(bench.pit.read(1), 0x12);
}

TEST(Pit, one_byte_access_modes_read_and_write_that_byte) {
  Bench bench;
  bench.pit.write(3, 0x14);  // counter 0, low byte, mode 2
  bench.pit.write(0, 50);
  EXPECT_EQ(bench.pit.next_deadline(), instant_of(51, Pit::kHz));
  bench.pit.write(3, 0x24);  // high byte
  bench.pit.write(0, 2);
  EXPECT_EQ(bench.pit.next_deadline(), instant_of(513, Pit::kHz));
  EXPECT_EQ(bench.pit.read(0), 2);
}

TEST(Pit, state_makes_a_round_trip_and_damage_is_refused) {
  Bench before;
  before.program(0, 2, 1193);
  before.at_tick(500);
  Bench after;
  after.clock.now = before.clock.now;
  EXPECT_TRUE(after.pit.load(before.pit.state()).ok());
  EXPECT_EQ(after.pit.state(), before.pit.state());
  EXPECT_EQ(after.pit.next_deadline(), instant_of(1194, Pit::kHz));
  Pit::State state = before.pit.state();
  state.counter[0].count = 0;
  EXPECT_FALSE(after.pit.load(state).ok());
  state = before.pit.state();
  state.counter[2].mode = 6;
  EXPECT_FALSE(after.pit.load(state).ok());
  state = before.pit.state();
  state.version = 9;
  EXPECT_FALSE(after.pit.load(state).ok());
}

TEST(Pit, survives_random_sequences) {
  nacre::testing::run_random_sequences(pit_sequence, 2000);
}

}  // namespace
}  // namespace nacre::time
