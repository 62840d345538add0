#include "board/processor_port.hpp"

namespace nacre::board {

ProcessorPort::ProcessorPort(const Wiring& wiring, unsigned number, u64 tsc_hz)
    : wiring_(wiring),
      number_(number),
      local_apic_({.clock = wiring.clock,
                   .processor = *this,
                   .ipi = wiring.bus,
                   .eoi = wiring.ioapic,
                   .extint = wiring.pic,
                   .pv_eoi = &wiring.word},
                  {.id = number, .bootstrap = number == 0, .tsc_khz = tsc_hz / 1000}),
      pvclock_({.clock = wiring.clock, .wall = wiring.wall_clock, .tsc = *this, .memory = wiring.ram},
               tsc_hz / 1000, time::PvClock::Stability::Stable) {}

void ProcessorPort::reset() {
  local_apic_.reset();
  if (number_ == 0) local_apic_.configure_virtual_wire();
  pvclock_.reset();
}

// The processor writes its offset on its own thread; timers look at it from others.
u64 ProcessorPort::tsc_offset() const {
  return state_ == nullptr ? 0 : __atomic_load_n(&state_->tsc_offset, __ATOMIC_RELAXED);
}

u64 ProcessorPort::guest_tsc() {
  return wiring_.environment.tsc() + tsc_offset();
}

bool ProcessorPort::in_local_apic(GuestPhysical address, unsigned size) const {
  if (!local_apic_.decodes_mmio()) return false;
  const u64 base = local_apic_.base_address();
  return address.value() >= base && address.value() - base <= irq::LocalApic::kWindowBytes - size;
}

u64 ProcessorPort::mmio_read(GuestPhysical address, unsigned size) {
  if (in_local_apic(address, size)) {
    return local_apic_.mmio_read(address.value() - local_apic_.base_address(), size);
  }
  return wiring_.memory.mmio_read(address, size);
}

void ProcessorPort::mmio_write(GuestPhysical address, unsigned size, u64 value) {
  if (!in_local_apic(address, size)) return wiring_.memory.mmio_write(address, size, value);
  local_apic_.mmio_write(address.value() - local_apic_.base_address(), size, value);
  wiring_.host.timers_touched(number_, local_apic_.next_deadline());
}

bool ProcessorPort::msr_read(u32 msr, u64& value) {
  if (irq::LocalApic::owns_msr(msr)) return local_apic_.msr_read(msr, value);
  return time::PvClock::owns_msr(msr) && pvclock_.msr_read(msr, value);
}

bool ProcessorPort::msr_write(u32 msr, u64 value) {
  if (irq::LocalApic::owns_msr(msr)) {
    const bool written = local_apic_.msr_write(msr, value);
    wiring_.host.timers_touched(number_, local_apic_.next_deadline());
    return written;
  }
  return time::PvClock::owns_msr(msr) && pvclock_.msr_write(msr, value);
}

}  // namespace nacre::board
