// Slots as the thread that owns a machine drives them, with a guest that does to a root port's registers what
// Linux's pciehp does.
#include "vm/slots.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <filesystem>

#include "device/pci/registers.hpp"
#include "host/guest_ram.hpp"
#include "net/cable.hpp"

namespace nacre::vm {
namespace {

using ::testing::HasSubstr;
using E = device::pci::ExpressOffset;
using Kind = SlotEvent::Kind;
using Removal = Slots::Removal;

constexpr u16 kOn = 1 << 8, kBlink = 2 << 8, kOff = 3 << 8 | 1 << 10;  // slot control: indicator, power
constexpr u16 kButton = 1 << 0, kPresent = 1 << 6;                     // slot status
constexpr u32 kDisk = 0x1042'1af4, kNetwork = 0x1041'1af4, kNobody = 0xffff'ffff;
constexpr int kPatience = 20'000;  // milliseconds, after which a test that hangs has failed

board::Options options(const host::GuestRam& ram, u64 hz) {
  board::Options options;
  options.memory_bytes = ram.size();
  options.ram = ram.data();
  options.page_flags = ram.page_flags();
  options.tsc_hz = hz;
  options.processors = 1;
  options.serial_ports = 1;
  return options;
}

struct SlotsTest : testing::Test {
  SlotsTest() {
    char name[] = "/tmp/nacre-slots-XXXXXX";
    folder = mkdtemp(name);
  }
  ~SlotsTest() override {
    slots.stop();
    std::filesystem::remove_all(folder);
  }
  void start(unsigned count) {
    ASSERT_TRUE(slots.create(count, 1));
    ASSERT_TRUE(machine.board.assemble());
    slots.start([](const Error& error) { ADD_FAILURE() << error.message(); });
  }

  // --- the owner ---
  std::string file(const char* name, off_t bytes = 1 << 20) {
    const std::string path = folder + "/" + name;
    const host::UniqueFd made(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    EXPECT_EQ(ftruncate(made.number(), bytes), 0);
    return path;
  }
  Result<unsigned> attach(const std::string& path) {
    DiskConfig disk;
    disk.path = path;
    disk.format = storage::Format::Raw;
    std::vector<host::UniqueFd> files;
    files.emplace_back(open(path.c_str(), O_RDWR | O_CLOEXEC));
    return slots.attach(disk, std::move(files));
  }
  // The next of what there is to tell, which must be that.
  SlotEvent expect(Kind kind, unsigned slot) {
    for (;;) {
      attention.clear();
      if (auto event = slots.next_event()) {
        EXPECT_EQ(event->kind, kind);
        EXPECT_EQ(event->slot, slot);
        return *event;
      }
      pollfd entry = {attention.descriptor(), POLLIN, 0};
      if (poll(&entry, 1, kPatience) != 1) {
        ADD_FAILURE() << "nothing was told";
        return {};
      }
    }
  }
  void expect_nothing() {
    const auto event = slots.next_event();
    EXPECT_FALSE(event) << static_cast<int>(event->kind) << " of " << event->slot;
  }
  [[nodiscard]] static bool is_open(const std::string& path) {
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      if (std::filesystem::read_symlink(entry, gone) == path) return true;
    }
    return false;
  }

  // --- the guest ---
  u32 read(u32 function, u16 offset, unsigned size) {
    platform.port_write(0xcf8, 4, u32{1} << 31 | function << 8 | (offset & 0xfcU));
    return platform.port_read(static_cast<u16>(0xcfc + offset % 4), size);
  }
  void write(u32 function, u16 offset, unsigned size, u32 value) {
    platform.port_write(0xcf8, 4, u32{1} << 31 | function << 8 | (offset & 0xfcU));
    platform.port_write(static_cast<u16>(0xcfc + offset % 4), size, value);
  }
  static u32 port(unsigned slot) { return Slots::kPciDevice << 3 | (slot - 1); }
  u16 express(unsigned slot, u16 part) {
    u16 at = static_cast<u16>(read(port(slot), device::pci::Offset::capabilities, 1));
    while (at != 0 && read(port(slot), at, 1) != device::pci::CapabilityId::express)
      at = static_cast<u16>(read(port(slot), static_cast<u16>(at + 1), 1));
    return static_cast<u16>(at + part);
  }
  void control(unsigned slot, u16 value) { write(port(slot), express(slot, E::slot_control), 2, value); }
  u32 status(unsigned slot) { return read(port(slot), express(slot, E::slot_status), 2); }
  // True once for each time that the button was pressed, or more often.
  bool takes_press(unsigned slot) {
    const bool pressed = (status(slot) & kButton) != 0;
    write(port(slot), express(slot, E::slot_status), 2, kButton);
    return pressed;
  }
  // The card behind a port, whose bus has the slot's number.
  u32 card(unsigned slot) { return read(slot << 8, 0, 4); }
  void use(unsigned slot) {
    EXPECT_TRUE(takes_press(slot));
    control(slot, kBlink);
    control(slot, kOn);
  }

