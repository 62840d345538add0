// The devices that are one register: reset port, debug exit, debug console, POST port, panic port.
#include <gtest/gtest.h>

#include "device/debug/debug_ports.hpp"
#include "device/pvpanic/pvpanic.hpp"
#include "device/reset_port/reset_port.hpp"
#include "device/testing.hpp"

namespace nacre::device {
namespace {

TEST(ResetPort, resets_when_the_cpu_bit_rises) {
  RecordedPower power;
  ResetPort port(power);
  EXPECT_EQ(port.read(), 0);
  port.write(0x02);
  EXPECT_EQ(power.resets, 0U);
  port.write(0x06);
  EXPECT_EQ(power.resets, 1U);
  port.write(0xfe);
  EXPECT_EQ(power.resets, 1U);
  EXPECT_EQ(port.read(), 0x0e);
  port.write(0x00);
  port.write(0x04);
  EXPECT_EQ(power.resets, 2U);
}

TEST(ResetPort, state_makes_a_round_trip_and_damage_is_refused) {
  RecordedPower power;
  ResetPort before(power), after(power);
  before.write(0x02);
  EXPECT_TRUE(after.load(before.state()).ok());
  EXPECT_EQ(after.state(), before.state());
  ResetPort::State state;
  state.control = ~u32{0};
  EXPECT_TRUE(after.load(state).ok());
  EXPECT_EQ(after.read(), 0x0e);
  EXPECT_EQ(power.resets, 0U);
  state.version = 2;
  EXPECT_FALSE(after.load(state).ok());
}

TEST(DebugExit, passes_the_value_on) {
  RecordedPower power;
  DebugExit port(power);
  port.write(0x10);
  EXPECT_EQ(power.exits, std::vector<u32>{0x10});
  EXPECT_EQ(debug_exit_status(0x10), 33U);
  EXPECT_EQ(port.read(), 0U);
}

TEST(DebugConsole, is_recognisable_and_passes_bytes_on) {
  RecordedSink sink;
  DebugConsole console(sink);
  EXPECT_EQ(console.read(), 0xe9);
  console.write('!');
  EXPECT_EQ(sink.text, "!");
}

TEST(Pvpanic, a_panic_is_told_and_other_events_are_not_understood) {
  RecordedPower power;
  Pvpanic port(power);
  EXPECT_EQ(port.read(), Pvpanic::kPanicked);
  port.write(0xfe);
  EXPECT_EQ(power.panics, 0U);
  port.write(0x01);
  EXPECT_EQ(power.panics, 1U);
}

TEST(PostPort, remembers_the_last_code) {
  PostPort port;
  port.write(0x42);
  EXPECT_EQ(port.read(), 0x42);
}

}  // namespace
}  // namespace nacre::device
