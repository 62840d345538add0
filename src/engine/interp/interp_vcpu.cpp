#include "engine/interp/interp_vcpu.hpp"

#include <atomic>

#include "engine/hosted_vector_unit.hpp"
#include "host/signals.hpp"
#include "interp/interpreter.hpp"

namespace nacre::engine {
namespace {

using interp::Interpreter;
using interp::StepResult;

// Instructions between two looks at kicks and interrupts.
constexpr unsigned kBatch = 64;

class InterpVcpu final : public Vcpu, private interp::StepListener {
 public:
  InterpVcpu(const EngineContext& context, std::unique_ptr<HostedVectorUnit> vector)
      : context_(context),
        vector_(std::move(vector)),
        interpreter_(context.memory, context.platform, context.model, vector_->unit(), nullptr) {
    cpu::reset(state_, false);
    if (context.tracer == nullptr) return;
    interpreter_.set_listener(this);
    if (context.trace_system_registers) interpreter_.tell_system_registers();
  }

  Exit run() override {
    host::FaultScope scope(*vector_);
    return context_.tracer != nullptr && context_.trace_instructions ? run_traced() : run_plain();
  }
  void kick() override { kicked_.store(true, std::memory_order_release); }
  cpu::State& state() override { return state_; }
  void state_changed() override { interpreter_.flush(); }
  void activity_changed() override {}
  void memory_changed(GuestPhysical, u64) override {}  // every instruction is read anew

 private:
  void unknown_instruction(const cpu::State& state, const x86::Instruction& instruction) override {
    context_.tracer->unknown_instruction(state, instruction.bytes, instruction.length);
  }
  void event(const cpu::State& state, const cpu::Event& event) override {
    context_.tracer->event(state, event);
  }

  void msr(const cpu::State& state, bool write, u32 number, u64 value, bool known) override {
    context_.tracer->msr(state, write, number, value, known);
  }
  void control_registers(const cpu::State& state, const cpu::ControlRegisters& before,
                         const cpu::ControlRegisters& after) override {
    context_.tracer->control_registers(state, before, after);
  }

  [[nodiscard]] bool take_kick() {
    // A load first: the exchange is a locked instruction, and this is asked often.
    return kicked_.load(std::memory_order_relaxed) && kicked_.exchange(false, std::memory_order_acquire);
  }

  static Exit exit_of(StepResult result) {
    return {result == StepResult::Halted ? ExitReason::Halted : ExitReason::Shutdown, Error{}};
  }

  Exit run_plain() {
    while (!take_kick()) {
      const StepResult result = interpreter_.run(state_, kBatch);
      if (result != StepResult::Executed) return exit_of(result);
    }
    return {};
  }

  Exit run_traced() {
    while (!take_kick()) {
      context_.tracer->instruction(state_);
      const StepResult result = interpreter_.step(state_);
      if (result != StepResult::Executed) return exit_of(result);
    }
    return {};
  }

  EngineContext context_;
  std::unique_ptr<HostedVectorUnit> vector_;
  Interpreter interpreter_;
  std::atomic<bool> kicked_ = false;
  cpu::State state_;
};

}  // namespace

Result<std::unique_ptr<Vcpu>> make_interp(const EngineContext& context) {
  auto vector = TRY(HostedVectorUnit::create());
  return std::unique_ptr<Vcpu>(std::make_unique<InterpVcpu>(context, std::move(vector)));
}

}  // namespace nacre::engine
