// Instructions on control, debug and extended control registers, and TLB invalidation. SDM vol. 2.
#include "cpu/debug_status.hpp"
#include "cpu/model.hpp"
#include "interp/control_registers.hpp"
#include "interp/handlers.hpp"
#include "interp/operands.hpp"

namespace nacre::interp::handlers {
namespace {

using x86::Cr0;
using x86::Cr4;

constexpr u64 kDr7GeneralDetect = 1 << 13;

// MOV CR and MOV DR move whole registers, whatever the operand-size prefix says.
unsigned register_bytes(const Core& core) {
  return core.code64 ? 8 : 4;
}

bool read_cr(Core& core, unsigned number, u64& value) {
  const State& s = *core.state;
  switch (number) {
    case 0:
      value = s.cr0;
      return true;
    case 2:
      value = s.cr2;
      return true;
    case 3:
      value = s.cr3;
      return true;
    case 4:
      value = s.cr4;
      return true;
    case 8:
      value = core.platform.task_priority() & 0xf;
      return true;
    default:
      return core.undefined();
  }
}

bool write_cr(Core& core, unsigned number, u64 value) {
  switch (number) {
    case 0:
      return set_cr0(core, value);
    case 2:
      core.state->cr2 = value;
      return true;
    case 3:
      return set_cr3(core, value);
    case 4:
      return set_cr4(core, value);
    case 8:
      if (value > 15) return core.general_protection();
      core.platform.set_task_priority(static_cast<u8>(value));
      core.may_interrupt = true;
      return true;
    default:
      return core.undefined();
  }
}

// DR4 and DR5 are other names of DR6 and DR7 without CR4.DE. SDM vol. 3, 17.2.2.
bool debug_register(Core& core, unsigned number, unsigned& real) {
  State& s = *core.state;
  if (number > 7) return core.undefined();
  if (number == 4 || number == 5) {
    if ((s.cr4 & Cr4::DE) != 0) return core.undefined();
    number += 2;
  }
  if ((s.dr7 & kDr7GeneralDetect) != 0) {
    cpu::tell_debug_causes(s, 1 << 13);  // BD
    s.dr7 &= ~kDr7GeneralDetect;
    return core.raise(Vector::DB);
  }
  real = number;
  return true;
}

bool write_dr(Core& core, unsigned number, u64 value) {
  State& s = *core.state;
  if (number < 4) {
    s.dr[number] = value;
    return true;
  }
  if (value >> 32 != 0) return core.general_protection();
  if (number == 6) {
    constexpr u64 writable = 0xe00f;
    s.dr6 = (value & writable) | 0xffff0ff0;
  } else {
    constexpr u64 cleared = 0xd000;  // 12, 14, 15
    s.dr7 = (value & ~cleared) | 0x400;
  }
  return true;
}

}  // namespace

bool mov_cr(Core& core, const Instruction& i) {
  const unsigned size = register_bytes(core);
  const unsigned number = i.reg;
  if (i.info->operands[0].kind == x86::OperandKind::ControlReg)
    return write_cr(core, number, core.gpr(i.rm, size));
  u64 value = 0;
  if (!read_cr(core, number, value)) return false;
  core.set_gpr(i.rm, size, value);
  return true;
}

bool mov_dr(Core& core, const Instruction& i) {
  State& s = *core.state;
  const unsigned size = register_bytes(core);
  unsigned number = 0;
  if (!debug_register(core, i.reg, number)) return false;
  if (i.info->operands[0].kind == x86::OperandKind::DebugReg)
    return write_dr(core, number, core.gpr(i.rm, size));
  core.set_gpr(i.rm, size, number < 4 ? s.dr[number] : number == 6 ? s.dr6 : s.dr7);
  return true;
}

bool smsw(Core& core, const Instruction& i) {
  if ((core.state->cr4 & Cr4::UMIP) != 0 && core.state->cpl() != 0) return core.general_protection();
  return write_operand(core, i, 0, core.state->cr0);
}

// Cannot clear PE. SDM vol. 2, LMSW.
bool lmsw(Core& core, const Instruction& i) {
  u64 value = 0;
  if (!read_operand(core, i, 0, value)) return false;
  constexpr u64 loaded = Cr0::PE | Cr0::MP | Cr0::EM | Cr0::TS;
  const u64 cr0 = core.state->cr0;
  return set_cr0(core, (cr0 & ~loaded) | (value & loaded) | (cr0 & Cr0::PE));
}

bool clts(Core& core, const Instruction&) {
  core.state->cr0 &= ~Cr0::TS;
  return true;
}

bool invlpg(Core& core, const Instruction& i) {
  const u64 base =
      core.code64 && i.effective_segment() < x86::FS ? 0 : core.state->segment[i.effective_segment()].base;
  const u64 linear = base + core.effective_address(i);
  if (core.code64 && !is_canonical(linear)) return true;  // a no-op. SDM vol. 2, INVLPG
  core.flush_page(core.code64 ? linear : linear & 0xffffffff);
  return true;
}

// SDM vol. 2, INVPCID. The interpreter's own translations carry no PCID; the observer's may.
bool invpcid(Core& core, const Instruction& i) {
  const u64 address = core.effective_address(i);
  u64 pcid = 0, linear = 0;
  if (!core.load(i.effective_segment(), address, 8, pcid)) return false;
  if (!core.load(i.effective_segment(), (address + 8) & low_bytes_mask(i.address_size), 8, linear))
    return false;
  const u64 type = core.gpr(i.reg, register_bytes(core));
  const bool pcid_off = (core.state->cr4 & Cr4::PCIDE) == 0;
  if (type > 3) return core.general_protection();
  if (type < 2 && (pcid >> 12 != 0 || (pcid_off && pcid != 0))) return core.general_protection();
  if (type == 0 && !is_canonical(linear)) return core.general_protection();
  switch (type) {
    case 0:
    case 1:
      if (pcid != (pcid_off ? 0 : core.state->cr3 & x86::Cr3::pcid_mask)) {
        if (core.observer != nullptr) core.observer->forget_space(static_cast<u16>(pcid));
      } else if (type == 0) {
        core.flush_page(linear);
      } else {
        core.flush_non_global();
      }
      break;
    case 2:
      core.flush_all();
      break;
    default:
      core.flush_non_global();
      if (core.observer != nullptr) core.observer->forget_other_spaces();
      break;
  }
  return true;
}

bool xgetbv(Core& core, const Instruction&) {
  State& s = *core.state;
  if ((s.cr4 & Cr4::OSXSAVE) == 0) return core.undefined();
  const u64 number = core.gpr(x86::RCX, 4);
  u64 value = s.xcr0;
  if (number == 1 && core.model.has(x86::Feature::Xsavec)) {
    value &= load_host(s.xsave + cpu::XsaveLayout::kXstateBv, 8) | (s.pkru != 0 ? cpu::Xcr0::PKRU : 0);  // XINUSE
  } else if (number != 0) {
    return core.general_protection();
  }
  core.set_gpr(x86::RAX, 4, value);
  core.set_gpr(x86::RDX, 4, value >> 32);
  return true;
}

bool xsetbv(Core& core, const Instruction&) {
  State& s = *core.state;
  if ((s.cr4 & Cr4::OSXSAVE) == 0) return core.undefined();
  if (s.cpl() != 0) return core.general_protection();
  const u64 value = core.gpr(x86::RDX, 4) << 32 | core.gpr(x86::RAX, 4);
  if (core.gpr(x86::RCX, 4) != 0 || !core.model.xcr0_valid(value)) return core.general_protection();
  s.xcr0 = value;
  return true;
}

}  // namespace nacre::interp::handlers
