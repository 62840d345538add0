// Both ring formats as a device meets them: whole requests, suppression, and everything a guest can get
// wrong.
#include "virtio/queue.hpp"

#include <gtest/gtest.h>

#include "virtio/testing.hpp"

namespace nacre::virtio {
namespace {

using testing::Driver;
using testing::Guest;

// Copies what it reads into what it writes.
class Echo final : public Device {
 public:
  Echo(Guest& guest, unsigned batch)
      : Device({.name = "echo"}, queue_, guest.space, guest.ports()), batch_(batch) {}
  u64 config_read(u64, unsigned) override { return 0; }
  unsigned served = 0;

 private:
  void process(unsigned index) override {
    serve_queue(index, chain_, 64, batch_, [this](const Chain& chain) {
      ++served;
      ChainReader reader(chain);
      ChainWriter writer(chain, memory());
      for (u8 byte = 0; reader.read(byte) && writer.write(byte);) {
      }
      return writer.written();
    });
  }
  unsigned batch_;
  Queue queue_[2];
  Chain chain_;
};

struct QueueTest : ::testing::TestWithParam<u64> {
  Guest guest;
  Echo echo{guest, 1};
  Driver driver{guest, echo};
  const u64 format = GetParam();
  const bool packed = (format & Feature::packed) != 0;

