#include "irq/pic/pic.hpp"

#include <gtest/gtest.h>

#include "irq/pic/pic_sequence.hpp"

namespace nacre::irq {
namespace {

struct Bench {
  nacre::testing::RecordedLine output;
  Pic pic{output};

  // As Linux's init_8259A does: vectors 30h and 38h, all unmasked here.
  void initialise(u8 icw4 = 0x01) {
    for (unsigned chip = 0; chip < 2; ++chip) {
      pic.write(chip, 0, 0x11);
      pic.write(chip, 1, chip == 0 ? 0x30 : 0x38);
      pic.write(chip, 1, chip == 0 ? 0x04 : 0x02);
      pic.write(chip, 1, icw4);
    }
  }
  void pulse(unsigned input) {
    pic.set_input(input, true);
    pic.set_input(input, false);
  }
  void end(unsigned chip) { pic.write(chip, 0, 0x20); }
  u8 isr(unsigned chip) {
    pic.write(chip, 0, 0x0b);
    return pic.read(chip, 0);
  }
  u8 irr(unsigned chip) {
    pic.write(chip, 0, 0x0a);
    return pic.read(chip, 0);
  }
};

TEST(Pic, initialisation_clears_mask_and_service_and_sets_the_vectors) {
  Bench bench;
  bench.pic.write(0, 1, 0xff);
  bench.initialise();
  EXPECT_EQ(bench.pic.read(0, 1), 0);
  EXPECT_EQ(bench.pic.state().chip[0].vector_base, 0x30);
  EXPECT_EQ(bench.pic.state().chip[1].vector_base, 0x38);
  bench.pic.write(1, 1, 0xa5);
  EXPECT_EQ(bench.pic.read(1, 1), 0xa5);
}

TEST(Pic, serves_by_priority_and_blocks_lower_ones_until_eoi) {
  Bench bench;
  bench.initialise();
  bench.pulse(5);
  bench.pulse(1);
  EXPECT_TRUE(bench.output.level);
  EXPECT_EQ(bench.irr(0), 0x22);
  EXPECT_EQ(bench.pic.acknowledge(), 0x31);
  EXPECT_FALSE(bench.output.level);
  EXPECT_EQ(bench.isr(0), 0x02);
  bench.pulse(0);
  EXPECT_EQ(bench.pic.acknowledge(), 0x30);
  bench.end(0);
  EXPECT_FALSE(bench.output.level);
  bench.end(0);
  EXPECT_EQ(bench.pic.acknowledge(), 0x35);
  bench.pic.write(0, 0, 0x65);  // specific EOI
  EXPECT_EQ(bench.isr(0), 0);
}

TEST(Pic, cascades_the_slave_over_input_2) {
  Bench bench;
  bench.initialise();
  bench.pulse(12);
  bench.pulse(8);
  EXPECT_EQ(bench.pic.acknowledge(), 0x38);
  EXPECT_EQ(bench.isr(0), 0x04);
  EXPECT_EQ(bench.isr(1), 0x01);
  bench.end(1);
  EXPECT_FALSE(bench.output.level);  // the master still serves the cascade
  bench.end(0);
  EXPECT_TRUE(bench.output.level);
  EXPECT_EQ(bench.pic.acknowledge(), 0x3c);
}

TEST(Pic, special_fully_nested_mode_lets_the_slave_interrupt_itself) {
  Bench bench;
  bench.initialise(0x11);
  bench.pulse(12);
  EXPECT_EQ(bench.pic.acknowledge(), 0x3c);
  bench.pulse(9);
  EXPECT_TRUE(bench.output.level);
  EXPECT_EQ(bench.pic.acknowledge(), 0x39);
}

TEST(Pic, answers_a_vanished_request_with_the_spurious_vector) {
  Bench bench;
  bench.initialise();
  bench.pic.write_elcr(0, 0x20);
  bench.pic.set_input(5, true);
  bench.pic.set_input(5, false);
  EXPECT_EQ(bench.pic.acknowledge(), 0x37);
  EXPECT_EQ(bench.isr(0), 0);
}

TEST(Pic, a_masked_slave_request_in_between_gives_the_masters_spurious_vector) {
  Bench bench;
  bench.initialise();
  bench.pulse(9);
  bench.pic.write(1, 1, 0xff);
  EXPECT_FALSE(bench.output.level);
  EXPECT_EQ(bench.pic.acknowledge(), 0x37);
  bench.pic.write(1, 1, 0);
  EXPECT_EQ(bench.pic.acknowledge(), 0x39);
}

TEST(Pic, level_inputs_request_again_after_eoi) {
  Bench bench;
  bench.initialise();
  bench.pic.write_elcr(1, 0x02);  // input 9
  bench.pic.set_input(9, true);
  EXPECT_EQ(bench.pic.acknowledge(), 0x39);
  bench.end(1);
  bench.end(0);
  EXPECT_TRUE(bench.output.level);
  bench.pic.set_input(9, false);
  EXPECT_FALSE(bench.output.level);
}

TEST(Pic, elcr_keeps_the_inputs_that_are_always_edges) {
  Bench bench;
  bench.pic.write_elcr(0, 0xff);
  bench.pic.write_elcr(1, 0xff);
  EXPECT_EQ(bench.pic.read_elcr(0), 0xf8);
  EXPECT_EQ(bench.pic.read_elcr(1), 0xde);
}

TEST(Pic, auto_eoi_leaves_nothing_in_service_and_may_rotate) {
  Bench bench;
  bench.initialise(0x03);
  bench.pic.write(0, 0, 0x80);  // rotate in automatic EOI mode
  bench.pulse(3);
  EXPECT_EQ(bench.pic.acknowledge(), 0x33);
  EXPECT_EQ(bench.isr(0), 0);
  bench.pulse(3);
  bench.pulse(4);
  EXPECT_EQ(bench.pic.acknowledge(), 0x34);  // 3 became the lowest
}

TEST(Pic, rotation_moves_the_lowest_priority) {
  Bench bench;
  bench.initialise();
  bench.pic.write(0, 0, 0xc3);  // 3 is lowest, 4 highest
  bench.pulse(0);
  bench.pulse(4);
  EXPECT_EQ(bench.pic.acknowledge(), 0x34);
  bench.pic.write(0, 0, 0xa0);  // rotate on non-specific EOI: 4 is lowest, 5 highest
  bench.pulse(4);
  EXPECT_EQ(bench.pic.acknowledge(), 0x30);
}

TEST(Pic, special_mask_mode_lets_lower_requests_through) {
  Bench bench;
  bench.initialise();
  bench.pulse(1);
  bench.pic.acknowledge();
  bench.pulse(6);
  EXPECT_FALSE(bench.output.level);
  bench.pic.write(0, 0, 0x68);
  bench.pic.write(0, 1, 0x02);
  EXPECT_EQ(bench.pic.acknowledge(), 0x36);
  bench.pic.write(0, 0, 0x48);
  EXPECT_EQ(bench.isr(0), 0x42);
}

TEST(Pic, poll_mode_acknowledges_by_reading) {
  Bench bench;
  bench.initialise();
  bench.pulse(6);
  bench.pic.write(0, 0, 0x0c);
  EXPECT_EQ(bench.pic.read(0, 0), 0x86);
  EXPECT_EQ(bench.isr(0), 0x40);
  bench.pic.write(0, 0, 0x0c);
  EXPECT_EQ(bench.pic.read(0, 0), 0x00);
  EXPECT_EQ(bench.pic.read(0, 1), 0x00);  // back to normal: the mask
}

TEST(Pic, an_uninitialised_chip_requests_nothing) {
  Bench bench;
  bench.pic.write(0, 0, 0x11);
  bench.pulse(1);
  EXPECT_FALSE(bench.output.level);
}

TEST(Pic, state_makes_a_round_trip_and_damage_is_refused) {
  Bench before;
  before.initialise();
  before.pulse(4);
  Bench after;
  EXPECT_TRUE(after.pic.load(before.pic.state()).ok());
  EXPECT_EQ(after.pic.state(), before.pic.state());
  EXPECT_TRUE(after.output.level);
  EXPECT_EQ(after.pic.acknowledge(), 0x34);
  Pic::State state = before.pic.state();
  state.version = 7;
  EXPECT_FALSE(after.pic.load(state).ok());
  state = before.pic.state();
  state.chip[1].icw_expected = 9;
  EXPECT_FALSE(after.pic.load(state).ok());
}

TEST(Pic, survives_random_sequences) {
  nacre::testing::run_random_sequences(pic_sequence, 2000);
}

}  // namespace
}  // namespace nacre::irq
