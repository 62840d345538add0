#include "device/uart16550/uart16550.hpp"

#include <gtest/gtest.h>

#include "device/uart16550/uart16550_sequence.hpp"

namespace nacre::device {
namespace {

struct Bench {
  nacre::testing::RecordedLine irq;
  RecordedSink sink;
  Uart16550 uart{irq, sink};

  // 8n1, FIFOs on with a trigger level of 8, OUT2 connects the interrupt wire.
  void open(u8 ier) {
    uart.write(3, 0x03);
    uart.write(2, 0x87);
    uart.write(4, 0x0b);
    uart.write(1, ier);
  }
};

TEST(Uart16550, has_the_reset_values_of_the_data_sheet) {
  Bench bench;
  const u8 expected[] = {0x00, 0x00, 0x01, 0x00, 0x00, 0x60, 0xb0, 0x00};
  for (u16 offset = 0; offset < 8; ++offset) EXPECT_EQ(bench.uart.read(offset), expected[offset]) << offset;
}

TEST(Uart16550, registers_keep_only_their_writable_bits) {
  Bench bench;
  for (u16 offset : {u16{1}, u16{4}, u16{7}}) bench.uart.write(offset, 0xff);
  EXPECT_EQ(bench.uart.read(1), 0x0f);
  EXPECT_EQ(bench.uart.read(4), 0x1f);
  EXPECT_EQ(bench.uart.read(7), 0xff);
  bench.uart.write(3, 0xff);
  bench.uart.write(0, 0x34);
  bench.uart.write(1, 0x12);
  EXPECT_EQ(bench.uart.read(0), 0x34);
  EXPECT_EQ(bench.uart.read(1), 0x12);
  bench.uart.write(3, 0x7f);
  EXPECT_EQ(bench.uart.read(1), 0x0f);
}

TEST(Uart16550, identifies_as_a_16550a) {
  Bench bench;
  bench.uart.write(2, 0x01);
  EXPECT_EQ(bench.uart.read(2), 0xc1);
  bench.uart.write(2, 0x00);
  EXPECT_EQ(bench.uart.read(2), 0x01);
  bench.uart.write(4, 0x1a);  // Linux's probe: loop RTS and OUT2 back
  EXPECT_EQ(bench.uart.read(6) & 0xf0, 0x90);
}

TEST(Uart16550, transmits_at_once_and_is_empty_again) {
  Bench bench;
  for (char c : {'h', 'i', '\n'}) bench.uart.write(0, static_cast<u8>(c));
  EXPECT_EQ(bench.sink.text, "hi\n");
  EXPECT_EQ(bench.uart.read(5), 0x60);
}

TEST(Uart16550, interrupts_when_the_transmitter_is_empty) {
  Bench bench;
  bench.open(0x02);
  EXPECT_TRUE(bench.irq.level);
  EXPECT_EQ(bench.uart.read(2), 0xc2);  // reading the cause acknowledges it
  EXPECT_FALSE(bench.irq.level);
  EXPECT_EQ(bench.uart.read(2), 0xc1);
  bench.uart.write(0, 'x');
  EXPECT_TRUE(bench.irq.level);
  EXPECT_EQ(bench.irq.rises, 2U);
  bench.uart.write(0, 'y');
  EXPECT_EQ(bench.irq.rises, 2U);
  bench.uart.write(1, 0);
  EXPECT_FALSE(bench.irq.level);
  bench.uart.write(1, 2);
  EXPECT_TRUE(bench.irq.level);
}

TEST(Uart16550, needs_out2_to_interrupt) {
  Bench bench;
  bench.open(0x02);
  bench.uart.write(4, 0x03);
  EXPECT_FALSE(bench.irq.level);
  bench.uart.write(4, 0x0b);
  EXPECT_TRUE(bench.irq.level);
}

TEST(Uart16550, receives_16_bytes_and_then_has_no_room) {
  Bench bench;
  bench.open(0x01);
  for (u8 i = 0; i < 16; ++i) EXPECT_TRUE(bench.uart.receive(i));
  EXPECT_FALSE(bench.uart.can_receive());
  EXPECT_FALSE(bench.uart.receive(99));
  EXPECT_TRUE(bench.irq.level);
  EXPECT_EQ(bench.uart.read(2), 0xc4);
  for (u8 i = 0; i < 16; ++i) {
    EXPECT_EQ(bench.uart.read(5), 0x61);
    EXPECT_EQ(bench.uart.read(0), i);
  }
  EXPECT_EQ(bench.uart.read(5), 0x60);
  EXPECT_FALSE(bench.irq.level);
}

TEST(Uart16550, below_the_trigger_level_the_cause_is_the_time_out) {
  Bench bench;
  bench.open(0x01);
  for (u8 i = 0; i < 7; ++i) bench.uart.receive(i);
  EXPECT_EQ(bench.uart.read(2), 0xcc);
  bench.uart.receive(7);
  EXPECT_EQ(bench.uart.read(2), 0xc4);
}

TEST(Uart16550, without_fifos_one_byte_waits) {
  Bench bench;
  EXPECT_TRUE(bench.uart.receive('a'));
  EXPECT_FALSE(bench.uart.receive('b'));
  EXPECT_EQ(bench.uart.read(0), 'a');
  EXPECT_TRUE(bench.uart.can_receive());
}

TEST(Uart16550, reports_causes_in_their_order) {
  Bench bench;
  bench.open(0x0f);
  bench.uart.write(4, 0x18);  // loopback without RTS and DTR: the modem inputs fall
  bench.uart.write(4, 0x0b);
  bench.uart.receive_break();
  EXPECT_EQ(bench.uart.read(2), 0xc6);
  EXPECT_EQ(bench.uart.read(5), 0xf1);  // break, ready, FIFO error
  EXPECT_EQ(bench.uart.read(2), 0xcc);
  EXPECT_EQ(bench.uart.read(0), 0);
  EXPECT_EQ(bench.uart.read(2), 0xc2);
  EXPECT_EQ(bench.uart.read(2), 0xc0);
  EXPECT_NE(bench.uart.read(6) & 0x0f, 0);
  EXPECT_EQ(bench.uart.read(2), 0xc1);
  EXPECT_FALSE(bench.irq.level);
}

TEST(Uart16550, a_break_belongs_to_its_place_in_the_fifo) {
  Bench bench;
  bench.open(0);
  bench.uart.receive('a');
  bench.uart.receive_break();
  EXPECT_EQ(bench.uart.read(5), 0xe1);
  EXPECT_EQ(bench.uart.read(0), 'a');
  EXPECT_EQ(bench.uart.read(5), 0xf1);
  EXPECT_EQ(bench.uart.read(5), 0x61);
}

TEST(Uart16550, loops_back_and_overruns) {
  Bench bench;
  bench.uart.write(4, 0x10);
  EXPECT_FALSE(bench.uart.can_receive());
  bench.uart.write(0, 'q');
  bench.uart.write(0, 'r');
  EXPECT_EQ(bench.sink.text, "");
  EXPECT_EQ(bench.uart.read(5), 0x63);
  EXPECT_EQ(bench.uart.read(5), 0x61);
  EXPECT_EQ(bench.uart.read(0), 'q');
}

TEST(Uart16550, fifo_reset_drops_input) {
  Bench bench;
  bench.open(0x01);
  bench.uart.receive('a');
  bench.uart.write(2, 0x83);
  EXPECT_FALSE(bench.irq.level);
  EXPECT_EQ(bench.uart.read(5), 0x60);
}

TEST(Uart16550, state_makes_a_round_trip_and_damage_is_refused) {
  Bench before;
  before.open(0x01);
  before.uart.receive('a');
  Bench after;
  EXPECT_TRUE(after.uart.load(before.uart.state()).ok());
  EXPECT_EQ(after.uart.state(), before.uart.state());
  EXPECT_TRUE(after.irq.level);
  EXPECT_EQ(after.uart.read(0), 'a');
  Uart16550::State state = before.uart.state();
  state.head = 16;
  EXPECT_FALSE(after.uart.load(state).ok());
  state = before.uart.state();
  state.length = 17;
  EXPECT_FALSE(after.uart.load(state).ok());
  state = before.uart.state();
  state.version = 0;
  EXPECT_FALSE(after.uart.load(state).ok());
}

TEST(Uart16550, survives_random_sequences) {
  nacre::testing::run_random_sequences(uart16550_sequence, 2000);
}

}  // namespace
}  // namespace nacre::device
