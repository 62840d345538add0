// The reference interpreter: one instruction at a time, obvious rather than fast. It is the oracle for
// every other engine, runs what they do not know, and delivers events for them. Everything it does to
// the guest goes through State, AddressSpace and Platform. Freestanding; owned by the vCPU's thread.
// About 600 KiB: make it on the heap.
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

// Told of what is worth tracing. Called on the vCPU's thread; implementations use general registers only,
// as vector registers may hold the guest's values.
class StepListener {
 public:
  // An instruction that decodes and that nobody executes: the guest gets #UD. At most
  // Interpreter::kMaxReports calls a lifetime.
  virtual void unknown_instruction(const cpu::State& state, const x86::Instruction& instruction) = 0;
  // An exception, interrupt or NMI is about to be delivered; those that arise in delivery come again.
  virtual void event(const cpu::State& state, const cpu::Event& event) = 0;
  // RDMSR or WRMSR; not known: no such register, or a value it does not take. `state` is as it is afterwards.
  virtual void msr(const cpu::State& state, bool write, u32 number, u64 value, bool known) = 0;
  virtual void control_registers(const cpu::State& state, const cpu::ControlRegisters& before,
                                 const cpu::ControlRegisters& after) = 0;

 protected:
  ~StepListener() = default;
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

  // Like step() up to `count` times, as long as they execute something, but looks for interrupts before the
  // first only; so it ends early where the guest opens an interrupt window or changes the task priority.
  // Faster than step(), and as exact for everything but when an interrupt that comes meanwhile is taken.
  StepResult run(cpu::State& state, unsigned count);

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
  void set_listener(StepListener* listener) { listener_ = listener; }
  // Tells the listener of MSRs and control registers too.
  void tell_system_registers() { tells_system_registers_ = true; }

 private:
  StepResult execute_next();
  bool execute(const DecodedInstruction& decoded);
  bool execute_told(const DecodedInstruction& decoded);
  void report_unknown(const x86::Instruction& instruction);
  bool hits_instruction_breakpoint();
  StepResult finish(bool single_step);

  Core core_;
  Fetcher fetcher_;
  StepListener* listener_ = nullptr;
  unsigned reports_ = 0;
  bool tells_system_registers_ = false;
};

}  // namespace nacre::interp
