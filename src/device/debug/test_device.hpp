// What test kernels find beside the debug-exit port on emulators (QEMU's "pc-testdev"): interrupt wires that
// software drives, a register, a port that means "forget what you have translated of this page", and memory
// that is a device's, so that every access to it leaves the guest. A convention, not hardware. Freestanding;
// all calls under the board's lock.
#pragma once

#include "base/types.hpp"

namespace nacre::device {

// The other ends of the wires: 0 to 15 are the ISA ones, those above end at the IOAPIC alone.
class TestLines {
 public:
  virtual void set(unsigned line, bool asserted) = 0;

 protected:
  ~TestLines() = default;
};

class TestDevice {
 public:
  static constexpr u16 kRegisterPorts = 4;  // at e0h, any width, and at e8h
  static constexpr u16 kFlushPorts = 4;     // at e4h: a physical address. Nothing that the guest sees follows
  static constexpr u16 kLines = 24;         // at 2000h: a port each; 0 lowers, others raise
  static constexpr u64 kWindowBytes = 0x10000;

  explicit TestDevice(TestLines& lines) : lines_(lines) {}

  // Accesses end within the register, since the claim of its ports does.
  [[nodiscard]] u32 read_register(u16 offset) const { return register_ >> 8 * (offset & 3); }
  void write_register(u16 offset, unsigned size, u32 value) {
    const unsigned shift = 8 * (offset & 3u);
    const u32 mask = (size >= 4 ? ~u32{0} : (u32{1} << 8 * size) - 1) << shift;
    register_ = (register_ & ~mask) | (value << shift & mask);
  }

  void write_line(u16 line, u32 value) {
    if (line < kLines) lines_.set(line, value != 0);
  }

  [[nodiscard]] u64 read(u64 offset, unsigned size) const {
    u64 value = 0;
    if (size <= 8 && offset <= kWindowBytes - size) __builtin_memcpy(&value, window_ + offset, size);
    return value;
  }
  void write(u64 offset, unsigned size, u64 value) {
    if (size <= 8 && offset <= kWindowBytes - size) __builtin_memcpy(window_ + offset, &value, size);
  }

  void reset() {
    register_ = 0;
    for (unsigned i = 0; i < kLines; ++i) lines_.set(i, false);
    __builtin_memset(window_, 0, sizeof window_);
  }

 private:
  TestLines& lines_;
  u32 register_ = 0;
  u8 window_[kWindowBytes] = {};
};

}  // namespace nacre::device
