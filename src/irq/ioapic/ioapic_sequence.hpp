// Any sequence of accesses and wires against the IOAPIC; shared by fuzz target and random test.
#pragma once

#include "base/check.hpp"
#include "irq/ioapic/ioapic.hpp"
#include "irq/testing/byte_source.hpp"

namespace nacre::irq {

inline void ioapic_sequence(nacre::testing::ByteSource bytes) {
  // A bus that accepts or not as the input says, and sometimes ends the interrupt at once.
  struct Bus final : MessageSink {
    nacre::testing::ByteSource* bytes = nullptr;
    Ioapic* ioapic = nullptr;
    unsigned depth = 0;
    bool deliver(const Message& message) override {
      const u8 answer = bytes->take<u8>();
      if (depth == 0 && (answer & 2) != 0) {
        ++depth;
        ioapic->end_of_interrupt(message.vector);
        --depth;
      }
      return (answer & 1) != 0;
    }
  } bus;
  Ioapic ioapic(bus, 1);
  bus.bytes = &bytes;
  bus.ioapic = &ioapic;
  constexpr u64 offsets[] = {0, 0x10, 0x40, 0x10, 0x20};
  while (!bytes.empty()) {
    switch (bytes.take<u8>() % 8) {
      case 0:
        ioapic.write(0, 4, 0x10 + bytes.take<u8>() % 50);
        break;
      case 1:
        ioapic.write(0x10, 4, bytes.take<u32>() & 0x1'ffff);
        break;
      case 2:
        ioapic.write(bytes.pick(offsets), 1u << (bytes.take<u8>() & 3), bytes.take<u64>());
        break;
      case 3:
        ioapic.read(bytes.take<u8>(), 1u << (bytes.take<u8>() & 3));
        break;
      case 4:
      case 5:
        ioapic.set_pin(bytes.take<u8>() & 31, (bytes.take<u8>() & 1) != 0);
        break;
      case 6:
        ioapic.end_of_interrupt(bytes.take<u8>());
        break;
      default: {
        Ioapic::State state = ioapic.state();
        reinterpret_cast<u8*>(&state)[bytes.take<u8>() % sizeof state] = bytes.take<u8>();
        if (ioapic.load(state).ok()) {
          const Ioapic::State kept = ioapic.state();
          NACRE_CHECK(ioapic.load(kept).ok() && ioapic.state() == kept);
        }
        break;
      }
    }
  }
}

}  // namespace nacre::irq
