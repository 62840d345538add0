// An endpoint as a guest finds it: identity, sizing and moving its region, capabilities, MSI-X.
#include <gtest/gtest.h>

#include "device/pci/endpoint.hpp"

namespace nacre::device::pci {
namespace {

struct Messages final : irq::MessageSink {
  std::vector<u8> vectors;
  bool deliver(const irq::Message& message) override {
    vectors.push_back(message.vector);
    return true;
  }
};

class Device final : public Endpoint {
 public:
  explicit Device(irq::MessageSink& sink)
      : Endpoint(
            sink, {.vendor = 0x1af4, .device = 0x1044, .subsystem = 7, .class_code = 0x020000, .revision = 1},
            {.bytes = 0x8000, .table = 0x4000, .pending = 0x5000, .doorbells = 0x3000, .doorbell_bytes = 8},
            3) {
    u64 next = 0xc000'1000;
    reset(next);
    EXPECT_EQ(next, 0xc001'0000u);
  }
  u64 region_read(u64 offset, unsigned) override { return offset; }
  void region_write(u64 offset, unsigned, u64) override { written = offset; }
  void doorbell(u32 offset) override { rung = offset; }
  void save(State& state) const { save_to(state); }
  Status restore(const State& state) { return load_from(state); }

  u64 written = ~u64{0};
  u32 rung = ~u32{0};
};

struct EndpointTest : ::testing::Test {
  Messages messages;
  Device device{messages};
  static constexpr u64 kBase = 0xc000'8000;

