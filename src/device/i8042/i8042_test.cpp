#include "device/i8042/i8042.hpp"

#include <gtest/gtest.h>

#include "device/i8042/i8042_sequence.hpp"

namespace nacre::device {
namespace {

struct Bench {
  nacre::testing::RecordedLine irq1, irq12;
  RecordedPower power;
  I8042 controller{{irq1, irq12, power}};

  // A command with an answer: the status when it is there, and the answer. Nothing is waited for.
  std::pair<u8, u8> ask(u8 command) {
    controller.write_command(command);
    const u8 status = controller.read_status();
    return {status, controller.read_data()};
  }
  std::pair<u8, u8> ask(u8 command, u8 data) {
    controller.write_command(command);
    controller.write_data(data);
    const u8 status = controller.read_status();
    return {status, controller.read_data()};
  }
};

using Answer = std::pair<u8, u8>;

TEST(I8042, is_idle_after_reset) {
  Bench bench;
  EXPECT_EQ(bench.controller.read_status(), 0x14);
  EXPECT_EQ(bench.ask(0x20), (Answer{0x1d, 0x65}));
}

TEST(I8042, answers_its_tests_at_once) {
  Bench bench;
  EXPECT_EQ(bench.ask(0xaa), (Answer{0x1d, 0x55}));
  EXPECT_EQ(bench.ask(0xab), (Answer{0x1d, 0x00}));
  EXPECT_EQ(bench.ask(0xa9), (Answer{0x1d, 0x01}));
  EXPECT_EQ(bench.ask(0xc0), (Answer{0x1d, 0x80}));
  EXPECT_EQ(bench.ask(0xd0), (Answer{0x1d, 0x03}));
  EXPECT_EQ(bench.ask(0xe0), (Answer{0x1d, 0x00}));
}

TEST(I8042, linux_finds_no_mouse_port_without_waiting) {
  Bench bench;
  const auto [status, echo] = bench.ask(0xd3, 0x5a);
  EXPECT_EQ(status & 0x21, 0x01);  // an answer, but not from an aux port
  EXPECT_EQ(echo, 0x5a);
  const u8 test = bench.ask(0xa9).second;
  EXPECT_TRUE(test != 0x00 && test != 0xfa && test != 0xff);
}

TEST(I8042, an_absent_keyboard_times_out_at_once) {
  Bench bench;
  bench.controller.write_data(0xf2);
  EXPECT_TRUE(bench.irq1.level);
  EXPECT_EQ(bench.controller.read_status(), 0x14 | 0x41);
  EXPECT_EQ(bench.controller.read_data(), 0xfe);
  EXPECT_FALSE(bench.irq1.level);
  EXPECT_EQ(bench.controller.read_status() & 0x41, 0);
}

TEST(I8042, an_absent_mouse_times_out_on_its_own_wire) {
  Bench bench;
  bench.controller.write_command(0x60);
  bench.controller.write_data(0x47);
  bench.controller.write_command(0xd4);
  bench.controller.write_data(0xf4);
  EXPECT_TRUE(bench.irq12.level);
  EXPECT_FALSE(bench.irq1.level);
  EXPECT_EQ(bench.controller.read_status() & 0x61, 0x61);
  EXPECT_EQ(bench.controller.read_data(), 0xfe);
}

TEST(I8042, keeps_its_ram_and_its_mode_bits) {
  Bench bench;
  for (u8 i = 0; i < 32; ++i) {
    bench.controller.write_command(static_cast<u8>(0x60 + i));
    bench.controller.write_data(static_cast<u8>(0x40 | i));
  }
  for (u8 i = 0; i < 32; ++i) EXPECT_EQ(bench.ask(static_cast<u8>(0x20 + i)).second, 0x40 | i);
  bench.controller.write_command(0xad);
  bench.controller.write_command(0xa7);
  EXPECT_EQ(bench.ask(0x20).second, 0x70);
  bench.controller.write_command(0xae);
  bench.controller.write_command(0xa8);
  EXPECT_EQ(bench.ask(0x20).second, 0x40);
}

TEST(I8042, every_queued_byte_is_an_edge) {
  Bench bench;
  bench.controller.write_command(0xaa);
  bench.controller.write_command(0xab);
  EXPECT_EQ(bench.irq1.rises, 1U);
  EXPECT_EQ(bench.controller.read_data(), 0x55);
  EXPECT_TRUE(bench.irq1.level);
  EXPECT_EQ(bench.irq1.rises, 2U);
}

TEST(I8042, pulses_reset) {
  Bench bench;
  bench.controller.write_command(0xff);
  EXPECT_EQ(bench.power.resets, 0U);
  bench.controller.write_command(0xfe);
  EXPECT_EQ(bench.power.resets, 1U);
  bench.controller.write_command(0xd1);
  bench.controller.write_data(0x02);
  EXPECT_EQ(bench.power.resets, 2U);
}

TEST(I8042, state_makes_a_round_trip_and_damage_is_refused) {
  Bench before;
  before.controller.write_command(0xaa);
  before.controller.write_command(0xd3);
  Bench after;
  EXPECT_TRUE(after.controller.load(before.controller.state()).ok());
  EXPECT_EQ(after.controller.state(), before.controller.state());
  EXPECT_TRUE(after.irq1.level);
  I8042::State state = before.controller.state();
  state.head = 8;
  EXPECT_FALSE(after.controller.load(state).ok());
  state = before.controller.state();
  state.pending_command = 0x80;
  EXPECT_FALSE(after.controller.load(state).ok());
  state = before.controller.state();
  state.version = 2;
  EXPECT_FALSE(after.controller.load(state).ok());
}

TEST(I8042, survives_random_sequences) {
  nacre::testing::run_random_sequences(i8042_sequence, 2000);
}

}  // namespace
}  // namespace nacre::device
