// The notation of the vector rows: one line stands for the MMX, SSE, VEX and EVEX forms of an instruction,
//
//   vrow(0x58, "vaddps", {w(Vx), Hx, Wx}, NP, SSE | AVX | E(F::Avx512f, b4 | er))
//
// Operands are written as VEX has them. A legacy form drops the H operand and reads its destination, loses the
// name's "v", and (SSE) wants 16-byte memory aligned unless the row says `unaligned`. Only for the tables.
// Freestanding.
#pragma once

#include "x86/row.hpp"

namespace nacre::x86::notation {

using F = Feature;

// ---- operands -------------------------------------------------------------------------------------
inline constexpr auto K_V = OperandKind::VectorReg, K_W = OperandKind::VectorRm, K_H = OperandKind::VectorVvvv,
                      K_P = OperandKind::MmxReg, K_Q = OperandKind::MmxRm;
inline constexpr Argument Vx = argument(K_V, Width::Vector), Vdq = argument(K_V, Width::X),
                          Vd = argument(K_V, Width::D), Vq = argument(K_V, Width::Q),
                          Vh = argument(K_V, Width::HalfVector);
inline constexpr Argument Hx = argument(K_H, Width::Vector), Hdq = argument(K_H, Width::X);
inline constexpr Argument Wx = argument(K_W, Width::Vector), Wb = argument(K_W, Width::B),
                          Ww = argument(K_W, Width::W), Wd = argument(K_W, Width::D), Wq = argument(K_W, Width::Q),
                          Wdq = argument(K_W, Width::X), Wqq = argument(K_W, Width::Y),
                          Whalf = argument(K_W, Width::HalfVector), Wquarter = argument(K_W, Width::QuarterVector),
                          Weighth = argument(K_W, Width::EighthVector);
// U: register form only. Mx: memory form only.
inline constexpr Argument Ux = argument(K_W, Width::Vector, regform), Udq = argument(K_W, Width::X, regform),
                          Ud = argument(K_W, Width::D, regform), Uq = argument(K_W, Width::Q, regform);
inline constexpr Argument Mx = argument(K_M, Width::Vector, mem);
inline constexpr Argument Pq = argument(K_P, Width::Q), Qq = argument(K_Q, Width::Q), Qd = argument(K_Q, Width::D),
                          Nq = argument(K_Q, Width::Q, regform);
inline constexpr Argument Lx = argument(OperandKind::VectorImm, Width::Vector);
inline constexpr Argument Kreg = argument(OperandKind::MaskReg, Width::Q),
                          Kv = argument(OperandKind::MaskVvvv, Width::Q),
                          Kr = argument(OperandKind::MaskRm, Width::Q, regform);  // register form
inline constexpr Argument Kb = argument(OperandKind::MaskRm, Width::B), Kw = argument(OperandKind::MaskRm, Width::W),
                          Kd = argument(OperandKind::MaskRm, Width::D), Kq = argument(OperandKind::MaskRm, Width::Q);
inline constexpr Argument VMd = argument(OperandKind::Vsib, Width::D, mem),
                          VMq = argument(OperandKind::Vsib, Width::Q, mem);

// ---- properties -----------------------------------------------------------------------------------
constexpr Property element(u8 bytes) { return {.element = bytes}; }
constexpr Property op(Operation operation) { return {.operation = operation}; }
inline constexpr Property int256 = attribute(OpcodeAttribute::avx2_when_256);
inline constexpr Property unaligned = {.unaligned = true};  // SSE: 16-byte memory needs no alignment

// EVEX: element size, which W selects it, whether memory may be one element broadcast (b), and masking.
inline constexpr Property masked = attribute(OpcodeAttribute::mask_allowed);
inline constexpr Property masks_required = attribute(OpcodeAttribute::mask_required) | masked;
inline constexpr Property broadcast = attribute(OpcodeAttribute::broadcast_allowed);
inline constexpr Property er = attribute(OpcodeAttribute::rounding_allowed);
inline constexpr Property sae = attribute(OpcodeAttribute::suppress_allowed);
inline constexpr Property packed = attribute(OpcodeAttribute::element_displacement);
inline constexpr Property e1 = element(1) | masked, e2 = element(2) | masked;  // W ignored
inline constexpr Property e4 = element(4) | masked | W0, e8 = element(8) | masked | W1;
inline constexpr Property b4 = e4 | broadcast, b8 = e8 | broadcast;

// ---- forms ----------------------------------------------------------------------------------------
struct Form {
  bool present = false;
  Property property;
};
struct Forms {
  Form mmx, sse, vex, evex;
  friend constexpr Forms operator|(Forms a, const Forms& b) {
    if (b.mmx.present) a.mmx = b.mmx;
    if (b.sse.present) a.sse = b.sse;
    if (b.vex.present) a.vex = b.vex;
    if (b.evex.present) a.evex = b.evex;
    return a;
  }
};
constexpr Forms mmx(Feature feature) {
  Forms forms;
  forms.mmx = {true, needs(feature)};
  return forms;
}
constexpr Forms sse(Feature feature) {
  Forms forms;
  forms.sse = {true, needs(feature)};
  return forms;
}
constexpr Forms vex(Feature feature, Property property = {}) {
  Forms forms;
  forms.vex = {true, needs(feature) | property};
  return forms;
}
constexpr Forms E(Feature feature, Property property = {}) {
  Forms forms;
  forms.evex = {true, needs(feature) | property};
  return forms;
}

inline constexpr Forms MMX = mmx(F::Mmx), MMX_SSE = mmx(F::Sse), MMX_SSE2 = mmx(F::Sse2), MMX_SSSE3 = mmx(F::Ssse3);
inline constexpr Forms SSE = sse(F::Sse), SSE2 = sse(F::Sse2), SSE3 = sse(F::Sse3), SSSE3 = sse(F::Ssse3),
                       SSE41 = sse(F::Sse4_1), SSE42 = sse(F::Sse4_2), SSE4A = sse(F::Sse4a);
// Rows that are written with MMX operands already.
inline constexpr Forms MMX_ONLY = mmx(F::Mmx);
inline constexpr Forms AVX = vex(F::Avx), AVX_W0 = vex(F::Avx, W0), AVX_128 = vex(F::Avx, L0),
                       AVX_256 = vex(F::Avx, L1 | W0), AVX_INT = vex(F::Avx, int256), AVX2 = vex(F::Avx2, W0),
                       AVX2_256 = vex(F::Avx2, L1 | W0);

// ---- rows -----------------------------------------------------------------------------------------
struct VectorRow {
  Opcodes opcodes;
  const char* name = nullptr;
  Arguments arguments;
  Property property;
  Forms forms;
};
constexpr VectorRow vrow(Opcodes opcodes, const char* name, const Arguments& arguments, Property property,
                         Forms forms) {
  return {opcodes, name, arguments, property, forms};
}

enum class FormKind : u8 { Mmx, Sse, Vex, Evex };
constexpr const Form& form_of(const VectorRow& source, FormKind kind) {
  switch (kind) {
    case FormKind::Mmx: return source.forms.mmx;
    case FormKind::Sse: return source.forms.sse;
    case FormKind::Vex: return source.forms.vex;
    case FormKind::Evex: break;
  }
  return source.forms.evex;
}

// Two-operand form of a three-operand one: the H operand goes, what is then first is read as well.
constexpr Arguments without_vvvv(const Arguments& source) {
  Arguments result;
  bool dropped = false;
  for (unsigned i = 0; i < source.count; ++i) {
    if (source.list[i].operand.kind == OperandKind::VectorVvvv) {
      dropped = true;
    } else {
      result.list[result.count++] = source.list[i];
    }
  }
  if (dropped) result.list[0].operand.access = Access::ReadWrite;
  return result;
}

constexpr Row mmx_row(const VectorRow& source) {
  Arguments arguments = without_vvvv(source.arguments);
  for (Argument& a : arguments.list) {
    if (a.operand.kind == OperandKind::VectorReg) a.operand = {OperandKind::MmxReg, Width::Q, a.operand.access};
    if (a.operand.kind == OperandKind::VectorRm) a.operand = {OperandKind::MmxRm, Width::Q, a.operand.access};
  }
  Property property = source.property | source.forms.mmx.property;
  property.key_mask |= Key::prefix_mask;  // MMX is the row's instruction without a prefix
  property.key_value &= ~Key::prefix_mask;
  if (property.kind == Class::Invalid) property.kind = Class::X87;
  const Op operation = property.operation == Op::Invalid ? Op::Mmx : property.operation;
  return row(source.opcodes, source.name + (source.name[0] == 'v' ? 1 : 0), operation, arguments, property);
}

constexpr Row sse_row(const VectorRow& source) {
  const Arguments arguments = without_vvvv(source.arguments);
  Property property = source.property | source.forms.sse.property;
  for (unsigned i = 0; i < arguments.count && !property.unaligned; ++i) {
    const Operand& o = arguments.list[i].operand;
    const bool may_be_memory = o.kind == OperandKind::VectorRm || o.kind == OperandKind::MemoryOnly;
    if (may_be_memory && (o.width == Width::Vector || o.width == Width::X)) property = property | aligned;
  }
  if (property.kind == Class::Invalid) property.kind = Class::Sse;
  const Op operation = property.operation == Op::Invalid ? Op::Vector : property.operation;
  return row(source.opcodes, source.name + (source.name[0] == 'v' ? 1 : 0), operation, arguments, property);
}

constexpr Row avx_row(const VectorRow& source, const Form& form) {
  Property property = source.property | form.property | protected_only;
  bool uses_vvvv = false;
  for (unsigned i = 0; i < source.arguments.count; ++i) {
    const OperandKind kind = source.arguments.list[i].operand.kind;
    if (kind == OperandKind::VectorVvvv || kind == OperandKind::MaskVvvv || kind == OperandKind::GprVvvv) {
      uses_vvvv = true;
    }
  }
  if (!uses_vvvv) property.attributes |= OpcodeAttribute::vvvv_unused;
  if (property.kind == Class::Invalid) property.kind = Class::Avx;
  const Op operation = property.operation == Op::Invalid ? Op::Vector : property.operation;
  return row(source.opcodes, source.name, operation, source.arguments, property);
}

constexpr Row expand(const VectorRow& source, FormKind kind) {
  switch (kind) {
    case FormKind::Mmx: return mmx_row(source);
    case FormKind::Sse: return sse_row(source);
    case FormKind::Vex: return avx_row(source, source.forms.vex);
    case FormKind::Evex: break;
  }
  return avx_row(source, source.forms.evex);
}

template <usize rows>
constexpr usize form_count(const VectorRow (&source)[rows], FormKind kind) {
  usize count = 0;
  for (const VectorRow& r : source) count += form_of(r, kind).present ? 1 : 0;
  return count;
}

template <usize capacity>
struct Rows {
  Row list[capacity];
};

// The rows of `source` that have one of two forms (legacy: MMX and SSE; else twice the same).
template <usize count, usize rows>
constexpr Rows<count> expand_all(const VectorRow (&source)[rows], FormKind first, FormKind second) {
  Rows<count> result;
  usize n = 0;
  for (const VectorRow& r : source) {
    if (form_of(r, first).present) result.list[n++] = expand(r, first);
    if (second != first && form_of(r, second).present) result.list[n++] = expand(r, second);
  }
  return result;
}

}  // namespace nacre::x86::notation
