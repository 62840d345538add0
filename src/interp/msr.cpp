// RDMSR and WRMSR. Registers that are the processor core's own live in State; fixed ones are the
// model's; the rest (local APIC, paravirtual clock) is asked of the platform. SDM vol. 4; vol. 3, 11.11
// (MTRR), 11.12 (PAT), 17.17.3 (TSC_ADJUST).
#include "cpu/model.hpp"
#include "cpu/state_msr.hpp"
#include "interp/control_registers.hpp"
#include "interp/handlers.hpp"

namespace nacre::interp {
namespace {

using x86::Msr;

enum class Known : u8 { No, Bad, Done };

constexpr u64 kPhysicalMask = (u64{1} << cpu::kPhysicalAddressBits) - 1;

// Memory types: UC, WC, WT, WP, WB, and for PAT UC-. SDM vol. 3, tables 11-8 and 11-10.
constexpr bool is_memory_type(u64 type) {
  return type == 0 || type == 1 || (type >= 4 && type <= 6);
}
constexpr bool is_pat_type(u64 type) {
  return is_memory_type(type) || type == 7;
}

template <typename Valid>
bool all_bytes(u64 value, Valid valid) {
  for (unsigned shift = 0; shift < 64; shift += 8) {
    if (!valid(value >> shift & 0xff)) return false;
  }
  return true;
}

// Registers that are a plain u64 in State, without checks on reading.
u64* plain(Core& core, u32 msr) {
  if (msr == static_cast<u32>(Msr::IA32_XSS) && !core.model.has(x86::Feature::Xsaves)) return nullptr;
  if (msr == static_cast<u32>(Msr::IA32_SPEC_CTRL) && core.model.spec_ctrl_mask() == 0) return nullptr;
  return cpu::msr_in(*core.state, msr);
}

// Whether `value` may be written to a plain register.
bool acceptable(const Core& core, u32 msr, u64 value) {
  switch (static_cast<Msr>(msr)) {
    case Msr::IA32_SYSENTER_ESP:
    case Msr::IA32_SYSENTER_EIP:
    case Msr::IA32_LSTAR:
    case Msr::IA32_CSTAR:
    case Msr::IA32_FS_BASE:
    case Msr::IA32_GS_BASE:
    case Msr::IA32_KERNEL_GS_BASE:
      return is_canonical(value);
    case Msr::IA32_PAT:
      return all_bytes(value, is_pat_type);
    case Msr::IA32_FMASK:
    case Msr::IA32_TSC_AUX:
      return value >> 32 == 0;
    case Msr::IA32_MTRR_DEF_TYPE:
      return (value & ~u64{0xcff}) == 0 && is_memory_type(value & 0xff);
    case Msr::IA32_XSS:
      return value == 0;  // no supervisor state component exists
    case Msr::IA32_SPEC_CTRL:
      return (value & ~core.model.spec_ctrl_mask()) == 0;
    default:
      break;
  }
  if (msr - cpu::kFirstVariableMtrr < cpu::kVariableMtrrs) {
    const bool is_mask = (msr & 1) != 0;
    const u64 low = is_mask ? 0x800 : 0xff;
    return (value & ~(low | (kPhysicalMask & ~u64{0xfff}))) == 0 && (is_mask || is_memory_type(value & 0xff));
  }
  for (const u32 fixed : cpu::kFixedMtrrs) {
    if (fixed == msr) return all_bytes(value, is_memory_type);
  }
  return true;
}

// The local APIC's timer looks at it from other threads.
void set_tsc_offset(State& s, u64 offset) {
  __atomic_store_n(&s.tsc_offset, offset, __ATOMIC_RELAXED);
}

void write_tsc(Core& core, u64 value) {
  State& s = *core.state;
  const u64 offset = value - core.platform.tsc();
  s.tsc_adjust += offset - s.tsc_offset;
  set_tsc_offset(s, offset);
}

void write_tsc_adjust(Core& core, u64 value) {
  State& s = *core.state;
  set_tsc_offset(s, s.tsc_offset + value - s.tsc_adjust);
  s.tsc_adjust = value;
}

Known write_own(Core& core, u32 msr, u64 value) {
  switch (static_cast<Msr>(msr)) {
    case Msr::IA32_TIME_STAMP_COUNTER:
      write_tsc(core, value);
      return Known::Done;
    case Msr::IA32_TSC_ADJUST:
      write_tsc_adjust(core, value);
      return Known::Done;
    case Msr::IA32_EFER:
      return set_efer(core, value) ? Known::Done : Known::Bad;
    default:
      break;
  }
  u64* target = plain(core, msr);
  if (target == nullptr) return Known::No;
  if (!acceptable(core, msr, value)) return Known::Bad;
  *target = value;
  return Known::Done;
}

bool read_msr(Core& core, u32 msr, u64& value) {
  if (msr == static_cast<u32>(Msr::IA32_TIME_STAMP_COUNTER)) {
    value = core.platform.tsc() + core.state->tsc_offset;
    return true;
  }
  if (const u64* own = plain(core, msr)) {
    value = *own;
    return true;
  }
  return core.model.msr_read(msr, value) || core.platform.msr_read(msr, value) || core.general_protection();
}

bool write_msr(Core& core, u32 msr, u64 value) {
  switch (write_own(core, msr, value)) {
    case Known::Done:
      return true;
    case Known::Bad:
      return core.general_protection();
    case Known::No:
      break;
  }
  if (core.model.msr_write_ignored(msr, value)) return true;
  core.may_interrupt = true;
  if (!core.platform.msr_write(msr, value)) return core.general_protection();
  if (msr == static_cast<u32>(Msr::IA32_APIC_BASE)) core.state->apic_base = value;
  return true;
}

}  // namespace

bool handlers::rdmsr(Core& core, const Instruction&) {
  u64 value = 0;
  if (!read_msr(core, static_cast<u32>(core.state->gpr[x86::RCX]), value)) return false;
  core.set_gpr(x86::RAX, 4, value);
  core.set_gpr(x86::RDX, 4, value >> 32);
  return true;
}

bool handlers::wrmsr(Core& core, const Instruction&) {
  const u64 value = core.gpr(x86::RDX, 4) << 32 | core.gpr(x86::RAX, 4);
  return write_msr(core, static_cast<u32>(core.state->gpr[x86::RCX]), value);
}

}  // namespace nacre::interp