  void bring_up(u64 features = 0, u16 size = 8) {
    ASSERT_TRUE(driver.bring_up(Feature::version_1 | format | features, size));
  }
  bool needs_reset() { return (driver.status() & DeviceStatus::needs_reset) != 0; }
  // Overwrites a half of the flags, next or id words of a descriptor of queue 0.
  void poke(unsigned slot, unsigned offset, u16 value) {
    guest.store<u16>(driver.place(0).descriptors + 16 * slot + offset, value);
  }
  u16 flags_offset() const { return packed ? 14 : 12; }
  // A descriptor of queue 0, changed after add() and before the device looks.
  void spoil(unsigned slot, u16 set) {
    const u64 at = driver.place(0).descriptors + 16 * slot + flags_offset();
    guest.store<u16>(at, guest.load<u16>(at) | set);
  }
  void expect_broken(const char* what) {
    driver.kick(0);
    EXPECT_TRUE(needs_reset()) << what;
    EXPECT_EQ(guest.complaints.size(), 1u) << what;
    EXPECT_EQ(driver.config_interrupts(), 1u) << what;
    driver.kick(0);
    EXPECT_EQ(guest.complaints.size(), 1u) << what;  // once
    guest.complaints.clear();
    guest.messages.messages.clear();
  }
};

TEST_P(QueueTest, BytesGoThroughWhateverTheFraming) {
  bring_up(Feature::indirect, 16);
  const char text[] = "virtqueues know no framing";
  for (const bool indirect : {false, true}) {
    for (u32 cut = 1; cut < sizeof text; ++cut) {
      const u64 from = driver.put(text, sizeof text);
      const u64 to = driver.allocate(sizeof text);
      const u32 rest = sizeof text - cut;
      const u16 id =
          driver.add(0, {{from, cut}, {from + cut, rest}}, {{to, rest}, {to + rest, cut}}, indirect);
      driver.kick(0);
      const auto used = driver.used(0);
      ASSERT_EQ(used.size(), 1u);
      EXPECT_EQ(used[0].id, id);
      EXPECT_EQ(used[0].written, sizeof text);
      EXPECT_STREQ(reinterpret_cast<char*>(guest.at(to)), text);
    }
  }
}

TEST_P(QueueTest, GoesRoundItsRingForLong) {
  bring_up(0, packed ? 7 : 8);
  const u64 at = driver.allocate(32);
  for (u32 i = 0; i < 70'000; ++i) {
    guest.store<u32>(at, i);
    driver.add(0, {{at, 4}}, {{at + 8, 2}, {at + 10, 2}});
    driver.kick(0);
    ASSERT_EQ(driver.used(0).size(), 1u) << i;
    ASSERT_EQ(guest.load<u32>(at + 8), i);
  }
}

TEST_P(QueueTest, InterruptsForEveryUseUnlessToldOtherwise) {
  bring_up();
  const u64 at = driver.allocate(32);
  driver.add(0, {}, {{at, 4}});
  driver.add(0, {}, {{at, 4}});
  driver.kick(0);
  EXPECT_EQ(driver.interrupts(0), 2u);
  const u64 driver_area = driver.place(0).driver;
  guest.store<u16>(driver_area + (packed ? 2 : 0), 1);  // no interrupts
  driver.used(0);
  driver.add(0, {}, {{at, 4}});
  driver.kick(0);
  EXPECT_EQ(driver.used(0).size(), 1u);
  EXPECT_EQ(driver.interrupts(0), 2u);
}

TEST_P(QueueTest, WithTheEventIndexInterruptsWhenTheEventIsPassed) {
  bring_up(Feature::event_index);
  const u64 at = driver.allocate(32);
  const auto round = [&] {
    driver.add(0, {}, {{at, 4}});
    driver.kick(0);
    driver.used(0);
  };
  if (packed) {
    guest.store<u16>(driver.place(0).driver, 2 | 1 << 15);  // at slot 2 of the first round
    guest.store<u16>(driver.place(0).driver + 2, 2);
  } else {
    driver.want_interrupt_after(0, 2);
  }
  round();
  round();
  EXPECT_EQ(driver.interrupts(0), 0u);
  round();
  EXPECT_EQ(driver.interrupts(0), 1u);
  round();
  EXPECT_EQ(driver.interrupts(0), 1u);
  if (packed) {
    guest.store<u16>(driver.place(0).driver, 1);  // at slot 1 of the second round
  } else {
    driver.want_interrupt_after(0, 5);
  }
  for (int i = 0; i < 5; ++i) round();
  EXPECT_EQ(driver.interrupts(0), 1u);
  round();
  EXPECT_EQ(driver.interrupts(0), 2u);
}

TEST_P(QueueTest, SaysWhenItWantsToHearOfRequests) {
  bring_up();
  EXPECT_EQ(guest.load<u16>(driver.place(0).device + (packed ? 2 : 0)), 0);  // always, while idle
  bring_up(Feature::event_index);
  const u64 at = driver.allocate(32);
  for (unsigned i = 0; i < 3; ++i) driver.add(0, {}, {{at, 4}});
  driver.kick(0);
  const u64 device_area = driver.place(0).device;
  if (packed) {
    EXPECT_EQ(guest.load<u16>(device_area), 3 | 1 << 15);
    EXPECT_EQ(guest.load<u16>(device_area + 2), 2);
  } else {
    EXPECT_EQ(guest.load<u16>(device_area + SplitRing::available_event(8)), 3);
  }
}

TEST_P(QueueTest, RefusesBuffersThatAreNotMemory) {
  for (const Driver::Buffer bad : {Driver::Buffer{Guest::kRam, 16},
                                   {Guest::kRam - 8, 16},
                                   {~u64{0} - 7, 16},
                                   {0x1000, 0xffff'ffff},
                                   {u64{1} << 63, 1},
                                   {0x1000, 0}}) {
    bring_up();
    driver.add(0, {}, {bad});
    expect_broken("a buffer");
    bring_up(Feature::indirect);
    driver.add(0, {{0x1000, 4}}, {bad}, true);
    expect_broken("a buffer in a table");
  }
}

TEST_P(QueueTest, RefusesLoopsAndWildIndices) {
  if (packed) {
    bring_up();
    driver.add(0, {{0x1000, 4}}, {});
    for (unsigned i = 0; i < 8; ++i) {
      guest.store<u64>(driver.place(0).descriptors + 16 * i, 0x1000);
      guest.store<u32>(driver.place(0).descriptors + 16 * i + 8, 4);
      poke(i, 14, DescriptorFlag::next | DescriptorFlag::available);
    }
    return expect_broken("a chain without end");
  }
  bring_up();
  driver.add(0, {{0x1000, 4}, {0x1000, 4}}, {});
  poke(1, 12, DescriptorFlag::next);
  poke(1, 14, 0);
  expect_broken("a loop");
  bring_up();
  driver.add(0, {{0x1000, 4}, {0x1000, 4}}, {});
  poke(0, 14, 8);
  expect_broken("next out of the table");
  bring_up();
  driver.add(0, {{0x1000, 4}}, {});
  guest.store<u16>(driver.place(0).driver + 4, 8);
  expect_broken("head out of the table");
  bring_up();
  guest.store<u16>(driver.place(0).driver + 2, 9);
  expect_broken("more available than fit");
}

TEST_P(QueueTest, RefusesReadableBehindWritable) {
  bring_up();
  driver.add(0, {{0x1000, 4}, {0x1000, 4}}, {});
  spoil(0, DescriptorFlag::write);
  expect_broken("order");
}

TEST_P(QueueTest, RefusesWrongTables) {
  bring_up(Feature::indirect);
  driver.add(0, {{0x1000, 4}, {0x1000, 4}}, {}, true);
  guest.store<u32>(driver.place(0).descriptors + 8, 24);
  expect_broken("not whole descriptors");
  bring_up(Feature::indirect);
  driver.add(0, {{0x1000, 4}}, {}, true);
  guest.store<u32>(driver.place(0).descriptors + 8, 0);
  expect_broken("no descriptors");
  bring_up(Feature::indirect);
  driver.add(0, {{0x1000, 4}}, {}, true);
  guest.store<u64>(driver.place(0).descriptors, Guest::kRam - 8);
  expect_broken("out of memory");
  bring_up(Feature::indirect);
  driver.add(0, {{0x1000, 4}}, {}, true);
  const u64 table = guest.load<u64>(driver.place(0).descriptors);
  guest.store<u16>(table + flags_offset(), DescriptorFlag::indirect);
  expect_broken("a table in a table");
  bring_up(Feature::indirect);
  driver.add(0, {{0x1000, 4}}, {}, true);
  spoil(0, DescriptorFlag::next);
  expect_broken("a table with a next");
  bring_up();
  driver.add(0, {{0x1000, 4}}, {}, true);
  expect_broken("a table that was not negotiated");
}

TEST_P(QueueTest, RefusesPlacesThatAreNotMemoryOrNotAligned) {
  for (const u64 wrong : {Guest::kRam - 64, u64{0x2001}, ~u64{0xf}}) {
    driver.reset();
    driver.set_status(3);
    driver.write(CommonOffset::driver_feature_select, 4, 1);
    driver.write(CommonOffset::driver_feature, 4, 1);
    driver.set_status(11);
    driver.write(CommonOffset::queue_select, 2, 0);
    driver.write(CommonOffset::queue_descriptors, 8, wrong);
    driver.write(CommonOffset::queue_driver, 8, 0x3000);
    driver.write(CommonOffset::queue_device, 8, 0x4000);
    driver.write(CommonOffset::queue_enable, 2, 1);
    driver.set_status(15);
    echo.run();
    EXPECT_TRUE(needs_reset()) << wrong;
  }
}

TEST_P(QueueTest, AResetMendsABrokenDevice) {
  bring_up();
  driver.add(0, {}, {{0x1000, 0}});
  expect_broken("a buffer");
  bring_up();
  EXPECT_FALSE(needs_reset());
  driver.add(0, {}, {{0x1000, 4}});
  driver.kick(0);
  EXPECT_EQ(driver.used(0).size(), 1u);
}

TEST_P(QueueTest, ItsStateGoesOnInAnotherDevice) {
  bring_up(Feature::event_index);
  const u64 at = driver.allocate(32);
  for (unsigned i = 0; i < 13; ++i) {
    driver.add(0, {}, {{at, 4}});
    driver.kick(0);
    driver.used(0);
  }
  driver.add(0, {}, {{at, 4}});  // not yet seen
  const PciTransport::State state = driver.transport().state();
  Echo other(guest, 1);
  PciTransport transport(other, guest.messages);
  guest.transport = &transport;
  ASSERT_TRUE(transport.load(state).ok());
  EXPECT_EQ(transport.state(), state);
  other.run();
  EXPECT_EQ(driver.used(0).size(), 1u);
  EXPECT_EQ(other.served, 1u);
}

TEST_P(QueueTest, StoresToPagesOfCodeAreToldBeforeTheGuestSeesTheUse) {
  bring_up();
  const u64 at = driver.allocate(2 * kPageSize, kPageSize);
  guest.flags[at / kPageSize] = memory::PageFlag::code;
  const u64 from = driver.put("abcd", 4);
  driver.add(0, {{from, 4}}, {{at + kPageSize, 4}});
  driver.kick(0);
  EXPECT_TRUE(guest.dma.empty());
  EXPECT_EQ(guest.flags[at / kPageSize + 1], memory::PageFlag::dirty);
  driver.add(0, {{from, 4}}, {{at, 4}});
  driver.kick(0);
  ASSERT_FALSE(guest.dma.empty());
  EXPECT_EQ(guest.dma[0].first, at);
  EXPECT_EQ(guest.settles, 1u);
  EXPECT_EQ(guest.flags[at / kPageSize], memory::PageFlag::dirty | memory::PageFlag::code);
}

INSTANTIATE_TEST_SUITE_P(Formats, QueueTest, ::testing::Values(0, Feature::packed),
                         [](const auto& format) { return format.param == 0 ? "split" : "packed"; });

}  // namespace
}  // namespace nacre::virtio
