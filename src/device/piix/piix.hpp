// The chips by which firmware for emulators knows its machine: the 440FX host bridge with its memory attributes, the PIIX3
// bridge to ISA and the power-management function of the PIIX4. As much of them as SeaBIOS and OVMF look at: what they
// write is kept and read back, and of that only the power-management base has an effect. Intel 290549 (440FX), 7.2;
// Intel 290562 (PIIX4), 7.1. Freestanding; under the board's lock.
#pragma once

#include "base/result.hpp"
#include "device/pci/config_space.hpp"
#include "device/pci/function.hpp"

namespace nacre::device::piix {

// What all three are: a function without memory regions.
class Function : public pci::Function {
 public:
  struct State {
    static constexpr u32 kVersion = 1;
    u32 version = kVersion;
    u8 config[pci::ConfigSpace::kBytes] = {};
  };

  u32 config_read(u16 offset, unsigned size) override { return config_.read(offset, size); }
  void config_write(u16 offset, unsigned size, u32 value) override { config_.write(offset, size, value); }
  void reset(u64&) override { config_.reset(); }

  [[nodiscard]] State state() const;
  Status load(const State& state);

 protected:
  Function(u16 device, u32 class_revision, u8 header_type);
  ~Function() = default;

  pci::ConfigSpace config_;
};

// 00:00.0. The attributes of the memory from 0xc0000 to 1 MiB are as if that were unlocked already, and stay so.
class HostBridge final : public Function {
 public:
  static constexpr u16 kDevice = 0x1237, kPam0 = 0x59, kPamCount = 7, kSmram = 0x72;
  HostBridge();
};

// 00:01.0. Firmware looks for serial lines where there is a bridge to ISA.
class IsaBridge final : public Function {
 public:
  static constexpr u16 kDevice = 0x7000, kRoutes = 0x60;
  IsaBridge();
};

// 00:01.3. Where the power-management block is.
class PowerManagement final : public Function {
 public:
  static constexpr u16 kDevice = 0x7113, kBase = 0x40, kActivityB = 0x58, kEnable = 0x80;
  static constexpr u32 kApmcEnable = 1 << 25;
  // `base`: of the block, at power-on; there it is always.
  explicit PowerManagement(u16 base);
  // The ports that the guest wants it at.
  [[nodiscard]] u16 base() const { return static_cast<u16>(config_.read(kBase, 2) & 0xffc0); }
};

}  // namespace nacre::device::piix
