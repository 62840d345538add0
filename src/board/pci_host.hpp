// The PCI host: both ways into configuration space (ports 0xcf8/0xcfc, and the memory-mapped window), the
// windows of physical memory in which functions' regions can be, and the functions on bus 0, the first of
// which is the host bridge itself. What is on other buses is behind a function that is a bridge. PCI Local Bus
// 3.0, 3.2.2.3.2; PCI Express Base 4.0, 7.2.2.
//
// Regions move whenever the guest says so, while the address space's are fixed: so the windows are, and an
// access to one asks the functions in turn. Freestanding; under the board's lock, but for ring(): any thread.
#pragma once

#include "base/types.hpp"
#include "board/layout.hpp"
#include "device/pci/function.hpp"
#include "memory/address_space.hpp"

namespace nacre::board {

using PciFunction = device::pci::Function;

class PciHost final : public memory::MmioHandler {
 public:
  PciHost();
  PciHost(const PciHost&) = delete;
  PciHost& operator=(const PciHost&) = delete;

  static constexpr unsigned kMaxFunctions = 42;

  // Power-on, also of every function; their memory regions lie one after another from the first window's
  // start on.
  void reset();
  // Puts a function at device 0 to 31, function 0 to 7 of bus 0. A free place, and never 00:00.0. Before the
  // machine starts.
  void attach(unsigned device, unsigned function, PciFunction& target);

  // The last bus that there can be. Behind ports a few more than are needed now, which a guest may number as it likes.
  [[nodiscard]] u8 last_bus() const;

  // Another host bridge than the plain one, at 00:00.0. Before the machine starts.
  void replace_bridge(PciFunction& bridge) { functions_[0] = &bridge; }

  // The windows of memory: where nothing decodes, all ones.
  [[nodiscard]] memory::MmioHandler& window() { return window_low_; }
  [[nodiscard]] memory::MmioHandler& window2() { return window_high_; }
  // A write to `address` that was a doorbell, which is done. False: it is for window().
  [[nodiscard]] bool ring(GuestPhysical address) const;

  // The configuration address register: only whole doublewords reach it.
  [[nodiscard]] u32 address() const { return address_; }
  void set_address(u32 value) { address_ = value & 0x80fffffc; }
  // The data register's bytes, offset 0 to 3.
  u32 read_data(u16 offset, unsigned size);
  void write_data(u16 offset, unsigned size, u32 value);

  // The memory-mapped window.
  u64 read(u64 offset, unsigned size) override;
  void write(u64 offset, unsigned size, u64 value) override;

 private:
  class Bridge final : public PciFunction {
   public:
    u32 config_read(u16 offset, unsigned size) override;
    void config_write(u16 offset, unsigned size, u32 value) override;
  };
  // bdf is bus << 8 | device << 3 | function. Null where nothing is.
  [[nodiscard]] PciFunction* find(u32 bdf) const;

  // One of the two windows; offsets become addresses again.
  class Memory final : public memory::MmioHandler {
   public:
    Memory(PciHost& host, u64 base) : host_(host), base_(base) {}
    u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;

   private:
    PciHost& host_;
    u64 base_;
  };

  Bridge bridge_;
  Memory window_low_{*this, kPciWindowBase};
  Memory window_high_{*this, kPciWindow2Base};
  PciFunction* attached_[kMaxFunctions] = {};
  unsigned attached_count_ = 0;
  PciFunction* functions_[256] = {};
  u32 address_ = 0;
};

}  // namespace nacre::board
