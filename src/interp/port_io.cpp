// Ports. SDM vol. 1, chapter 19 (I/O permission bitmap); vol. 2, IN, INS, OUT, OUTS.
#include "interp/handlers.hpp"
#include "interp/operands.hpp"

namespace nacre::interp::handlers {
namespace {

constexpr unsigned kIterationsAStep = 1024;

// SDM vol. 1, 19.5.2: below IOPL, and in V86 mode, the TSS decides.
bool bitmap_allows(Core& core, u16 port, unsigned size) {
  const State& s = *core.state;
  const bool tss32 = s.tr.present() && (s.tr.type() & ~2u) == 9;
  if (!tss32 || s.tr.limit < 103) return core.general_protection();
  u64 start = 0, bits = 0;
  if (!core.read_linear(s.tr.base + 102, 2, Privilege::Implicit, start)) return false;
  const u64 offset = start + port / 8;
  if (offset + 1 > s.tr.limit) return core.general_protection();
  if (!core.read_linear(s.tr.base + offset, 2, Privilege::Implicit, bits)) return false;
  const u64 mask = ((u64{1} << size) - 1) << (port & 7);
  return (bits & mask) == 0 || core.general_protection();
}

bool port_allowed(Core& core, u16 port, unsigned size) {
  const State& s = *core.state;
  const bool free = core.protected_mode ? s.cpl() <= (s.rflags >> 12 & 3) : !core.has_flag(Rflags::VM);
  return free || bitmap_allows(core, port, size);
}

bool port_operand(Core& core, const Instruction& i, unsigned n, unsigned size, u16& port) {
  u64 value = 0;
  if (!read_operand(core, i, n, value)) return false;
  port = static_cast<u16>(i.info->operands[n].kind == x86::OperandKind::Immediate ? value & 0xff : value);
  return port_allowed(core, port, size);
}

void advance(Core& core, const Instruction& i, x86::Gpr reg, u64 bytes) {
  const u64 value = core.state->gpr[reg];
  core.set_gpr(reg, i.address_size, core.has_flag(Rflags::DF) ? value - bytes : value + bytes);
}

template <typename Once>
bool repeat(Core& core, const Instruction& i, Once once) {
  if (!i.rep && !i.repne) return once();
  for (unsigned n = 0; n < kIterationsAStep; ++n) {
    const u64 count = core.gpr(x86::RCX, i.address_size);
    if (count == 0) return true;
    if (!once()) return false;
    core.set_gpr(x86::RCX, i.address_size, count - 1);
    if (count == 1) return true;
    if (core.has_flag(Rflags::TF) || core.debug_hits != 0) break;
  }
  core.next_rip = core.state->rip;
  return true;
}

// Ports are at most 32 bits wide, whatever REX.W says.
unsigned string_size(const Instruction& i) {
  return (i.opcode & 1) == 0 ? 1 : i.operand_size == 2 ? 2 : 4;
}

}  // namespace

bool in(Core& core, const Instruction& i) {
  const unsigned size = operand_size(i, 0);
  u16 port = 0;
  if (!port_operand(core, i, 1, size, port)) return false;
  if (core.watching) core.check_port_watchpoints(port, size);
  return write_operand(core, i, 0, core.platform.port_read(port, size) & low_bytes_mask(size));
}

bool out(Core& core, const Instruction& i) {
  const unsigned size = operand_size(i, 1);
  u16 port = 0;
  u64 value = 0;
  if (!port_operand(core, i, 0, size, port) || !read_operand(core, i, 1, value)) return false;
  if (core.watching) core.check_port_watchpoints(port, size);
  core.may_interrupt = true;
  core.platform.port_write(port, size, static_cast<u32>(value));
  return true;
}

bool ins(Core& core, const Instruction& i) {
  const unsigned size = string_size(i);
  const auto port = static_cast<u16>(core.state->gpr[x86::RDX]);
  if (!port_allowed(core, port, size)) return false;
  return repeat(core, i, [&] {
    // The fault must come before the device sees a read.
    u64 linear = 0;
    if (!core.linear_address(x86::ES, core.gpr(x86::RDI, i.address_size), size, AccessType::Write, linear))
      return false;
    if (!core.probe_write(linear, size, core.privilege)) return false;
    if (core.watching) core.check_port_watchpoints(port, size);
    const u64 value = core.platform.port_read(port, size);
    if (!core.write_linear(linear, size, core.privilege, value)) return false;
    advance(core, i, x86::RDI, size);
    return true;
  });
}

bool outs(Core& core, const Instruction& i) {
  const unsigned size = string_size(i);
  const auto port = static_cast<u16>(core.state->gpr[x86::RDX]);
  const auto segment = i.segment == x86::kNoSegment ? x86::DS : static_cast<SegmentIndex>(i.segment);
  if (!port_allowed(core, port, size)) return false;
  return repeat(core, i, [&] {
    u64 value = 0;
    if (!core.load(segment, core.gpr(x86::RSI, i.address_size), size, value)) return false;
    if (core.watching) core.check_port_watchpoints(port, size);
    core.may_interrupt = true;
    core.platform.port_write(port, size, static_cast<u32>(value));
    advance(core, i, x86::RSI, size);
    return true;
  });
}

}  // namespace nacre::interp::handlers
