#include "irq/apic_bus.hpp"

#include <gtest/gtest.h>

#include <memory>

#include "irq/ioapic/ioapic.hpp"
#include "irq/local_apic/local_apic_testing.hpp"
#include "irq/pic/pic.hpp"

namespace nacre::irq {
namespace {

// Four processors whose IPIs really travel.
struct Machine {
  nacre::testing::ManualClock clock;
  RecordedProcessor processor[4];
  ApicBus bus;
  Ioapic ioapic{bus, 0};
  nacre::testing::RecordedLine unused;
  Pic pic{unused};
  std::unique_ptr<LocalApic> apic[4];

  Machine() {
    for (u32 i = 0; i < 4; ++i) {
      processor[i].clock = &clock;
      apic[i] = std::make_unique<LocalApic>(LocalApic::Ports{clock, processor[i], bus, ioapic, pic},
                                            LocalApic::Config{.id = i, .bootstrap = i == 0});
      EXPECT_TRUE(bus.attach(*apic[i]));
      apic[i]->mmio_write(0xf0, 4, 0x1ff);
      apic[i]->mmio_write(0xd0, 4, u64{1} << (24 + i));
    }
  }
  void command(unsigned from, u32 destination, u32 low) {
    apic[from]->mmio_write(0x310, 4, u64{destination} << 24);
    apic[from]->mmio_write(0x300, 4, low);
  }
};

TEST(ApicBus, takes_ipis_to_their_destinations) {
  Machine m;
  m.command(0, 2, 0x0000'4051);
  EXPECT_EQ(m.apic[2]->acknowledge(), 0x51);
  m.command(1, 0x0c, 0x0000'4852);          // logical, flat: 2 and 3
  EXPECT_EQ(m.apic[2]->acknowledge(), -1);  // same class as 51h, in service
  EXPECT_EQ(m.apic[3]->acknowledge(), 0x52);
  EXPECT_EQ(m.apic[0]->acknowledge(), -1);
}

TEST(ApicBus, knows_the_shorthands) {
  Machine m;
  m.command(1, 0, 0x0004'4060);  // self
  EXPECT_EQ(m.apic[1]->acknowledge(), 0x60);
  EXPECT_EQ(m.apic[0]->acknowledge(), -1);
  m.command(1, 0, 0x000c'4070);  // all but self
  EXPECT_EQ(m.apic[0]->acknowledge(), 0x70);
  EXPECT_EQ(m.apic[1]->acknowledge(), -1);
  EXPECT_EQ(m.apic[3]->acknowledge(), 0x70);
  m.command(1, 0, 0x0008'4080);  // all
  for (auto& apic : m.apic) EXPECT_EQ(apic->acknowledge(), 0x80);
}

TEST(ApicBus, starts_processors_with_init_and_startup) {
  Machine m;
  m.command(0, 0, 0x000c'4500);
  m.command(0, 3, 0x0000'4608);
  EXPECT_EQ(m.processor[0].inits, 0U);
  EXPECT_EQ(m.processor[1].inits, 1U);
  EXPECT_EQ(m.processor[3].inits, 1U);
  EXPECT_EQ(m.processor[3].startups, std::vector<u8>{8});
  EXPECT_TRUE(m.processor[2].startups.empty());
}

TEST(ApicBus, lowest_priority_chooses_one_that_takes_interrupts) {
  Machine m;
  m.apic[0]->set_cr8(3);
  m.apic[1]->set_cr8(2);
  m.apic[2]->mmio_write(0xf0, 4, 0xff);  // software-disabled: out
  m.apic[3]->set_cr8(4);
  const Message message{0x90, Delivery::LowestPriority, Trigger::Edge, Destination::Logical, 0x0f};
  EXPECT_TRUE(m.bus.deliver(message));
  EXPECT_EQ(m.apic[1]->acknowledge(), 0x90);
  for (unsigned i : {0u, 2u, 3u}) EXPECT_EQ(m.apic[i]->acknowledge(), -1);
}

TEST(ApicBus, says_when_nobody_took_it) {
  Machine m;
  EXPECT_FALSE(m.bus.deliver({0x90, Delivery::Fixed, Trigger::Edge, Destination::Physical, 9}));
  EXPECT_FALSE(m.bus.deliver({0x90, Delivery::LowestPriority, Trigger::Edge, Destination::Logical, 0}));
}

TEST(ApicBus, a_level_interrupt_goes_round_between_ioapic_and_processor) {
  Machine m;
  m.ioapic.write(0, 4, 0x10 + 2 * 16);
  m.ioapic.write(0x10, 4, 0x0000'a041);
  m.ioapic.set_pin(16, true);
  EXPECT_EQ(m.apic[0]->acknowledge(), 0x41);
  m.apic[0]->mmio_write(0xb0, 4, 0);  // EOI with the wire still up: again
  EXPECT_EQ(m.apic[0]->acknowledge(), 0x41);
  m.ioapic.set_pin(16, false);
  m.apic[0]->mmio_write(0xb0, 4, 0);
  EXPECT_EQ(m.apic[0]->acknowledge(), -1);
}

// Who has the local APICs for the time being.
struct Elsewhere final : MessageSink {
  std::vector<Message> messages;
  std::vector<std::pair<unsigned, Message>> expected;
  bool deliver(const Message& message) override { return messages.push_back(message), true; }
  void expect_level(unsigned pin, const Message& message) override { expected.emplace_back(pin, message); }
};

TEST(ApicBus, lent_apics_get_messages_where_they_are) {
  Machine m;
  Elsewhere elsewhere;
  m.ioapic.write(0, 4, 0x10 + 2 * 9);
  m.ioapic.write(0x10, 4, 0x0000'8041);  // pin 9: level, vector 41h
  m.ioapic.write(0, 4, 0x10 + 2 * 4);
  m.ioapic.write(0x10, 4, 0x0000'0034);  // pin 4: edge
  m.bus.lend(&elsewhere);
  m.ioapic.announce_all();
  const Message level{0x41, Delivery::Fixed, Trigger::Level, Destination::Physical, 0};
  ASSERT_EQ(elsewhere.expected.size(), 1u);
  EXPECT_EQ(elsewhere.expected[0], std::make_pair(9u, level));
  m.ioapic.set_pin(9, true);
  m.ioapic.set_pin(4, true);
  EXPECT_EQ(elsewhere.messages, (std::vector<Message>{level, {0x34, Delivery::Fixed, Trigger::Edge, Destination::Physical, 0}}));
  EXPECT_FALSE(m.apic[0]->interrupt_pending());
  m.ioapic.end_of_interrupt(0x41);  // the wire is up: again
  EXPECT_EQ(elsewhere.messages.size(), 3u);
  // Masked, nothing new is expected; unmasked with another vector, that.
  m.ioapic.write(0, 4, 0x10 + 2 * 9);
  m.ioapic.write(0x10, 4, 0x0001'8042);
  EXPECT_EQ(elsewhere.expected.size(), 1u);
  m.ioapic.write(0x10, 4, 0x0000'8042);
  ASSERT_EQ(elsewhere.expected.size(), 2u);
  EXPECT_EQ(elsewhere.expected[1].second.vector, 0x42);
  m.bus.lend(nullptr);
  m.ioapic.set_pin(4, false);
  m.ioapic.set_pin(4, true);
  EXPECT_EQ(m.apic[0]->acknowledge(), 0x34);
}

TEST(Message, is_an_msi_and_again_itself) {
  for (const Message& m : {Message{0xa5, Delivery::LowestPriority, Trigger::Level, Destination::Logical, 3},
                           Message{0x31, Delivery::Fixed, Trigger::Edge, Destination::Physical, kBroadcast},
                           Message{0, Delivery::Nmi, Trigger::Edge, Destination::Physical, 7}}) {
    const Msi msi = msi_from_message(m);
    EXPECT_EQ(message_from_msi(msi.address, msi.data), m);
  }
}

TEST(Message, decodes_an_msi) {
  const Message m = message_from_msi(0xfee0'3004, 0xc1a5);
  EXPECT_EQ(m, (Message{0xa5, Delivery::LowestPriority, Trigger::Level, Destination::Logical, 3}));
  EXPECT_EQ(message_from_msi(0xfeef'f000, 0x31).destination, kBroadcast);
}

}  // namespace
}  // namespace nacre::irq
