#include "device/acpi_pm/acpi_pm.hpp"

#include <gtest/gtest.h>

#include "device/acpi_pm/acpi_pm_sequence.hpp"

namespace nacre::device {
namespace {

struct Bench {
  nacre::testing::ManualClock clock;
  nacre::testing::RecordedLine sci;
  RecordedPower power;
  AcpiPm pm{clock, sci, power};
};

TEST(AcpiPm, is_in_acpi_mode_with_everything_off) {
  Bench bench;
  EXPECT_EQ(bench.pm.read(0, 4), 0U);
  EXPECT_EQ(bench.pm.read(4, 2), 1U);
  bench.pm.write(4, 2, 0);
  EXPECT_EQ(bench.pm.read(4, 2), 1U);  // SCI_EN cannot be left
  EXPECT_EQ(bench.pm.next_deadline(), time::kNever);
}

TEST(AcpiPm, registers_keep_only_their_writable_bits) {
  Bench bench;
  bench.pm.write(2, 2, 0xffff);
  EXPECT_EQ(bench.pm.read(2, 2), 0x0721U);
  bench.pm.write(4, 4, 0xffff'dfff);
  EXPECT_EQ(bench.pm.read(4, 4), 0x1c03U);
  bench.pm.write(8, 4, 0xffff'ffff);
  EXPECT_EQ(bench.pm.read(8, 4), 0U);
}

TEST(AcpiPm, the_timer_runs_at_its_rate_in_32_bits) {
  Bench bench;
  bench.clock.now = time::kNsPerSecond;
  EXPECT_EQ(bench.pm.read(8, 4), 3'579'545U);
  EXPECT_EQ(bench.pm.read(9, 1), 3'579'545U >> 8 & 0xff);
  bench.clock.now = time::instant_of((u64{1} << 32) + 5, AcpiPm::kTimerHz);
  EXPECT_EQ(bench.pm.read(8, 4), 5U);
}

TEST(AcpiPm, the_timers_top_bit_interrupts) {
  Bench bench;
  bench.pm.write(2, 2, AcpiPm::TMR);
  const u64 carry = time::instant_of(u64{1} << 31, AcpiPm::kTimerHz);
  EXPECT_EQ(bench.pm.next_deadline(), carry);
  bench.clock.now = carry - 1;
  bench.pm.advance(bench.clock.now);
  EXPECT_FALSE(bench.sci.level);
  bench.clock.now = carry;
  bench.pm.advance(bench.clock.now);
  EXPECT_TRUE(bench.sci.level);
  bench.pm.write(0, 2, AcpiPm::TMR);
  EXPECT_FALSE(bench.sci.level);
  EXPECT_EQ(bench.pm.next_deadline(), time::instant_of(u64{2} << 31, AcpiPm::kTimerHz));
}

TEST(AcpiPm, the_power_button_interrupts_until_its_status_is_cleared) {
  Bench bench;
  bench.pm.press_power_button();
  EXPECT_FALSE(bench.sci.level);
  EXPECT_EQ(bench.pm.read(0, 2), AcpiPm::PWRBTN);
  bench.pm.write(2, 2, AcpiPm::PWRBTN);
  EXPECT_TRUE(bench.sci.level);
  bench.pm.write(1, 1, 0x01);  // the byte that holds the bit
  EXPECT_FALSE(bench.sci.level);
  EXPECT_EQ(bench.pm.read(0, 2), 0U);
}

TEST(AcpiPm, powers_off_on_s5_only) {
  Bench bench;
  bench.pm.write(4, 2, AcpiPm::kSleepTypeS5 << 10);
  EXPECT_EQ(bench.power.power_offs, 0U);
  bench.pm.write(4, 2, 1 << 10 | AcpiPm::SLP_EN);
  EXPECT_EQ(bench.power.power_offs, 0U);
  bench.pm.write(4, 2, AcpiPm::kSleepTypeS5 << 10 | AcpiPm::SLP_EN);
  EXPECT_EQ(bench.power.power_offs, 1U);
  EXPECT_EQ(bench.pm.read(4, 2) & AcpiPm::SLP_EN, 0U);  // write-only
}

TEST(AcpiPm, state_makes_a_round_trip_and_damage_is_refused) {
  Bench before;
  before.pm.write(2, 2, AcpiPm::PWRBTN);
  before.pm.press_power_button();
  Bench after;
  EXPECT_TRUE(after.pm.load(before.pm.state()).ok());
  EXPECT_EQ(after.pm.state(), before.pm.state());
  EXPECT_TRUE(after.sci.level);
  AcpiPm::State state = before.pm.state();
  state.timer_seen = ~u64{0};
  EXPECT_FALSE(after.pm.load(state).ok());
  state = before.pm.state();
  state.version = 0;
  EXPECT_FALSE(after.pm.load(state).ok());
}

TEST(AcpiPm, survives_random_sequences) {
  nacre::testing::run_random_sequences(acpi_pm_sequence, 2000);
}

}  // namespace
}  // namespace nacre::device
