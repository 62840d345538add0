#include "engine/lockstep/compare.hpp"

#include <cstddef>
#include <cstdio>
#include <cstring>

namespace nacre::lockstep {
namespace {

using cpu::State;
using cpu::XsaveLayout;
using x86::Rflags;

struct Field {
  const char* name;
  usize offset;
  usize bytes;  // of one
  unsigned count = 1;
};
#define NACRE_FIELD(member) \
  { #member, offsetof(State, member), sizeof(State::member) }
#define NACRE_ARRAY(member, one, number) \
  { #member, offsetof(State, member), one, number }

// Everything but general registers, RIP, RFLAGS, segments and vector state.
constexpr Field kFields[] = {
    {"gdtr base", offsetof(State, gdtr), 8},
    {"gdtr limit", offsetof(State, gdtr) + offsetof(cpu::TableRegister, limit), 2},
    {"idtr base", offsetof(State, idtr), 8},
    {"idtr limit", offsetof(State, idtr) + offsetof(cpu::TableRegister, limit), 2},
    NACRE_FIELD(cr0),
    NACRE_FIELD(cr2),
    NACRE_FIELD(cr3),
    NACRE_FIELD(cr4),
    NACRE_ARRAY(dr, 8, 4),
    NACRE_FIELD(dr6),
    NACRE_FIELD(dr7),
    NACRE_FIELD(xcr0),
    NACRE_ARRAY(pdpte, 8, 4),
    NACRE_FIELD(efer),
    NACRE_FIELD(star),
    NACRE_FIELD(lstar),
    NACRE_FIELD(cstar),
    NACRE_FIELD(fmask),
    NACRE_FIELD(kernel_gs_base),
    NACRE_FIELD(tsc_aux),
    NACRE_FIELD(sysenter_cs),
    NACRE_FIELD(sysenter_esp),
    NACRE_FIELD(sysenter_eip),
    NACRE_FIELD(pat),
    NACRE_FIELD(misc_enable),
    NACRE_FIELD(apic_base),
    NACRE_FIELD(spec_ctrl),
    NACRE_FIELD(xss), NACRE_FIELD(pkru),
    NACRE_FIELD(tsc_offset),
    NACRE_FIELD(tsc_adjust),
    NACRE_FIELD(mtrr_def_type),
    NACRE_ARRAY(mtrr_variable, 8, 16),
    NACRE_ARRAY(mtrr_fixed, 8, 11),
    {"pending event", offsetof(State, pending), 2},  // kind and vector
    NACRE_FIELD(activity),
    NACRE_FIELD(interrupt_shadow),
    NACRE_FIELD(nmi_blocked),
    NACRE_FIELD(nmi_pending),
};
#undef NACRE_FIELD
#undef NACRE_ARRAY

const u8* at(const State& state, usize offset) {
  return reinterpret_cast<const u8*>(&state) + offset;
}

u64 number(const u8* from, usize bytes) {
  u64 value = 0;
  std::memcpy(&value, from, bytes);
  return value;
}

// Vector state with every component spelt out.
struct Vectors {
  u8 image[cpu::kXsaveBytes];
};

Vectors spelt_out(const State& state, const XsaveLayout& layout) {
  Vectors out;
  std::memcpy(out.image, state.xsave, sizeof out.image);
  const u64 in_use = number(state.xsave + XsaveLayout::kXstateBv, 8);
  const auto clear = [&](usize offset, usize bytes) { std::memset(out.image + offset, 0, bytes); };
  if ((in_use & cpu::Xcr0::x87) == 0) {
    clear(0, 6);
    clear(XsaveLayout::kSt, 128);
    out.image[XsaveLayout::kFcw] = 0x7f;
    out.image[XsaveLayout::kFcw + 1] = 0x03;
  }
  if ((in_use & cpu::Xcr0::SSE) == 0) clear(XsaveLayout::kXmm, 256);
  for (unsigned i = 2; i < XsaveLayout::kComponents; ++i) {
    if (layout.offset[i] != 0 && (in_use >> i & 1) == 0) clear(layout.offset[i], layout.bytes[i]);
  }
  for (unsigned i = 0; i < 8; ++i) clear(XsaveLayout::kSt + 16 * i + 10, 6);
  out.image[5] = 0;
  clear(XsaveLayout::kFop, XsaveLayout::kMxcsr - XsaveLayout::kFop);  // instruction and data pointers
  clear(XsaveLayout::kMxcsrMask, 4);
  clear(XsaveLayout::kXmm + 256, XsaveLayout::kHeaderEnd - XsaveLayout::kXmm - 256);
  return out;
}

bool vectors_equal(const State& a, const State& b, const XsaveLayout& layout) {
  if (std::memcmp(a.xsave, b.xsave, sizeof a.xsave) == 0) return true;
  const Vectors x = spelt_out(a, layout), y = spelt_out(b, layout);
  return std::memcmp(x.image, y.image, sizeof x.image) == 0;
}

bool fields_equal(const State& a, const State& b) {
  for (const Field& field : kFields) {
    if (std::memcmp(at(a, field.offset), at(b, field.offset), field.bytes * field.count) != 0) return false;
  }
  return true;
}

class Text {
 public:
  void line(const std::string& name, u64 running, u64 shadow) {
    if (running == shadow) return;
    char buffer[120];
    std::snprintf(buffer, sizeof buffer, "  %-20s %016llx   %016llx\n", name.c_str(),
                  static_cast<unsigned long long>(running), static_cast<unsigned long long>(shadow));
    text_ += buffer;
  }
  std::string text_;
};

}  // namespace

bool states_equal(const State& running, const State& shadow, const XsaveLayout& layout, u64& flags) {
  static_assert(offsetof(State, segment) < offsetof(State, gdtr));
  if (running.rip != shadow.rip || std::memcmp(running.gpr, shadow.gpr, sizeof running.gpr) != 0)
    return false;
  const u64 differing = running.rflags ^ shadow.rflags;
  if ((differing & ~Rflags::arithmetic) != 0) return false;
  flags = differing;
  // Segment has no padding.
  static_assert(sizeof(cpu::Segment) == 16);
  constexpr usize kSegments = offsetof(State, gdtr) - offsetof(State, segment);
  if (std::memcmp(running.segment, shadow.segment, kSegments) != 0) return false;
  constexpr usize kRest = offsetof(State, xsave) - offsetof(State, gdtr);
  if (std::memcmp(&running.gdtr, &shadow.gdtr, kRest) != 0 && !fields_equal(running, shadow)) return false;
  return vectors_equal(running, shadow, layout);
}

unsigned distance(const State& running, const State& shadow) {
  unsigned differing = running.rip != shadow.rip ? 4 : 0;
  for (unsigned i = 0; i < 16; ++i) differing += running.gpr[i] != shadow.gpr[i] ? 2U : 0U;
  if (running.rflags != shadow.rflags) ++differing;
  return differing;
}

namespace {
constexpr const char* kRegisters[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
}  // namespace

std::string general(const State& running, const State& shadow, const State& before) {
  std::string text;
  const auto line = [&](const char* name, u64 a, u64 b, u64 c) {
    char buffer[120];
    std::snprintf(buffer, sizeof buffer, "  %-20s %016llx %c %016llx   %016llx\n", name, static_cast<unsigned long long>(a),
                  a == b ? ' ' : '*', static_cast<unsigned long long>(b), static_cast<unsigned long long>(c));
    text += buffer;
  };
  line("rip", running.rip, shadow.rip, before.rip);
  for (unsigned i = 0; i < 16; ++i) line(kRegisters[i], running.gpr[i], shadow.gpr[i], before.gpr[i]);
  line("rflags", running.rflags, shadow.rflags, before.rflags);
  return text;
}

std::string differences(const State& running, const State& shadow, const XsaveLayout& layout) {
  static constexpr const char* kSegments[8] = {"es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"};
  Text text;
  text.line("rip", running.rip, shadow.rip);
  for (unsigned i = 0; i < 16; ++i) text.line(kRegisters[i], running.gpr[i], shadow.gpr[i]);
  text.line("rflags", running.rflags, shadow.rflags);
  for (unsigned i = 0; i < 8; ++i) {
    const std::string name = kSegments[i];
    const auto segment = [i](const State& s) -> const cpu::Segment& {
      return i < 6 ? s.segment[i] : i == 6 ? s.ldtr : s.tr;
    };
    text.line(name, segment(running).selector, segment(shadow).selector);
    text.line(name + " base", segment(running).base, segment(shadow).base);
    text.line(name + " limit", segment(running).limit, segment(shadow).limit);
    text.line(name + " attributes", segment(running).attributes, segment(shadow).attributes);
  }
  for (const Field& field : kFields) {
    for (unsigned i = 0; i < field.count; ++i) {
      const std::string name = field.count == 1 ? field.name : field.name + std::to_string(i);
      const usize offset = field.offset + i * field.bytes;
      text.line(name, number(at(running, offset), field.bytes), number(at(shadow, offset), field.bytes));
    }
  }
  const Vectors x = spelt_out(running, layout), y = spelt_out(shadow, layout);
  const auto region = [&](const std::string& name, usize offset, usize bytes) {
    for (usize i = 0; i < bytes; i += 8) {
      const usize part = bytes - i < 8 ? bytes - i : 8;
      text.line(name + (i == 0 ? "" : " +" + std::to_string(i)), number(x.image + offset + i, part),
                number(y.image + offset + i, part));
    }
  };
  region("x87 control", 0, 5);
  region("mxcsr", XsaveLayout::kMxcsr, 4);
  for (unsigned i = 0; i < 8; ++i) region("st" + std::to_string(i), XsaveLayout::kSt + 16 * i, 10);
  for (unsigned i = 0; i < 16; ++i) region("xmm" + std::to_string(i), XsaveLayout::kXmm + 16 * i, 16);
  for (unsigned i = 2; i < XsaveLayout::kComponents; ++i) {
    if (layout.offset[i] == 0) continue;
    region("xsave component " + std::to_string(i), layout.offset[i], layout.bytes[i]);
  }
  return text.text_;
}

}  // namespace nacre::lockstep
