// Direct: runs 64-bit ring-3 guest code as itself, in a stub process that has guest RAM mapped as the guest's page
// tables say and can do nothing else. docs/adr/0004-direct-execution.md. An engine asks wanted() before user
// code, calls run(), and does by its usual means what user code came back for; it forwards flushes, and what
// becomes code or is written as code. Everything on the vCPU's thread; interrupt() from its signal handlers.
#pragma once

#include <atomic>
#include <memory>

#include "cpu/state.hpp"
#include "engine/direct/mappings.hpp"
#include "engine/direct/policy.hpp"
#include "engine/direct/stub_process.hpp"

namespace nacre::direct {

enum class Outcome : u8 {
  Declined,   // nothing happened: go on as if there were no direct execution
  Returned,   // the state is current; look at everything again
  Interpret,  // … and the interpreter must execute the instruction at RIP
  Foreign,    // … and so must the code of RIP's page, which holds what must not run natively
  Failed,     // the stub is lost, and the guest's registers with it
};

struct Statistics {
  u64 runs = 0, faults = 0, orders = 0, kicks = 0, declined = 0, native_ticks = 0;
};

class Direct {
 public:
  // `vector_components`: the XSAVE components that State::xsave keeps.
  Direct(memory::AddressSpace& memory, int ram_file, cpu::TranslationObserver& observer, CodeGuard& guard,
         u64 vector_components, u64 tsc_hz);

  // Whether user code in this state is to run here.
  [[nodiscard]] bool wanted(const cpu::State& state) {
    return !given_up_ && policy_.direct(state.cr3) && possible(state);
  }
  // Vector state must be in State::xsave. Comes back at once when `exit_request` is not 0.
  [[nodiscard]] Outcome run(cpu::State& state, const volatile u32& exit_request);
  void interrupt() {
    if (running_.load(std::memory_order_relaxed)) stub_->interrupt();
  }

  // User code was running, by whatever means, when the timer came.
  void user_interrupted(const cpu::State& state);

  // The translator is to have this address space for a while.
  void refuse(const cpu::State& state);

  [[nodiscard]] Mappings& mappings() { return mappings_; }
  [[nodiscard]] const Statistics& statistics() const { return statistics_; }
  // Runs everything possible, whatever the policy (tests).
  void force() { forced_ = true; }
  [[nodiscard]] bool forced(const cpu::State& state) const { return forced_ && !given_up_ && possible(state); }
  // Null while direct execution works, or has not been tried.
  [[nodiscard]] const char* why_not() const { return given_up_ ? reason_.message() : nullptr; }

 private:
  [[nodiscard]] bool possible(const cpu::State& state) const;
  [[nodiscard]] bool prepare(const cpu::State& state);
  [[nodiscard]] bool guest_is_in_the_way(const cpu::State& state);
  void give(const cpu::State& state, const StubProcess::Frame& frame);
  void take(cpu::State& state, const StubProcess::Frame& frame);
  [[nodiscard]] Outcome explain(cpu::State& state, i32 signal, i32 code, u64 address, u64 trap);
  void load_segment(cpu::State& state, unsigned segment, u16 selector);

  memory::AddressSpace& memory_;
  int ram_file_;
  cpu::TranslationObserver& observer_;
  u64 vector_components_;
  u64 host_xcr0_;
  usize xsave_bytes_;
  Mappings mappings_;
  Policy policy_;
  std::unique_ptr<StubProcess> stub_;
  std::atomic<bool> running_{false};
  bool given_up_ = false, forced_ = false;
  Error reason_;
  Statistics statistics_;
};

}  // namespace nacre::direct
