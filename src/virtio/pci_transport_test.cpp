// The registers of virtio over PCI, and how the queues change hands between two threads.
#include "virtio/pci_transport.hpp"

#include <gtest/gtest.h>

#include <mutex>
#include <thread>

#include "virtio/rng/rng_sequence.hpp"
#include "virtio/testing.hpp"

namespace nacre::virtio {
namespace {

using testing::Driver;
using testing::Guest;
using S = DeviceStatus;

struct TransportTest : ::testing::Test {
  Guest guest;
  rng::CountingEntropy entropy;
  rng::Rng rng{guest.space, guest.ports(), entropy};
  Driver driver{guest, rng};
  PciTransport& pci = driver.transport();

  u32 config(u16 offset, unsigned size) { return pci.config_read(offset, size); }
};

TEST_F(TransportTest, ListsItsPartsAsCapabilities) {
  EXPECT_EQ(config(0, 4), 0x1044'1af4u);
  std::map<unsigned, std::pair<u32, u32>> parts;
  for (u16 at = static_cast<u16>(config(0x34, 1)); at != 0;
       at = static_cast<u16>(config(static_cast<u16>(at + 1), 1))) {
    if (config(at, 1) != 9) continue;
    EXPECT_EQ(config(static_cast<u16>(at + 4), 1), 0u);
    parts[config(static_cast<u16>(at + 3), 1)] = {config(static_cast<u16>(at + 8), 4),
                                                  config(static_cast<u16>(at + 12), 4)};
    if (config(static_cast<u16>(at + 3), 1) == 2) {
      EXPECT_EQ(config(static_cast<u16>(at + 16), 4), 4u);
    }
  }
  ASSERT_EQ(parts.size(), 5u);
  EXPECT_EQ(parts[1], (std::pair<u32, u32>(0x0000, 0x1000)));
  EXPECT_EQ(parts[2], (std::pair<u32, u32>(0x3000, 4)));
  EXPECT_EQ(parts[3], (std::pair<u32, u32>(0x1000, 0x1000)));
  EXPECT_EQ(parts[4], (std::pair<u32, u32>(0x2000, 0x1000)));
}

TEST_F(TransportTest, RegistersAfterReset) {
  EXPECT_EQ(driver.offered(), Feature::transport);
  EXPECT_EQ(driver.read(CommonOffset::config_vector, 2), 0xffffu);
  EXPECT_EQ(driver.read(CommonOffset::queue_count, 2), 1u);
  EXPECT_EQ(driver.status(), 0);
  EXPECT_EQ(driver.read(CommonOffset::queue_size, 2), 256u);
  EXPECT_EQ(driver.read(CommonOffset::queue_vector, 2), 0xffffu);
  EXPECT_EQ(driver.read(CommonOffset::queue_enable, 2), 0u);
  EXPECT_EQ(driver.read(CommonOffset::queue_descriptors, 8), 0u);
  driver.write(CommonOffset::queue_select, 2, 1);  // there is only one
  EXPECT_EQ(driver.read(CommonOffset::queue_size, 2), 0u);
  driver.write(CommonOffset::queue_enable, 2, 1);
  EXPECT_EQ(driver.read(CommonOffset::queue_enable, 2), 0u);
}

TEST_F(TransportTest, FeaturesMustBeOfferedAndModern) {
  EXPECT_FALSE(driver.bring_up(0));
  EXPECT_FALSE(driver.bring_up(Feature::version_1 | 1));
  EXPECT_TRUE(driver.bring_up(Feature::version_1));
  driver.set_status(S::driver_ok | S::features_ok);
  driver.write(CommonOffset::driver_feature_select, 4, 0);
  driver.write(CommonOffset::driver_feature, 4, ~u32{0});  // too late
  EXPECT_EQ(driver.read(CommonOffset::driver_feature, 4), 0u);
}

TEST_F(TransportTest, AQueueIsFixedOnceEnabled) {
  ASSERT_TRUE(driver.bring_up(Feature::version_1, 8));
  driver.write(CommonOffset::queue_select, 2, 0);
  const u64 before = driver.read(CommonOffset::queue_descriptors, 8);
  driver.write(CommonOffset::queue_descriptors, 4, 0x1000);
  driver.write(CommonOffset::queue_size, 2, 4);
  EXPECT_EQ(driver.read(CommonOffset::queue_descriptors, 8), before);
  EXPECT_EQ(driver.read(CommonOffset::queue_size, 2), 8u);
}

TEST_F(TransportTest, AVectorThatDoesNotExistIsRefused) {
  driver.write(CommonOffset::config_vector, 2, 2);
  EXPECT_EQ(driver.read(CommonOffset::config_vector, 2), 0xffffu);
  driver.write(CommonOffset::config_vector, 2, 1);
  EXPECT_EQ(driver.read(CommonOffset::config_vector, 2), 1u);
}

TEST_F(TransportTest, AResetTakesEffectWhenTheQueuesSideHasLetGo) {
  ASSERT_TRUE(driver.bring_up(Feature::version_1));
  driver.set_status(0);
  EXPECT_NE(driver.status(), 0);  // the driver waits until it reads 0
  EXPECT_EQ(rng.phase(), Device::Phase::Stopping);
  driver.write(CommonOffset::queue_select, 2, 7);
  EXPECT_EQ(driver.read(CommonOffset::queue_select, 2), 0u);
  rng.run();
  EXPECT_EQ(driver.status(), 0);
  EXPECT_EQ(driver.read(CommonOffset::queue_enable, 2), 0u);
}

TEST_F(TransportTest, ReadingTheIsrClearsIt) {
  ASSERT_TRUE(driver.bring_up(Feature::version_1));
  driver.add(0, {}, {{0x1000, 4}});
  driver.kick(0);
  EXPECT_EQ(driver.read(BarLayout::isr, 1), u64{Isr::queue});
  EXPECT_EQ(driver.read(BarLayout::isr, 1), 0u);
}

TEST_F(TransportTest, ConfigSpaceIsAWayToTheRegion) {
  u16 at = static_cast<u16>(config(0x34, 1));
  while (config(static_cast<u16>(at + 3), 1) != 5 || config(at, 1) != 9)
    at = static_cast<u16>(config(static_cast<u16>(at + 1), 1));
  pci.config_write(static_cast<u16>(at + 8), 4, CommonOffset::queue_count);
  pci.config_write(static_cast<u16>(at + 12), 4, 2);
  EXPECT_EQ(config(static_cast<u16>(at + 16), 2), 1u);
  pci.config_write(static_cast<u16>(at + 8), 4, CommonOffset::status);
  pci.config_write(static_cast<u16>(at + 12), 4, 1);
  pci.config_write(static_cast<u16>(at + 16), 1, S::acknowledge);
  EXPECT_EQ(driver.status(), S::acknowledge);
  pci.config_write(static_cast<u16>(at + 12), 4, 3);  // no such access
  pci.config_write(static_cast<u16>(at + 16), 4, 0);
  EXPECT_EQ(driver.status(), S::acknowledge);
}

TEST_F(TransportTest, StateOfAnotherDeviceIsRefused) {
  PciTransport::State state = pci.state();
  state.device = 2;
  EXPECT_FALSE(pci.load(state).ok());
  state = pci.state();
  state.registers.driver_features = 1;
  EXPECT_FALSE(pci.load(state).ok());
}

// The guest's processor in the registers and the device's thread in the queues, as fast as both can: resets
// in the middle of requests, doorbells at any time. Meant for ThreadSanitizer; here it must end, with every
// answer right.
TEST(TransportThreads, ResetsAndRequestsFromTwoThreads) {
  struct Locked final : Notifier, Interrupts, DmaObserver, Complaints {
    std::mutex board;
    std::atomic<u32> woken = 0;
    PciTransport* transport = nullptr;
    void wake() override {
      woken.fetch_add(1);
      woken.notify_one();
    }
    void queue(unsigned index) override {
      const std::lock_guard guard(board);
      transport->interrupt(index);
    }
    void config() override {
      const std::lock_guard guard(board);
      transport->config_interrupt();
    }
    void written(GuestPhysical, u64) override {}
    void settle() override {}
    void complain(const char*, const char*) override { ADD_FAILURE(); }
  } ports;
  Guest guest;
  rng::CountingEntropy entropy;
  rng::Rng rng(guest.space, {ports, ports, ports, ports}, entropy);
  PciTransport pci(rng, guest.messages);
  ports.transport = &pci;
  u64 next = 0xc000'0000;
  pci.reset(next);
  pci.config_write(device::pci::Offset::command, 2, 6);
  std::atomic<bool> over = false;
  std::thread device([&] {
    for (u32 seen = 0; !over.load(); ports.woken.wait(seen)) {
      seen = ports.woken.load();
      rng.run();
    }
  });
  const auto access = [&](u64 offset, unsigned size, u64 value) {
    const std::lock_guard guard(ports.board);
    EXPECT_TRUE(pci.memory_write(GuestPhysical(0xc000'0000 + offset), size, value));
  };
  const auto status = [&] {
    const std::lock_guard guard(ports.board);
    u64 value = 0;
    EXPECT_TRUE(pci.memory_read(GuestPhysical(0xc000'0000 + CommonOffset::status), 1, value));
    return value;
  };
  constexpr u64 kDescriptors = 0x1000, kAvailable = 0x2000, kUsed = 0x3000;
  for (unsigned round = 0; round < 300; ++round) {
    access(CommonOffset::status, 1, 0);
    while (status() != 0) std::this_thread::yield();
    std::memset(guest.at(kDescriptors), 0, 3 * kPageSize);
    access(CommonOffset::driver_feature_select, 4, 1);
    access(CommonOffset::driver_feature, 4, 1);
    access(CommonOffset::status, 1, 11);
    access(CommonOffset::queue_size, 2, 4);
    access(CommonOffset::queue_descriptors, 8, kDescriptors);
    access(CommonOffset::queue_driver, 8, kAvailable);
    access(CommonOffset::queue_device, 8, kUsed);
    access(CommonOffset::queue_enable, 2, 1);
    access(CommonOffset::status, 1, 15);
    guest.store<u64>(kDescriptors, 0x8000);
    guest.store<u32>(kDescriptors + 8, 64);
    guest.store<u16>(kDescriptors + 12, DescriptorFlag::write);
    for (u16 request = 1; request <= 20; ++request) {
      store16_release(guest.at(kAvailable + 2), request);
      ASSERT_TRUE(pci.ring(GuestPhysical(0xc000'0000 + BarLayout::doorbells)));
      if (round % 3 == 0 && request == 10) break;  // a reset while it may still be at work
      while (load16_acquire(guest.at(kUsed + 2)) != request) std::this_thread::yield();
    }
  }
  over = true;
  ports.wake();
  device.join();
}

}  // namespace
}  // namespace nacre::virtio
