// Any sequence of accesses and times against the ACPI block; shared by fuzz target and random test.
#pragma once

#include "base/check.hpp"
#include "device/acpi_pm/acpi_pm.hpp"
#include "device/testing.hpp"
#include "irq/testing/byte_source.hpp"

namespace nacre::device {

inline void acpi_pm_sequence(nacre::testing::ByteSource bytes) {
  nacre::testing::ManualClock clock;
  nacre::testing::RecordedLine sci;
  RecordedPower power;
  AcpiPm pm(clock, sci, power);
  while (!bytes.empty()) {
    switch (bytes.take<u8>() % 6) {
      case 0:
      case 1:
        pm.write(bytes.take<u8>() % 16, 1u << (bytes.take<u8>() % 3), bytes.take<u32>());
        break;
      case 2:
        pm.read(bytes.take<u8>(), 1u << (bytes.take<u8>() % 3));
        break;
      case 3:
        pm.press_power_button();
        break;
      case 4:
        clock.now += bytes.take<u64>() >> (16 + (bytes.take<u8>() & 47));
        pm.advance(clock.now);
        NACRE_CHECK(pm.next_deadline() > clock.now);
        break;
      default: {
        AcpiPm::State state = pm.state();
        reinterpret_cast<u8*>(&state)[bytes.take<u8>() % sizeof state] = bytes.take<u8>();
        if (pm.load(state).ok()) {
          const AcpiPm::State kept = pm.state();
          NACRE_CHECK(pm.load(kept).ok() && pm.state() == kept);
        }
        break;
      }
    }
    const AcpiPm::State now = pm.state();
    NACRE_CHECK(sci.level == ((now.status & now.enable) != 0));
  }
}

}  // namespace nacre::device
