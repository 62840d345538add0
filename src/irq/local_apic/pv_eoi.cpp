// Paravirtual EOI: on taking an interrupt whose end concerns nobody else, a bit is set in a word of guest
// memory; a guest that finds it set ends the interrupt by clearing it, without a register access. Linux,
// Documentation/virt/kvm/x86/msr.rst, MSR_KVM_PV_EOI_EN.
//
// The guest clears the bit with a plain read-modify-write, so it may be looked at and taken back only
// while the processor is not executing: on its own thread, at every access to the local APIC. Others, who
// make interrupts pending while an offer stands, make the processor come and look (see update()).
#include <bit>

#include "irq/local_apic/local_apic.hpp"

namespace nacre::irq {
namespace {

constexpr u64 kEnable = 1 << 0, kReserved = 1 << 1;

GuestPhysical address_of(u64 msr) {
  return GuestPhysical(msr & ~(kEnable | kReserved));
}

}  // namespace

bool LocalApic::write_pv_eoi_msr(u64 value) {
  if (ports_.pv_eoi == nullptr) return value == 0;
  if ((value & kReserved) != 0) return false;
  u32 ignored = 0;
  if ((value & kEnable) != 0 && !ports_.pv_eoi->load(address_of(value), ignored)) return false;
  state_.pv_eoi_msr = value;
  return true;
}

// Only for an edge (no IOAPIC waits), alone in service, with nothing waiting behind it.
void LocalApic::offer_pv_eoi(int vector) {
  if ((state_.pv_eoi_msr & kEnable) == 0) return;
  if ((state_.tmr[vector / 32] >> (vector & 31) & 1) != 0) return;
  int in_service = 0;
  u32 waiting = 0;
  for (unsigned i = 0; i < 8; ++i) {
    in_service += std::popcount(state_.isr[i]);
    waiting |= state_.irr[i];
  }
  if (in_service != 1 || waiting != 0) return;
  if (ports_.pv_eoi->store(address_of(state_.pv_eoi_msr), 1)) state_.pv_eoi_offered = 1;
}

// Ends the interrupt if the guest has; else takes the offer back, so that its end will be a register write.
void LocalApic::settle_pv_eoi() {
  if (state_.pv_eoi_offered == 0) return;
  state_.pv_eoi_offered = 0;
  u32 word = 0;
  const GuestPhysical address = address_of(state_.pv_eoi_msr);
  if (!ports_.pv_eoi->load(address, word)) return;
  if ((word & 1) == 0) {
    end_of_interrupt();
  } else if (ports_.pv_eoi->store(address, word & ~u32{1})) {
    update();
  }
}

}  // namespace nacre::irq
