#include "engine/lockstep/kvm_side.hpp"

#include <time.h>

#include <utility>

namespace nacre::lockstep {
namespace {

using cpu::Activity;
using cpu::State;
using engine::Exit;
using engine::ExitReason;

// What is put where KVM is to stop. HLT comes to us in any case, but is for ring 0 alone.
constexpr u8 kHlt = 0xf4, kInt3 = 0xcc;
constexpr u64 kPatience = 5'000'000'000;  // ns for one instruction

u64 monotonic() {
  timespec time = {};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<u64>(time.tv_sec) * 1'000'000'000 + static_cast<u64>(time.tv_nsec);
}

}  // namespace

u64 linear_rip(const State& state) {
  return state.in_64bit_code() ? state.rip : (state.segment[x86::CS].base + state.rip) & 0xffffffff;
}

Result<std::unique_ptr<KvmSide>> KvmSide::create(const engine::EngineContext& context, Log& log) {
  auto copy = TRY(MemoryCopy::create(context.memory));
  std::unique_ptr<KvmSide> side(new KvmSide(std::move(copy), log));
  TRY(side->copy_.map_to(side->memory_));
  side->group_ = TRY(kvm::VmGroup::create(side->memory_, false));
  engine::EngineContext own{side->memory_, side->answers_, context.model};
  own.group = side->group_.get();
  side->kvm_ = TRY(kvm::KvmVcpu::create(own));
  TRY(side->kvm_->stop_at({.each_instruction = false, .at_int3 = true, .before = {}}));
  return side;
}

Status KvmSide::enter_thread() {
  timer_.emplace(TRY(host::KickTimer::create()));
  return {};
}

KvmSide::End KvmSide::run_to(const State& target, u8* stop) {
  u8 stopper = 0, saved = 0;
  if (stop != nullptr) {
    stopper = target.cpl() == 3 ? kInt3 : kHlt;
    saved = std::exchange(*stop, stopper);
  }
  const auto exit = run();
  if (stop != nullptr && *stop == stopper) *stop = saved;
  if (!exit) return End::Nowhere;
  if (exit->reason == ExitReason::Failed) {
    error_ = exit->error;
    return End::Failed;
  }
  return is_there(*exit, target, stopper) ? End::There : End::Elsewhere;
}

std::optional<Exit> KvmSide::run() {
  const u64 end = monotonic() + kPatience;
  if (timer_) timer_->arm_after(kPatience);
  for (;;) {
    Exit exit = kvm_->run();
    if (exit.reason != ExitReason::Kicked || kvm_->has_stopped()) return exit;
    if (monotonic() >= end) return std::nullopt;
  }
}

bool KvmSide::is_there(const Exit& exit, const State& target, u8 stopper) {
  const auto at = kvm_->take_stop();
  if (stopper == kInt3) return at && *at == linear_rip(target);
  if (at) return false;
  if (stopper == 0)
    return exit.reason == (target.activity == Activity::Shutdown ? ExitReason::Shutdown : ExitReason::Halted);
  if (exit.reason != ExitReason::Halted) return false;
  State& own = kvm_->state();
  --own.rip;  // our HLT is not the guest's
  own.activity = Activity::Running;
  kvm_->state_changed();
  return linear_rip(own) == linear_rip(target);
}

}  // namespace nacre::lockstep
