// The stack. SDM vol. 2; vol. 1, chapter 6. RSP moves only when nothing can fault any more.
#include "interp/handlers.hpp"
#include "interp/operands.hpp"
#include "interp/segments.hpp"

namespace nacre::interp::handlers {
namespace {

using x86::OperandKind;

// Flags that popf may change at this privilege. SDM vol. 2, POPF, table 4-19.
u64 poppable_flags(const Core& core, unsigned size) {
  u64 mask = Rflags::arithmetic | Rflags::TF | Rflags::DF | Rflags::NT;
  const unsigned cpl = core.state->cpl();
  const u64 iopl = core.state->rflags >> 12 & 3;
  if (size >= 4) mask |= Rflags::AC | Rflags::ID;
  if (cpl == 0) mask |= Rflags::IOPL;
  if (cpl <= iopl) mask |= Rflags::IF;
  return mask;
}

bool is_v86_without_iopl(const Core& core) {
  return core.has_flag(Rflags::VM) && (core.state->rflags & Rflags::IOPL) != Rflags::IOPL;
}

bool pop_segment(Core& core, const Instruction& i) {
  const auto index = static_cast<SegmentIndex>(i.info->fixed);
  const u64 old_pointer = core.state->gpr[x86::RSP];
  u64 selector = 0;
  if (!core.peek(0, 2, selector)) return false;
  core.drop(i.operand_size);
  if (!load_segment(core, index, static_cast<u16>(selector))) {
    core.state->gpr[x86::RSP] = old_pointer;
    return false;
  }
  if (index == x86::SS) {
    core.state->interrupt_shadow = true;
    core.suppress_trap = true;
    core.loaded_ss = true;
  }
  return true;
}

}  // namespace

bool push(Core& core, const Instruction& i) {
  u64 value = 0;
  if (i.info->operands[0].kind == OperandKind::SegmentFixed) {
    value = core.state->segment[i.info->fixed].selector;
  } else if (!read_operand(core, i, 0, value)) {
    return false;
  }
  return core.push(value, i.operand_size);
}

bool pop(Core& core, const Instruction& i) {
  if (i.info->operands[0].kind == OperandKind::SegmentFixed) return pop_segment(core, i);
  const u64 old_pointer = core.state->gpr[x86::RSP];
  u64 value = 0;
  if (!core.peek(0, i.operand_size, value)) return false;
  // First the increment: a destination addressed by RSP sees the new value, and pop rsp overrides it.
  core.drop(i.operand_size);
  if (write_operand(core, i, 0, value)) return true;
  core.state->gpr[x86::RSP] = old_pointer;
  return false;
}

bool pusha(Core& core, const Instruction& i) {
  const u64 old_pointer = core.state->gpr[x86::RSP];
  for (unsigned index = 0; index < 8; ++index) {
    const u64 value = index == x86::RSP ? old_pointer : core.state->gpr[index];
    if (!core.push(value, i.operand_size)) {
      core.state->gpr[x86::RSP] = old_pointer;
      return false;
    }
  }
  return true;
}

bool popa(Core& core, const Instruction& i) {
  u64 values[8] = {};
  const unsigned size = i.operand_size;
  for (unsigned slot = 0; slot < 8; ++slot) {
    if (!core.peek(u64{slot} * size, size, values[7 - slot])) return false;
  }
  for (unsigned index = 0; index < 8; ++index) {
    if (index != x86::RSP) core.set_gpr(index, size, values[index]);
  }
  core.drop(u64{8} * size);
  return true;
}

bool pushf(Core& core, const Instruction& i) {
  if (is_v86_without_iopl(core)) return core.general_protection();
  return core.push(core.state->rflags & ~(Rflags::VM | Rflags::RF), i.operand_size);
}

bool popf(Core& core, const Instruction& i) {
  if (is_v86_without_iopl(core)) return core.general_protection();
  u64 value = 0;
  if (!core.peek(0, i.operand_size, value)) return false;
  u64 mask = poppable_flags(core, i.operand_size);
  if (core.has_flag(Rflags::VM)) mask &= ~Rflags::IOPL;
  core.state->rflags = (core.state->rflags & ~mask) | (value & mask);
  core.drop(i.operand_size);
  return true;
}

// SDM vol. 2, ENTER. The frame is built on a copy of the stack pointer.
bool enter(Core& core, const Instruction& i) {
  State& s = *core.state;
  const unsigned size = i.operand_size;
  const unsigned level = i.immediate2 & 31;
  const u64 mask = core.stack_mask();
  u64 pointer = (s.gpr[x86::RSP] - size) & mask;
  if (!core.store(x86::SS, pointer, size, s.gpr[x86::RBP])) return false;
  // All of the stack pointer, though on a 16-bit stack the push has moved only SP: SDM vol. 2A, ENTER,
  // "FrameTemp := ESP".
  const u64 frame = (s.gpr[x86::RSP] & ~mask) | pointer;
  u64 link = s.gpr[x86::RBP];
  for (unsigned n = 1; n < level; ++n) {
    u64 display = 0;
    link = (link - size) & mask;
    pointer = (pointer - size) & mask;
    if (!core.load(x86::SS, link, size, display) || !core.store(x86::SS, pointer, size, display))
      return false;
  }
  if (level != 0) {
    pointer = (pointer - size) & mask;
    if (!core.store(x86::SS, pointer, size, frame)) return false;
  }
  const u64 top = (pointer - (i.immediate & 0xffff)) & mask;
  // A write at the new top must be possible.
  u64 linear = 0;
  if (!core.linear_address(x86::SS, top, size, AccessType::Write, linear)) return false;
  if (!core.probe_write(linear, size, core.privilege)) return false;
  core.set_gpr(x86::RBP, size, frame);
  core.set_stack_pointer(top);
  return true;
}

bool leave(Core& core, const Instruction& i) {
  State& s = *core.state;
  const unsigned size = i.operand_size;
  const u64 frame = s.gpr[x86::RBP] & core.stack_mask();
  u64 value = 0;
  if (!core.load(x86::SS, frame, size, value)) return false;
  core.set_stack_pointer(frame + size);
  core.set_gpr(x86::RBP, size, value);
  return true;
}

}  // namespace nacre::interp::handlers
