// Any sequence of accesses and input against the serial port; shared by fuzz target and random test.
#pragma once

#include "base/check.hpp"
#include "device/testing.hpp"
#include "device/uart16550/uart16550.hpp"
#include "irq/testing/byte_source.hpp"

namespace nacre::device {

inline void uart16550_sequence(nacre::testing::ByteSource bytes) {
  nacre::testing::RecordedLine irq;
  RecordedSink sink;
  Uart16550 uart(irq, sink);
  while (!bytes.empty()) {
    switch (bytes.take<u8>() % 6) {
      case 0:
      case 1:
        uart.write(bytes.take<u8>(), bytes.take<u8>());
        break;
      case 2:
        uart.read(bytes.take<u8>());
        break;
      case 3: {
        const bool room = uart.can_receive();
        NACRE_CHECK(uart.receive(bytes.take<u8>()) == room);
        break;
      }
      case 4:
        uart.receive_break();
        break;
      default: {
        Uart16550::State state = uart.state();
        reinterpret_cast<u8*>(&state)[bytes.take<u8>() % sizeof state] = bytes.take<u8>();
        if (uart.load(state).ok()) {
          const Uart16550::State kept = uart.state();
          NACRE_CHECK(uart.load(kept).ok() && uart.state() == kept);
        }
        break;
      }
    }
    NACRE_CHECK(irq.level == (uart.state().interrupt != 0));
  }
}

}  // namespace nacre::device
