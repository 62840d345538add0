#include "vm/trace.hpp"

#include <unistd.h>

#include "cpu/mmu.hpp"
#include "vm/line.hpp"
#include "x86/format.hpp"

namespace nacre::vm {
namespace {

struct Word {
  const char* text;
  u32 topics;
};
constexpr Word kWords[] = {
    {"exec", TraceTopic::exec},        {"event", TraceTopic::event},     {"int", TraceTopic::event},
    {"port", TraceTopic::port},        {"io", TraceTopic::port},         {"mmio", TraceTopic::mmio},
    {"msr", TraceTopic::msr},          {"unknown", TraceTopic::unknown}, {"last", TraceTopic::last},
    {"direct", TraceTopic::direct},    {"control", TraceTopic::control},
    {"block", TraceTopic::block},      {"post", TraceTopic::post},       {"all", ~(TraceTopic::last | TraceTopic::block) & 0x7ff},
};

u32 topic_of(const char* text, usize length) {
  for (const Word& word : kWords) {
    usize i = 0;
    while (i < length && word.text[i] == text[i] && word.text[i] != 0) ++i;
    if (i == length && word.text[i] == 0) return word.topics;
  }
  return 0;
}

const char* kind_name(cpu::Event::Kind kind) {
  using Kind = cpu::Event::Kind;
  switch (kind) {
    case Kind::None:
      return "nothing";
    case Kind::Exception:
      return "exception";
    case Kind::ExternalInterrupt:
      return "interrupt";
    case Kind::Nmi:
      return "nmi";
    case Kind::SoftwareInterrupt:
      return "int";
  }
  return "?";
}

}  // namespace

u32 trace_topics(const char* words) {
  u32 topics = 0;
  const char* start = words;
  for (const char* at = words;; ++at) {
    if (*at != ',' && *at != 0) continue;
    const u32 topic = topic_of(start, static_cast<usize>(at - start));
    if (topic == 0) return 0;
    topics |= topic;
    if (*at == 0) return topics;
    start = at + 1;
  }
}

const char* Trace::instruction_text(const cpu::State& state, u64 rip, char* text) {
  const cpu::Segment& code = state.segment[x86::CS];
  const bool wide = state.in_64bit_code();
  const u64 linear = wide ? rip : (code.base + rip) & 0xffffffff;
  const auto privilege = state.cpl() == 3 ? cpu::Privilege::User : cpu::Privilege::Supervisor;
  const auto page =
      cpu::walk(state, memory_, nullptr, GuestLinear(linear), cpu::AccessType::Execute, privilege);
  if (!page) return "(not mapped)";
  const GuestPhysical address = page.value().address;
  const u8* bytes = memory_.host(address, false);
  if (bytes == nullptr) return "(not in memory)";
  const u64 left = kPageSize - address.page_offset();
  const bool big = (code.attributes & cpu::SegmentAttributes::DB) != 0;
  const auto size = wide ? x86::CodeSize::Bits64 : big ? x86::CodeSize::Bits32 : x86::CodeSize::Bits16;
  x86::Instruction decoded;
  if (x86::decode(bytes, left, size, decoded) != x86::DecodeStatus::Ok)
    return "(undefined, or goes on in the next page)";
  x86::format(decoded, rip, text, x86::kFormattedLength);
  return text;
}

void Trace::instruction(const cpu::State& state) {
  if (wants(TraceTopic::last)) {
    last_[passed_++ % kLast] = {state.rip, state.gpr[x86::RSP], state.gpr[x86::RAX],
                                state.segment[x86::CS].selector};
  }
  if (!wants(TraceTopic::exec)) return;
  Line line;
  char text[x86::kFormattedLength];
  line.text("exec ").hex(state.segment[x86::CS].selector).text(":").hex(state.rip);
  line.text("  ").text(instruction_text(state, state.rip, text)).text(" ;");
  static constexpr const char* kNames[16] = {" ax=", " cx=", " dx=", " bx=", " sp=", " bp=", " si=", " di=",
                                             " 8=",  " 9=",  " 10=", " 11=", " 12=", " 13=", " 14=", " 15="};
  for (unsigned i = 0; i < 16; ++i) line.text(kNames[i]).hex(state.gpr[i]);
  line.text(" fl=").hex(state.rflags).write_to(file_);
}

void Trace::event(const cpu::State& state, const cpu::Event& event) {
  if (!wants(TraceTopic::event)) return;
  Line line;
  line.text(kind_name(event.kind)).text(" ").hex(event.vector);
  if (event.has_error_code) line.text(" error ").hex(event.error_code);
  if (event.kind == cpu::Event::Kind::Exception && event.vector == 14) line.text(" address ").hex(event.cr2);
  line.text(" at ")
      .hex(state.segment[x86::CS].selector)
      .text(":")
      .hex(state.rip)
      .text(" sp ")
      .hex(state.gpr[x86::RSP]);
  line.text(" time ").decimal(clock_.now() / 1000).text(" us").write_to(file_);
}

bool Trace::within_budget() {
  if (unknown_lines_ >= kUnknownLines) return false;
  if (++unknown_lines_ == kUnknownLines)
    Line().text("(further lines of this kind are left out)").write_to(file_);
  return unknown_lines_ < kUnknownLines;
}

void Trace::unknown_instruction(const cpu::State& state, const u8* bytes, usize count) {
  if (!wants(TraceTopic::unknown) || !within_budget()) return;
  Line line;
  line.text("unknown instruction at ").hex(state.rip).text(":");
  for (usize i = 0; i < count && i < 15; ++i) line.text(" ").byte(bytes[i]);
  line.write_to(file_);
}

// Only the I/O thread and one vCPU at a time trace accesses: those come one by one, but for other processors' threads,
// for whom a line may be counted to the wrong one.
void Trace::write_access(Line& line) {
  if (line == before_) {
    ++repeated_;
    return;
  }
  if (repeated_ != 0) Line().text("(the same ").decimal(repeated_).text(" times more)").write_to(file_);
  repeated_ = 0;
  before_ = line;
  line.write_to(file_);
}

void Trace::port(bool write, u16 number, unsigned size, u32 value) {
  if (!wants(TraceTopic::port)) return;
  Line line;
  line.text(write ? "out " : "in ").hex(number).text("/").decimal(size).text(write ? " <- " : " -> ").hex(value);
  write_access(line);
}

void Trace::mmio(bool write, GuestPhysical address, unsigned size, u64 value) {
  if (!wants(TraceTopic::mmio)) return;
  Line line;
  line.text(write ? "mmio write " : "mmio read ").hex(address.value()).text("/").decimal(size);
  line.text(write ? " <- " : " -> ").hex(value);
  write_access(line);
}

void Trace::direct(const char* why_not) {
  if (!wants(TraceTopic::direct)) return;
  Line line;
  line.text("direct: programs are translated, not run as themselves: ").text(why_not);
  line.write_to(file_);
}

void Trace::post(u8 code) {
  if (!wants(TraceTopic::post)) return;
  Line().text("post ").hex(code).text(" time ").decimal(clock_.now() / 1000).text(" us").write_to(file_);
}

void Trace::msr(const cpu::State& state, bool write, u32 number, u64 value, bool known) {
  const bool report_unknown = !known && wants(TraceTopic::unknown) && within_budget();
  if (!wants(TraceTopic::msr) && !report_unknown) return;
  Line line;
  line.text(write ? "wrmsr " : "rdmsr ").hex(number);
  if (known || write) line.text(write ? " <- " : " -> ").hex(value);
  if (!known) line.text(" at ").hex(state.rip).text(" (no such register or value: #GP)");
  write_access(line);
}

void Trace::control_registers(const cpu::State& state, const cpu::ControlRegisters& before,
                              const cpu::ControlRegisters& after) {
  if (!wants(TraceTopic::control)) return;
  Line line;
  const auto one = [&line](const char* name, u64 old, u64 now) {
    if (old != now) line.text(name).text(" ").hex(old).text(" -> ").hex(now).text(" ");
  };
  one("cr0", before.cr0, after.cr0);
  one("cr3", before.cr3, after.cr3);
  one("cr4", before.cr4, after.cr4);
  one("efer", before.efer, after.efer);
  one("xcr0", before.xcr0, after.xcr0);
  line.text("at ").hex(state.rip).write_to(file_);
}

void Trace::block(const cpu::State& state) {
  if (!wants(TraceTopic::block)) return;
  Line().text("block ").hex(state.segment[x86::CS].selector).text(":").hex(state.rip).write_to(file_);
}

void Trace::dump(const cpu::State& state) {
  if (wants(TraceTopic::last)) {
    const u64 count = passed_ < kLast ? passed_ : kLast;
    for (u64 i = passed_ - count; i < passed_; ++i) {
      const Passed& one = last_[i % kLast];
      char text[x86::kFormattedLength];
      Line()
          .text("last ")
          .hex(one.cs)
          .text(":")
          .hex(one.rip)
          .text("  ")
          .text(instruction_text(state, one.rip, text))
          .text(" ; sp=")
          .hex(one.rsp)
          .text(" ax=")
          .hex(one.rax)
          .write_to(file_);
    }
  }
  static constexpr const char* kNames[16] = {"rax ",  " rcx ", " rdx ", " rbx ", "rsp ",  " rbp ",
                                             " rsi ", " rdi ", "r8  ",  " r9  ", " r10 ", " r11 ",
                                             "r12 ",  " r13 ", " r14 ", " r15 "};
  for (unsigned row = 0; row < 16; row += 4) {
    Line line;
    for (unsigned i = row; i < row + 4; ++i) line.text(kNames[i]).hex16(state.gpr[i]);
    line.write_to(file_);
  }
  Line()
      .text("rip ")
      .hex16(state.rip)
      .text(" rflags ")
      .hex(state.rflags)
      .text(" cs ")
      .hex(state.segment[x86::CS].selector)
      .text(" base ")
      .hex(state.segment[x86::CS].base)
      .text(" ss ")
      .hex(state.segment[x86::SS].selector)
      .write_to(file_);
  Line()
      .text("cr0 ")
      .hex(state.cr0)
      .text(" cr2 ")
      .hex(state.cr2)
      .text(" cr3 ")
      .hex(state.cr3)
      .text(" cr4 ")
      .hex(state.cr4)
      .text(" efer ")
      .hex(state.efer)
      .text(" idt ")
      .hex(state.idtr.base)
      .text(" gdt ")
      .hex(state.gdtr.base)
      .write_to(file_);
}

}  // namespace nacre::vm
