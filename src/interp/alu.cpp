// Addition, subtraction, logic and their kin. SDM vol. 2.
#include "interp/flags.hpp"
#include "interp/handlers.hpp"
#include "interp/operands.hpp"

namespace nacre::interp::handlers {
namespace {

// dst = compute(flags, dst, src, size)
template <typename Compute>
bool binary(Core& core, const Instruction& i, Compute compute) {
  u64 source = 0;
  if (!read_operand(core, i, 1, source)) return false;
  const unsigned size = operand_size(i, 0);
  // The flags must not see a failed attempt of a locked exchange.
  const u64 before = core.state->rflags;
  return modify_operand(core, i, 0, [&](u64 destination) {
    core.state->rflags = before;
    return compute(core.state->rflags, destination, source, size);
  });
}

// As binary, but the result is dropped.
template <typename Compute>
bool compare(Core& core, const Instruction& i, Compute compute) {
  u64 destination = 0, source = 0;
  if (!read_operand(core, i, 0, destination) || !read_operand(core, i, 1, source)) return false;
  compute(core.state->rflags, destination, source, operand_size(i, 0));
  return true;
}

u64 do_and(u64& flags, u64 a, u64 b, unsigned size) {
  return logic_with_flags(flags, a & b, size);
}
u64 do_sub(u64& flags, u64 a, u64 b, unsigned size) {
  return subtract_with_flags(flags, a, b, false, size);
}

// Adcx and adox: an addition with one flag of its own.
bool add_with_single_flag(Core& core, const Instruction& i, u64 flag) {
  u64 source = 0;
  if (!read_operand(core, i, 1, source)) return false;
  const unsigned size = operand_size(i, 0);
  return modify_operand(core, i, 0, [&](u64 destination) {
    u64 flags = 0;
    const u64 result = add_with_flags(flags, destination, source, core.has_flag(flag), size);
    core.set_flag(flag, (flags & Rflags::CF) != 0);
    return result;
  });
}

// Inc and dec leave CF alone.
bool step_by_one(Core& core, const Instruction& i, bool up) {
  const unsigned size = operand_size(i, 0);
  const u64 carry = core.state->rflags & Rflags::CF;
  return modify_operand(core, i, 0, [&](u64 value) {
    u64& flags = core.state->rflags;
    const u64 result =
        up ? add_with_flags(flags, value, 1, false, size) : subtract_with_flags(flags, value, 1, false, size);
    replace_flags(flags, Rflags::CF, carry);
    return result;
  });
}

}  // namespace

bool add(Core& core, const Instruction& i) {
  return binary(core, i, [](u64& flags, u64 a, u64 b, unsigned size) {
    return add_with_flags(flags, a, b, false, size);
  });
}

bool adc(Core& core, const Instruction& i) {
  return binary(core, i, [](u64& flags, u64 a, u64 b, unsigned size) {
    return add_with_flags(flags, a, b, (flags & Rflags::CF) != 0, size);
  });
}

bool sub(Core& core, const Instruction& i) {
  return binary(core, i, do_sub);
}

bool sbb(Core& core, const Instruction& i) {
  return binary(core, i, [](u64& flags, u64 a, u64 b, unsigned size) {
    return subtract_with_flags(flags, a, b, (flags & Rflags::CF) != 0, size);
  });
}

bool and_(Core& core, const Instruction& i) {
  return binary(core, i, do_and);
}

bool or_(Core& core, const Instruction& i) {
  return binary(core, i,
                [](u64& flags, u64 a, u64 b, unsigned size) { return logic_with_flags(flags, a | b, size); });
}

bool xor_(Core& core, const Instruction& i) {
  return binary(core, i,
                [](u64& flags, u64 a, u64 b, unsigned size) { return logic_with_flags(flags, a ^ b, size); });
}

bool cmp(Core& core, const Instruction& i) {
  return compare(core, i, do_sub);
}
bool test(Core& core, const Instruction& i) {
  return compare(core, i, do_and);
}

bool not_(Core& core, const Instruction& i) {
  return modify_operand(core, i, 0, [](u64 value) { return ~value; });
}

bool neg(Core& core, const Instruction& i) {
  const unsigned size = operand_size(i, 0);
  return modify_operand(
      core, i, 0, [&](u64 value) { return subtract_with_flags(core.state->rflags, 0, value, false, size); });
}

bool inc(Core& core, const Instruction& i) {
  return step_by_one(core, i, true);
}
bool dec(Core& core, const Instruction& i) {
  return step_by_one(core, i, false);
}

bool adcx(Core& core, const Instruction& i) {
  return add_with_single_flag(core, i, Rflags::CF);
}
bool adox(Core& core, const Instruction& i) {
  return add_with_single_flag(core, i, Rflags::OF);
}

// cbw, cwde, cdqe: the accumulator's lower half, sign-extended over the whole.
bool cbw(Core& core, const Instruction& i) {
  const unsigned half = i.operand_size / 2u;
  core.set_gpr(x86::RAX, i.operand_size, sign_extend(core.gpr(x86::RAX, half), 8 * half));
  return true;
}

// cwd, cdq, cqo: the accumulator's sign over the data register.
bool cwd(Core& core, const Instruction& i) {
  const bool negative = (core.state->gpr[x86::RAX] & sign_bit(i.operand_size)) != 0;
  core.set_gpr(x86::RDX, i.operand_size, negative ? ~u64{0} : 0);
  return true;
}

}  // namespace nacre::interp::handlers
