// Far jumps, calls and returns. SDM vol. 3, 5.8.1 to 5.8.6; vol. 2, JMP, CALL, RET.
#include "interp/far.hpp"

#include "interp/delivery.hpp"
#include "interp/handlers.hpp"
#include "interp/operands.hpp"
#include "interp/stack_frame.hpp"
#include "interp/task.hpp"

namespace nacre::interp {

using cpu::Descriptor;
using cpu::Gate;
using cpu::selector_is_null;
using cpu::selector_rpl;
using cpu::SystemType;

bool is_long_code(const Core& core, const Segment& code) {
  return core.state->long_mode_active() && (code.attributes & SegmentAttributes::L) != 0;
}

bool check_target(Core& core, const Segment& code, u64 offset) {
  const bool allowed = is_long_code(core, code) ? is_canonical(offset) : offset <= code.limit;
  return allowed || core.general_protection();
}

bool return_code_segment(Core& core, u16 selector, Segment& code) {
  if (selector_is_null(selector)) return core.general_protection();
  DescriptorSlot slot;
  if (!read_descriptor(core, selector, Vector::GP, false, slot)) return false;
  const Descriptor& d = slot.descriptor;
  const u32 error = selector_error(selector);
  const unsigned rpl = selector_rpl(selector);
  if (!d.is_code() || rpl < core.state->cpl()) return core.general_protection(error);
  if (d.is_conforming() ? d.dpl() > rpl : d.dpl() != rpl) return core.general_protection(error);
  if (core.state->long_mode_active() && d.is_long() && d.is_default_32())
    return core.general_protection(error);
  if (!d.present()) return core.raise(Vector::NP, error);
  if (!mark_accessed(core, slot)) return false;
  code = slot.descriptor.segment(selector);
  return true;
}

bool return_stack_segment(Core& core, u16 selector, const Segment& code, Segment& stack) {
  const unsigned cpl = selector_rpl(code.selector);
  if (selector_is_null(selector)) {
    if (!is_long_code(core, code) || cpl == 3 || selector_rpl(selector) != cpl)
      return core.general_protection();
    stack = null_segment(selector, cpl);
    return true;
  }
  return read_stack_segment(core, selector, cpl, Vector::GP, false, stack);
}

namespace {

struct FarTarget {
  u16 selector = 0;
  u64 offset = 0;
};

bool read_far_target(Core& core, const Instruction& i, FarTarget& target) {
  if (i.info->operands[0].kind == x86::OperandKind::FarPointer) {
    target = {i.immediate2, i.immediate};
    return true;
  }
  const u64 address = core.effective_address(i);
  u64 selector = 0;
  if (!core.load(i.effective_segment(), address, i.operand_size, target.offset)) return false;
  const u64 second = (address + i.operand_size) & low_bytes_mask(i.address_size);
  if (!core.load(i.effective_segment(), second, 2, selector)) return false;
  target.selector = static_cast<u16>(selector);
  return true;
}

// Pushes CS and the return address on the current stack, when that is all a call needs.
bool push_return(Core& core, u64 return_rip, unsigned size) {
  State& s = *core.state;
  StackFrame frame(core, s.segment[x86::SS], s.gpr[x86::RSP], s.cpl(), core.code64);
  if (!frame.push(s.segment[x86::CS].selector, size, false) || !frame.push(return_rip, size, false))
    return false;
  frame.install(s.segment[x86::SS]);
  return true;
}

// Makes `code` current at `offset`.
void enter_segment(Core& core, const Segment& code, u64 offset) {
  core.state->segment[x86::CS] = code;
  core.next_rip = offset;
  core.refresh_mode();
}

bool real_transfer(Core& core, const FarTarget& target, const Instruction& i, bool is_call) {
  State& s = *core.state;
  if (target.offset > s.segment[x86::CS].limit) return core.general_protection();
  if (is_call && !push_return(core, s.rip + i.length, i.operand_size)) return false;
  load_real_segment(core, x86::CS, target.selector);
  core.next_rip = target.offset;
  return true;
}

bool direct_transfer(Core& core, const FarTarget& target, DescriptorSlot& slot, const Instruction& i,
                     bool is_call) {
  const Descriptor& d = slot.descriptor;
  const unsigned cpl = core.state->cpl();
  const u32 error = selector_error(target.selector);
  const bool privilege_ok =
      d.is_conforming() ? d.dpl() <= cpl : selector_rpl(target.selector) <= cpl && d.dpl() == cpl;
  if (!privilege_ok) return core.general_protection(error);
  if (core.state->long_mode_active() && d.is_long() && d.is_default_32())
    return core.general_protection(error);
  if (!d.present()) return core.raise(Vector::NP, error);
  const Segment code = d.segment(cpu::with_rpl(target.selector, cpl));
  if (!check_target(core, code, target.offset)) return false;
  if (is_call && !push_return(core, core.state->rip + i.length, i.operand_size)) return false;
  if (!mark_accessed(core, slot)) return false;
  enter_segment(core, slot.descriptor.segment(code.selector), target.offset);
  return true;
}

// Call gate to a more privileged segment: the stack comes from the TSS, and the legacy forms copy
// parameters to it. SDM vol. 3, 5.8.5.
bool call_inner(Core& core, const Gate& gate, const Segment& code, u64 return_rip, unsigned bytes) {
  State& s = *core.state;
  const unsigned cpl = selector_rpl(code.selector);
  const bool is_long = s.long_mode_active();
  u64 pointer = 0;
  Segment stack = null_segment(static_cast<u16>(cpl), cpl);
  if (is_long) {
    if (!read_tss64_stack(core, 4 + 8 * cpl, false, pointer)) return false;
  } else {
    u16 selector = 0;
    if (!read_tss_stack(core, cpl, false, selector, pointer)) return false;
    if (!read_stack_segment(core, selector, cpl, Vector::TS, false, stack)) return false;
  }
  StackFrame frame(core, stack, pointer, cpl, is_long, is_long ? u16{0} : stack.selector);
  if (!frame.push(s.segment[x86::SS].selector, bytes, false) || !frame.push(s.gpr[x86::RSP], bytes, false))
    return false;
  const unsigned count = is_long ? 0 : gate.parameter_count();
  for (unsigned n = count; n-- > 0;) {
    u64 parameter = 0;
    if (!core.peek(u64{n} * bytes, bytes, parameter) || !frame.push(parameter, bytes, false)) return false;
  }
  if (!frame.push(s.segment[x86::CS].selector, bytes, false) || !frame.push(return_rip, bytes, false))
    return false;
  frame.install(stack);
  return true;
}

bool gate_transfer(Core& core, const FarTarget& target, const DescriptorSlot& gate_slot, const Instruction& i,
                   bool is_call) {
  const State& s = *core.state;
  const bool is_long = s.long_mode_active();
  const unsigned cpl = s.cpl();
  Gate gate{gate_slot.descriptor};
  u32 error = selector_error(target.selector);
  const bool wide = gate.low.is(SystemType::CallGate);
  if (!wide && (is_long || !gate.low.is(SystemType::CallGate16))) return core.general_protection(error);
  if (gate.low.dpl() < cpl || gate.low.dpl() < selector_rpl(target.selector))
    return core.general_protection(error);
  if (!gate.low.present()) return core.raise(Vector::NP, error);
  if (is_long) {
    if (!read_upper_half(core, target.selector, Vector::GP, gate_slot, gate.upper)) return false;
    if ((gate.upper >> 40 & 0x1f) != 0) return core.general_protection(error);
    gate.upper &= 0xffffffff;
  }

  const u16 selector = gate.selector();
  if (selector_is_null(selector)) return core.general_protection();
  error = selector_error(selector);
  DescriptorSlot slot;
  if (!read_descriptor(core, selector, Vector::GP, false, slot)) return false;
  const Descriptor& d = slot.descriptor;
  if (!d.is_code() || d.dpl() > cpl) return core.general_protection(error);
  if (is_long && (!d.is_long() || d.is_default_32())) return core.general_protection(error);
  if (!is_call && !d.is_conforming() && d.dpl() != cpl) return core.general_protection(error);
  if (!d.present()) return core.raise(Vector::NP, error);

  const unsigned new_cpl = d.is_conforming() ? cpl : d.dpl();
  const Segment code = d.segment(cpu::with_rpl(selector, new_cpl));
  const unsigned bytes = is_long ? 8 : wide ? 4 : 2;
  const u64 offset = gate.offset() & low_bytes_mask(bytes);
  if (!check_target(core, code, offset)) return false;
  if (!mark_accessed(core, slot)) return false;
  if (is_call) {
    const u64 return_rip = s.rip + i.length;
    if (new_cpl < cpl ? !call_inner(core, gate, code, return_rip, bytes)
                      : !push_return(core, return_rip, bytes))
      return false;
  }
  enter_segment(core, slot.descriptor.segment(code.selector), offset);
  return true;
}

// JMP or CALL to a TSS or through a task gate. SDM vol. 3, 7.3.
bool task_transfer(Core& core, const FarTarget& target, const Descriptor& d, const Instruction& i, bool is_call) {
  const State& s = *core.state;
  const u32 error = selector_error(target.selector);
  if (d.dpl() < s.cpl() || d.dpl() < selector_rpl(target.selector)) return core.general_protection(error);
  const TaskSwitch how = {is_call ? TaskCause::Call : TaskCause::Jump, target.selector,
                          (s.rip + i.length) & 0xffffffff, s.rflags, false};
  if (!d.is(SystemType::TaskGate)) return switch_task(core, how);
  if (!d.present()) return core.raise(Vector::NP, error);
  return switch_by_gate(core, d, how);
}

bool names_task(const Descriptor& d) {
  switch (static_cast<SystemType>(d.type())) {
    case SystemType::Tss16Available:
    case SystemType::Tss16Busy:
    case SystemType::TaskGate:
    case SystemType::TssAvailable:
    case SystemType::TssBusy:
      return true;
    default:
      return false;
  }
}

bool far_transfer(Core& core, const Instruction& i, bool is_call) {
  FarTarget target;
  if (!read_far_target(core, i, target)) return false;
  target.offset &= low_bytes_mask(i.operand_size);
  if (!core.protected_mode) return real_transfer(core, target, i, is_call);
  if (selector_is_null(target.selector)) return core.general_protection();
  DescriptorSlot slot;
  if (!read_descriptor(core, target.selector, Vector::GP, false, slot)) return false;
  if (slot.descriptor.is_code()) return direct_transfer(core, target, slot, i, is_call);
  if (!slot.descriptor.is_system()) return core.general_protection(selector_error(target.selector));
  if (!core.state->long_mode_active() && names_task(slot.descriptor))
    return task_transfer(core, target, slot.descriptor, i, is_call);
  return gate_transfer(core, target, slot, i, is_call);
}

bool real_return(Core& core, u64 rip, u16 selector, u64 bytes) {
  if (rip > core.state->segment[x86::CS].limit) return core.general_protection();
  core.drop(bytes);
  load_real_segment(core, x86::CS, selector);
  core.next_rip = rip;
  return true;
}

// The stack pointer a return to an outer privilege restores; its width is the outer stack's.
void install_outer_stack(Core& core, const Segment& code, const Segment& stack, u64 pointer) {
  core.state->segment[x86::SS] = stack;
  const bool wide = (stack.attributes & SegmentAttributes::DB) != 0;
  core.set_gpr(x86::RSP, is_long_code(core, code) ? 8 : wide ? 4 : 2, pointer);
}

}  // namespace

namespace handlers {

bool jmp_far(Core& core, const Instruction& i) {
  return far_transfer(core, i, false);
}
bool call_far(Core& core, const Instruction& i) {
  return far_transfer(core, i, true);
}

bool ret_far(Core& core, const Instruction& i) {
  const unsigned size = i.operand_size;
  const u64 released = i.immediate & 0xffff;
  u64 rip = 0, cs = 0;
  if (!core.peek(0, size, rip) || !core.peek(size, size, cs)) return false;
  const auto selector = static_cast<u16>(cs);
  if (!core.protected_mode) return real_return(core, rip, selector, 2 * size + released);

  Segment code;
  if (!return_code_segment(core, selector, code) || !check_target(core, code, rip)) return false;
  const unsigned new_cpl = selector_rpl(selector);
  if (new_cpl == core.state->cpl()) {
    core.drop(2 * size + released);
    enter_segment(core, code, rip);
    return true;
  }
  u64 pointer = 0, ss = 0;
  if (!core.peek(2 * size + released, size, pointer) || !core.peek(3 * size + released, size, ss))
    return false;
  Segment stack;
  if (!return_stack_segment(core, static_cast<u16>(ss), code, stack)) return false;
  install_outer_stack(core, code, stack, pointer + released);
  enter_segment(core, code, rip);
  drop_inner_segments(core, new_cpl);
  return true;
}

}  // namespace handlers
}  // namespace nacre::interp
