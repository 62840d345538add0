// A root port as a guest finds it: a bridge, whose slot it looks after as Linux's pciehp does.
#include "device/pci/root_port.hpp"

#include <gtest/gtest.h>

#include "device/pci/root_port_sequence.hpp"

namespace nacre::device::pci {
namespace {

using E = ExpressOffset;

struct RootPortTest : ::testing::Test {
  CountedMessages messages;
  NotedChanges changes;
  PlainCard card;
  RootPort port{messages, changes, 3, true};

  static constexpr u16 kOn = 1 << 8, kOff = 3 << 8 | 1 << 10;  // slot control: power and indicator
  static constexpr u16 kListens = 1 << 12 | 1 << 5 | 1 << 0;   // link, interrupts, attention button
  static constexpr u16 kButton = 1 << 0, kPresence = 1 << 3, kLink = 1 << 8, kPresent = 1 << 6;

  void SetUp() override {
    u64 next = 0xc000'8000;
    port.reset(next);
    EXPECT_EQ(next, 0xc030'0000u);
  }
  u16 capability(u8 id) {
    for (u16 at = static_cast<u16>(port.config_read(Offset::capabilities, 1)); at != 0;
         at = static_cast<u16>(port.config_read(static_cast<u16>(at + 1), 1))) {
      if (port.config_read(at, 1) == id) return at;
    }
    return 0;
  }
  u16 express(u16 part) { return static_cast<u16>(capability(CapabilityId::express) + part); }
  u16 slot_status() { return static_cast<u16>(port.config_read(express(E::slot_status), 2)); }
  u16 link_status() { return static_cast<u16>(port.config_read(express(E::link_status), 2)); }
  void control(u16 value) { port.config_write(express(E::slot_control), 2, value); }
  void clear_events() { port.config_write(express(E::slot_status), 2, 0xffff); }
  // What a driver does before it relies on events.
  void drive(u8 vector = 0x41) {
    const u16 msi = capability(CapabilityId::msi);
    port.config_write(static_cast<u16>(msi + MsiOffset::address), 4, 0xfee0'0000);
    port.config_write(static_cast<u16>(msi + MsiOffset::data), 2, vector);
    port.config_write(static_cast<u16>(msi + MsiOffset::control), 2, 1);
    clear_events();
    control(static_cast<u16>(kOff | kListens));
    port.config_write(Offset::command, 2, 6);
  }
  u64 read(u64 address) {
    u64 value = 0;
    return port.memory_read(GuestPhysical(address), 4, value) ? value : ~u64{0};
  }
};

TEST_F(RootPortTest, IsABridgeWithASlot) {
  EXPECT_EQ(port.config_read(8, 4) >> 8, 0x060400u);
  EXPECT_EQ(port.config_read(Offset::header_type, 1), 0x81u);
  EXPECT_EQ(port.config_read(express(E::flags), 2), 0x0142u);
  const u32 slot = port.config_read(express(E::slot_capabilities), 4);
  EXPECT_EQ(slot >> 19, 3u);
  EXPECT_EQ(slot & 0x7f, 0x73u);             // button, power control, power indicator, surprise, hot-plug
  EXPECT_EQ(port.config_read(0x1c, 2), 0u);  // no I/O window
  port.config_write(0x1c, 2, 0xffff);
  port.config_write(0x24, 4, ~u32{0});
  EXPECT_EQ(port.config_read(0x1c, 2), 0u);
  EXPECT_EQ(port.config_read(0x24, 4), 0u);  // nor one that may be prefetched
  EXPECT_EQ(port.config_read(0x100, 4), 0u);
}

TEST_F(RootPortTest, FirmwareHasPutItsBusAndItsWindow) {
  EXPECT_EQ(port.config_read(BridgeOffset::primary, 4), 0x0003'0300u);
  EXPECT_EQ(port.config_read(BridgeOffset::memory_base, 4), 0xc020'c010u);
}

TEST_F(RootPortTest, ACardIsFoundOnItsBusAloneOnceItHasPower) {
  port.plug(card);
  EXPECT_EQ(port.behind(3 << 8), nullptr);  // no power
  control(kOn);
  EXPECT_EQ(port.behind(3 << 8), &card);
  EXPECT_EQ(port.behind(3 << 8 | 1), nullptr);  // function 1
  EXPECT_EQ(port.behind(3 << 8 | 8), nullptr);  // device 1
  EXPECT_EQ(port.behind(4 << 8), nullptr);
  port.config_write(BridgeOffset::secondary, 2, 0x0907);
  EXPECT_EQ(port.behind(3 << 8), nullptr);
  EXPECT_EQ(port.behind(7 << 8), &card);
  EXPECT_EQ(port.behind(8 << 8), nullptr);
  port.config_write(BridgeOffset::secondary, 1, 0);  // nobody has numbered it
  EXPECT_EQ(port.behind(0), nullptr);
}

TEST_F(RootPortTest, MemoryIsRoutedByTheWindow) {
  port.plug(card);
  control(kOn);
  EXPECT_EQ(read(0xc010'0000), ~u64{0});  // not enabled
  port.config_write(Offset::command, 2, 2);
  EXPECT_EQ(read(0xc010'0000), 0xc010'0000u);
  EXPECT_EQ(read(0xc02f'fffc), 0xc02f'fffcu);
  EXPECT_EQ(read(0xc02f'fffe), ~u64{0});  // over the end
  EXPECT_EQ(read(0xc00f'fffc), ~u64{0});
  EXPECT_EQ(read(0xc030'0000), ~u64{0});
  EXPECT_TRUE(port.ring(GuestPhysical(0xc010'3000)));
  EXPECT_FALSE(port.ring(GuestPhysical(0xc030'0000)));
  port.config_write(BridgeOffset::memory_base, 4, 0xd000'd010);  // the last below the first: closed
  EXPECT_EQ(read(0xd000'0000), ~u64{0});
  port.config_write(BridgeOffset::memory_base, 4, 0xd010'd010);
  EXPECT_EQ(read(0xd01f'0000), 0xd01f'0000u);
  EXPECT_TRUE(port.memory_write(GuestPhysical(0xd01f'0000), 4, 9));
  EXPECT_EQ(card.word, 9u);
  control(kOff);
  EXPECT_EQ(read(0xd01f'0000), ~u64{0});
}

TEST_F(RootPortTest, ACardThatComesIsTold) {
  drive();
  port.plug(card);
  EXPECT_EQ(messages.count, 1u);
  EXPECT_EQ(messages.last, 0x41u);
  EXPECT_EQ(slot_status(), kButton | kPresence | kPresent);
  EXPECT_EQ(link_status(), 0u);
  clear_events();
  EXPECT_EQ(slot_status(), kPresent);
  control(static_cast<u16>(kOn | kListens));
  EXPECT_EQ(slot_status(), kLink | kPresent);
  EXPECT_EQ(link_status() & (1 << 13), 1 << 13);
  EXPECT_NE(link_status() >> 4 & 0x3f, 0);  // has lanes
  EXPECT_EQ(messages.count, 2u);
  EXPECT_EQ(port.indicator(), RootPort::Indicator::On);
  EXPECT_EQ(changes.count, 1u);
}

TEST_F(RootPortTest, OneMessageForEventsThatWaitTogether) {
  drive();
  port.press();
  port.press();
  EXPECT_EQ(messages.count, 1u);
  port.config_write(express(E::slot_status), 1, kButton);
  port.press();
  EXPECT_EQ(messages.count, 2u);
  control(kOff);  // no longer listening
  clear_events();
  port.press();
  EXPECT_EQ(messages.count, 2u);
  control(static_cast<u16>(kOff | kListens));  // and again: what waited is told
  EXPECT_EQ(messages.count, 3u);
}

TEST_F(RootPortTest, AMessageToElsewhereIsNoInterrupt) {
  drive();
  port.config_write(static_cast<u16>(capability(CapabilityId::msi) + MsiOffset::address), 4, 0x1000);
  port.press();
  EXPECT_EQ(messages.count, 0u);
}

TEST_F(RootPortTest, AnOrderlyRemovalGoesThroughTheGuest) {
  drive();
  port.plug(card);
  control(static_cast<u16>(kOn | kListens));
  clear_events();
  port.press();
  EXPECT_EQ(slot_status() & kButton, kButton);
  control(static_cast<u16>(2 << 8 | kListens));
  EXPECT_EQ(port.indicator(), RootPort::Indicator::Blink);
  EXPECT_TRUE(port.is_in_use());
  EXPECT_TRUE(port.is_leaving());
  EXPECT_EQ(port.behind(3 << 8), &card);
  const unsigned before = card.resets;
  control(static_cast<u16>(kOff | kListens));
  EXPECT_FALSE(port.is_powered());
  EXPECT_EQ(card.resets, before + 1);
  EXPECT_EQ(port.behind(3 << 8), nullptr);
  EXPECT_EQ(port.take_out(), &card);
  EXPECT_EQ(slot_status() & kPresent, 0);
  EXPECT_FALSE(port.is_occupied());
  EXPECT_FALSE(port.ring(GuestPhysical(0xc010'0000)));
  port.plug(card);  // and again
  control(static_cast<u16>(kOn | kListens));
  EXPECT_EQ(port.behind(3 << 8), &card);
}

TEST_F(RootPortTest, AnIndicatorThatBlinksBeforeItIsOnTellsOfOneThatComes) {
  drive();
  port.plug(card);
  for (int i = 0; i < 2; ++i) {
    control(static_cast<u16>(2 << 8 | kListens));
    EXPECT_FALSE(port.is_in_use());
    EXPECT_FALSE(port.is_leaving());
    control(static_cast<u16>(kOn | kListens));
    EXPECT_TRUE(port.is_in_use());
    EXPECT_FALSE(port.is_leaving());
    control(static_cast<u16>(kOff | kListens));
    EXPECT_FALSE(port.is_in_use());
  }
}

TEST_F(RootPortTest, ACardThatIsPulledIsGoneButItsRegistersAnswerUntilItsPowerGoes) {
  drive();
  port.plug(card);
  control(static_cast<u16>(kOn | kListens));
  clear_events();
  const unsigned before = messages.count;
  port.pull();
  EXPECT_EQ(messages.count, before + 1);
  EXPECT_EQ(slot_status(), kPresence | kLink);
  EXPECT_EQ(link_status(), 0);
  EXPECT_EQ(port.behind(3 << 8), nullptr);
  EXPECT_EQ(read(0xc010'0000), 0xc010'0000u);
  control(static_cast<u16>(kOff | kListens));
  EXPECT_EQ(read(0xc010'0000), ~u64{0});
  EXPECT_EQ(port.take_out(), &card);
  EXPECT_EQ(port.take_out(), nullptr);
}

TEST_F(RootPortTest, ACardThatWasThereAtPowerOnHasPowerAndIsPlacedInTheWindow) {
  port.plug(card);
  u64 next = 0xc000'0000;
  port.reset(next);
  EXPECT_EQ(port.behind(3 << 8), &card);
  EXPECT_EQ(card.base, 0xc000'0000u);
  EXPECT_EQ(slot_status(), kPresent);  // no event: it has been there all along
}

TEST_F(RootPortTest, TheLinkGoesWithItsDisableBitAndABusResetIsTheCards) {
  port.plug(card);
  control(kOn);
  port.config_write(express(E::link_control), 2, LinkControl::disable);
  EXPECT_EQ(port.behind(3 << 8), nullptr);
  port.config_write(express(E::link_control), 2, 0);
  EXPECT_EQ(port.behind(3 << 8), &card);
  const unsigned before = card.resets;
  port.config_write(BridgeOffset::control, 2, BridgeControl::secondary_bus_reset);
  port.config_write(BridgeOffset::control, 2, BridgeControl::secondary_bus_reset);
  EXPECT_EQ(card.resets, before + 1);
}

TEST_F(RootPortTest, ReadOnlyRegistersAreAndStatusReadsByByte) {
  port.plug(card);
  for (const u16 at : {u16{0}, u16{8}, express(E::slot_capabilities), express(E::link_capabilities)}) {
    const u32 before = port.config_read(at, 4);
    port.config_write(at, 4, ~before);
    EXPECT_EQ(port.config_read(at, 4), before) << at;
  }
  EXPECT_EQ(port.config_read(express(E::slot_status), 1), unsigned{kButton | kPresence | kPresent});
  EXPECT_EQ(port.config_read(express(E::slot_control), 4) >> 16,
            port.config_read(express(E::slot_status), 2));
}

TEST_F(RootPortTest, ItsStateComesBackAndWildBitsDoNot) {
  drive();
  port.plug(card);
  control(static_cast<u16>(kOn | kListens));
  RootPort::State state = port.state();
  CountedMessages other_messages;
  PlainCard other_card;
  RootPort other(other_messages, changes, 3, true);
  EXPECT_FALSE(other.load(state).ok());  // no card in the slot
  other.plug(other_card);
  state.config[0] = 0x99;  // the vendor is not the guest's to change
  ASSERT_TRUE(other.load(state).ok());
  EXPECT_EQ(other_messages.count, 0u);  // what had been sent is not sent again
  EXPECT_EQ(other.behind(3 << 8), &other_card);
  state.config[0] = 0x36;
  EXPECT_EQ(other.state(), state);
  state.version = 9;
  EXPECT_FALSE(other.load(state).ok());
}

TEST(RootPort, SurvivesRandomSequences) {
  nacre::testing::run_random_sequences(root_port_sequence, 2000);
}

}  // namespace
}  // namespace nacre::device::pci
