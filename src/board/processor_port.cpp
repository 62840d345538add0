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
               tsc_hz / 1000, time::PvClock::Stability::Stable),
      steal_time_({.memory = wiring.ram, .byte = wiring.byte}) {}

void ProcessorPort::reset() {
  local_apic_.reset();
  if (number_ == 0) local_apic_.configure_virtual_wire();
  pvclock_.reset();
  steal_time_.reset();
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
  if (time::StealTime::owns_msr(msr)) {
    value = steal_time_.msr_read();
    return true;
  }
  return time::PvClock::owns_msr(msr) && pvclock_.msr_read(msr, value);
}

bool ProcessorPort::msr_write(u32 msr, u64 value) {
  if (irq::LocalApic::owns_msr(msr)) {
    const bool written = local_apic_.msr_write(msr, value);
    wiring_.host.timers_touched(number_, local_apic_.next_deadline());
    return written;
  }
  if (time::StealTime::owns_msr(msr)) return steal_time_.msr_write(value);
  return time::PvClock::owns_msr(msr) && pvclock_.msr_write(msr, value);
}

// Linux, include/uapi/linux/kvm_para.h.
u64 ProcessorPort::hypercall(const Hypercall& call) {
  constexpr u64 kKickCpu = 5, kSendIpi = 10;
  switch (call.number) {
    case kKickCpu: {  // argument 1: the APIC ID of one that waits for a spin lock
      const u64 id = call.argument[1];
      if (id < wiring_.bus.count()) wiring_.environment.unhalt(static_cast<unsigned>(id));
      return 0;
    }
    case kSendIpi:
      return send_ipis(call);
    default:
      return Hypercall::kUnknown;
  }
}

// One fixed interrupt or NMI to many: two words that have a bit for each APIC ID from argument 2 on, and an
// interrupt command without destination. Returns to how many it went.
u64 ProcessorPort::send_ipis(const Hypercall& call) {
  const u64 command = call.argument[3];
  const auto delivery = static_cast<irq::Delivery>(command >> 8 & 7);
  constexpr u64 kLogical = 1 << 11, kShorthand = 3 << 18;
  const bool is_nmi = delivery == irq::Delivery::Nmi;
  if ((!is_nmi && delivery != irq::Delivery::Fixed) || (command & (kLogical | kShorthand)) != 0) return Hypercall::kInvalid;
  if (!is_nmi && (command & 0xff) < 16) return 0;  // no vector that a local APIC takes: it goes to none
  u64 delivered = 0;
  for (unsigned word = 0; word < 2; ++word) {
    const u64 first = call.argument[2] + word * (call.wide ? 64 : 32);
    for (u64 bits = call.argument[word]; bits != 0; bits &= bits - 1) {
      const u64 id = first + static_cast<unsigned>(__builtin_ctzll(bits));
      if (id >= wiring_.bus.count()) continue;
      delivered += wiring_.bus.deliver(
          {.vector = static_cast<u8>(command), .delivery = delivery, .destination = static_cast<u32>(id)});
    }
  }
  return delivered;
}

}  // namespace nacre::board
