#pragma once

#include "cpu/platform.hpp"

namespace nacre::conformance {

// No device, no interrupt, no time.
class QuietPlatform : public cpu::Platform {
 public:
  u64 mmio_read(GuestPhysical, unsigned) override { return ~u64{0}; }
  void mmio_write(GuestPhysical, unsigned, u64) override {}
  u32 port_read(u16, unsigned) override { return ~u32{0}; }
  void port_write(u16, unsigned, u32) override {}
  bool interrupt_pending() override { return false; }
  int acknowledge_interrupt() override { return -1; }
  u8 task_priority() override { return 0; }
  void set_task_priority(u8) override {}
  bool msr_read(u32, u64&) override { return false; }
  bool msr_write(u32, u64) override { return false; }
  u64 hypercall(const Hypercall&) override { return Hypercall::kUnknown; }
  u64 tsc() override { return 0; }
  u64 random() override { return 4; }
};

}  // namespace nacre::conformance
