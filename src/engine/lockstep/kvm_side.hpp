// KvmSide: KVM's side of a lock-step run with the interpreter: a copy of the guest's memory, KVM on it,
// answered from what the interpreter was answered, and how KVM is stopped where the interpreter is. Owned by
// the vCPU's thread.
#pragma once

#include <memory>
#include <optional>

#include "engine/context.hpp"
#include "engine/kvm/group.hpp"
#include "engine/kvm/vcpu.hpp"
#include "engine/lockstep/answers.hpp"
#include "engine/lockstep/memory_copy.hpp"
#include "host/kick_timer.hpp"

namespace nacre::lockstep {

// Where its next instruction is.
u64 linear_rip(const cpu::State& state);

class KvmSide {
 public:
  // `context` and `log` are the interpreter's.
  static Result<std::unique_ptr<KvmSide>> create(const engine::EngineContext& context, Log& log);
  KvmSide(const KvmSide&) = delete;
  KvmSide& operator=(const KvmSide&) = delete;
  Status enter_thread();

  [[nodiscard]] MemoryCopy& copy() { return copy_; }
  [[nodiscard]] Answers& answers() { return answers_; }
  [[nodiscard]] memory::AddressSpace& memory() { return memory_; }
  [[nodiscard]] cpu::State& state() { return kvm_->state(); }
  void state_changed() { kvm_->state_changed(); }
  void kick() { kvm_->kick(); }

  enum class End : u8 {
    There,      // where the interpreter is
    Elsewhere,  // … and KVM is not
    Nowhere,    // it does not come to an end
    Failed,     // KVM gave up: error()
  };
  // Goes on until it is where the interpreter is, in `target`: stopped at the byte `stop` of its memory, or,
  // null, where the guest sleeps or ends.
  End run_to(const cpu::State& target, u8* stop);
  [[nodiscard]] const Error& error() const { return error_; }

 private:
  KvmSide(MemoryCopy copy, Log& log) : copy_(std::move(copy)), answers_(log, memory_) {}
  std::optional<engine::Exit> run();
  bool is_there(const engine::Exit& exit, const cpu::State& target, u8 stopper);

  MemoryCopy copy_;
  memory::AddressSpace memory_;  // the copy, as KVM's
  Answers answers_;
  std::unique_ptr<kvm::VmGroup> group_;
  std::unique_ptr<kvm::KvmVcpu> kvm_;
  std::optional<host::KickTimer> timer_;
  Error error_;
};

}  // namespace nacre::lockstep
