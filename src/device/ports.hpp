// The outlets of simple devices: where bytes go, and who hears that the machine shall stop.
// Freestanding; called under the board's lock.
#pragma once

#include "base/types.hpp"

namespace nacre::device {

class ByteSink {
 public:
  virtual void put(u8 byte) = 0;

 protected:
  ~ByteSink() = default;
};

// Decisions about the whole machine. Requests: the instruction that caused one completes first.
class PowerSink {
 public:
  virtual void power_off() = 0;            // ACPI S5
  virtual void reset() = 0;                // reset port, keyboard controller pulse
  virtual void panicked() = 0;             // the guest's kernel has given up
  virtual void debug_exit(u32 value) = 0;  // value: as the guest wrote it, see debug_exit_status

 protected:
  ~PowerSink() = default;
};

// The process status that emulators agree on, so that 0 stays "powered off".
constexpr u32 debug_exit_status(u32 value) {
  return (value << 1) | 1;
}

}  // namespace nacre::device
