// A machine that several engines run in turn: at random moments all its processors are stopped, and another engine goes on from
// their states. For tests: what a guest computes must not show it. docs/adr/0018-kvm-engine.md.
#pragma once

#include <memory>
#include <optional>
#include <span>
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

// What is the machine's to do when its processors change hands. From within processor 0's run().
class Board {
 public:
  // Until go_on() all other processors are outside run(), and nobody touches what they are; afterwards those that slept
  // look around.
  virtual void stop_others() = 0;
  virtual void go_on() = 0;
  virtual void attached(unsigned processor, const cpu::State& state) = 0;  // it is here from now on
  // All at once, to and from an engine that has local APICs of its own. `vcpus`: by number.
  virtual Status lend_apics(std::span<engine::Vcpu* const> vcpus, irq::MessageSink& elsewhere) = 0;
  virtual Status take_back_apics(std::span<engine::Vcpu* const> vcpus) = 0;

 protected:
  ~Board() = default;
};

// The engines' groups; doorbells are diverted by whichever can. `board` outlives it.
Result<std::unique_ptr<engine::Group>> make_group(const Options& options, const memory::AddressSpace& memory, unsigned processors,
                                                  Board& board);
// EngineContext::group is the above.
Result<std::unique_ptr<engine::Vcpu>> make(const Options& options, const engine::EngineContext& context);

}  // namespace nacre::relay
