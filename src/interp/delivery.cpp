// Event delivery. SDM vol. 3, chapter 6: 6.11 and 6.12 (protected mode), 6.13 (error codes), 6.14
// (64-bit mode), 6.15 (double fault); 20.1.4 (real mode), 20.3 (V86).
#include "interp/delivery.hpp"

#include "cpu/descriptor.hpp"
#include "interp/segments.hpp"
#include "interp/stack_frame.hpp"
#include "interp/task.hpp"

namespace nacre::interp {
namespace {

using cpu::Descriptor;
using cpu::Event;
using cpu::Gate;
using cpu::SystemType;
using x86::Cr0;

// One delivery through a gate: what all its steps need to know.
struct Delivery {
  const Event& event;
  u64 return_rip;
  bool external;  // EXT of error codes that delivery itself raises
  Gate gate;
  Segment code;      // CS of the handler
  unsigned cpl = 0;  // of the handler
  bool trap_gate = false;
  unsigned frame_bytes = 8;
};

// INT n, INT3 and INTO check the gate's DPL. SDM vol. 3, 6.12.1.2.
bool is_software(const Event& event) {
  return event.kind == Event::Kind::SoftwareInterrupt;
}

// Fault-class exceptions push RF set, so that an instruction breakpoint does not hit twice.
// SDM vol. 3, 17.3.1.1.
u64 pushed_flags(const State& state, const Event& event) {
  constexpr u32 not_faults = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 8 | 1 << 18;  // DB NMI BP OF DF MC
  const bool fault =
      event.kind == Event::Kind::Exception && event.vector < 32 && (not_faults >> event.vector & 1) == 0;
  return fault ? state.rflags | Rflags::RF : state.rflags;
}

u32 gate_error(const Delivery& d) {
  return static_cast<u32>(d.event.vector) << 3 | 2 | (d.external ? 1 : 0);
}

// --- Real mode.

bool deliver_real(Core& core, const Event& event, u64 return_rip) {
  State& s = *core.state;
  const u64 entry = u64{event.vector} * 4;
  if (entry + 3 > s.idtr.limit) return core.general_protection(static_cast<u32>(entry) * 2 + 2);
  u64 target = 0;
  if (!core.read_linear(s.idtr.base + entry, 4, Privilege::Implicit, target)) return false;
  StackFrame frame(core, s.segment[x86::SS], s.gpr[x86::RSP], 0, false);
  if (!frame.push(s.rflags & 0xffff, 2, true) || !frame.push(s.segment[x86::CS].selector, 2, true) ||
      !frame.push(return_rip & 0xffff, 2, true)) {
    return false;
  }
  frame.install(s.segment[x86::SS]);
  load_real_segment(core, x86::CS, static_cast<u16>(target >> 16));
  s.rip = target & 0xffff;
  s.rflags &= ~(Rflags::IF | Rflags::TF | Rflags::AC | Rflags::RF);
  return true;
}

// --- Gates.

bool read_gate(Core& core, Delivery& d) {
  const State& s = *core.state;
  const bool is_long = s.long_mode_active();
  const u64 bytes = is_long ? 16 : 8;
  const u64 offset = d.event.vector * bytes;
  if (offset + bytes - 1 > s.idtr.limit) return core.general_protection(gate_error(d));
  u64 address = s.idtr.base + offset;
  if (!is_long) address &= 0xffffffff;
  if (!core.read_linear(address, 8, Privilege::Implicit, d.gate.low.raw)) return false;
  if (is_long && !core.read_linear(address + 8, 8, Privilege::Implicit, d.gate.upper)) return false;
  if (is_long) d.gate.upper &= 0xffffffff;
  return true;
}

bool check_gate(Core& core, Delivery& d) {
  const Descriptor& gate = d.gate.low;
  const bool is_long = core.state->long_mode_active();
  const bool wide = gate.is(SystemType::InterruptGate) || gate.is(SystemType::TrapGate);
  const bool narrow = !is_long && (gate.is(SystemType::InterruptGate16) || gate.is(SystemType::TrapGate16));
  const bool task = !is_long && gate.is(SystemType::TaskGate);
  if (!wide && !narrow && !task) return core.general_protection(gate_error(d));
  if (is_software(d.event) && gate.dpl() < core.state->cpl()) return core.general_protection(gate_error(d));
  if (!gate.present()) return core.raise(Vector::NP, gate_error(d));
  d.trap_gate = gate.is(SystemType::TrapGate) || gate.is(SystemType::TrapGate16);
  d.frame_bytes = is_long ? 8 : wide ? 4 : 2;
  return true;
}

bool read_handler_segment(Core& core, Delivery& d) {
  const State& s = *core.state;
  const u16 selector = d.gate.selector();
  const u32 error = selector_error(selector, d.external);
  if (cpu::selector_is_null(selector)) return core.general_protection(d.external ? 1 : 0);
  DescriptorSlot slot;
  if (!read_descriptor(core, selector, Vector::GP, d.external, slot)) return false;
  const Descriptor& code = slot.descriptor;
  const unsigned cpl = s.cpl();
  if (!code.is_code() || code.dpl() > cpl) return core.general_protection(error);
  if (s.long_mode_active() && (!code.is_long() || code.is_default_32()))
    return core.general_protection(error);
  if (!code.present()) return core.raise(Vector::NP, error);
  d.cpl = code.is_conforming() ? cpl : code.dpl();
  if ((s.rflags & Rflags::VM) != 0 && d.cpl != 0) return core.general_protection(error);
  if (!mark_accessed(core, slot)) return false;
  d.code = slot.descriptor.segment(cpu::with_rpl(selector, d.cpl));
  return true;
}

void enter_handler(Core& core, const Delivery& d, u64 rip) {
  State& s = *core.state;
  s.segment[x86::CS] = d.code;
  s.rip = rip;
  s.rflags &= ~(Rflags::TF | Rflags::VM | Rflags::RF | Rflags::NT);
  if (!d.trap_gate) s.rflags &= ~Rflags::IF;
}

bool deliver_long(Core& core, Delivery& d) {
  State& s = *core.state;
  const bool inner = d.cpl < s.cpl();
  u64 pointer = s.gpr[x86::RSP];
  if (d.gate.ist() != 0) {
    if (!read_tss64_stack(core, 0x24 + 8 * (d.gate.ist() - 1), d.external, pointer)) return false;
  } else if (inner) {
    if (!read_tss64_stack(core, 4 + 8 * d.cpl, d.external, pointer)) return false;
  }
  const u64 target = d.gate.offset();
  if (!is_canonical(target)) return core.general_protection(d.external ? 1 : 0);

  StackFrame frame(core, s.segment[x86::SS], pointer & ~u64{15}, d.cpl, true);
  const bool pushed =
      frame.push(s.segment[x86::SS].selector, 8, d.external) && frame.push(s.gpr[x86::RSP], 8, d.external) &&
      frame.push(pushed_flags(s, d.event), 8, d.external) &&
      frame.push(s.segment[x86::CS].selector, 8, d.external) && frame.push(d.return_rip, 8, d.external) &&
      (!d.event.has_error_code || frame.push(d.event.error_code, 8, d.external));
  if (!pushed) return false;
  frame.install(inner ? null_segment(static_cast<u16>(d.cpl), d.cpl) : s.segment[x86::SS]);
  enter_handler(core, d, target);
  return true;
}

bool push_v86_segments(Core& core, StackFrame& frame, const Delivery& d) {
  const State& s = *core.state;
  for (const SegmentIndex index : {x86::GS, x86::FS, x86::DS, x86::ES}) {
    if (!frame.push(s.segment[index].selector, d.frame_bytes, d.external)) return false;
  }
  return true;
}

bool deliver_legacy(Core& core, Delivery& d) {
  State& s = *core.state;
  const bool from_v86 = (s.rflags & Rflags::VM) != 0;
  const bool inner = d.cpl < s.cpl();
  const unsigned bytes = d.frame_bytes;
  const u64 target = d.gate.offset() & low_bytes_mask(bytes);
  Segment stack = s.segment[x86::SS];
  u64 pointer = s.gpr[x86::RSP];
  if (inner) {
    u16 selector = 0;
    if (!read_tss_stack(core, d.cpl, d.external, selector, pointer)) return false;
    if (!read_stack_segment(core, selector, d.cpl, Vector::TS, d.external, stack)) return false;
  }
  if (target > d.code.limit) return core.general_protection(d.external ? 1 : 0);

  StackFrame frame(core, stack, pointer, d.cpl, false, inner ? stack.selector : u16{0});
  if (from_v86 && !push_v86_segments(core, frame, d)) return false;
  if (inner && (!frame.push(s.segment[x86::SS].selector, bytes, d.external) ||
                !frame.push(s.gpr[x86::RSP], bytes, d.external))) {
    return false;
  }
  const bool pushed = frame.push(pushed_flags(s, d.event), bytes, d.external) &&
                      frame.push(s.segment[x86::CS].selector, bytes, d.external) &&
                      frame.push(d.return_rip, bytes, d.external) &&
                      (!d.event.has_error_code || frame.push(d.event.error_code, bytes, d.external));
  if (!pushed) return false;
  frame.install(stack);
  if (from_v86) {
    for (const SegmentIndex index : {x86::ES, x86::DS, x86::FS, x86::GS})
      s.segment[index] = null_segment(0, 0);
  }
  enter_handler(core, d, target);
  return true;
}

// SDM vol. 3, 6.12.2.
bool deliver_to_task(Core& core, const Delivery& d) {
  State& s = *core.state;
  const TaskSwitch how = {TaskCause::Event, 0, d.return_rip, pushed_flags(s, d.event), d.external};
  if (!switch_by_gate(core, d.gate.low, how)) return false;
  if (d.event.has_error_code && !push_error_code(core, d.event.error_code)) return false;
  s.rip = core.next_rip;
  return true;
}

bool deliver_through_gate(Core& core, const Event& event, u64 return_rip) {
  Delivery d{event, return_rip, !is_software(event), {}, {}};
  if (!read_gate(core, d) || !check_gate(core, d)) return false;
  if (d.gate.low.is(SystemType::TaskGate)) return deliver_to_task(core, d);
  if (!read_handler_segment(core, d)) return false;
  return core.state->long_mode_active() ? deliver_long(core, d) : deliver_legacy(core, d);
}

// --- Double faults. SDM vol. 3, 6.15.

enum class Severity : u8 { Benign, Contributory, PageFault, DoubleFault };

Severity severity(const Event& event) {
  if (event.kind != Event::Kind::Exception) return Severity::Benign;
  switch (static_cast<Vector>(event.vector)) {
    case Vector::DE:
    case Vector::TS:
    case Vector::NP:
    case Vector::SS:
    case Vector::GP:
    case Vector::CP:
      return Severity::Contributory;
    case Vector::PF:
    case Vector::VE:
      return Severity::PageFault;
    case Vector::DF:
      return Severity::DoubleFault;
    default:
      return Severity::Benign;
  }
}

}  // namespace

bool read_tss64_stack(Core& core, unsigned offset, bool external, u64& stack) {
  const State& s = *core.state;
  const u32 error = selector_error(s.tr.selector, external);
  if (!s.tr.present() || offset + 7 > s.tr.limit) return core.raise(Vector::TS, error);
  if (!core.read_linear(s.tr.base + offset, 8, Privilege::Implicit, stack)) return false;
  if (!is_canonical(stack)) return core.raise(Vector::SS, external ? 1 : 0);
  return true;
}

bool read_tss_stack(Core& core, unsigned cpl, bool external, u16& selector, u64& pointer) {
  const State& s = *core.state;
  const bool wide = (s.tr.type() & 8) != 0;
  const unsigned offset = wide ? 4 + 8 * cpl : 2 + 4 * cpl;
  const unsigned pointer_bytes = wide ? 4 : 2;
  if (!s.tr.present() || offset + pointer_bytes + 1 > s.tr.limit) {
    return core.raise(Vector::TS, selector_error(s.tr.selector, external));
  }
  u64 value = 0;
  if (!core.read_linear((s.tr.base + offset) & 0xffffffff, pointer_bytes, Privilege::Implicit, pointer))
    return false;
  if (!core.read_linear((s.tr.base + offset + pointer_bytes) & 0xffffffff, 2, Privilege::Implicit, value))
    return false;
  selector = static_cast<u16>(value);
  return true;
}

bool combine_faults(const Event& first, const Event& second, Event& result) {
  const Severity a = severity(first), b = severity(second);
  if (a == Severity::DoubleFault) return false;
  const bool doubled =
      (a == Severity::Contributory && b == Severity::Contributory) ||
      (a == Severity::PageFault && (b == Severity::Contributory || b == Severity::PageFault));
  result = second;
  if (doubled) {
    result.vector = static_cast<u8>(Vector::DF);
    result.has_error_code = true;
    result.error_code = 0;
    result.cr2 = 0;
  }
  return true;
}

bool deliver_event(Core& core, const Event& event, u64 return_rip) {
  core.refresh_mode();
  if (event.kind == Event::Kind::Exception && event.vector == static_cast<u8>(Vector::PF))
    core.state->cr2 = event.cr2;
  const bool done = (core.state->cr0 & Cr0::PE) == 0 ? deliver_real(core, event, return_rip)
                                                     : deliver_through_gate(core, event, return_rip);
  core.refresh_mode();
  return done;
}

}  // namespace nacre::interp
