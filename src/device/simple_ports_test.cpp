// The devices that are one register: reset port, debug exit, debug console, POST port, panic port.
#include <gtest/gtest.h>

#include <memory>

#include "device/debug/debug_ports.hpp"
#include "device/debug/test_device.hpp"
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

struct RecordedLines final : TestLines {
  std::vector<std::pair<unsigned, bool>> calls;
  void set(unsigned line, bool asserted) override { calls.emplace_back(line, asserted); }
};

TEST(TestDevice, its_register_takes_parts) {
  RecordedLines lines;
  const auto device = std::make_unique<TestDevice>(lines);
  device->write_register(0, 4, 0x11223344);
  EXPECT_EQ(device->read_register(0), 0x11223344U);
  device->write_register(1, 1, 0xff);
  EXPECT_EQ(device->read_register(0), 0x1122ff44U);
  device->write_register(2, 2, 0xaabbccdd);
  EXPECT_EQ(device->read_register(0), 0xccddff44U);
  EXPECT_EQ(device->read_register(3), 0xccU);
  device->reset();
  EXPECT_EQ(device->read_register(0), 0U);
}

TEST(TestDevice, its_ports_drive_the_lines_that_there_are) {
  RecordedLines lines;
  const auto device = std::make_unique<TestDevice>(lines);
  device->write_line(14, 1);
  device->write_line(23, 0x80);
  device->write_line(14, 0);
  device->write_line(24, 1);
  EXPECT_EQ(lines.calls, (std::vector<std::pair<unsigned, bool>>{{14, true}, {23, true}, {14, false}}));
}

TEST(TestDevice, its_window_is_memory_with_an_end) {
  RecordedLines lines;
  const auto device = std::make_unique<TestDevice>(lines);
  device->write(0, 8, 0x1122334455667788);
  EXPECT_EQ(device->read(0, 8), 0x1122334455667788U);
  EXPECT_EQ(device->read(2, 4), 0x33445566U);
  device->write(3, 1, 0xffff);
  EXPECT_EQ(device->read(0, 8), 0x11223344ff667788U);
  device->write(TestDevice::kWindowBytes - 8, 8, 7);
  EXPECT_EQ(device->read(TestDevice::kWindowBytes - 8, 8), 7U);
  device->write(TestDevice::kWindowBytes - 4, 8, 9);
  EXPECT_EQ(device->read(TestDevice::kWindowBytes - 4, 8), 0U);
}

}  // namespace
}  // namespace nacre::device
