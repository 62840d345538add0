// A vCPU that several engines run in turn: at random moments one is stopped and another goes on from its state. For tests: what a
// guest computes must not show it. One processor. docs/adr/0018-kvm-engine.md.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "engine/factory.hpp"

namespace nacre::relay {

struct Options {
  std::vector<engine::Kind> engines;  // at least two; the first begins, and they take turns
  u64 every_ns = 20'000'000;          // on average, between two moves

  [[nodiscard]] bool has(engine::Kind kind) const;
};
// What the environment asks for: NACRE_RELAY=soft,kvm and NACRE_RELAY_EVERY=MS. Nothing: nothing. An Error: what cannot be.
Result<std::optional<Options>> asked();

// What is the machine's to do when the processor changes hands. On its thread, outside guest code.
class Board {
 public:
  virtual void attached(const cpu::State& state) = 0;                      // it is here from now on
  virtual Status lend_apic(engine::Vcpu& to, irq::MessageSink& elsewhere) = 0;  // whose engine has local APICs
  virtual Status take_back_apic(engine::Vcpu& from) = 0;

 protected:
  ~Board() = default;
};

// The engines' groups; doorbells are diverted by whichever can.
Result<std::unique_ptr<engine::Group>> make_group(const Options& options, const memory::AddressSpace& memory);
// EngineContext::group is the above; `board` outlives it.
Result<std::unique_ptr<engine::Vcpu>> make(const Options& options, const engine::EngineContext& context, Board& board);

}  // namespace nacre::relay
