// The port by which a guest's kernel says that it has panicked. An emulators' convention: QEMU,
// docs/specs/pvpanic.rst; Linux finds it by the ACPI name QEMU0001 (drivers/misc/pvpanic). Reading gives the
// events that are understood, writing a mask of events reports them. Without state. Freestanding; all calls
// under the board's lock.
#pragma once

#include "base/types.hpp"
#include "device/ports.hpp"

namespace nacre::device {

class Pvpanic {
 public:
  // Bit 1, "a crash kernel takes over", is not offered: that kernel goes on, and there is nothing to do.
  static constexpr u8 kPanicked = 1 << 0;

  explicit Pvpanic(PowerSink& power) : power_(power) {}
  [[nodiscard]] u8 read() const { return kPanicked; }
  void write(u8 events) {
    if ((events & kPanicked) != 0) power_.panicked();
  }

 private:
  PowerSink& power_;
};

}  // namespace nacre::device
