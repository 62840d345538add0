// The reference interpreter: one instruction at a time, obvious rather than fast. It is the oracle for
// every other engine, runs what they do not know, and delivers events for them. Everything it does to
// the guest goes through State, AddressSpace and Platform. Freestanding; owned by the vCPU's thread.
// About 800 KiB: make it on the heap.
#pragma once

#include "cpu/mmu.hpp"
#include "cpu/platform.hpp"
#include "cpu/state.hpp"
#include "interp/core.hpp"
#include "interp/fetch.hpp"
#include "memory/address_space.hpp"

namespace nacre::cpu {
class Model;  // cpu/model.hpp: what CPUID says and which MSRs and CR4 bits exist
}

namespace nacre::interp {

class VectorUnit;  // interp/vector_unit.hpp: runs one x87/MMX/SSE/AVX instruction on loaded state

// Told about instructions that decode but that we do not execute: the guest gets #UD. At most
// Interpreter::kMaxReports calls a lifetime.
struct UnknownInstructionHook {
  void (*report)(void* context, const x86::Instruction& instruction, u64 rip) = nullptr;
  void* context = nullptr;
};

enum class StepResult : u8 {
  Executed,  // an instruction completed, or an event was delivered
  Halted,    // state.activity is Halted or WaitForSipi and nothing is deliverable
  Shutdown,  // triple fault: state.activity is Shutdown
};

class Interpreter {
 public:
  // `observer` may be null (no cached translations elsewhere).
  Interpreter(memory::AddressSpace& memory, cpu::Platform& platform, const cpu::Model& model,
              VectorUnit& vector, cpu::TranslationObserver* observer);

  // First delivers what is due (state.pending, NMI, external interrupt when IF is set and there is no
  // shadow); if nothing was, executes one instruction. A REP string instruction may do many iterations
  // in one step but stops for interrupts. An instruction that faults changes nothing but what the
  // architecture says, and delivers its exception in the same step.
  StepResult step(cpu::State& state);

  // As step(), but never looks for interrupts or NMIs first: the translator's "complete this one".
  StepResult execute_one(cpu::State& state);

  // Delivers an event now (exceptions found by another engine, external interrupts). Handles faults in
  // delivery: double fault, then Shutdown. SDM vol. 3, table 6-5.
  StepResult deliver(cpu::State& state, const cpu::Event& event);

  // Delivers a due NMI or external interrupt if the guest can take one now. True when it did.
  bool deliver_due(cpu::State& state);

  // Drops cached translations (another engine or a debugger changed tables or control registers).
  void flush();

  static constexpr unsigned kMaxReports = 16;
  void set_unknown_instruction_hook(UnknownInstructionHook hook) { unknown_ = hook; }

 private:
  bool run(const DecodedInstruction& decoded);
  void report_unknown(const x86::Instruction& instruction);
  bool hits_instruction_breakpoint();
  StepResult finish(bool single_step);

  Core core_;
  Fetcher fetcher_;
  UnknownInstructionHook unknown_;
  unsigned reports_ = 0;
};

}  // namespace nacre::interp
