// ConfigSpace: the first 256 bytes of a function's configuration space: what they are, which bits of them a
// guest may write, and what they are at power-on. Extended space behind them reads as zeros, which say that
// nothing is there (PCI Express Base 4.0, 7.6.2). Freestanding; under the board's lock.
#pragma once

#include "base/types.hpp"
#include "device/pci/registers.hpp"

namespace nacre::device::pci {

class ConfigSpace {
 public:
  static constexpr u16 kBytes = 256;

  // --- building it ---
  // What headers of both types begin with: who it is (`class_revision`: the class above the revision's 8 bits), a command
  // register, a list of capabilities; and an interrupt line, which is software's to use: there is no pin.
  void set_header(u16 vendor, u16 device, u32 class_revision);
  // The PCI Express capability, with what it says of the function; returns where it is.
  u16 add_express(u16 flags);
  // Returns where the capability is; `bytes` counts its two header bytes.
  u16 add_capability(u8 id, u8 bytes);
  // What a guest reads at power-on, and which bits of it a guest may write.
  void set(u16 offset, unsigned size, u32 value, u32 writable = 0);

  // --- using it; what lies outside reads as zeros and is not written ---
  [[nodiscard]] u32 read(u16 offset, unsigned size) const;
  // The function decodes memory: its command register says so.
  [[nodiscard]] bool decodes_memory() const {
    return Command(static_cast<u16>(read(Offset::command, 2)))[Command::memory];
  }
  // By the guest.
  void write(u16 offset, unsigned size, u32 value);
  // By the function itself: all bits.
  void put(u16 offset, unsigned size, u32 value);
  void reset();

  void save(u8 (&to)[kBytes]) const;
  // Of what is saved, the bits that a guest may write.
  void load(const u8 (&from)[kBytes]);

 private:
  u8 bytes_[kBytes] = {};
  u8 writable_[kBytes] = {};
  u8 initial_[kBytes] = {};
  u16 next_capability_ = Offset::first_capability;
  u16 last_link_ = Offset::capabilities;
};

}  // namespace nacre::device::pci
