#include "irq/local_apic/local_apic.hpp"

#include <type_traits>

namespace nacre::irq {

// A snapshot is these bytes: none of them may be padding.
static_assert(std::has_unique_object_representations_v<LocalApic::State>);

Status LocalApic::load(const State& state) {
  if (state.version != State::kVersion) return Error("the local APIC's saved state has an unknown version");
  const ApicBase base(state.base);
  if (base[ApicBase::EXTD] && !base[ApicBase::EN]) {
    return Error("the local APIC's saved state is damaged: x2APIC mode without the enable bit");
  }
  if (state.base >> config_.physical_bits != 0) {
    return Error("the local APIC's saved state is damaged: its base lies beyond physical memory");
  }
  if (state.id != config_.id) {
    return Error("the local APIC's saved state is of another processor: id ").append_number(state.id);
  }
  state_ = state;
  state_.base &= ~ApicBase::kReservedLow;
  state_.xapic_id &= 0xff00'0000;
  state_.task_priority &= 0xff;
  state_.logical_destination &= 0xff00'0000;
  state_.destination_format |= 0x0fff'ffff;
  state_.divide &= 0xb;
  state_.lint_level &= 3;
  state_.extint_latched &= 1;
  if (!write_pv_eoi_msr(state.pv_eoi_msr)) state_.pv_eoi_msr = 0;
  state_.pv_eoi_offered = state_.pv_eoi_msr != 0 ? state.pv_eoi_offered & 1 : 0;
  state_.isr[0] &= 0xffff'0000;  // vectors below 16 do not exist
  state_.tmr[0] &= 0xffff'0000;
  state_.irr[0] &= 0xffff'0000;
  state_.command &= 0xffff'ffff'0000'0000 | Command::kWritableLow;
  write_spurious(state_.spurious);
  for (u32 i = 0; i < 6; ++i) {
    state_.lvt[i] &= lvt_writable(static_cast<ApicRegister>(static_cast<u32>(ApicRegister::LvtTimer) + i));
  }
  if (timer_mode() != TimerMode::TscDeadline) state_.tsc_deadline = 0;
  plan_deadline();
  ready_ = false;  // so that a restored interrupt wakes the processor
  update();
  return {};
}

}  // namespace nacre::irq
