// A card that is one register file, and any sequence of accesses, plugging and pulling against a root port;
// shared by fuzz target and random test.
#pragma once

#include "base/check.hpp"
#include "device/pci/root_port.hpp"
#include "irq/testing/byte_source.hpp"

namespace nacre::device::pci {

struct CountedMessages final : irq::MessageSink {
  unsigned count = 0;
  u8 last = 0;
  bool deliver(const irq::Message& message) override {
    ++count;
    last = message.vector;
    return true;
  }
};

struct NotedChanges final : SlotObserver {
  unsigned count = 0;
  void slot_changed(unsigned) override { ++count; }
};

// Decodes all memory it is asked for.
struct PlainCard final : Function {
  u32 word = 0x1234'5678;
  u64 base = 0;  // where the last reset put it
  unsigned resets = 0, rings = 0;
  u32 config_read(u16, unsigned) override { return word; }
  void config_write(u16, unsigned, u32 value) override { word = value; }
  bool memory_read(GuestPhysical address, unsigned, u64& value) override {
    value = address.value();
    return true;
  }
  bool memory_write(GuestPhysical, unsigned, u64 value) override {
    word = static_cast<u32>(value);
    return true;
  }
  bool ring(GuestPhysical) override {
    ++rings;
    return true;
  }
  void reset(u64& next) override {
    ++resets;
    base = next;
    word = 0x1234'5678;
  }
};

inline void root_port_sequence(nacre::testing::ByteSource bytes) {
  CountedMessages messages;
  NotedChanges changes;
  PlainCard card;
  RootPort port(messages, changes, 1 + bytes.take<u8>() % 255, bytes.take<u8>() % 2 != 0);
  if (bytes.take<u8>() % 2 != 0) port.plug(card);
  u64 next = 0xc000'0000;
  port.reset(next);
  while (!bytes.empty()) {
    const u8 what = bytes.take<u8>() % 12;
    const unsigned size = 1u << bytes.take<u8>() % 3;
    const u16 offset = static_cast<u16>((bytes.take<u16>() & 0xfff) & ~(size - 1));
    const GuestPhysical address(u64{bytes.take<u16>()} << 16 | offset);
    u64 value = 0;
    switch (what) {
      case 0:
      case 1:
      case 2:
        // Mostly where there are registers.
        port.config_write(what == 0 ? offset : offset & 0xfc, size, bytes.take<u32>());
        break;
      case 3:
        static_cast<void>(port.config_read(offset, size));
        break;
      case 4:
        if (port.memory_read(address, size, value))
          NACRE_CHECK(value == address.value() && port.is_powered());
        break;
      case 5:
        static_cast<void>(port.memory_write(address, size, offset));
        break;
      case 6:
        if (port.ring(address)) NACRE_CHECK(port.is_occupied());
        break;
      case 7:
        if (Function* found = port.behind(u32{bytes.take<u8>()} << 8))
          NACRE_CHECK(found == &card && port.is_powered() && port.is_occupied());
        break;
      case 8:
        port.is_occupied() ? port.pull() : port.plug(card);
        break;
      case 9:
        NACRE_CHECK(port.take_out() == nullptr || !port.is_occupied());
        break;
      case 10:
        port.press();
        break;
      default: {
        RootPort::State state = port.state();
        reinterpret_cast<u8*>(&state)[bytes.take<u16>() % sizeof state] = bytes.take<u8>();
        if (port.load(state).ok()) {
          const RootPort::State kept = port.state();
          NACRE_CHECK(port.load(kept).ok() && port.state() == kept);
        }
        break;
      }
    }
    NACRE_CHECK(port.config_read(0, 4) == 0x000c'1b36);
    NACRE_CHECK(port.is_occupied() || (port.config_read(0x5a, 2) & SlotStatus::present) == 0);
  }
}

}  // namespace nacre::device::pci
