// SYSCALL, SYSRET, SYSENTER, SYSEXIT. SDM vol. 2; vol. 3, 5.8.7 and 5.8.8; AMD APM vol. 2, 6.1, for
// what differs between the vendors in compatibility mode.
#include "cpu/model.hpp"
#include "interp/handlers.hpp"
#include "interp/segments.hpp"

namespace nacre::interp::handlers {
namespace {

using x86::Efer;

bool is_amd(const Core& core) {
  return core.model.vendor() == cpu::Vendor::Amd;
}

void set_privilege(Core& core, const Segment& code, const Segment& stack) {
  core.state->segment[x86::CS] = code;
  core.state->segment[x86::SS] = stack;
  core.refresh_mode();
}

u16 selector_plus(u64 selector, unsigned offset, unsigned rpl) {
  return cpu::with_rpl(static_cast<u16>(selector + offset), rpl);
}

}  // namespace

bool syscall(Core& core, const Instruction& i) {
  State& s = *core.state;
  if ((s.efer & Efer::SCE) == 0 || !s.long_mode_active()) return core.undefined();
  // Only AMD processors know it in compatibility mode.
  if (!core.code64 && !is_amd(core)) return core.undefined();
  const u64 target = core.code64 ? s.lstar : s.cstar;
  s.gpr[x86::RCX] = s.rip + i.length;
  s.gpr[x86::R11] = s.rflags & ~Rflags::RF;
  s.rflags = (s.rflags & ~(s.fmask | Rflags::RF)) | Rflags::fixed;
  const u64 selector = s.star >> 32 & 0xffff;
  set_privilege(core, flat_code(selector_plus(selector, 0, 0), 0, true),
                flat_data(selector_plus(selector, 8, 0), 0));
  core.next_rip = target;
  core.suppress_trap = !core.has_flag(Rflags::TF);
  return true;
}

bool sysret(Core& core, const Instruction& i) {
  State& s = *core.state;
  if ((s.efer & Efer::SCE) == 0 || !s.long_mode_active()) return core.undefined();
  if (!core.code64 && !is_amd(core)) return core.undefined();
  const u64 selector = s.star >> 48;
  const bool to_long = i.operand_size == 8;
  const u64 target = to_long ? s.gpr[x86::RCX] : s.gpr[x86::RCX] & 0xffffffff;
  // AMD leaves it to the fetch there, which faults in user mode. APM vol. 3, SYSRET.
  if (!is_canonical(target) && !is_amd(core)) return core.general_protection();
  if (core.code64) {
    constexpr u64 restored = 0x3c7fd7;  // all but RF, VM and the reserved bits
    s.rflags = (s.gpr[x86::R11] & restored) | Rflags::fixed;
  } else {
    s.rflags |= Rflags::IF;
  }
  set_privilege(core, flat_code(selector_plus(selector, to_long ? 16 : 0, 3), 3, to_long),
                flat_data(selector_plus(selector, 8, 3), 3));
  core.next_rip = target;
  return true;
}

bool sysenter(Core& core, const Instruction&) {
  State& s = *core.state;
  const bool is_long = s.long_mode_active();
  if (is_long && is_amd(core)) return core.undefined();
  if ((s.cr0 & x86::Cr0::PE) == 0) return core.general_protection();  // but V86 mode has it
  if ((s.sysenter_cs & 0xfffc) == 0) return core.general_protection();
  s.rflags &= ~(Rflags::VM | Rflags::IF | Rflags::RF);
  set_privilege(core, flat_code(selector_plus(s.sysenter_cs, 0, 0), 0, is_long),
                flat_data(selector_plus(s.sysenter_cs, 8, 0), 0));
  s.gpr[x86::RSP] = is_long ? s.sysenter_esp : s.sysenter_esp & 0xffffffff;
  core.next_rip = is_long ? s.sysenter_eip : s.sysenter_eip & 0xffffffff;
  core.suppress_trap = !core.has_flag(Rflags::TF);
  return true;
}

bool sysexit(Core& core, const Instruction& i) {
  State& s = *core.state;
  if (s.long_mode_active() && is_amd(core)) return core.undefined();
  if ((s.cr0 & x86::Cr0::PE) == 0) return core.general_protection();
  if ((s.sysenter_cs & 0xfffc) == 0) return core.general_protection();
  const bool to_long = i.operand_size == 8;
  const u64 mask = to_long ? ~u64{0} : 0xffffffff;
  const u64 target = s.gpr[x86::RDX] & mask, pointer = s.gpr[x86::RCX] & mask;
  if (!is_canonical(target) || !is_canonical(pointer)) return core.general_protection();
  set_privilege(core, flat_code(selector_plus(s.sysenter_cs, to_long ? 32 : 16, 3), 3, to_long),
                flat_data(selector_plus(s.sysenter_cs, to_long ? 40 : 24, 3), 3));
  s.gpr[x86::RSP] = pointer;
  core.next_rip = target;
  return true;
}

}  // namespace nacre::interp::handlers
