// What an engine is made from, for one vCPU. Everything outlives the Vcpu.
#pragma once

#include <atomic>

#include "cpu/platform.hpp"
#include "cpu/state.hpp"
#include "irq/message.hpp"
#include "memory/address_space.hpp"

namespace nacre::cpu {
class Model;
}

namespace nacre::engine {

// Told of what is worth tracing inside the processor; null when nobody asked. Called on the vCPU's
// thread, possibly while vector registers hold the guest's values: implementations use general registers
// only.
class Tracer {
 public:
  // Before the instruction at state.rip; only when --log exec was given (interp only).
  virtual void instruction(const cpu::State& state) = 0;
  // An exception or interrupt was taken; `state` is as it was before. Optional for an engine.
  virtual void event(const cpu::State& state, const cpu::Event& event) = 0;
  // An instruction that this engine and the interpreter both do not know: #UD was delivered. Rate-limited.
  virtual void unknown_instruction(const cpu::State& state, const u8* bytes, usize count) = 0;
  // As interp::StepListener's; only when EngineContext::trace_system_registers.
  virtual void msr(const cpu::State& state, bool write, u32 number, u64 value, bool known) = 0;
  virtual void control_registers(const cpu::State& state, const cpu::ControlRegisters& before,
                                 const cpu::ControlRegisters& after) = 0;
  // Translated code is entered at state.rip; only when EngineContext::trace_blocks (soft only).
  virtual void block(const cpu::State& state) = 0;

 protected:
  ~Tracer() = default;
};

// Whether the soft engine runs guest user code in a process of its own (engine/direct). Auto: when it computes for long.
// Always: whenever that is possible at all, however short; slow, for tests.
enum class DirectMode : u8 { Off, Auto, Always };

// What the processors of one guest share, as their engine knows it. Outlives them.
class Group {
 public:
  virtual ~Group() = default;
  // Where messages to local APICs go if the processors of this engine have their own; null: they have the board's.
  // Under the board's lock, from any thread of the machine.
  virtual irq::MessageSink* local_apics() { return nullptr; }
  // Writes to `address`, of any width, no longer reach the Platform but make `event` (an eventfd) readable; or no longer
  // do. False: they cannot. Under the board's lock, by a processor's thread or the one that does input and output.
  virtual bool divert_writes(GuestPhysical address, int event) {
    static_cast<void>(address), static_cast<void>(event);
    return false;
  }
  virtual void give_back_writes(GuestPhysical address, int event) { static_cast<void>(address), static_cast<void>(event); }
};

struct EngineContext {
  memory::AddressSpace& memory;
  // Calls take the board's lock, but for tsc(), random() and interrupt_pending(), the latter being one
  // atomic load while nothing is pending. They use general registers only.
  cpu::Platform& platform;
  const cpu::Model& model;
  Tracer* tracer = nullptr;
  bool trace_instructions = false;
  bool trace_system_registers = false;
  bool trace_blocks = false;  // slow: no block then leads to another by itself
  // While it reads false, platform.interrupt_pending() would too. Null: not offered.
  const std::atomic<bool>* interrupt_hint = nullptr;
  bool native_tsc = false;  // platform.tsc() is the host's RDTSC
  DirectMode direct = DirectMode::Off;
  u64 tsc_hz = 0;           // of the host's TSC; 0: not known
  Group* group = nullptr;   // from make_group(); null: this processor is the only one
  unsigned number = 0;      // of the processor in its group
  int ram_file = -1;        // the memfd behind RAM, for engines that map it a second time
};

}  // namespace nacre::engine
