// Function: what sits behind one bus/device/function number. PCI Local Bus 3.0, 6.1; PCI Express
// Base 4.0, 7.2. Freestanding. Threads: everything under the board's lock but for ring(), which any thread
// may call at any time.
#pragma once

#include "base/address.hpp"
#include "base/types.hpp"

namespace nacre::device::pci {

class Function {
 public:
  // Its 4 KiB of configuration space. size is 1, 2 or 4 bytes and never crosses a doubleword.
  virtual u32 config_read(u16 offset, unsigned size) = 0;
  virtual void config_write(u16 offset, unsigned size, u32 value) = 0;

  // An access to memory. False: not in a region that this function decodes now.
  virtual bool memory_read(GuestPhysical, unsigned, u64&) { return false; }
  virtual bool memory_write(GuestPhysical, unsigned, u64) { return false; }
  // Handles a write that is a doorbell, which takes no lock. False: it is an ordinary access.
  virtual bool ring(GuestPhysical) { return false; }

  // Power-on. `next` is where firmware would put the next memory region; the function takes what it needs.
  virtual void reset(u64& next) { static_cast<void>(next); }
  // The same while the machine runs, thus while other threads may still work for the function: they stop when they
  // can, and its registers say so.
  virtual void lose_power(u64& next) { reset(next); }

  // A bridge: the function with this number (bus << 8 | device << 3 | function) on a bus behind it, null where
  // there is none.
  virtual Function* behind(u32) { return nullptr; }
  // It is a bridge to another bus.
  [[nodiscard]] virtual bool leads_on() const { return false; }

 protected:
  ~Function() = default;
};

}  // namespace nacre::device::pci