  unsigned attach_and_use(const std::string& path) {
    const auto slot = attach(path);
    EXPECT_TRUE(slot);
    expect(Kind::Plugged, slot.value());
    use(slot.value());
    expect(Kind::InUse, slot.value());
    return slot.value();
  }

  std::string folder;
  host::GuestRam ram = host::GuestRam::create(16 * kMiB).take();
  Attention attention = Attention::create().take();
  host::TscClock clock{host::tsc_frequency(host::ClockPair::read())};
  HostedEnvironment environment{clock, attention, 1};
  Machine machine{options(ram, clock.hz()), environment};
  GuardedPlatform platform{machine, 0, nullptr};
  Slots slots{machine};
};

TEST_F(SlotsTest, ADiskComesIsUsedAndLeavesInOrder) {
  start(2);
  const std::string path = file("disk");
  EXPECT_EQ(card(1), kNobody);
  const auto slot = attach(path);
  ASSERT_TRUE(slot);
  EXPECT_EQ(slot.value(), 1U);
  expect(Kind::Plugged, 1);
  expect_nothing();  // the guest has not looked at it yet
  EXPECT_NE(status(1) & kPresent, 0U);
  EXPECT_EQ(card(1), kNobody);  // no power
  use(1);
  expect(Kind::InUse, 1);
  expect_nothing();
  EXPECT_EQ(card(1), kDisk);
  EXPECT_EQ(card(2), kNobody);
  EXPECT_TRUE(is_open(path));

  ASSERT_TRUE(slots.detach(1, Removal::Orderly));
  EXPECT_TRUE(takes_press(1));
  control(1, kBlink);  // second thoughts: five seconds of Linux's
  expect_nothing();
  EXPECT_EQ(card(1), kDisk);
  control(1, kOff);
  expect(Kind::Gone, 1);
  EXPECT_EQ(status(1) & kPresent, 0U);
  EXPECT_FALSE(is_open(path));
  expect_nothing();
}

TEST_F(SlotsTest, ANetworkComesWithItsCableAndLeaves) {
  start(1);
  auto cable = net::make_cable().take();
  std::vector<host::UniqueFd> files;
  files.push_back(std::move(cable.first));
  const auto slot = slots.attach(net::NetConfig{}, std::move(files));
  ASSERT_TRUE(slot);
  expect(Kind::Plugged, 1);
  use(1);
  expect(Kind::InUse, 1);
  EXPECT_EQ(card(1), kNetwork);
  ASSERT_TRUE(slots.detach(1, Removal::Orderly));
  control(1, kOff);
  expect(Kind::Gone, 1);
  u8 byte = 0;
  EXPECT_EQ(recv(cable.second.number(), &byte, 1, MSG_DONTWAIT), 0);  // nobody has the other end
}

TEST_F(SlotsTest, WhatThereIsNoRoomForIsRefused) {
  start(2);
  EXPECT_EQ(attach_and_use(file("a")), 1U);
  EXPECT_EQ(attach_and_use(file("b")), 2U);
  const auto third = attach(file("c"));
  ASSERT_FALSE(third);
  EXPECT_THAT(third.error().message(), HasSubstr("slots are taken"));
  EXPECT_FALSE(is_open(folder + "/c"));
  ASSERT_TRUE(slots.detach(2, Removal::Orderly));
  EXPECT_FALSE(attach(file("c")));  // still there
  control(2, kOff);
  expect(Kind::Gone, 2);
  EXPECT_EQ(attach_and_use(file("c")), 2U);
}

TEST_F(SlotsTest, TheNextCardGoesToAnotherSlotThanTheLast) {
  start(2);
  EXPECT_EQ(attach_and_use(file("a")), 1U);
  ASSERT_TRUE(slots.detach(1, Removal::Orderly));
  control(1, kOff);
  expect(Kind::Gone, 1);
  EXPECT_EQ(attach_and_use(file("b")), 2U);
  EXPECT_EQ(attach_and_use(file("c")), 1U);
}

TEST_F(SlotsTest, AMachineWithoutSlotsSaysSo) {
  ASSERT_TRUE(slots.create(0, 1));
  EXPECT_THAT(attach(file("a")).error().message(), HasSubstr("nacre.toml"));
  EXPECT_THAT(Slots(machine).create(9, 1).error().message(), HasSubstr("at most 8"));
}

TEST_F(SlotsTest, ThereIsNothingToTakeFromAnEmptySlotOrOneThatIsNone) {
  start(2);
  for (const unsigned slot : {0U, 1U, 2U, 3U, 9U, ~0U}) {
    for (const Removal removal : {Removal::Orderly, Removal::Surprise}) {
      const Status status = slots.detach(slot, removal);
      ASSERT_FALSE(status) << slot;
      EXPECT_THAT(status.error().message(), HasSubstr("nothing in slot"));
    }
  }
  ASSERT_TRUE(attach(file("a")));
  EXPECT_FALSE(slots.detach(1, Removal::Orderly));  // it is not there yet
  expect(Kind::Plugged, 1);
  EXPECT_TRUE(slots.detach(1, Removal::Orderly));
}

TEST_F(SlotsTest, AskingAgainPressesAgainUnlessTheGuestIsAtIt) {
  start(1);
  attach_and_use(file("a"));
  ASSERT_TRUE(slots.detach(1, Removal::Orderly));
  EXPECT_TRUE(takes_press(1));
  ASSERT_TRUE(slots.detach(1, Removal::Orderly));  // it had not heard
  EXPECT_TRUE(takes_press(1));
  control(1, kBlink);
  ASSERT_TRUE(slots.detach(1, Removal::Orderly));
  EXPECT_FALSE(takes_press(1));  // this one would take it back
  control(1, kOff);
  ASSERT_TRUE(slots.detach(1, Removal::Orderly));
  expect(Kind::Gone, 1);
  EXPECT_FALSE(slots.detach(1, Removal::Orderly));
}

TEST_F(SlotsTest, ACardThatIsPulledIsGoneWhenTheGuestHasSeenIt) {
  start(1);
  const std::string path = file("a");
  attach_and_use(path);
  ASSERT_TRUE(slots.detach(1, Removal::Surprise));
  EXPECT_EQ(status(1) & kPresent, 0U);
  EXPECT_EQ(card(1), kNobody);
  expect_nothing();
  EXPECT_TRUE(is_open(path));
  control(1, kOff);
  expect(Kind::Gone, 1);
  EXPECT_FALSE(is_open(path));
  EXPECT_EQ(attach_and_use(path), 1U);
}

TEST_F(SlotsTest, ACardThatIsPulledTwiceIsGoneWhateverTheGuestDoes) {
  start(1);
  attach_and_use(file("a"));
  ASSERT_TRUE(slots.detach(1, Removal::Orderly));
  ASSERT_TRUE(slots.detach(1, Removal::Surprise));
  expect_nothing();
  ASSERT_TRUE(slots.detach(1, Removal::Surprise));
  expect(Kind::Gone, 1);
  EXPECT_FALSE(is_open(folder + "/a"));
}

TEST_F(SlotsTest, WhatCannotBeMadeIsRefusedAsOftenAsItComes) {
  start(1);
  const std::string path = file("small", 100);
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(attach(path));
    EXPECT_THAT(expect(Kind::Refused, 1).why, HasSubstr("too small"));
    EXPECT_EQ(status(1) & kPresent, 0U);
    EXPECT_FALSE(is_open(path));
    ASSERT_TRUE(slots.attach(net::NetConfig{}, {}));
    EXPECT_THAT(expect(Kind::Refused, 1).why, HasSubstr("cable"));
  }
  EXPECT_EQ(attach_and_use(file("large")), 1U);
}

TEST_F(SlotsTest, WhatTheGuestHasSwitchedOffItselfIsGoneAtOnce) {
  start(1);
  attach_and_use(file("a"));
  control(1, kOff);
  expect_nothing();
  EXPECT_TRUE(is_open(folder + "/a"));  // it may switch it on again
  control(1, kOn);
  EXPECT_EQ(card(1), kDisk);
  control(1, kOff);
  expect_nothing();
  ASSERT_TRUE(slots.detach(1, Removal::Orderly));
  expect(Kind::Gone, 1);
}

// Linux that has found a card by itself, and then comes to the press that was with it.
TEST_F(SlotsTest, AGuestThatWouldSwitchOffWhatNobodyAskedForIsToldOtherwise) {
  start(1);
  attach_and_use(file("a"));
  EXPECT_FALSE(takes_press(1));
  control(1, kBlink);
  expect_nothing();
  EXPECT_TRUE(takes_press(1));
  control(1, kOn);
  expect_nothing();
  EXPECT_FALSE(takes_press(1));
}

TEST_F(SlotsTest, ThatTheGuestUsesACardIsToldEvenWhenItBlinksBySinceThen) {
  start(1);
  ASSERT_TRUE(attach(file("a")));
  expect(Kind::Plugged, 1);
  use(1);
  control(1, kBlink);  // before anybody has looked
  expect(Kind::InUse, 1);
}

TEST_F(SlotsTest, AMachineThatEndsClosesWhatIsInItsSlots) {
  start(2);
  attach_and_use(file("a"));
  ASSERT_TRUE(attach(file("b")));
  slots.stop();
  DiskConfig disk;
  disk.path = folder + "/a";
  EXPECT_TRUE(StorageDisk::open(disk));  // its lock is free
}

}  // namespace
}  // namespace nacre::vm
