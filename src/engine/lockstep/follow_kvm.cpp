#include "engine/lockstep/follow_kvm.hpp"

#include <atomic>
#include <cstring>
#include <optional>
#include <vector>

#include "cpu/mmu.hpp"
#include "cpu/model.hpp"
#include "engine/hosted_vector_unit.hpp"
#include "engine/kvm/kvm.hpp"
#include "engine/lockstep/compare.hpp"
#include "engine/lockstep/kvm_side.hpp"
#include "engine/lockstep/report.hpp"
#include "interp/interpreter.hpp"

namespace nacre::lockstep {
namespace {

using cpu::Activity;
using cpu::Event;
using cpu::State;
using engine::Exit;
using engine::ExitReason;
using interp::StepResult;

constexpr u64 kTableAddress = 0x000f'ffff'ffff'f000;
constexpr usize kShown = 24;                 // instructions
constexpr unsigned kMostDeferred = 1 << 22;  // steps of the interpreter to one of KVM's

class FollowedVcpu final : public engine::Vcpu,
                           private interp::StepListener,
                           private cpu::TranslationObserver,
                           private Meeting {
 public:
  FollowedVcpu(const engine::EngineContext& context, const Options& options, Outcome& outcome,
               std::unique_ptr<engine::HostedVectorUnit> vector)
      : context_(context),
        options_(options),
        outcome_(outcome),
        layout_(context.model.xsave()),
        recorder_(context.platform, log_, *this),
        vector_(std::move(vector)),
        interpreter_(
            new interp::Interpreter(context.memory, recorder_, context.model, vector_->unit(), this)) {
    cpu::reset(state_, false);
    interpreter_->set_listener(this);
  }
  FollowedVcpu(const FollowedVcpu&) = delete;
  FollowedVcpu& operator=(const FollowedVcpu&) = delete;
  ~FollowedVcpu() override;
  Status make_sides();

  Status enter_thread() override { return kvm_->enter_thread(); }
  Exit run() override;
  void kick() override {
    kicked_.store(true);
    kvm_->kick();
  }
  State& state() override { return state_; }
  void state_changed() override;
  void activity_changed() override { let_go(); }
  void memory_changed(GuestPhysical, u64) override {}

 private:
  // Meeting: KVM is not asked about interrupts, so there is nobody to meet before one.
  void meet() override {}
  void settle() override {}
  void end_step() override {}

  // interp::StepListener
  void unknown_instruction(const State&, const x86::Instruction&) override {}
  void event(const State& state, const Event& event) override {
    delivered_ = event;
    ++(event.kind == Event::Kind::ExternalInterrupt ? outcome_.interrupts : outcome_.exceptions);
    if (context_.tracer != nullptr) context_.tracer->event(state, event);
  }
  void msr(const State&, bool, u32, u64, bool) override {}
  void control_registers(const State&, const cpu::ControlRegisters&, const cpu::ControlRegisters&) override {}

  // cpu::TranslationObserver
  void flush_all() override {}
  void flush_non_global() override {}
  void flush_page(GuestLinear) override {}
  void code_written(GuestPhysical address, usize bytes) override;
  void table_marked(GuestPhysical entry) override;
  void note_written(usize page);

  StepResult step();
  [[nodiscard]] u8* stop_byte(bool& later);
  void follow(u8* stop);
  void compare(KvmSide::End end);
  void take_over();
  void let_go();
  void check_memory();
  void diverge(const char* what, const std::string& details);

  const engine::EngineContext context_;
  const Options& options_;
  Outcome& outcome_;
  const cpu::XsaveLayout layout_;
  Log log_;
  Recorder recorder_;  // of the interpreter
  std::unique_ptr<KvmSide> kvm_;
  std::unique_ptr<engine::HostedVectorUnit> vector_;
  std::unique_ptr<interp::Interpreter> interpreter_;
  std::atomic<bool> kicked_ = false;
  bool mirrored_ = false;

  State state_;   // the interpreter's
  State before_;  // … when the two last met
  Event delivered_;
  bool in_sync_ = false;          // KVM's state is `before_`
  unsigned deferred_ = 0;         // steps of the interpreter since they met
  x86::Instruction instruction_;  // the first of them
  bool known_ = false;            // … there is one

  std::vector<usize> written_;  // pages, each once, since they met
  std::vector<bool> is_written_;
  Place history_[kShown];
  u64 past_ = 0;
};

Status FollowedVcpu::make_sides() {
  kvm_ = TRY(KvmSide::create(context_, log_));
  is_written_.resize(kvm_->copy().pages());
  // So that the interpreter tells of each page it writes.
  for (usize i = 0; i < context_.memory.region_count(); ++i) {
    const memory::Region& region = context_.memory.region(i);
    if (region.kind != memory::RegionKind::Ram) continue;
    for (u64 page = 0; page < region.size / kPageSize; ++page)
      region.page_flags[page] |= memory::PageFlag::code;
  }
  return {};
}

FollowedVcpu::~FollowedVcpu() {
  if (mirrored_ && !outcome_.diverged) check_memory();
  context_.memory.observe_writes(nullptr);
}

void FollowedVcpu::state_changed() {
  interpreter_->flush();
  if (!mirrored_) {
    kvm_->copy().mirror(context_.ram_file);
    context_.memory.observe_writes(&recorder_);
    mirrored_ = true;
  }
  let_go();
}

void FollowedVcpu::note_written(usize page) {
  if (page >= kvm_->copy().pages() || is_written_[page]) return;
  is_written_[page] = true;
  written_.push_back(page);
}

void FollowedVcpu::code_written(GuestPhysical address, usize bytes) {
  note_written(kvm_->copy().page_of(address));
  note_written(kvm_->copy().page_of(address + (bytes - 1)));
}

void FollowedVcpu::table_marked(GuestPhysical entry) {
  const usize page = kvm_->copy().page_of(entry);
  if (page >= kvm_->copy().pages()) return;
  kvm_->copy().mark_table(page);
  note_written(page);
}

// What has been done since they met is KVM's without having been compared.
void FollowedVcpu::take_over() {
  ++outcome_.taken_over;
  let_go();
}

void FollowedVcpu::let_go() {
  kvm_->answers().forget();
  for (const usize page : written_) {
    kvm_->copy().take_over(page);
    kvm_->copy().touch(page);
    is_written_[page] = false;
  }
  written_.clear();
  deferred_ = 0;
  in_sync_ = false;
}

Exit FollowedVcpu::run() {
  if (!mirrored_) state_changed();
  const host::FaultScope scope(*vector_);
  while (!outcome_.diverged) {
    if (kicked_.load(std::memory_order_relaxed) && kicked_.exchange(false)) return {};
    const StepResult result = step();
    if (outcome_.diverged) break;
    if (result == StepResult::Halted) return {ExitReason::Halted, Error{}};
    if (result == StepResult::Shutdown) return {ExitReason::Shutdown, Error{}};
  }
  return {ExitReason::Failed, Error{"The engines diverged."}};
}

StepResult FollowedVcpu::step() {
  if (deferred_ == 0) {
    before_ = state_;
    known_ = guest_instruction(state_, context_.memory, state_.rip, instruction_);
  }
  delivered_ = {};
  const u64 rip = state_.rip;
  const Activity activity = state_.activity;
  const StepResult result = interpreter_->step(state_);
  const bool delivered = delivered_.kind != Event::Kind::None;
  if (state_.cr3 != before_.cr3 || state_.cr0 != before_.cr0) {
    // Processors may mark a directory's pointers as accessed when they load them; the interpreter does not.
    const usize page = kvm_->copy().page_of(GuestPhysical(state_.cr3 & kTableAddress));
    if (page < kvm_->copy().pages()) kvm_->copy().mark_table(page);
  }
  if (result == StepResult::Halted && !delivered && state_.rip == rip && state_.activity == activity)
    return result;
  ++outcome_.instructions;
  history_[past_++ % kShown] = {rip, before_.segment[x86::CS].selector};
  if (!delivered && known_ && deferred_ == 0 && !options_.mistranslate.empty() &&
      options_.mistranslate == instruction_.info->name)
    ++state_.gpr[x86::RAX];
  const bool asynchronous =
      delivered_.kind == Event::Kind::ExternalInterrupt || delivered_.kind == Event::Kind::Nmi;
  ++deferred_;
  if (asynchronous && deferred_ > 1) {
    take_over();
    return result;
  }
  bool later = false;
  u8* const stop = state_.activity == Activity::Running ? stop_byte(later) : nullptr;
  if (later && deferred_ < kMostDeferred) return result;
  if (state_.activity == Activity::Running && stop == nullptr) {
    take_over();
    return result;
  }
  follow(stop);
  if (options_.memory_every != 0 && outcome_.steps % options_.memory_every == 0 && !outcome_.diverged)
    check_memory();
  return result;
}

// Where KVM is to be stopped, in its memory: at the first byte of what the interpreter comes to next. Null:
// it cannot be stopped there, or `later`: after more steps of the interpreter perhaps.
u8* FollowedVcpu::stop_byte(bool& later) {
  const u64 linear = linear_rip(state_);
  const bool event = delivered_.kind != Event::Kind::None;
  if (linear == linear_rip(before_)) {
    later = !event;  // a repeated instruction, or a jump to itself
    return nullptr;
  }
  // The guest's own breakpoints and steps.
  if (event && delivered_.kind != Event::Kind::ExternalInterrupt &&
      (delivered_.vector == static_cast<u8>(x86::Vector::BP) ||
       delivered_.vector == static_cast<u8>(x86::Vector::DB))) {
    return nullptr;
  }
  const auto walked =
      cpu::walk(state_, context_.memory, nullptr, GuestLinear(linear), cpu::AccessType::Execute,
                state_.cpl() == 3 ? cpu::Privilege::User : cpu::Privilege::Supervisor);
  if (!walked) {
    later = true;  // a fault is next
    return nullptr;
  }
  const GuestPhysical address = walked.value().address;
  u8* const theirs = kvm_->memory().host(address, true);
  const u8* const ours = context_.memory.host(address, false);
  // What has just been overwritten is no place for it.
  if (theirs == nullptr || *theirs != *ours) return nullptr;
  return theirs;
}

void FollowedVcpu::follow(u8* stop) {
  ++outcome_.steps;
  kvm_->answers().prepare();
  const bool asynchronous = delivered_.kind == Event::Kind::ExternalInterrupt;
  if (!in_sync_ || asynchronous || before_.activity != Activity::Running) {
    State& theirs = kvm_->state();
    theirs = before_;
    theirs.activity = Activity::Running;
    if (asynchronous) theirs.pending = {.kind = delivered_.kind, .vector = delivered_.vector};
    kvm_->state_changed();
  }
  compare(kvm_->run_to(state_, stop));
}

void FollowedVcpu::compare(KvmSide::End end) {
  if (end == KvmSide::End::Failed)
    return diverge("kvm cannot go on", std::string(kvm_->error().message()) + "\n");
  const State& theirs = kvm_->state();
  if (kvm_->answers().astray())
    return diverge("kvm did something else than interp outside the processor",
                   question(kvm_->answers().replayer()));
  if (end == KvmSide::End::Nowhere)
    return diverge("kvm does not come to where interp is", differences(state_, theirs, layout_));
  if (end == KvmSide::End::Elsewhere)
    return diverge("kvm went somewhere else", differences(state_, theirs, layout_));
  if (const Entry* left = kvm_->answers().left())
    return diverge("interp had also done", std::string(name_of(left->kind)) + "\n");
  in_sync_ = true;
  if (state_.activity == Activity::Shutdown) return let_go();
  State like = theirs;
  // Not KVM's to tell, or lost where it stops.
  like.interrupt_shadow = state_.interrupt_shadow;
  like.nmi_pending = state_.nmi_pending;
  like.pending = state_.pending;
  std::memcpy(like.pdpte, state_.pdpte, sizeof like.pdpte);
  if (kvm_->answers().by_the_processor()) {
    std::memcpy(like.gpr, state_.gpr, sizeof like.gpr);
    like.rflags = state_.rflags;
    in_sync_ = false;
  }
  u64 flags = 0;
  const bool equal = states_equal(state_, like, layout_, flags);
  const u64 undefined = known_ ? u64{instruction_.info->flags_undefined} : 0;
  if (!equal || (flags & ~undefined) != 0)
    return diverge("the states differ", differences(state_, like, layout_));
  if (flags != 0) {
    ++outcome_.undefined_flags;
    in_sync_ = false;
  }
  if (like.interrupt_shadow != theirs.interrupt_shadow || like.pending.kind != theirs.pending.kind)
    in_sync_ = false;
  // XSTATE_BV may say "in use" of a component in its initial state.
  const std::string name = known_ ? instruction_.info->name : "";
  const bool image = name.starts_with("xsave") || name.starts_with("fxsave");
  MemoryCopy::Found found;
  std::vector<MemoryCopy::Difference> in_pages;
  for (const usize page : written_) {
    if (kvm_->copy().equal(page, {}, found, &in_pages) || image) continue;
  }
  if (!in_pages.empty() && !image) return diverge("memory differs that interp wrote", memory_lines(in_pages));
  outcome_.accessed_bits += found.accessed_bits, outcome_.dirty_bits += found.dirty_bits;
  const bool sync = in_sync_;
  let_go();
  in_sync_ = sync;
}

void FollowedVcpu::check_memory() {
  ++outcome_.memory_checks;
  let_go();
  MemoryCopy::Found found;
  std::vector<MemoryCopy::Difference> in_pages;
  const bool equal = kvm_->copy().all_equal(found, in_pages);
  outcome_.accessed_bits += found.accessed_bits, outcome_.dirty_bits += found.dirty_bits;
  if (!equal)
    diverge("memory differs where interp did not write since the last comparison of all memory",
            memory_lines(in_pages));
}

void FollowedVcpu::diverge(const char* what, const std::string& details) {
  outcome_.diverged = true;
  std::string& text = outcome_.report;
  text += "interp and kvm diverge after " + std::to_string(outcome_.instructions) + " instructions: " + what +
          ".\n";
  text += "                       interp             kvm\n" + details;
  text += "the general registers of both, and before that instruction:\n" +
          general(state_, kvm_->state(), before_);
  if (delivered_.kind != Event::Kind::None)
    text += "interp delivered vector " + std::to_string(delivered_.vector) + ".\n";
  text += "what interp did up to there, that instruction last:\n";
  std::vector<Place> places;
  for (u64 n = past_ < kShown ? past_ : kShown; n > 0; --n) places.push_back(history_[(past_ - n) % kShown]);
  text += listing(before_, context_.memory, places);
  text += "what comes next, for interp and for kvm:\n";
  const Place next[] = {{state_.rip, state_.segment[x86::CS].selector}};
  text += listing(state_, context_.memory, next);
  const State& theirs = kvm_->state();
  const Place their_next[] = {{theirs.rip, theirs.segment[x86::CS].selector}};
  text += listing(theirs, kvm_->memory(), their_next);
}

}  // namespace

Status kvm_can_follow() {
  const kvm::Fitness fitness = kvm::fitness();
  if (!fitness.usable) return fitness.why_not;
  if (!fitness.fast) {
    return Error{
        "kvm can be compared where the processor has VT-x or AMD-V; this /dev/kvm emulates most of a guest, "
        "and is known to do it "
        "otherwise (docs/adr/0018-kvm-engine.md). Use --engines soft,interp."};
  }
  return {};
}

Result<std::unique_ptr<engine::Vcpu>> make_followed_by_kvm(const engine::EngineContext& context,
                                                           const Options& options, Outcome& outcome) {
  TRY(kvm_can_follow());
  auto vector = TRY(engine::HostedVectorUnit::create());
  auto vcpu = std::make_unique<FollowedVcpu>(context, options, outcome, std::move(vector));
  TRY(vcpu->make_sides());
  return std::unique_ptr<engine::Vcpu>(std::move(vcpu));
}

}  // namespace nacre::lockstep