  u64 read(u64 address, unsigned size = 4) {
    u64 value = 0xabad1dea;
    return device.memory_read(GuestPhysical(address), size, value) ? value : ~u64{0};
  }
  bool write(u64 address, u64 value, unsigned size = 4) {
    return device.memory_write(GuestPhysical(address), size, value);
  }
  void enable() { device.config_write(Offset::command, 2, 6); }
  u16 capability(u8 id) {
    for (u16 at = static_cast<u16>(device.config_read(Offset::capabilities, 1)); at != 0;
         at = static_cast<u16>(device.config_read(static_cast<u16>(at + 1), 1))) {
      if (device.config_read(at, 1) == id) return at;
    }
    return 0;
  }
  void set_vector(unsigned i, u8 vector, u32 masked = 0) {
    write(kBase + 0x4000 + 16 * i, 0xfee0'0000);
    write(kBase + 0x4008 + 16 * i, vector);
    write(kBase + 0x400c + 16 * i, masked);
  }
};

TEST_F(EndpointTest, HasItsIdentityAndNoInterruptPin) {
  EXPECT_EQ(device.config_read(0, 4), 0x1044'1af4u);
  EXPECT_EQ(device.config_read(8, 4), 0x0200'0001u);
  EXPECT_EQ(device.config_read(0x2e, 2), 7u);
  EXPECT_EQ(device.config_read(Offset::interrupt_pin, 1), 0u);
  EXPECT_EQ(device.config_read(Offset::status, 2) & StatusBit::capabilities_list,
            StatusBit::capabilities_list);
  device.config_write(0, 4, 0);
  EXPECT_EQ(device.config_read(0, 4), 0x1044'1af4u);
  EXPECT_EQ(device.config_read(0x100, 4), 0u);  // no extended capabilities
}

TEST_F(EndpointTest, ItsRegionIsWhereFirmwareWouldPutItAndDecodesWhenEnabled) {
  EXPECT_EQ(device.config_read(Offset::bar, 4), 0xc000'8004u);
  EXPECT_EQ(read(kBase), ~u64{0});
  enable();
  EXPECT_EQ(read(kBase + 0x10), 0x10u);
  EXPECT_EQ(read(kBase + 0x7ffc), 0x7ffcu);
  EXPECT_EQ(read(kBase + 0x7ffe), ~u64{0});  // runs over the end
  EXPECT_EQ(read(kBase - 4), ~u64{0});
  EXPECT_TRUE(write(kBase + 0x20, 1));
  EXPECT_EQ(device.written, 0x20u);
}

TEST_F(EndpointTest, TellsItsSizeAndMovesWhileItDecodes) {
  enable();
  device.config_write(Offset::bar, 4, ~u32{0});
  device.config_write(Offset::bar + 4, 4, ~u32{0});
  EXPECT_EQ(device.config_read(Offset::bar, 4), 0xffff'8004u);
  EXPECT_EQ(device.config_read(Offset::bar + 4, 4), ~u32{0});
  EXPECT_EQ(read(kBase), ~u64{0});
  device.config_write(Offset::bar, 4, 0xf010'0000);
  device.config_write(Offset::bar + 4, 4, 0);
  EXPECT_EQ(read(0xf010'0008), 8u);
  EXPECT_TRUE(device.ring(GuestPhysical(0xf010'3004)));
  EXPECT_FALSE(device.ring(GuestPhysical(kBase + 0x3004)));
}

TEST_F(EndpointTest, DoorbellsRingOnlyWhereTheyAre) {
  EXPECT_FALSE(device.ring(GuestPhysical(kBase + 0x3000)));
  enable();
  EXPECT_TRUE(device.ring(GuestPhysical(kBase + 0x3004)));
  EXPECT_EQ(device.rung, 4u);
  EXPECT_FALSE(device.ring(GuestPhysical(kBase + 0x3008)));
  EXPECT_FALSE(device.ring(GuestPhysical(0)));
  device.config_write(Offset::command, 2, 0);
  EXPECT_FALSE(device.ring(GuestPhysical(kBase + 0x3000)));
}

TEST_F(EndpointTest, InterruptsByMessagesOnceEnabled) {
  const u16 msix = capability(CapabilityId::msi_x);
  ASSERT_NE(msix, 0);
  EXPECT_EQ(device.config_read(static_cast<u16>(msix + 2), 2), 2u);  // three vectors
  EXPECT_EQ(device.config_read(static_cast<u16>(msix + 4), 4), 0x4000u);
  enable();
  set_vector(1, 0x31);
  device.msix().fire(1);
  EXPECT_TRUE(messages.vectors.empty());
  device.config_write(static_cast<u16>(msix + 2), 2, 0x8000);
  device.msix().fire(1);
  device.msix().fire(3);  // there is none
  device.msix().fire(MsiX::kNoVector);
  EXPECT_EQ(messages.vectors, std::vector<u8>{0x31});
}

TEST_F(EndpointTest, AMaskedVectorIsPendingUntilItIsOpened) {
  const u16 control = static_cast<u16>(capability(CapabilityId::msi_x) + 2);
  enable();
  set_vector(0, 0x30, 1);
  set_vector(2, 0x32);
  device.config_write(control, 2, 0xc000);  // enabled, all masked
  device.msix().fire(0);
  device.msix().fire(2);
  EXPECT_TRUE(messages.vectors.empty());
  EXPECT_EQ(read(kBase + 0x5000, 8), 5u);
  device.config_write(control, 2, 0x8000);
  EXPECT_EQ(messages.vectors, std::vector<u8>{0x32});
  write(kBase + 0x400c, 0);
  EXPECT_EQ(messages.vectors, (std::vector<u8>{0x32, 0x30}));
  EXPECT_EQ(read(kBase + 0x5000, 8), 0u);
}

TEST_F(EndpointTest, AMessageToElsewhereIsNoInterrupt) {
  enable();
  device.config_write(static_cast<u16>(capability(CapabilityId::msi_x) + 2), 2, 0x8000);
  set_vector(0, 0x30);
  write(kBase + 0x4000, 0x1000);
  device.msix().fire(0);
  EXPECT_TRUE(messages.vectors.empty());
}

TEST_F(EndpointTest, TheTableTakesDoublewordsAndQuadwordsAndKeepsReservedBitsClear) {
  enable();
  write(kBase + 0x4010, 0x1122'3344'fee0'5000, 8);
  EXPECT_EQ(read(kBase + 0x4010, 8), 0x1122'3344'fee0'5000u);
  write(kBase + 0x401c, ~u64{0});
  EXPECT_EQ(read(kBase + 0x401c), 1u);
  write(kBase + 0x4ff8, ~u64{0}, 8);  // behind the last vector
  EXPECT_EQ(read(kBase + 0x4ff8, 8), 0u);
}

TEST_F(EndpointTest, ItsStateComesBackAndWildBitsDoNot) {
  enable();
  device.config_write(static_cast<u16>(capability(CapabilityId::msi_x) + 2), 2, 0x8000);
  set_vector(1, 0x55);
  device.config_write(Offset::bar, 4, 0xd000'0000);
  Endpoint::State state, again;
  device.save(state);
  Messages other_messages;
  Device other(other_messages);
  state.config[0] = 0x99;  // the vendor is not the guest's to change
  ASSERT_TRUE(other.restore(state).ok());
  EXPECT_EQ(other.config_read(0, 2), 0x1af4u);
  EXPECT_EQ(other.region_base(), 0xd000'0000u);
  other.msix().fire(1);
  EXPECT_EQ(other_messages.vectors, std::vector<u8>{0x55});
  other.save(again);
  state.config[0] = 0xf4;
  EXPECT_EQ(again, state);
  state.version = 9;
  EXPECT_FALSE(other.restore(state).ok());
}

}  // namespace
}  // namespace nacre::device::pci
