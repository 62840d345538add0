// Direct: runs 64-bit ring-3 guest code as itself, in a stub process that has guest RAM mapped as the guest's
// page tables say and can do nothing else. docs/adr/0010-direct-execution.md. An engine asks wanted() before
// user code, calls run(), and does by its usual means what user code came back for; it forwards flushes, and
// what becomes code or is written as code. Everything on the vCPU's thread; interrupt() from its signal
// handlers and from any other thread.
#pragma once

#include <atomic>
#include <memory>

#include "base/sanitizer.hpp"
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
  u64 runs = 0, faults = 0, orders = 0, kicks = 0, declined = 0, native_ns = 0;
};

struct DirectOptions {
  int ram_file = -1;
  u64 vector_components = 0;  // the XSAVE components that State::xsave keeps
  u64 tsc_hz = 0;             // of the host; 0: not known
  bool native_tsc = false;    // the guest's TSC is the host's, but for State::tsc_offset
  bool always = false;        // whatever is possible, whatever the policy says (tests)
};

class Direct {
 public:
  Direct(memory::AddressSpace& memory, cpu::TranslationObserver& observer, PageClaims& claims,
         const DirectOptions& options);

  // Makes the stub process. On the thread that will call run(), before it is confined.
  Status start();

  // Whether user code in this state is to run here.
  [[nodiscard]] bool wanted(const cpu::State& state) {
    return stub_ != nullptr && (always_ || policy_.direct(state.cr3)) && possible(state);
  }
  // Vector state must be in State::xsave. `inside` is kInside while guest code may use the stub's mappings; after
  // that is said, and before any guest code runs, `exit_request` is looked at: if it is not 0, this comes back.
  [[nodiscard]] Outcome run(cpu::State& state, const std::atomic<u32>& exit_request, u32& inside);
  static constexpr u32 kInside = 2;
  // After exit_request was set: makes guest code stop that runs natively. False: none does, nor will before
  // exit_request is looked at.
  NACRE_NOT_INSTRUMENTED bool interrupt() {
    if (!running_.load()) return false;
    stub_->interrupt();
    return true;
  }

  // User code was running, by whatever means, when the timer came.
  void user_interrupted(const cpu::State& state);
  // The guest flushed all its TLB holds (of this address space): it mostly goes on in another one. Allocates
  // nothing.
  void flushed();
  // The translator is to have this address space for a while.
  void refuse(const cpu::State& state);

  [[nodiscard]] Mappings& mappings() { return mappings_; }
  [[nodiscard]] const Statistics& statistics() const { return statistics_; }
  [[nodiscard]] StubProcess* stub() { return stub_.get(); }

 private:
  [[nodiscard]] bool possible(const cpu::State& state) const;
  [[nodiscard]] bool guest_is_in_the_way(const cpu::State& state);
  [[nodiscard]] bool give(const cpu::State& state);
  [[nodiscard]] bool take(cpu::State& state, const user_regs_struct& from);
  [[nodiscard]] cpu::AccessType kind_of_access(const cpu::State& state, u64 rip, u64 address);
  [[nodiscard]] Outcome explain(cpu::State& state, const siginfo_t& info);
  [[nodiscard]] u8 byte_at(const cpu::State& state, u64 linear);
  void load_segment(cpu::State& state, unsigned segment, u16 selector);

  memory::AddressSpace& memory_;
  cpu::TranslationObserver& observer_;
  DirectOptions options_;
  u64 host_xcr0_;
  usize xsave_bytes_ = 0;
  Mappings mappings_;
  Policy policy_;
  std::unique_ptr<StubProcess> stub_;
  std::atomic<bool> running_{false};
  bool always_ = false;
  u64 stuck_flags_ = 0;  // the runner's RFLAGS.ID and NT
  Statistics statistics_;
};

}  // namespace nacre::direct
