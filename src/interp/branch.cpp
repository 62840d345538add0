// Near control flow, software interrupts, and instructions that do nothing. SDM vol. 2.
#include "cpu/debug_status.hpp"
#include "interp/delivery.hpp"
#include "interp/flags.hpp"
#include "interp/handlers.hpp"
#include "interp/operands.hpp"

namespace nacre::interp::handlers {
namespace {

u64 after(const Core& core, const Instruction& i) {
  return core.state->rip + i.length;
}

bool branch_target(Core& core, const Instruction& i, u64& target) {
  if (i.info->operands[0].kind == x86::OperandKind::Relative) {
    target = after(core, i) + i.immediate;
    return true;
  }
  return read_operand(core, i, 0, target);
}

bool jump_relative(Core& core, const Instruction& i) {
  return core.jump(after(core, i) + i.immediate, i.operand_size);
}

// loop and its kin: rCX by address size, no flags.
bool count_down(Core& core, const Instruction& i, bool condition) {
  const unsigned size = i.address_size;
  const u64 count = (core.gpr(x86::RCX, size) - 1) & low_bytes_mask(size);
  if (count != 0 && condition && !jump_relative(core, i)) return false;
  core.set_gpr(x86::RCX, size, count);
  return true;
}

// INT n, INT3, INTO: an event raised on purpose, whose handler returns behind it.
bool software_interrupt(Core& core, const Instruction& i, u8 vector) {
  cpu::Event event;
  event.kind = cpu::Event::Kind::SoftwareInterrupt;
  event.vector = vector;
  if (!deliver_event(core, event, after(core, i))) return false;
  core.next_rip = core.state->rip;
  core.suppress_trap = true;
  return true;
}

}  // namespace

bool call(Core& core, const Instruction& i) {
  u64 target = 0;
  if (!branch_target(core, i, target)) return false;
  // Of a bad target and a bad stack, the stack is told (docs/processor-differences.md).
  return core.probe_push(i.operand_size) && core.jump(target, i.operand_size) &&
         core.push(after(core, i), i.operand_size);
}

bool jmp(Core& core, const Instruction& i) {
  u64 target = 0;
  return branch_target(core, i, target) && core.jump(target, i.operand_size);
}

bool jcc(Core& core, const Instruction& i) {
  return !condition_holds(core.state->rflags, i.opcode) || jump_relative(core, i);
}

bool jrcxz(Core& core, const Instruction& i) {
  return core.gpr(x86::RCX, i.address_size) != 0 || jump_relative(core, i);
}

bool loop(Core& core, const Instruction& i) {
  return count_down(core, i, true);
}
bool loope(Core& core, const Instruction& i) {
  return count_down(core, i, core.has_flag(Rflags::ZF));
}
bool loopne(Core& core, const Instruction& i) {
  return count_down(core, i, !core.has_flag(Rflags::ZF));
}

bool ret(Core& core, const Instruction& i) {
  u64 target = 0;
  if (!core.peek(0, i.operand_size, target) || !core.jump(target, i.operand_size)) return false;
  core.drop(i.operand_size + (i.immediate & 0xffff));
  return true;
}

bool bound(Core& core, const Instruction& i) {
  const unsigned size = i.operand_size;
  const u64 address = core.effective_address(i);
  u64 low = 0, high = 0;
  if (!core.load(i.effective_segment(), address, size, low)) return false;
  if (!core.load(i.effective_segment(), (address + size) & low_bytes_mask(i.address_size), size, high))
    return false;
  const auto index = static_cast<i64>(sign_extend(core.gpr(i.reg, size), 8 * size));
  const bool outside = index < static_cast<i64>(sign_extend(low, 8 * size)) ||
                       index > static_cast<i64>(sign_extend(high, 8 * size));
  return !outside || core.raise(Vector::BR);
}

bool int_(Core& core, const Instruction& i) {
  // V86 below IOPL 3 leaves INT n to the monitor. SDM vol. 3, 20.2.7.
  if (core.has_flag(Rflags::VM) && (core.state->rflags & Rflags::IOPL) != Rflags::IOPL)
    return core.general_protection();
  return software_interrupt(core, i, static_cast<u8>(i.immediate));
}

bool int3(Core& core, const Instruction& i) {
  return software_interrupt(core, i, static_cast<u8>(Vector::BP));
}

bool into(Core& core, const Instruction& i) {
  return !core.has_flag(Rflags::OF) || software_interrupt(core, i, static_cast<u8>(Vector::OF));
}

// A trap like a debug exception of hardware: no DPL check. What MOV SS held back comes with it, as one #DB: a second
// one, at the handler's first instruction, would take the same interrupt stack and overwrite the first one's frame.
bool int1(Core& core, const Instruction& i) {
  if (core.debug_hits != 0) cpu::tell_debug_causes(*core.state, core.debug_hits);
  core.debug_hits = 0;
  cpu::Event event;
  event.kind = cpu::Event::Kind::Exception;
  event.vector = static_cast<u8>(Vector::DB);
  if (!deliver_event(core, event, after(core, i))) return false;
  core.next_rip = core.state->rip;
  core.suppress_trap = true;
  return true;
}

bool nop(Core&, const Instruction&) {
  return true;
}
bool undefined(Core& core, const Instruction&) {
  return core.undefined();
}

}  // namespace nacre::interp::handlers
