#include "engine/conformance/compare.hpp"

#include <Zydis/Zydis.h>

#include <cstdio>
#include <cstring>

#include "x86/registers.hpp"

namespace nacre::conformance {
namespace {

using cpu::XsaveLayout;
using x86::Rflags;

constexpr const char* kNames[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                    "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
constexpr unsigned kPageFault = 14;

class Report {
 public:
  void number(const std::string& what, u64 native, u64 engine) {
    if (native == engine) return;
    char line[160];
    std::snprintf(line, sizeof line, "  %s: native %llx, engine %llx\n", what.c_str(),
                  static_cast<unsigned long long>(native), static_cast<unsigned long long>(engine));
    if (++lines_ <= 12) text_ += line;
  }
  void bytes(const std::string& what, const u8* native, const u8* engine, usize count) {
    if (std::memcmp(native, engine, count) == 0) return;
    std::string line =
        "  " + what + ": native " + hex(native, count) + ", engine " + hex(engine, count) + "\n";
    if (++lines_ <= 12) text_ += line;
  }
  // Only the first 16 bytes that differ.
  void region(const char* what, u64 base, const u8* native, const u8* engine, usize count) {
    for (usize i = 0; i < count; i += 16) {
      if (std::memcmp(native + i, engine + i, 16) == 0) continue;
      char where[64];
      std::snprintf(where, sizeof where, "%s %llx", what, static_cast<unsigned long long>(base + i));
      return bytes(where, native + i, engine + i, 16);
    }
  }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  static std::string hex(const u8* bytes, usize count) {
    std::string text;
    for (usize i = count; i-- > 0;) {
      char digits[3];
      std::snprintf(digits, sizeof digits, "%02x", bytes[i]);
      text += digits;
    }
    return text;
  }

  std::string text_;
  unsigned lines_ = 0;
};

void compare_vectors(Report& report, const XsaveLayout& layout, const u8* native, const u8* engine) {
  report.bytes("x87 control, status, tag", native, engine, 5);
  report.bytes("mxcsr", native + XsaveLayout::kMxcsr, engine + XsaveLayout::kMxcsr, 4);
  for (unsigned i = 0; i < 8; ++i) {
    const usize at = XsaveLayout::kSt + 16 * i;
    report.bytes("st" + std::to_string(i), native + at, engine + at, 10);
  }
  for (unsigned i = 0; i < 16; ++i) {
    const usize at = XsaveLayout::kXmm + 16 * i;
    report.bytes("xmm" + std::to_string(i), native + at, engine + at, 16);
  }
  const auto part = [&](unsigned component, const char* name, unsigned bytes, unsigned first) {
    if ((layout.components >> component & 1) == 0) return;
    for (unsigned at = 0; at < layout.bytes[component]; at += bytes) {
      const usize where = usize{layout.offset[component]} + at;
      report.bytes(name + std::to_string(first + at / bytes), native + where, engine + where, bytes);
    }
  };
  part(XsaveLayout::kYmmHigh, "ymm-high", 16, 0);
  part(XsaveLayout::kOpmask, "k", 8, 0);
  part(XsaveLayout::kZmmHigh, "zmm-high", 32, 0);
  part(XsaveLayout::kHi16Zmm, "zmm", 64, 16);
}

// Which of several missing bytes is reported is the processor's own affair: with two operands in memory, and
// for images that its microcode moves piece by piece.
bool fault_address_is_defined(const x86::Instruction& instruction) {
  switch (instruction.info->operation) {
    case x86::Operation::Cmps:
    case x86::Operation::Movs:
    case x86::Operation::Fldenv:
    case x86::Operation::Fnstenv:
    case x86::Operation::Fnsave:
    case x86::Operation::Frstor:
      return false;
    default:
      return true;
  }
}

bool is_branch(const x86::Instruction& instruction) {
  const x86::Class kind = instruction.info->kind;
  return kind == x86::Class::Jump || kind == x86::Class::Call || kind == x86::Class::Return;
}

}  // namespace

Ignored ignored_for(const x86::Instruction& instruction, const Outcome& native, Tolerance tolerance) {
  constexpr u8 kBreakpoint = 3, kStackFault = 12, kProtection = 13;
  Ignored ignored;
  ignored.flags = instruction.info->flags_undefined;
  if (tolerance.flags_of_faulting_instruction && native.vector != kBreakpoint) {
    ignored.flags |= instruction.info->flags_written;
  }
  ignored.fault_address = !fault_address_is_defined(instruction);
  ignored.everything = tolerance.noncanonical_branch_faults_at_target && is_branch(instruction) &&
                       native.vector == kProtection;
  // A call whose stack and target are both non-canonical: which of #SS and #GP comes first.
  if (instruction.info->kind == x86::Class::Call && native.vector == kStackFault) ignored.everything = true;
  // A popa that faults in its middle: how much of it was done.
  if (instruction.info->operation == x86::Operation::Popa && native.vector != kBreakpoint)
    ignored.everything = true;
  ignored.upper_halves = ignored.segment_end = instruction.code_size != x86::CodeSize::Bits64;
  return ignored;
}

std::string differences(const XsaveLayout& layout, const Outcome& native, const Outcome& engine,
                        const Ignored& ignored) {
  if (ignored.everything) return {};
  const auto protection_or_page = [](u8 vector) {
    return vector == 12 || vector == 13 || vector == kPageFault;
  };
  if (ignored.segment_end && native.vector != engine.vector && protection_or_page(native.vector) &&
      protection_or_page(engine.vector)) {
    return {};
  }
  Report report;
  report.number("vector", native.vector, engine.vector);
  if (native.vector == engine.vector && native.vector == kPageFault) {
    // Linux hides what it knows of addresses that are not the program's own.
    if (native.cr2 < u64{1} << 47) report.number("error code", native.error_code, engine.error_code);
    if (!ignored.fault_address) report.number("cr2", native.cr2, engine.cr2);
  }
  report.number("rip", native.after.rip, engine.after.rip);
  const u64 flags = (Rflags::arithmetic | Rflags::DF) & ~ignored.flags;
  report.number("rflags", native.after.rflags & flags, engine.after.rflags & flags);
  const u64 mask = ignored.upper_halves ? 0xffffffff : ~u64{0};
  for (unsigned i = 0; i < 16; ++i) {
    report.number(kNames[i], native.after.gpr[i] & mask, engine.after.gpr[i] & mask);
  }
  compare_vectors(report, layout, native.after.xsave, engine.after.xsave);
  report.region("memory", kData, native.data, engine.data, kDataBytes);
  return report.text();
}

std::string system_differences(const cpu::State& reference, const cpu::State& engine) {
  constexpr const char* kSegments[6] = {"es", "cs", "ss", "ds", "fs", "gs"};
  Report report;
  report.number("cr0", reference.cr0, engine.cr0);
  report.number("cr2", reference.cr2, engine.cr2);
  report.number("cr3", reference.cr3, engine.cr3);
  report.number("cr4", reference.cr4, engine.cr4);
  report.number("xcr0", reference.xcr0, engine.xcr0);
  report.number("efer", reference.efer, engine.efer);
  report.number("kernel gs base", reference.kernel_gs_base, engine.kernel_gs_base);
  report.number("dr6", reference.dr6, engine.dr6);
  report.number("dr7", reference.dr7, engine.dr7);
  report.number("activity", static_cast<u64>(reference.activity), static_cast<u64>(engine.activity));
  for (unsigned i = 0; i < 6; ++i) {
    const std::string name = kSegments[i];
    report.number(name, reference.segment[i].selector, engine.segment[i].selector);
    report.number(name + " base", reference.segment[i].base, engine.segment[i].base);
    report.number(name + " limit", reference.segment[i].limit, engine.segment[i].limit);
    report.number(name + " attributes", reference.segment[i].attributes, engine.segment[i].attributes);
  }
  return report.text();
}

std::string describe(const Case& test) {
  std::string text;
  const ZydisMachineMode mode = test.code_size == x86::CodeSize::Bits64 ? ZYDIS_MACHINE_MODE_LONG_64
                                                                        : ZYDIS_MACHINE_MODE_LONG_COMPAT_32;
  unsigned at = 0;
  while (at < test.code_bytes) {
    ZydisDisassembledInstruction disassembled;
    const bool known = ZYAN_SUCCESS(ZydisDisassembleIntel(mode, test.before.rip + at, test.code + at,
                                                          test.code_bytes - at, &disassembled));
    const unsigned length = known ? disassembled.info.length : test.code_bytes - at;
    for (unsigned i = 0; i < length; ++i) {
      char byte[4];
      std::snprintf(byte, sizeof byte, "%02x ", test.code[at + i]);
      text += byte;
    }
    text += "  ";
    text += known ? disassembled.text : "(unknown to Zydis)";
    text += "\n";
    at += length;
  }
  char line[200];
  std::snprintf(line, sizeof line, "  at %llx, rflags %llx\n ",
                static_cast<unsigned long long>(test.before.rip),
                static_cast<unsigned long long>(test.before.rflags));
  text += line;
  for (unsigned i = 0; i < 16; ++i) {
    std::snprintf(line, sizeof line, " %s=%llx%s", kNames[i],
                  static_cast<unsigned long long>(test.before.gpr[i]), i == 7 ? "\n " : "");
    text += line;
  }
  return text + "\n";
}

}  // namespace nacre::conformance
