// The notation that the opcode tables are written in: a row is one line,
//
//   row(0x81, "adc", Op::Adc, {rw(Ev), Iz}, reg(2) | lock | tests(CF) | sets(OSZAPC))
//
// operand names are those of SDM vol. 2, appendix A.2 (Ev, Gb, Iz …), read unless said otherwise, and
// everything else is a Property: what the encoding must be for the row to apply, or what the instruction
// does. Properties are joined with |. Rows of one opcode are tried in the order written. Only for the
// tables themselves. Freestanding.
#pragma once

#include "x86/instruction.hpp"
#include "x86/opcode_table.hpp"

namespace nacre::x86::notation {

using Op = Operation;

struct Property {
  u32 attributes = 0;
  u32 tested = 0, written = 0, undefined = 0;  // Rflags
  u16 gprs_read = 0, gprs_written = 0;
  Class kind = Class::Invalid;                 // Invalid: not said
  Feature feature = Feature::Base;
  Operation operation = Operation::Invalid;    // vector rows: what is not simply Vector
  u8 element = 0;
  u8 fixed = 0;
  bool unaligned = false;                      // vector rows: SSE form wants no alignment
  u32 key_mask = 0, key_value = 0;             // see Key

  friend constexpr Property operator|(Property a, const Property& b) {
    a.attributes |= b.attributes;
    a.tested |= b.tested;
    a.written |= b.written;
    a.undefined |= b.undefined;
    a.gprs_read |= b.gprs_read;
    a.gprs_written |= b.gprs_written;
    if (b.kind != Class::Invalid) a.kind = b.kind;
    if (b.feature != Feature::Base) a.feature = b.feature;
    if (b.operation != Operation::Invalid) a.operation = b.operation;
    if (b.element != 0) a.element = b.element;
    if (b.fixed != 0) a.fixed = b.fixed;
    a.unaligned = a.unaligned || b.unaligned;
    a.key_mask |= b.key_mask;
    a.key_value |= b.key_value;
    return a;
  }
};

// An operand, with what it implies about the encoding.
struct Argument {
  Operand operand;
  Property implied;
};

// ---- conditions on the encoding -------------------------------------------------------------------
constexpr Property condition(u32 mask, u32 value) { return {.key_mask = mask, .key_value = value}; }
constexpr Property prefix(MandatoryPrefix p) { return condition(Key::prefix_mask, Key::prefix(p)); }
inline constexpr Property NP = prefix(MandatoryPrefix::None);  // no mandatory prefix
inline constexpr Property P66 = prefix(MandatoryPrefix::P66);
inline constexpr Property PF3 = prefix(MandatoryPrefix::PF3);
inline constexpr Property PF2 = prefix(MandatoryPrefix::PF2);
// No F2 or F3: what is left when 66 changes only the operand size.
inline constexpr Property NFx = condition(Key::prefix(MandatoryPrefix::PF3) & Key::prefix(MandatoryPrefix::PF2), 0);
constexpr Property reg(unsigned value) { return condition(Key::reg_mask, Key::reg(value)); }
constexpr Property rm(unsigned value) { return condition(Key::rm_mask, Key::rm(value)); }
inline constexpr Property mem = condition(Key::register_form, 0);
inline constexpr Property regform = condition(Key::register_form, Key::register_form);
// The whole ModRM byte, register form: 0F 01 C1 and the like.
constexpr Property modrm(unsigned value) { return regform | reg((value >> 3) & 7) | rm(value & 7); }
inline constexpr Property W0 = condition(Key::w, 0);
inline constexpr Property W1 = condition(Key::w, Key::w);
inline constexpr Property L0 = condition(Key::length_mask, Key::length(0));
inline constexpr Property L1 = condition(Key::length_mask, Key::length(1));
inline constexpr Property L2 = condition(Key::length_mask, Key::length(2));
inline constexpr Property wide = condition(Key::wide, Key::wide);  // 256 or 512 bits
inline constexpr Property in64 = condition(Key::mode_64, Key::mode_64) | Property{.attributes = OpcodeAttribute::only_in_64};
inline constexpr Property not64 = condition(Key::mode_64, 0) | Property{.attributes = OpcodeAttribute::invalid_in_64};
inline constexpr Property no_rex_b = condition(Key::rex_b, 0);

// ---- what the instruction does --------------------------------------------------------------------
constexpr Property attribute(u32 bits) { return {.attributes = bits}; }
inline constexpr Property lock = attribute(OpcodeAttribute::lockable);
inline constexpr Property privileged = attribute(OpcodeAttribute::privileged);
inline constexpr Property ends = attribute(OpcodeAttribute::ends_block);
inline constexpr Property default64 = attribute(OpcodeAttribute::default_64);
inline constexpr Property force64 = attribute(OpcodeAttribute::force_64);
inline constexpr Property protected_only = attribute(OpcodeAttribute::protected_only);
inline constexpr Property rep = attribute(OpcodeAttribute::rep_allowed);
inline constexpr Property repne = attribute(OpcodeAttribute::rep_allowed | OpcodeAttribute::repne_allowed);
inline constexpr Property counted = attribute(OpcodeAttribute::flags_depend_on_count);
inline constexpr Property mod_ignored = attribute(OpcodeAttribute::mod_ignored);
inline constexpr Property aligned = attribute(OpcodeAttribute::aligned_memory);

constexpr Property is(Class kind) { return {.kind = kind}; }
inline constexpr Property stack = is(Class::Stack) | Property{.gprs_read = 1 << RSP, .gprs_written = 1 << RSP};
inline constexpr Property sys = is(Class::System);
inline constexpr Property jump = is(Class::Jump) | ends;
inline constexpr Property jumpif = is(Class::JumpIf) | ends;
inline constexpr Property far = is(Class::FarBranch) | ends;
inline constexpr Property pushes = Property{.gprs_read = 1 << RSP, .gprs_written = 1 << RSP};  // or pops
inline constexpr Property strings = is(Class::String);
inline constexpr Property port = is(Class::PortIo);

inline constexpr u64 CF = Rflags::CF, PF = Rflags::PF, AF = Rflags::AF, ZF = Rflags::ZF, SF = Rflags::SF,
                     OF = Rflags::OF, DF = Rflags::DF, IF = Rflags::IF, AC = Rflags::AC, IOPL = Rflags::IOPL,
                     VM = Rflags::VM, VIF = Rflags::VIF;
inline constexpr u64 OSZAPC = Rflags::arithmetic;
inline constexpr u64 kAllFlags = OSZAPC | Rflags::TF | IF | DF | IOPL | Rflags::NT | Rflags::RF | VM | AC | VIF |
                                 Rflags::VIP | Rflags::ID;
constexpr Property tests(u64 flags) { return {.tested = static_cast<u32>(flags)}; }
constexpr Property sets(u64 flags) { return {.written = static_cast<u32>(flags)}; }
constexpr Property undef(u64 flags) {
  return {.written = static_cast<u32>(flags), .undefined = static_cast<u32>(flags)};
}
inline constexpr Property arith = sets(OSZAPC);
inline constexpr Property logic = sets(OSZAPC) | undef(AF);

template <typename... G>
constexpr u16 mask_of(G... gprs) {
  return static_cast<u16>((0u | ... | (1u << gprs)));
}
template <typename... G>
constexpr Property reads(G... gprs) {
  return {.gprs_read = mask_of(gprs...)};
}
template <typename... G>
constexpr Property writes(G... gprs) {
  return {.gprs_written = mask_of(gprs...)};
}
template <typename... G>
constexpr Property updates(G... gprs) {
  return reads(gprs...) | writes(gprs...);
}
constexpr Property needs(Feature feature) { return {.feature = feature}; }
constexpr Property fixed(u8 value) { return {.fixed = value}; }

// ---- operands -------------------------------------------------------------------------------------
constexpr Argument argument(OperandKind kind, Width width, Property implied = {}) {
  return {{kind, width, Access::Read}, implied};
}
constexpr Argument w(Argument a) { return a.operand.access = Access::Write, a; }
constexpr Argument rw(Argument a) { return a.operand.access = Access::ReadWrite, a; }
constexpr Argument ea(Argument a) { return a.operand.access = Access::Address, a; }  // address only

inline constexpr auto K_E = OperandKind::GprRm, K_G = OperandKind::GprReg, K_R = OperandKind::GprRmOnly,
                      K_M = OperandKind::MemoryOnly, K_I = OperandKind::Immediate, K_Z = OperandKind::GprOpcode,
                      K_B = OperandKind::GprVvvv;
inline constexpr Argument Eb = argument(K_E, Width::B), Ew = argument(K_E, Width::W), Ed = argument(K_E, Width::D),
                          Ev = argument(K_E, Width::OpSize), Ez = argument(K_E, Width::OpSizeZ),
                          Ey = argument(K_E, Width::OpSizeY);
inline constexpr Argument Gb = argument(K_G, Width::B), Gw = argument(K_G, Width::W), Gd = argument(K_G, Width::D),
                          Gv = argument(K_G, Width::OpSize), Gz = argument(K_G, Width::OpSizeZ),
                          Gy = argument(K_G, Width::OpSizeY), Gaddr = argument(K_G, Width::AddressSize), Gn = argument(K_G, Width::Native);
inline constexpr Argument Rb = argument(K_R, Width::B, regform), Rw = argument(K_R, Width::W, regform),
                          Rd = argument(K_R, Width::D, regform), Rv = argument(K_R, Width::OpSize, regform),
                          Ry = argument(K_R, Width::OpSizeY, regform),
                          Rq = argument(K_R, Width::Q, regform), Raddr = argument(K_R, Width::AddressSize, regform),
                          Rn = argument(K_R, Width::Native, regform),
                          Rany = argument(K_R, Width::Native);  // whatever mod says: mov cr, mov dr
inline constexpr Argument M = argument(K_M, Width::None, mem), Mb = argument(K_M, Width::B, mem),
                          Mw = argument(K_M, Width::W, mem), Md = argument(K_M, Width::D, mem),
                          Mq = argument(K_M, Width::Q, mem), Mt = argument(K_M, Width::T, mem),
                          Mdq = argument(K_M, Width::X, mem), Mqq = argument(K_M, Width::Y, mem),
                          Mzz = argument(K_M, Width::Z, mem),
                          Mv = argument(K_M, Width::OpSize, mem), My = argument(K_M, Width::OpSizeY, mem),
                          Mp = argument(K_M, Width::FarMemory, mem), Ms = argument(K_M, Width::TableRegister, mem),
                          Ma = argument(K_M, Width::OpSizePair, mem), Menv = argument(K_M, Width::Environment, mem);
inline constexpr Argument Zb = argument(K_Z, Width::B), Zv = argument(K_Z, Width::OpSize);
inline constexpr Argument By = argument(K_B, Width::OpSizeY);
inline constexpr Argument AL = argument(OperandKind::Accumulator, Width::B),
                          AX = argument(OperandKind::Accumulator, Width::W),
                          rAX = argument(OperandKind::Accumulator, Width::OpSize),
                          eAX = argument(OperandKind::Accumulator, Width::OpSizeZ);
inline constexpr Argument CL = argument(OperandKind::FixedCl, Width::B), DX = argument(OperandKind::FixedDx, Width::W),
                          One = argument(OperandKind::FixedOne, Width::B);
inline constexpr Property sign_extended = attribute(OpcodeAttribute::sign_extended_immediate);
inline constexpr Argument Ib = argument(K_I, Width::B), Iw = argument(K_I, Width::W),
                          Ibs = argument(K_I, Width::B, sign_extended),   // "imm8", sign-extended
                          Iz = argument(K_I, Width::OpSizeZ, sign_extended), Iv = argument(K_I, Width::OpSize);
inline constexpr Argument Jb = argument(OperandKind::Relative, Width::B),
                          Jz = argument(OperandKind::Relative, Width::OpSizeZ);
inline constexpr Argument Ap = argument(OperandKind::FarPointer, Width::FarMemory);
inline constexpr Argument Ob = argument(OperandKind::MemoryOffset, Width::B),
                          Ov = argument(OperandKind::MemoryOffset, Width::OpSize);
inline constexpr auto K_X = OperandKind::StringSource, K_Y = OperandKind::StringDestination;
inline constexpr Argument Xb = argument(K_X, Width::B, updates(RSI)), Xv = argument(K_X, Width::OpSize, updates(RSI)),
                          Xz = argument(K_X, Width::OpSizeZ, updates(RSI)),
                          Yb = argument(K_Y, Width::B, updates(RDI)), Yv = argument(K_Y, Width::OpSize, updates(RDI)),
                          Yz = argument(K_Y, Width::OpSizeZ, updates(RDI));
inline constexpr Argument Sw = argument(OperandKind::SegmentReg, Width::W);
inline constexpr Argument Sfix = argument(OperandKind::SegmentFixed, Width::W);
inline constexpr Argument Cr = argument(OperandKind::ControlReg, Width::Native),
                          Dr = argument(OperandKind::DebugReg, Width::Native);
inline constexpr Argument St = argument(OperandKind::X87, Width::T);

// ---- rows -----------------------------------------------------------------------------------------
struct Opcodes {
  u8 first = 0, last = 0;
  constexpr Opcodes() = default;
  constexpr Opcodes(int one) : first(static_cast<u8>(one)), last(first) {}  // NOLINT: `row(0x90, …)` is the point
  constexpr Opcodes(u8 from, u8 to) : first(from), last(to) {}
};
constexpr Opcodes range(u8 first, u8 last) { return {first, last}; }

struct Row {
  Opcodes opcodes;
  bool has_modrm = false;
  u32 key_mask = 0, key_value = 0;
  OpcodeInfo info;
};

struct Arguments {
  Argument list[4];
  unsigned count = 0;
  constexpr Arguments() = default;
  template <typename... A>
  constexpr Arguments(const Argument& first, const A&... rest) : list{first, rest...}, count(1 + sizeof...(rest)) {}
};

constexpr bool uses_modrm(OperandKind kind) {
  switch (kind) {
    case OperandKind::GprReg: case OperandKind::GprRm: case OperandKind::GprRmOnly: case OperandKind::MemoryOnly:
    case OperandKind::SegmentReg: case OperandKind::ControlReg: case OperandKind::DebugReg:
    case OperandKind::MmxReg: case OperandKind::MmxRm: case OperandKind::VectorReg: case OperandKind::VectorRm:
    case OperandKind::MaskReg: case OperandKind::MaskRm: case OperandKind::X87: case OperandKind::Vsib:
      return true;
    default: return false;
  }
}

constexpr u32 decoder_attributes(OperandKind kind) {
  switch (kind) {
    case OperandKind::Immediate: case OperandKind::Relative: case OperandKind::FarPointer:
    case OperandKind::MemoryOffset: case OperandKind::VectorImm:
      return OpcodeAttribute::has_immediate;
    case OperandKind::Vsib: return OpcodeAttribute::has_vsib;
    case OperandKind::SegmentReg: case OperandKind::ControlReg: case OperandKind::DebugReg:
    case OperandKind::MaskReg: case OperandKind::MaskRm: case OperandKind::MaskVvvv:
      return OpcodeAttribute::restricted_registers;
    default: return 0;
  }
}

constexpr Row row(Opcodes opcodes, const char* name, Op operation, const Arguments& arguments,
                  Property property = {}) {
  Row result;
  result.opcodes = opcodes;
  for (unsigned i = 0; i < arguments.count; ++i) {
    const Argument& a = arguments.list[i];
    result.info.operands[i] = a.operand;
    // What the row says comes after what its operands imply.
    property = a.implied | property;
    if (uses_modrm(a.operand.kind)) result.has_modrm = true;
    property.attributes |= decoder_attributes(a.operand.kind);
  }
  if ((property.key_mask & (Key::reg_mask | Key::rm_mask | Key::register_form)) != 0) result.has_modrm = true;
  result.key_mask = property.key_mask;
  result.key_value = property.key_value;
  OpcodeInfo& info = result.info;
  info.name = name;
  info.operation = operation;
  info.kind = property.kind == Class::Invalid ? Class::Plain : property.kind;
  info.implicit_read = property.gprs_read;
  info.implicit_written = property.gprs_written;
  info.flags_tested = property.tested;
  info.flags_written = property.written;
  info.flags_undefined = property.undefined;
  info.attributes = property.attributes;
  info.feature = property.feature;
  info.fixed = property.fixed;
  info.element = property.element;
  return result;
}

// ---- from rows to the decoder's lookup --------------------------------------------------------------
template <usize rows>
constexpr usize match_count(const Row (&list)[rows]) {
  usize total = 0;
  for (const Row& r : list) total += r.opcodes.last - r.opcodes.first + 1u;
  return total;
}

template <usize rows, usize matches>
struct Lookup {
  Cell cells[256] = {};
  Match match[matches] = {};
  OpcodeInfo info[rows] = {};
};

// Sorts by opcode (counting sort: constant evaluation has a budget), keeping the written order.
template <usize matches, usize rows>
constexpr Lookup<rows, matches> build(const Row (&source)[rows]) {
  Lookup<rows, matches> table;
  for (usize i = 0; i < rows; ++i) {
    table.info[i] = source[i].info;
    for (unsigned op = source[i].opcodes.first; op <= source[i].opcodes.last; ++op) {
      ++table.cells[op].count;
      if (source[i].has_modrm) table.cells[op].has_modrm = true;
    }
  }
  u16 next = 0;
  for (Cell& cell : table.cells) {
    cell.first = next;
    next = static_cast<u16>(next + cell.count);
    cell.count = 0;
  }
  for (usize i = 0; i < rows; ++i) {
    for (unsigned op = source[i].opcodes.first; op <= source[i].opcodes.last; ++op) {
      Cell& cell = table.cells[op];
      table.match[cell.first + cell.count++] = {source[i].key_mask, source[i].key_value, static_cast<u16>(i)};
    }
  }
  return table;
}

template <usize rows, usize matches>
constexpr OpcodeMap view(const Lookup<rows, matches>& lookup) {
  return {lookup.cells, lookup.match, lookup.info, rows};
}

}  // namespace nacre::x86::notation
