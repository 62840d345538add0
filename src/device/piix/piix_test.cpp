#include "device/piix/piix.hpp"

#include <gtest/gtest.h>

namespace nacre::device::piix {
namespace {

TEST(Piix, each_says_who_it_is_and_has_no_regions_or_capabilities) {
  HostBridge host;
  IsaBridge isa;
  PowerManagement power(0x600);
  EXPECT_EQ(host.config_read(0, 4), 0x12378086u);
  EXPECT_EQ(isa.config_read(0, 4), 0x70008086u);
  EXPECT_EQ(power.config_read(0, 4), 0x71138086u);
  EXPECT_EQ(host.config_read(0xa, 2), 0x0600u);
  EXPECT_EQ(isa.config_read(0xa, 2), 0x0601u);
  EXPECT_EQ(power.config_read(0xa, 2), 0x0680u);
  EXPECT_EQ(isa.config_read(0xe, 1), 0x80u);
  for (Function* function : {static_cast<Function*>(&host), static_cast<Function*>(&isa), static_cast<Function*>(&power)}) {
    EXPECT_EQ(function->config_read(6, 2) & 0x10u, 0u);
    for (u16 bar = 0x10; bar < 0x28; bar += 4) {
      function->config_write(bar, 4, 0xffffffff);
      EXPECT_EQ(function->config_read(bar, 4), 0u);
    }
  }
}

TEST(Piix, memory_attributes_are_kept_and_begin_unlocked) {
  HostBridge host;
  for (u16 n = 1; n < HostBridge::kPamCount; ++n) {
    const u16 at = static_cast<u16>(HostBridge::kPam0 + n);
    EXPECT_EQ(host.config_read(at, 1), 0x33u);
    host.config_write(at, 1, 0xff);
    EXPECT_EQ(host.config_read(at, 1), 0x33u);
    host.config_write(at, 1, 0x11);
    EXPECT_EQ(host.config_read(at, 1), 0x11u);
  }
  EXPECT_EQ(host.config_read(HostBridge::kPam0, 1), 0x30u);
  u64 next = 0;
  host.reset(next);
  EXPECT_EQ(host.config_read(HostBridge::kPam0 + 1, 1), 0x33u);
  EXPECT_EQ(next, 0u);
}

TEST(Piix, the_power_management_base_is_ports_and_moves_by_64) {
  PowerManagement power(0x600);
  EXPECT_EQ(power.base(), 0x600);
  EXPECT_EQ(power.config_read(PowerManagement::kBase, 4), 0x601u);
  power.config_write(PowerManagement::kBase, 4, 0x1234b03f);
  EXPECT_EQ(power.config_read(PowerManagement::kBase, 4), 0xb001u);
  EXPECT_EQ(power.base(), 0xb000);
  EXPECT_EQ(power.config_read(PowerManagement::kActivityB, 4), PowerManagement::kApmcEnable);
}

TEST(Piix, state_is_saved_and_loaded) {
  PowerManagement power(0x600), other(0x600);
  power.config_write(PowerManagement::kBase, 4, 0xb000);
  ASSERT_TRUE(other.load(power.state()).ok());
  EXPECT_EQ(other.base(), 0xb000);
  auto state = power.state();
  state.config[0] = 0xff;  // read-only: the vendor stays
  ASSERT_TRUE(other.load(state).ok());
  EXPECT_EQ(other.config_read(0, 2), 0x8086u);
  state.version = 2;
  EXPECT_FALSE(other.load(state).ok());
}

}  // namespace
}  // namespace nacre::device::piix
