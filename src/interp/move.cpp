// Data movement and exchange. SDM vol. 2.
#include "interp/flags.hpp"
#include "interp/handlers.hpp"
#include "interp/operands.hpp"
#include "interp/segments.hpp"

namespace nacre::interp::handlers {
namespace {

using x86::OperandKind;

bool mov_to_segment(Core& core, const Instruction& i) {
  u64 selector = 0;
  if (!read_operand(core, i, 1, selector)) return false;
  const auto index = static_cast<SegmentIndex>(i.reg & 7);
  if (!load_segment(core, index, static_cast<u16>(selector))) return false;
  if (index == x86::SS) {
    core.state->interrupt_shadow = true;
    core.suppress_trap = true;
    core.loaded_ss = true;
  }
  return true;
}

bool mov_from_segment(Core& core, const Instruction& i) {
  const unsigned index = i.reg & 7;
  if (index > x86::GS) return core.undefined();
  return write_operand(core, i, 0, core.state->segment[index].selector);
}

bool exchange_16_bytes(Core& core, const Instruction& i);
bool exchange_8_bytes(Core& core, const Instruction& i);

}  // namespace

bool mov(Core& core, const Instruction& i) {
  if (i.info->operands[0].kind == OperandKind::SegmentReg) return mov_to_segment(core, i);
  if (i.info->operands[1].kind == OperandKind::SegmentReg) return mov_from_segment(core, i);
  u64 value = 0;
  return read_operand(core, i, 1, value) && write_operand(core, i, 0, value);
}

bool movzx(Core& core, const Instruction& i) {
  u64 value = 0;
  return read_operand(core, i, 1, value) && write_operand(core, i, 0, value);
}

// movsx and movsxd.
bool movsx(Core& core, const Instruction& i) {
  u64 value = 0;
  if (!read_operand(core, i, 1, value)) return false;
  return write_operand(core, i, 0, sign_extend(value, 8 * operand_size(i, 1)));
}

bool movbe(Core& core, const Instruction& i) {
  u64 value = 0;
  if (!read_operand(core, i, 1, value)) return false;
  return write_operand(core, i, 0, __builtin_bswap64(value) >> (64 - 8 * operand_size(i, 0)));
}

bool lea(Core& core, const Instruction& i) {
  return write_operand(core, i, 0, core.effective_address(i));
}

// Atomic with memory, with or without a LOCK prefix.
bool xchg(Core& core, const Instruction& i) {
  const unsigned size = operand_size(i, 0);
  u64 value = 0, old = 0;
  if (!read_operand(core, i, 1, value)) return false;
  if (is_memory_operand(i, 0)) {
    const auto swap = [&](u64 memory) {
      old = memory;
      return value;
    };
    if (!core.modify(i.effective_segment(), core.effective_address(i), size, true, swap)) return false;
  } else if (!read_operand(core, i, 0, old) || !write_operand(core, i, 0, value)) {
    return false;
  }
  return write_operand(core, i, 1, old);
}

bool bswap(Core& core, const Instruction& i) {
  u64 value = 0;
  if (!read_operand(core, i, 0, value)) return false;
  const unsigned size = operand_size(i, 0);
  // 16 bits is undefined; processors give zero.
  return write_operand(core, i, 0, size == 2 ? 0 : __builtin_bswap64(value) >> (64 - 8 * size));
}

// The destination is written either way, with its own value when they differ.
bool cmpxchg(Core& core, const Instruction& i) {
  const unsigned size = operand_size(i, 0);
  u64 replacement = 0, old = 0;
  if (!read_operand(core, i, 1, replacement)) return false;
  const u64 expected = core.gpr(x86::RAX, size);
  bool equal = false;
  const auto exchange = [&](u64 destination) {
    old = destination;
    equal = destination == expected;
    return equal ? replacement : destination;
  };
  if (is_memory_operand(i, 0)) {
    if (!modify_operand(core, i, 0, exchange)) return false;
  } else {
    // A 32-bit register destination keeps its upper half when the comparison fails.
    u64 destination = 0;
    if (!read_operand(core, i, 0, destination)) return false;
    const u64 result = exchange(destination);
    if (equal && !write_operand(core, i, 0, result)) return false;
  }
  subtract_with_flags(core.state->rflags, expected, old, false, size);
  if (!equal) core.set_gpr(x86::RAX, size, old);
  return true;
}

bool cmpxchg8b16b(Core& core, const Instruction& i) {
  return i.w ? exchange_16_bytes(core, i) : exchange_8_bytes(core, i);
}

bool xadd(Core& core, const Instruction& i) {
  const unsigned size = operand_size(i, 0);
  u64 addend = 0;
  if (!read_operand(core, i, 1, addend)) return false;
  return modify_operand(core, i, 0, [&](u64 old) {
    // The source first: when both are one register the sum wins.
    write_register(core, i, i.reg, size, old);
    return add_with_flags(core.state->rflags, old, addend, false, size);
  });
}

bool setcc(Core& core, const Instruction& i) {
  return write_operand(core, i, 0, condition_holds(core.state->rflags, i.opcode) ? 1 : 0);
}

// The source is read, and an upper half cleared, whatever the condition.
bool cmovcc(Core& core, const Instruction& i) {
  u64 value = 0;
  if (!read_operand(core, i, 1, value)) return false;
  if (!condition_holds(core.state->rflags, i.opcode) && !read_operand(core, i, 0, value)) return false;
  return write_operand(core, i, 0, value);
}

bool lahf(Core& core, const Instruction&) {
  constexpr u64 shown = Rflags::SF | Rflags::ZF | Rflags::AF | Rflags::PF | Rflags::CF;
  const u64 value = (core.state->rflags & shown) | Rflags::fixed;
  u64& rax = core.state->gpr[x86::RAX];
  rax = (rax & ~u64{0xff00}) | value << 8;
  return true;
}

bool sahf(Core& core, const Instruction&) {
  constexpr u64 loaded = Rflags::SF | Rflags::ZF | Rflags::AF | Rflags::PF | Rflags::CF;
  replace_flags(core.state->rflags, loaded, core.state->gpr[x86::RAX] >> 8);
  return true;
}

bool xlat(Core& core, const Instruction& i) {
  const u64 offset = (core.state->gpr[x86::RBX] + core.gpr(x86::RAX, 1)) & low_bytes_mask(i.address_size);
  const auto segment = i.segment == x86::kNoSegment ? x86::DS : static_cast<SegmentIndex>(i.segment);
  u64 value = 0;
  if (!core.load(segment, offset, 1, value)) return false;
  core.set_gpr(x86::RAX, 1, value);
  return true;
}

bool salc(Core& core, const Instruction&) {
  core.set_gpr(x86::RAX, 1, core.has_flag(Rflags::CF) ? 0xff : 0);
  return true;
}

// lds, les, lfs, lgs, lss.
bool load_far_pointer(Core& core, const Instruction& i) {
  const u64 address = core.effective_address(i);
  u64 offset = 0, selector = 0;
  if (!core.load(i.effective_segment(), address, i.operand_size, offset)) return false;
  const u64 second = (address + i.operand_size) & low_bytes_mask(i.address_size);
  if (!core.load(i.effective_segment(), second, 2, selector)) return false;
  if (!load_segment(core, static_cast<SegmentIndex>(i.info->fixed), static_cast<u16>(selector))) return false;
  return write_operand(core, i, 0, offset);
}

// 64 bytes from memory to [ES:register], aligned; no tearing is promised by one thread's plain moves
// of 8 bytes here, which is all the guest's devices look at.
bool movdir64b(Core& core, const Instruction& i) {
  u8 bytes[64] = {};
  const u64 target = core.gpr(i.reg, i.address_size);
  if (!core.load_bytes(i.effective_segment(), core.effective_address(i), bytes, sizeof bytes)) return false;
  if ((target & 63) != 0) return core.general_protection();
  return core.store_bytes(x86::ES, target, bytes, sizeof bytes);
}

namespace {

bool exchange_8_bytes(Core& core, const Instruction& i) {
  State& s = *core.state;
  const u64 expected = core.gpr(x86::RDX, 4) << 32 | core.gpr(x86::RAX, 4);
  const u64 replacement = core.gpr(x86::RCX, 4) << 32 | core.gpr(x86::RBX, 4);
  u64 old = 0;
  const auto exchange = [&](u64 destination) {
    old = destination;
    return destination == expected ? replacement : destination;
  };
  if (!core.modify(i.effective_segment(), core.effective_address(i), 8, i.lock, exchange)) return false;
  core.set_flag(Rflags::ZF, old == expected);
  if (old != expected) {
    s.gpr[x86::RAX] = old & 0xffffffff;
    s.gpr[x86::RDX] = old >> 32;
  }
  return true;
}

// `lock cmpxchg16b` on 16-byte aligned host memory. True when it stored; else low and high are what was
// there.
bool compare_exchange_16(u8* host, u64& low, u64& high, u64 new_low, u64 new_high) {
  bool stored = false;
  asm volatile("lock cmpxchg16b %1"
               : "=@ccz"(stored), "+m"(*reinterpret_cast<u128*>(host)), "+a"(low), "+d"(high)
               : "b"(new_low), "c"(new_high)
               : "memory");
  return stored;
}

bool exchange_16_bytes(Core& core, const Instruction& i) {
  State& s = *core.state;
  const u64 offset = core.effective_address(i);
  u64 linear = 0;
  // Alignment is looked at first: #GP, where a non-canonical address of the stack's would be #SS.
  if (((s.segment[i.effective_segment()].base + offset) & 15) != 0) return core.general_protection();
  if (!core.linear_address(i.effective_segment(), offset, 16, AccessType::Write, linear)) return false;
  const TlbEntry* entry = core.translate(linear, AccessType::Write, core.privilege);
  if (entry == nullptr) return false;
  // Devices have no 16-byte cycles.
  if (entry->host == nullptr) return core.general_protection();
  const u64 in_page = linear & (kPageSize - 1);
  u64 low = s.gpr[x86::RAX], high = s.gpr[x86::RDX];
  const bool stored = compare_exchange_16(entry->host + in_page, low, high, s.gpr[x86::RBX], s.gpr[x86::RCX]);
  core.mark_written(*entry, in_page, 16);
  core.set_flag(Rflags::ZF, stored);
  if (!stored) {
    s.gpr[x86::RAX] = low;
    s.gpr[x86::RDX] = high;
  }
  return true;
}

}  // namespace

}  // namespace nacre::interp::handlers
