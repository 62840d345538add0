// Endpoint: a function with a type 0 header, one 64-bit memory region (BAR 0), a list of capabilities, MSI-X,
// and no interrupt pin: it interrupts by messages only. A device derives from it and answers for the region.
//
// The region has the MSI-X table and pending bits in it, and may have a doorbell area: writes there take no
// lock. PCI Local Bus 3.0, chapter 6. Freestanding. Threads: as function.hpp says.
#pragma once

#include <atomic>

#include "device/pci/config_space.hpp"
#include "device/pci/function.hpp"
#include "device/pci/msix.hpp"
#include "device/pci/registers.hpp"

namespace nacre::device::pci {

class Endpoint : public Function {
 public:
  static constexpr u16 kConfigBytes = ConfigSpace::kBytes;
  struct Identity {
    u16 vendor = 0, device = 0, subsystem_vendor = 0, subsystem = 0;
    u32 class_code = 0;  // 24 bits
    u8 revision = 0;
  };
  // Parts of the region. `bytes` is a power of two of at least a page.
  struct Region {
    u32 bytes = 0;
    u32 table = 0, pending = 0;             // offsets of the MSI-X structures, pages of their own
    u32 doorbells = 0, doorbell_bytes = 0;  // 0 bytes: none
  };
  struct State {
    static constexpr u32 kVersion = 1;
    u32 version = kVersion;
    u8 config[kConfigBytes] = {};
    u8 spare[4] = {};
    MsiX::State msix;
    constexpr bool operator==(const State&) const = default;
  };

  Endpoint(irq::MessageSink& sink, const Identity& identity, const Region& region, unsigned vectors);
  Endpoint(const Endpoint&) = delete;
  Endpoint& operator=(const Endpoint&) = delete;

  u32 config_read(u16 offset, unsigned size) override;
  void config_write(u16 offset, unsigned size, u32 value) override;
  bool memory_read(GuestPhysical address, unsigned size, u64& value) override;
  bool memory_write(GuestPhysical address, unsigned size, u64 value) override;
  bool ring(GuestPhysical address) override;
  void reset(u64& next) override;
  void lose_power(u64& next) override;

  // Before the machine starts, or before it is plugged in: it sits behind a root port, at the end of a link, and
  // not in the root complex.
  void put_behind_port();
  [[nodiscard]] u64 region_base() const;
  [[nodiscard]] MsiX& msix() { return msix_; }

 protected:
  ~Endpoint() = default;

  // The region but for the MSI-X parts. [offset, offset + size) lies in it.
  virtual u64 region_read(u64 offset, unsigned size) = 0;
  virtual void region_write(u64 offset, unsigned size, u64 value) = 0;
  virtual void doorbell(u32 offset) { static_cast<void>(offset); }  // any thread
  // The doorbell area is decoded at another address now, or, `there` being false, nowhere. Under the board's lock.
  virtual void doorbells_moved(bool there, GuestPhysical first) { static_cast<void>(there), static_cast<void>(first); }
  virtual void device_reset() {}
  // The same while the machine runs: what other threads do for the device ends later.
  virtual void device_lost_power() { device_reset(); }

  // Before the machine starts: as ConfigSpace has them.
  u16 add_capability(u8 id, u8 bytes) { return config_.add_capability(id, bytes); }
  void set_config(u16 offset, unsigned size, u32 value, u32 writable = 0) {
    config_.set(offset, size, value, writable);
  }
  [[nodiscard]] u32 config(u16 offset, unsigned size) const { return config_.read(offset, size); }

  void save_to(State& state) const;
  Status load_from(const State& state);

 private:
  [[nodiscard]] bool decodes(GuestPhysical address, unsigned size, u64& offset) const;
  void settings_changed();
  void reset_registers(u64& next);

  const Region region_;
  MsiX msix_;
  ConfigSpace config_;
  u16 express_ = 0;             // offset of the capability
  u16 msix_control_ = 0;        // of the control register
  std::atomic<u64> doorbells_;  // where they are decoded now; kNowhere: not at all
};

}  // namespace nacre::device::pci
