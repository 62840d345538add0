// IRET. SDM vol. 2, IRET; vol. 3, 6.14.3 (64-bit mode), 20.2 (to V86).
#include "interp/far.hpp"
#include "interp/handlers.hpp"
#include "interp/task.hpp"

namespace nacre::interp::handlers {
namespace {

struct Frame {
  u64 rip = 0;
  u16 cs = 0;
  u64 flags = 0;
  u64 rsp = 0;
  u16 ss = 0;
};

bool read_frame(Core& core, unsigned size, Frame& frame) {
  u64 cs = 0;
  if (!core.peek(0, size, frame.rip) || !core.peek(size, size, cs) || !core.peek(2 * size, size, frame.flags))
    return false;
  frame.cs = static_cast<u16>(cs);
  return true;
}

bool read_outer_stack(Core& core, unsigned size, Frame& frame) {
  u64 ss = 0;
  if (!core.peek(3 * size, size, frame.rsp) || !core.peek(4 * size, size, ss)) return false;
  frame.ss = static_cast<u16>(ss);
  return true;
}

void restore_flags(Core& core, u64 value, unsigned size) {
  const unsigned cpl = core.state->cpl();
  const u64 iopl = core.state->rflags >> 12 & 3;
  u64 mask = Rflags::arithmetic | Rflags::TF | Rflags::DF | Rflags::NT;
  if (size >= 4) mask |= Rflags::RF | Rflags::AC | Rflags::ID;
  if (size >= 4 && cpl == 0) mask |= Rflags::VIF | Rflags::VIP;
  if (cpl == 0) mask |= Rflags::IOPL;
  if (cpl <= iopl) mask |= Rflags::IF;
  core.state->rflags = (core.state->rflags & ~mask) | (value & mask);
}

bool real_iret(Core& core, const Frame& frame, unsigned size) {
  State& s = *core.state;
  const bool v86 = core.has_flag(Rflags::VM);
  if (v86 && (s.rflags & Rflags::IOPL) != Rflags::IOPL) return core.general_protection();
  if (frame.rip > s.segment[x86::CS].limit) return core.general_protection();
  core.drop(u64{3} * size);
  load_real_segment(core, x86::CS, frame.cs);
  const u64 iopl = s.rflags & Rflags::IOPL;
  restore_flags(core, frame.flags, size);
  if (v86) s.rflags = (s.rflags & ~Rflags::IOPL) | iopl;
  core.next_rip = frame.rip;
  return true;
}

// From CPL 0 with VM set in the popped flags: nine words in all.
bool return_to_v86(Core& core, Frame frame) {
  State& s = *core.state;
  u64 selectors[4] = {};  // ES, DS, FS, GS
  if (!read_outer_stack(core, 4, frame)) return false;
  for (unsigned n = 0; n < 4; ++n) {
    if (!core.peek(20 + 4 * n, 4, selectors[n])) return false;
  }
  if (frame.rip > 0xffff) return core.general_protection();
  restore_flags(core, frame.flags, 4);
  s.rflags |= Rflags::VM;
  load_real_segment(core, x86::CS, frame.cs);
  load_real_segment(core, x86::SS, frame.ss);
  const SegmentIndex order[4] = {x86::ES, x86::DS, x86::FS, x86::GS};
  for (unsigned n = 0; n < 4; ++n) load_real_segment(core, order[n], static_cast<u16>(selectors[n]));
  s.gpr[x86::RSP] = frame.rsp;
  core.next_rip = frame.rip;
  core.refresh_mode();
  return true;
}

bool protected_iret(Core& core, Frame frame, unsigned size) {
  State& s = *core.state;
  const bool was_long = core.code64;
  const unsigned old_cpl = s.cpl();
  Segment code;
  if (!return_code_segment(core, frame.cs, code)) return false;
  const unsigned new_cpl = cpu::selector_rpl(frame.cs);
  const bool with_stack = was_long || new_cpl != old_cpl;
  Segment stack = s.segment[x86::SS];
  if (with_stack) {
    if (!read_outer_stack(core, size, frame)) return false;
    if (!return_stack_segment(core, frame.ss, code, stack)) return false;
  }
  if (!check_target(core, code, frame.rip)) return false;

  restore_flags(core, frame.flags, size);
  if (with_stack) {
    s.segment[x86::SS] = stack;
    const bool wide = (stack.attributes & SegmentAttributes::DB) != 0;
    core.set_gpr(x86::RSP, is_long_code(core, code) ? 8 : wide ? 4 : 2, frame.rsp);
  } else {
    core.drop(u64{3} * size);
  }
  s.segment[x86::CS] = code;
  core.next_rip = frame.rip;
  core.refresh_mode();
  if (new_cpl != old_cpl) drop_inner_segments(core, new_cpl);
  return true;
}

}  // namespace

bool iret(Core& core, const Instruction& i) {
  const unsigned size = i.operand_size;
  if (core.protected_mode && core.has_flag(Rflags::NT)) {
    if (core.state->long_mode_active()) return core.general_protection();
    core.state->nmi_blocked = false;
    return return_from_task(core, (core.state->rip + i.length) & 0xffffffff);
  }
  Frame frame;
  if (!read_frame(core, size, frame)) return false;
  bool done = false;
  if (!core.protected_mode) {
    done = real_iret(core, frame, size);
  } else if (size == 4 && !core.state->long_mode_active() && (frame.flags & Rflags::VM) != 0 &&
             core.state->cpl() == 0) {
    done = return_to_v86(core, frame);
  } else {
    done = protected_iret(core, frame, size);
  }
  if (done) core.state->nmi_blocked = false;
  return done;
}

}  // namespace nacre::interp::handlers
