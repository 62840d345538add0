// Trace: what `--log` prints, a line each to a descriptor: instructions, events, ports, MMIO, MSRs. Good
// enough to find out why a boot is silent. Owned by the VM; called on vCPU threads, also while vector
// registers hold the guest's values: general registers only.
#pragma once

#include "base/address.hpp"
#include "engine/context.hpp"
#include "host/tsc_clock.hpp"
#include "vm/line.hpp"

namespace nacre::vm {

struct TraceTopic {
  static constexpr u32 exec = 1 << 0;   // each instruction (interp)
  static constexpr u32 event = 1 << 1;  // exceptions and interrupts
  static constexpr u32 port = 1 << 2;
  static constexpr u32 mmio = 1 << 3;
  static constexpr u32 msr = 1 << 4;
  static constexpr u32 unknown = 1 << 5;  // unknown MSRs and instructions; at most kUnknownLines
  static constexpr u32 last = 1 << 6;     // the last instructions, when the life ends badly (interp)
  static constexpr u32 direct = 1 << 7;   // why programs are not run as themselves
  static constexpr u32 control = 1 << 8;  // changes of CR0, CR3, CR4, EFER, XCR0
  static constexpr u32 block = 1 << 9;    // each block of translated code that is entered (soft)
  static constexpr u32 post = 1 << 10;    // power-on self-test codes
};

// "exec,event,port" as a mask. 0 for an unknown word.
u32 trace_topics(const char* words);

class Trace final : public engine::Tracer {
 public:
  static constexpr unsigned kLast = 64;
  static constexpr unsigned kUnknownLines = 100;

  Trace(u32 topics, int file, const memory::AddressSpace& memory, const host::TscClock& clock)
      : topics_(topics), file_(file), memory_(memory), clock_(clock) {}

  [[nodiscard]] bool wants(u32 topic) const { return (topics_ & topic) != 0; }

  void instruction(const cpu::State& state) override;
  void event(const cpu::State& state, const cpu::Event& event) override;
  void unknown_instruction(const cpu::State& state, const u8* bytes, usize count) override;
  void msr(const cpu::State& state, bool write, u32 number, u64 value, bool known) override;
  void control_registers(const cpu::State& state, const cpu::ControlRegisters& before,
                         const cpu::ControlRegisters& after) override;
  void block(const cpu::State& state) override;

  void port(bool write, u16 number, unsigned size, u32 value);
  void mmio(bool write, GuestPhysical address, unsigned size, u64 value);
  void direct(const char* why_not);
  void post(u8 code);

  // Registers, and the last instructions if they were kept.
  void dump(const cpu::State& state);

 private:
  struct Passed {
    u64 rip = 0, rsp = 0, rax = 0;
    u16 cs = 0;
  };
  [[nodiscard]] bool within_budget();
  // Of an access to a device: written, unless it is the line before once more (a guest that polls).
  void write_access(Line& line);
  // The instruction at `rip` as text, as far as its page can be reached; `text` has x86::kFormattedLength
  // bytes. Only with the interpreter or after the guest's end: it may use vector registers.
  const char* instruction_text(const cpu::State& state, u64 rip, char* text);

  u32 topics_;
  int file_;
  const memory::AddressSpace& memory_;
  const host::TscClock& clock_;
  unsigned unknown_lines_ = 0;
  Line before_;        // the last access
  u64 repeated_ = 0;   // how often it came again
  Passed last_[kLast];
  u64 passed_ = 0;
};

}  // namespace nacre::vm
