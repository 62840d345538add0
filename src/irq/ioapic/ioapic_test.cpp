#include "irq/ioapic/ioapic.hpp"

#include <gtest/gtest.h>

#include "irq/ioapic/ioapic_sequence.hpp"

namespace nacre::irq {
namespace {

struct RecordedBus final : MessageSink {
  std::vector<Message> messages;
  bool accepts = true;
  bool deliver(const Message& message) override {
    messages.push_back(message);
    return accepts;
  }
};

struct Bench {
  RecordedBus bus;
  Ioapic ioapic{bus, 2};

  u32 read(u8 index) {
    ioapic.write(0, 4, index);
    return static_cast<u32>(ioapic.read(0x10, 4));
  }
  void write(u8 index, u32 value) {
    ioapic.write(0, 4, index);
    ioapic.write(0x10, 4, value);
  }
  void program(unsigned pin, u64 entry) {
    write(static_cast<u8>(0x11 + 2 * pin), static_cast<u32>(entry >> 32));
    write(static_cast<u8>(0x10 + 2 * pin), static_cast<u32>(entry));
  }
};

constexpr u64 kEdge30 = 0x0300'0000'0000'0030;   // vector 30h, fixed, physical, to id 3
constexpr u64 kLevel40 = 0x0300'0000'0000'a040;  // vector 40h, level, active low
constexpr u32 kRemoteIrr = 1 << 14;

TEST(Ioapic, has_the_reset_values_of_the_data_sheet) {
  Bench bench;
  EXPECT_EQ(bench.read(0), 0x0200'0000U);
  EXPECT_EQ(bench.read(1), 0x0017'0020U);
  EXPECT_EQ(bench.read(2), 0x0200'0000U);
  for (u8 pin = 0; pin < Ioapic::kPins; ++pin) {
    EXPECT_EQ(bench.read(static_cast<u8>(0x10 + 2 * pin)), 0x0001'0000U);
    EXPECT_EQ(bench.read(static_cast<u8>(0x11 + 2 * pin)), 0U);
  }
  EXPECT_EQ(bench.read(0x40), 0U);
}

TEST(Ioapic, registers_keep_only_their_writable_bits) {
  Bench bench;
  bench.write(0, 0xffff'ffff);
  EXPECT_EQ(bench.read(0), 0x0f00'0000U);
  bench.write(1, 0);
  EXPECT_EQ(bench.read(1), 0x0017'0020U);
  bench.write(0x12, 0xffff'ffff);
  bench.write(0x13, 0xffff'ffff);
  EXPECT_EQ(bench.read(0x12), 0x0001'afffU);
  EXPECT_EQ(bench.read(0x13), 0xff00'0000U);
}

TEST(Ioapic, edges_become_messages_and_masked_ones_are_lost) {
  Bench bench;
  bench.ioapic.set_pin(4, true);
  bench.ioapic.set_pin(4, false);
  bench.program(4, kEdge30);
  EXPECT_TRUE(bench.bus.messages.empty());
  bench.ioapic.set_pin(4, true);
  bench.ioapic.set_pin(4, true);
  ASSERT_EQ(bench.bus.messages.size(), 1U);
  EXPECT_EQ(bench.bus.messages[0], (Message{0x30, Delivery::Fixed, Trigger::Edge, Destination::Physical, 3}));
  bench.ioapic.set_pin(4, false);
  bench.ioapic.set_pin(4, true);
  EXPECT_EQ(bench.bus.messages.size(), 2U);
  EXPECT_EQ(bench.read(0x18) & kRemoteIrr, 0U);
}

TEST(Ioapic, an_8_bit_broadcast_reaches_wide_ids_too) {
  Bench bench;
  bench.program(1, 0xff00'0000'0000'0830);
  bench.ioapic.set_pin(1, true);
  ASSERT_EQ(bench.bus.messages.size(), 1U);
  EXPECT_EQ(bench.bus.messages[0].destination, kBroadcast);
  EXPECT_EQ(bench.bus.messages[0].mode, Destination::Logical);
}

TEST(Ioapic, a_level_waits_for_its_eoi_and_repeats_while_asserted) {
  Bench bench;
  bench.program(16, kLevel40);
  bench.ioapic.set_pin(16, true);
  EXPECT_EQ(bench.bus.messages.size(), 1U);
  EXPECT_EQ(bench.read(0x30) & kRemoteIrr, kRemoteIrr);
  bench.ioapic.set_pin(16, false);
  bench.ioapic.set_pin(16, true);
  EXPECT_EQ(bench.bus.messages.size(), 1U);
  bench.ioapic.end_of_interrupt(0x41);
  EXPECT_EQ(bench.bus.messages.size(), 1U);
  bench.ioapic.end_of_interrupt(0x40);
  EXPECT_EQ(bench.bus.messages.size(), 2U);
  bench.ioapic.set_pin(16, false);
  bench.ioapic.write(0x40, 4, 0x40);  // the EOI register of version 20h
  EXPECT_EQ(bench.bus.messages.size(), 2U);
  EXPECT_EQ(bench.read(0x30) & kRemoteIrr, 0U);
}

TEST(Ioapic, unmasking_an_asserted_level_delivers_it) {
  Bench bench;
  bench.ioapic.set_pin(9, true);
  bench.program(9, kLevel40 | 1 << 16);
  EXPECT_TRUE(bench.bus.messages.empty());
  bench.program(9, kLevel40);
  EXPECT_EQ(bench.bus.messages.size(), 1U);
}

TEST(Ioapic, remote_irr_needs_an_acceptor_and_falls_with_edge_mode) {
  Bench bench;
  bench.bus.accepts = false;
  bench.program(9, kLevel40);
  bench.ioapic.set_pin(9, true);
  EXPECT_EQ(bench.read(0x22) & kRemoteIrr, 0U);
  bench.bus.accepts = true;
  bench.write(0x22, 0xa040);
  EXPECT_EQ(bench.read(0x22) & kRemoteIrr, kRemoteIrr);
  bench.write(0x22, 0x1'0040);
  EXPECT_EQ(bench.read(0x22), 0x1'0040U);
  bench.write(0x22, 0xa040);
  EXPECT_EQ(bench.bus.messages.size(), 3U);
}

TEST(Ioapic, an_end_that_comes_from_inside_the_delivery_is_not_lost) {
  struct EagerBus final : MessageSink {
    Ioapic* ioapic = nullptr;
    unsigned count = 0;
    bool deliver(const Message& message) override {
      if (++count == 1) ioapic->set_pin(9, false), ioapic->end_of_interrupt(message.vector);
      return true;
    }
  } bus;
  Ioapic ioapic(bus, 0);
  bus.ioapic = &ioapic;
  ioapic.write(0, 4, 0x22);
  ioapic.write(0x10, 4, 0xa040);
  ioapic.set_pin(9, true);
  EXPECT_EQ(ioapic.read(0x10, 4) & kRemoteIrr, 0U);
}

TEST(Ioapic, state_makes_a_round_trip_and_damage_is_refused_or_repaired) {
  Bench before;
  before.program(16, kLevel40);
  before.ioapic.set_pin(16, true);
  Bench after;
  EXPECT_TRUE(after.ioapic.load(before.ioapic.state()).ok());
  EXPECT_EQ(after.ioapic.state(), before.ioapic.state());
  after.ioapic.end_of_interrupt(0x40);
  EXPECT_EQ(after.bus.messages.size(), 1U);
  Ioapic::State state = before.ioapic.state();
  state.version = 0;
  EXPECT_FALSE(after.ioapic.load(state).ok());
  state = before.ioapic.state();
  state.redirection[0] = ~u64{0};
  state.select = ~u32{0};
  EXPECT_TRUE(after.ioapic.load(state).ok());
  EXPECT_EQ(after.read(0x10), 0x1'efffU);
}

TEST(Ioapic, survives_random_sequences) {
  nacre::testing::run_random_sequences(ioapic_sequence, 2000);
}

}  // namespace
}  // namespace nacre::irq
