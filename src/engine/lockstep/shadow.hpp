// Shadow: the interpreter's side of a lock-step run with `soft`: a copy of the guest's memory, the interpreter on it, and
// which pages it wrote. Owned by the vCPU's thread.
#pragma once

#include <memory>
#include <vector>

#include "engine/context.hpp"
#include "engine/hosted_vector_unit.hpp"
#include "engine/lockstep/memory_copy.hpp"
#include "engine/lockstep/platforms.hpp"
#include "interp/interpreter.hpp"

namespace nacre::lockstep {

class Shadow final : public cpu::TranslationObserver, private interp::StepListener {
 public:
  // `context` is the running engine's.
  static Result<std::unique_ptr<Shadow>> create(const engine::EngineContext& context, Log& log);

  // Makes memory as the running engine's is. Not on a confined thread: asks where the RAM file has holes.
  void mirror(int ram_file) { copy_.mirror(ram_file); }

  // An event that is due, or else one instruction.
  void step();
  [[nodiscard]] bool can_step() const;

  cpu::State state;
  [[nodiscard]] Replayer& replayer() { return replayer_; }
  [[nodiscard]] engine::HostedVectorUnit& vector() { return *vector_; }
  [[nodiscard]] const memory::AddressSpace& memory() const { return memory_; }
  void flush() { interpreter_->flush(); }

  // The event that the last step delivered; Kind::None when it was an instruction.
  [[nodiscard]] const cpu::Event& delivered() const { return delivered_; }

  using Difference = MemoryCopy::Difference;
  using Allowed = MemoryCopy::Allowed;
  using Found = MemoryCopy::Found;
  // Compares the pages written with the running engine's.
  bool pages_equal(const Allowed& allowed, Found& found, std::vector<Difference>* differences) const;
  // Takes over what was allowed to differ.
  void adopt_pages();
  void forget_written();

  // An entry of a page table was marked accessed or dirty, on either side.
  void table_marked(GuestPhysical entry) override;

  // Compares all pages that either side has touched. False: `difference` is the first.
  bool all_equal(Found& found, std::vector<Difference>& differences) { return copy_.all_equal(found, differences); }

 private:
  Shadow(const engine::EngineContext& context, MemoryCopy copy, std::unique_ptr<engine::HostedVectorUnit> vector, Log& log);

  void flush_all() override {}
  void flush_non_global() override {}
  void flush_page(GuestLinear) override {}
  void code_written(GuestPhysical address, usize bytes) override;
  void unknown_instruction(const cpu::State&, const x86::Instruction&) override {}
  void event(const cpu::State&, const cpu::Event& event) override { delivered_ = event; }
  void msr(const cpu::State&, bool, u32, u64, bool) override {}
  void control_registers(const cpu::State&, const cpu::ControlRegisters&,
                         const cpu::ControlRegisters&) override {}

  MemoryCopy copy_;
  memory::AddressSpace memory_;
  std::unique_ptr<engine::HostedVectorUnit> vector_;
  Replayer replayer_;
  std::unique_ptr<interp::Interpreter> interpreter_;
  cpu::Event delivered_;
  std::vector<usize> written_;    // pages, each once
  std::vector<bool> is_written_;  // by page
};

}  // namespace nacre::lockstep
