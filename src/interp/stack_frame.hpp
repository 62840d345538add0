// StackFrame: pushes onto a stack that is not (yet) the current one: the new stack of an interrupt or a
// call gate. The caller installs SS:RSP when all went well. Freestanding; owned by the vCPU's thread.
#pragma once

#include "interp/core.hpp"

namespace nacre::interp {

class StackFrame {
 public:
  // `is_long`: 64-bit stack, SS is not looked at. `cpl`: of the code that will use it. `named`: the selector that #SS
  // names when there is no room, which a new stack's is and the current one's is not. SDM vol. 2, CALL and INT n.
  StackFrame(Core& core, const Segment& stack, u64 pointer, unsigned cpl, bool is_long, u16 named = 0)
      : core_(core),
        stack_(stack),
        pointer_(pointer),
        privilege_(cpl == 3 ? Privilege::User : Privilege::Supervisor),
        is_long_(is_long),
        error_(named & ~3u) {}

  // `external`: EXT of the error code when the push faults.
  bool push(u64 value, unsigned size, bool external) {
    const u64 next = (pointer_ - size) & mask();
    u64 linear = 0;
    if (!check(next, size, external, linear)) return false;
    if (!core_.write_linear(linear, size, privilege_, value)) return false;
    pointer_ = next;
    return true;
  }

  [[nodiscard]] u64 pointer() const { return pointer_; }

  // SP, ESP or RSP, as the stack is wide.
  void install(const Segment& stack) {
    core_.state->segment[x86::SS] = stack;
    core_.set_gpr(x86::RSP, width(), pointer_);
  }

 private:
  [[nodiscard]] unsigned width() const {
    if (is_long_) return 8;
    return (stack_.attributes & SegmentAttributes::DB) != 0 ? 4 : 2;
  }
  [[nodiscard]] u64 mask() const { return low_bytes_mask(width()); }

  bool check(u64 offset, unsigned size, bool external, u64& linear) {
    if (is_long_) {
      linear = offset;
      if (is_canonical(offset) && is_canonical(offset + size - 1)) return true;
      return core_.raise(Vector::SS, external ? 1 : 0);
    }
    const u64 last = offset + size - 1;
    const bool expand_down = (stack_.type() & 0xc) == 4;
    const u64 top = (stack_.attributes & SegmentAttributes::DB) != 0 ? 0xffffffff : 0xffff;
    const bool inside = expand_down ? offset > stack_.limit && last <= top : last <= stack_.limit;
    if (!inside) return core_.raise(Vector::SS, error_ | (external ? 1 : 0));
    linear = (stack_.base + offset) & 0xffffffff;
    return true;
  }

  Core& core_;
  Segment stack_;
  u64 pointer_;
  Privilege privilege_;
  bool is_long_;
  u32 error_;
};

}  // namespace nacre::interp
