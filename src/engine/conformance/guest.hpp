// Runs cases on an engine: a guest in 64-bit mode whose page tables map the case's linear addresses for user
// code, and whose interrupt table leads every vector to an HLT, so that any engine::Vcpu comes back with
// Halted and the exception frame tells what happened. Hosted; tests only; one thread.
#pragma once

#include <atomic>
#include <memory>

#include "base/result.hpp"
#include "cpu/model.hpp"
#include "engine/conformance/quiet_platform.hpp"
#include "engine/conformance/test_case.hpp"
#include "engine/context.hpp"
#include "engine/engine.hpp"
#include "engine/factory.hpp"
#include "host/mapping.hpp"
#include "memory/address_space.hpp"

namespace nacre::conformance {

// Where the supervisor may write the code page of a case.
inline constexpr u64 kCodeAlias = 0xffffff8000020000;

class Guest {
 public:
  static Result<std::unique_ptr<Guest>> create(engine::Kind kind);

  void run(const Case& test, Outcome& outcome);

  // The same in steps: load, run the vCPU until it halts, store. load() lets the guest itself write the code;
  // reset() takes the code as it is, and with Mappings::Kept what the engine remembers of the page tables too.
  enum class Mappings : u8 { Kept, Dropped };
  void load(const Case& test);
  void reset(const Case& test, Mappings mappings);
  void store(Outcome& outcome);
  [[nodiscard]] engine::Vcpu& vcpu() { return *vcpu_; }
  [[nodiscard]] const cpu::Model& model() const { return model_; }
  // As the last run() left it.
  [[nodiscard]] const cpu::State& state() { return vcpu_->state(); }

 private:
  explicit Guest(cpu::Model model) : model_(std::move(model)) {}

  void build_tables();
  void load_code(const Case& test);
  void run_until_halted();
  void write(u64 physical, u64 value);

  cpu::Model model_;
  QuietPlatform platform_;
  memory::AddressSpace memory_;
  host::Mapping ram_;
  u8 page_flags_[512] = {};
  std::atomic<bool> interrupt_hint_ = false;
  cpu::State initial_;
  std::unique_ptr<engine::Vcpu> vcpu_;
  u64 code_at_ = 0, code_length_ = 0;  // of the case in the code page
};

}  // namespace nacre::conformance
