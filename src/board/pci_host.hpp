// The PCI host: both ways into configuration space (ports 0xcf8/0xcfc, and the memory-mapped window), and
// the functions on bus 0, the first of which is the host bridge itself. PCI Local Bus 3.0, 3.2.2.3.2; PCI
// Express Base 4.0, 7.2.2. Freestanding; under the board's lock.
#pragma once

#include "base/types.hpp"
#include "memory/address_space.hpp"

namespace nacre::board {

// One function's 4 KiB of configuration space. size is 1, 2 or 4 bytes and never crosses a doubleword.
class PciFunction {
 public:
  virtual u32 config_read(u16 offset, unsigned size) = 0;
  virtual void config_write(u16 offset, unsigned size, u32 value) = 0;

 protected:
  ~PciFunction() = default;
};

class PciHost final : public memory::MmioHandler {
 public:
  PciHost();
  PciHost(const PciHost&) = delete;
  PciHost& operator=(const PciHost&) = delete;

  void reset() { address_ = 0; }
  // Puts a function at device 0 to 31, function 0 to 7 of bus 0. A free place, and never 00:00.0.
  void attach(unsigned device, unsigned function, PciFunction& target);

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
  [[nodiscard]] PciFunction* find(u32 bdf) const { return bdf < 256 ? functions_[bdf] : nullptr; }

  Bridge bridge_;
  PciFunction* functions_[256] = {};
  u32 address_ = 0;
};

}  // namespace nacre::board
