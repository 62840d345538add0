// Any sequence of accesses against the keyboard controller; shared by fuzz target and random test.
#pragma once

#include "base/check.hpp"
#include "device/i8042/i8042.hpp"
#include "device/testing.hpp"
#include "irq/testing/byte_source.hpp"

namespace nacre::device {

inline void i8042_sequence(nacre::testing::ByteSource bytes) {
  nacre::testing::RecordedLine irq1, irq12;
  RecordedPower power;
  I8042 controller({irq1, irq12, power});
  while (!bytes.empty()) {
    switch (bytes.take<u8>() % 6) {
      case 0:
      case 1:
        controller.write_command(bytes.take<u8>());
        break;
      case 2:
        controller.write_data(bytes.take<u8>());
        break;
      case 3:
        controller.read_data();
        break;
      case 4:
        (void)controller.read_status();
        break;
      default: {
        I8042::State state = controller.state();
        reinterpret_cast<u8*>(&state)[bytes.take<u8>() % sizeof state] = bytes.take<u8>();
        if (controller.load(state).ok()) {
          const I8042::State kept = controller.state();
          NACRE_CHECK(controller.load(kept).ok() && controller.state() == kept);
        }
        break;
      }
    }
    if ((controller.read_status() & I8042::kOutputFull) == 0) NACRE_CHECK(!irq1.level && !irq12.level);
  }
}

}  // namespace nacre::device
