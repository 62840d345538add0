#include "engine/lockstep/lock_step.hpp"

#include <atomic>
#include <cstdio>
#include <cstring>

#include "cpu/model.hpp"
#include "engine/lockstep/compare.hpp"
#include "engine/lockstep/report.hpp"
#include "engine/lockstep/shadow.hpp"
#include "engine/soft/soft.hpp"

namespace nacre::lockstep {
namespace {

using cpu::State;
using x86::Rflags;

// What a block holds at most, and then some (translator.cpp: kMaxInstructions).
constexpr u64 kMostInABlock = 64;
constexpr u64 kMostRepeated = 1 << 22;
constexpr u32 kFarthestStop = 96;  // host instructions
constexpr usize kHistory = 8192;   // instructions
constexpr usize kShown = 64;
constexpr usize kMostShownBlocks = 64;
constexpr usize kStarts = 32;  // steps

class LockStepVcpu final : public engine::Vcpu, private engine::Tracer, private Meeting {
 public:
  LockStepVcpu(const engine::EngineContext& context, const Options& options, Outcome& outcome)
      : context_(context),
        options_(options),
        outcome_(outcome),
        layout_(context.model.xsave()),
        random_(options.seed * 2 + 1),
        recorder_(context.platform, log_, *this) {}
  ~LockStepVcpu() override;

  Status make_sides();

  engine::Exit run() override;
  void kick() override {
    kicked_.store(true);
    soft_->kick();
  }
  State& state() override { return soft_->state(); }
  void state_changed() override;
  void memory_changed(GuestPhysical address, u64 bytes) override { soft_->memory_changed(address, bytes); }

 private:
  // Meeting
  void meet() override {
    if (!outcome_.diverged) follow();
  }
  void settle() override { shadow_->replayer().apply_ram_writes(); }
  void end_step() override { burn(); }

  // engine::Tracer, of the running engine.
  void instruction(const State&) override {}
  void event(const State& state, const cpu::Event& event) override;
  void unknown_instruction(const State& state, const u8* bytes, usize count) override {
    if (context_.tracer != nullptr) context_.tracer->unknown_instruction(state, bytes, count);
  }

  void msr(const cpu::State& state, bool write, u32 number, u64 value, bool known) override {
    context_.tracer->msr(state, write, number, value, known);
  }
  void control_registers(const cpu::State& state, const cpu::ControlRegisters& before,
                         const cpu::ControlRegisters& after) override {
    context_.tracer->control_registers(state, before, after);
  }
  void block(const State& state) override { context_.tracer->block(state); }

  void begin_step();
  void burn();
  void follow();
  void step_shadow();
  bool arrived(const State& target);
  bool flags_may_differ(u64 flags, const Shadow::Found& found);
  void check_memory();
  [[nodiscard]] std::string memory_differences() const;
  [[nodiscard]] u64 frame_flags_address() const;
  [[nodiscard]] u64 undefined_flags(u64 flags) const;
  void diverge(const char* what, const std::string& details);
  void diverge_in_step(const char* what);
  [[nodiscard]] std::vector<Place> last_places(u64 count) const;

  u64 random(u64 below) {
    random_ ^= random_ << 13;
    random_ ^= random_ >> 7;
    random_ ^= random_ << 17;
    return random_ % below;
  }

  const engine::EngineContext context_;
  const Options& options_;
  Outcome& outcome_;
  const cpu::XsaveLayout layout_;
  u64 random_;
  Log log_;
  Recorder recorder_;
  std::unique_ptr<Shadow> shadow_;
  std::unique_ptr<soft::CountedVcpu> soft_;
  std::atomic<bool> kicked_ = false;
  bool mirrored_ = false;

  // Of the step, since the two sides last met.
  u64 fuel_ = 0;            // that soft had then
  u64 burnt_ = 0;           // … that was taken away in this step
  u64 followed_ = 0;        // instructions the shadow has done
  unsigned closest_ = ~0U;  // least distance seen
  State closest_state_;
  u64 closest_at_ = 0;
  std::string closest_memory_;

  Place history_[kHistory];
  u64 past_ = 0;  // instructions ever put there
  Place starts_[kStarts];
};

Status LockStepVcpu::make_sides() {
  auto shadow = Shadow::create(context_, log_);
  if (!shadow) return shadow.error();
  shadow_ = shadow.take();
  engine::EngineContext context = context_;
  // RAM, regions and model are shared; what comes from outside is logged, time too.
  const engine::EngineContext logged = {
      .memory = context.memory,
      .platform = recorder_,
      .model = context.model,
      .tracer = this,
      .trace_instructions = false,
      .trace_system_registers = context.tracer != nullptr && context.trace_system_registers,
      .trace_blocks = context.tracer != nullptr && context.trace_blocks,
      .interrupt_hint = context.interrupt_hint,
      .native_tsc = false,
      .ram_file = context.ram_file,
  };
  auto soft = soft::make_counted(logged, options_.mistranslate);
  if (!soft) return soft.error();
  soft_ = soft.take();
  soft_->observe_tables(*shadow_);
  return {};
}

LockStepVcpu::~LockStepVcpu() {
  if (mirrored_ && !outcome_.diverged) check_memory();
  context_.memory.observe_writes(nullptr);
}

void LockStepVcpu::state_changed() {
  soft_->state_changed();
  if (!mirrored_) {
    shadow_->mirror(context_.ram_file);
    context_.memory.observe_writes(&recorder_);
    mirrored_ = true;
  }
  shadow_->replayer().apply_ram_writes();
  shadow_->state = soft_->state();
  shadow_->flush();
}

void LockStepVcpu::event(const State& state, const cpu::Event& event) {
  if (event.kind == cpu::Event::Kind::ExternalInterrupt) {
    ++outcome_.interrupts;
  } else {
    ++outcome_.exceptions;
  }
  burn();
  if (context_.tracer != nullptr) context_.tracer->event(state, event);
}

void LockStepVcpu::burn() {
  // As if the step had been given so much less.
  if (soft_->fuel() == 0) return;
  burnt_ += soft_->fuel();
  fuel_ -= soft_->fuel();
  soft_->set_fuel(0);
}

void LockStepVcpu::begin_step() {
  ++outcome_.steps;
  fuel_ = 1 + random(options_.blocks);
  burnt_ = 0;
  soft_->set_fuel(fuel_);
  const bool stop = options_.stop_every != 0 && random(options_.stop_every) == 0;
  if (stop) ++outcome_.stops;
  soft_->stop_after(stop ? 1 + static_cast<u32>(random(kFarthestStop)) : 0);
  starts_[outcome_.steps % kStarts] = {soft_->state().rip, soft_->state().segment[x86::CS].selector};
}

engine::Exit LockStepVcpu::run() {
  if (!mirrored_) state_changed();
  const host::FaultScope scope(shadow_->vector());
  settle();
  while (!outcome_.diverged) {
    if (kicked_.load(std::memory_order_relaxed) && kicked_.exchange(false)) return {};
    begin_step();
    engine::Exit exit = soft_->run();
    if (!outcome_.diverged) follow();
    if (options_.memory_every != 0 && outcome_.steps % options_.memory_every == 0 && !outcome_.diverged)
      check_memory();
    if (exit.reason != engine::ExitReason::Kicked && !outcome_.diverged) return exit;
  }
  return {engine::ExitReason::Failed, Error{"The engines diverged."}};
}

// The shadow goes on until it is where soft is.
void LockStepVcpu::follow() {
  const State& target = soft_->state();
  // It comes by where each of soft's blocks began, in their order: a loop may come back to a state that it
  // left with nothing but memory changed, but not within a block.
  const u64 last = soft_->fuel() + burnt_;
  u64 blocks = fuel_ + burnt_;
  // What lies within one block on the way may be taken for the beginning of a later one: so the bound is one for all.
  const u64 most = (blocks - last + 2) * kMostInABlock;
  u64 done = 0, repeated = 0;
  followed_ = 0;
  closest_ = ~0U;
  for (;;) {
    if (blocks != last && shadow_->state.rip == soft_->entered(blocks - 1)) {
      --blocks;
    }
    const bool here = shadow_->state.rip == target.rip && blocks == last;
    if (here && log_.empty() && arrived(target)) break;
    if (shadow_->replayer().astray())
      return diverge_in_step("interp did something else than soft outside the processor");
    if (log_.overflowed()) return diverge("too many accesses to devices in one instruction", "");
    if (here) {
      if (const unsigned far = distance(target, shadow_->state); far < closest_) {
        closest_ = far;
        closest_state_ = shadow_->state;
        closest_at_ = followed_;
        closest_memory_ = memory_differences();
      }
    }
    if (done >= most || !shadow_->can_step()) return diverge_in_step("the states differ");
    // A repeated string instruction takes many steps here, and may take one there.
    const u64 rip = shadow_->state.rip;
    step_shadow();
    if (shadow_->state.rip != rip) {
      ++done;
    } else if (++repeated > kMostRepeated) {
      return diverge_in_step("interp does not come on");
    }
  }
  fuel_ = soft_->fuel();
}

void LockStepVcpu::step_shadow() {
  history_[past_++ % kHistory] = {shadow_->state.rip, shadow_->state.segment[x86::CS].selector};
  ++followed_;
  ++outcome_.instructions;
  shadow_->step();
}

// In a 64-bit frame: the error code, RIP, CS, RFLAGS. SDM vol. 3, 6.14.2.
u64 LockStepVcpu::frame_flags_address() const {
  const cpu::Event& event = shadow_->delivered();
  const State& s = shadow_->state;
  if (followed_ == 0 || event.kind == cpu::Event::Kind::None || !s.in_64bit_code()) return ~u64{0};
  const u64 linear = s.gpr[x86::RSP] + (event.has_error_code ? 24 : 16);
  const auto walked = cpu::walk(s, shadow_->memory(), nullptr, GuestLinear(linear), cpu::AccessType::Read,
                                cpu::Privilege::Supervisor);
  return walked ? walked.value().address.value() : ~u64{0};
}

// Which of these arithmetic flags were last left undefined, by an instruction of this step.
u64 LockStepVcpu::undefined_flags(u64 flags) const {
  u64 undefined = 0;
  const auto places = last_places(followed_);
  for (usize i = places.size(); i-- > 0 && flags != 0;) {
    x86::Instruction instruction;
    if (!guest_instruction(shadow_->state, shadow_->memory(), places[i].rip, instruction)) break;
    undefined |= flags & instruction.info->flags_undefined;
    flags &= ~u64{instruction.info->flags_written};
  }
  return undefined;
}

bool LockStepVcpu::flags_may_differ(u64 flags, const Shadow::Found& found) {
  if (flags == found.frame_flags) {
    ++outcome_.frame_flags;
    shadow_->state.rflags ^= flags;
    return true;
  }
  const u64 live = flags & soft_->live_flags();
  if (live == 0) {
    ++outcome_.dead_flags;
    return true;
  }
  if (undefined_flags(live) != live) return false;
  ++outcome_.undefined_flags;
  shadow_->state.rflags ^= live;
  return true;
}

bool LockStepVcpu::arrived(const State& target) {
  u64 flags = 0;
  if (!states_equal(target, shadow_->state, layout_, flags)) return false;
  Shadow::Found found;
  if (!shadow_->pages_equal({}, found, nullptr)) {
    const u64 frame = frame_flags_address();
    found = {};
    if (frame == ~u64{0} || !shadow_->pages_equal({frame}, found, nullptr)) return false;
  }
  if (flags != 0 && !flags_may_differ(flags, found)) return false;
  if (found.accessed_bits + found.dirty_bits + found.frame_flags != 0) {
    outcome_.accessed_bits += found.accessed_bits;
    outcome_.dirty_bits += found.dirty_bits;
    shadow_->adopt_pages();
  }
  shadow_->forget_written();
  // The same by content; marks and pointers that are not compared are soft's from here on.
  if (std::memcmp(shadow_->state.xsave, target.xsave, sizeof target.xsave) != 0)
    std::memcpy(shadow_->state.xsave, target.xsave, sizeof target.xsave);
  return true;
}

void LockStepVcpu::check_memory() {
  ++outcome_.memory_checks;
  Shadow::Found found;
  std::vector<Shadow::Difference> differences;
  const bool equal = shadow_->all_equal(found, differences);
  outcome_.accessed_bits += found.accessed_bits;
  outcome_.dirty_bits += found.dirty_bits;
  if (equal) return;
  diverge("memory differs where interp did not write since the last comparison of all memory",
          "                       soft               interp\n" + memory_lines(differences));
}

std::vector<Place> LockStepVcpu::last_places(u64 count) const {
  if (count > kHistory) count = kHistory;
  if (count > past_) count = past_;
  std::vector<Place> places;
  for (u64 i = past_ - count; i < past_; ++i) places.push_back(history_[i % kHistory]);
  return places;
}

std::string LockStepVcpu::memory_differences() const {
  Shadow::Found found;
  std::vector<Shadow::Difference> in_pages;
  shadow_->pages_equal({frame_flags_address()}, found, &in_pages);
  return memory_lines(in_pages);
}

void LockStepVcpu::diverge_in_step(const char* what) {
  const State& target = soft_->state();
  const bool astray = shadow_->replayer().astray();
  // The likeliest place: where RIP was the same and least else differed; else where the interpreter is now.
  const bool has_closest = closest_ != ~0U && !astray;
  const State& other = has_closest ? closest_state_ : shadow_->state;
  std::string text;
  if (astray) text += question(shadow_->replayer());
  if (has_closest) {
    text += "interp was at soft's RIP, and nearest to its state, after " + std::to_string(closest_at_) +
            " of " + std::to_string(followed_) + " instructions.\n";
  }
  text += "                       soft               interp\n" + differences(target, other, layout_);
  const std::string memory = has_closest ? closest_memory_ : memory_differences();
  if (!memory.empty())
    text += "memory in pages that interp wrote in this step, by physical address:\n" + memory;
  if (!log_.empty()) text += std::string("soft had also done: ") + name_of(log_.front()->kind) + "\n";
  diverge(what, text);
}

void LockStepVcpu::diverge(const char* what, const std::string& details) {
  outcome_.diverged = true;
  std::string& text = outcome_.report;
  text += "soft and interp diverge in step " + std::to_string(outcome_.steps) + ", after " +
          std::to_string(outcome_.instructions) + " instructions: " + what + ".\n";
  text += details;
  // What led to the nearest state, if there is one, and not what it went on to do.
  auto places = last_places(followed_);
  const u64 beyond = closest_ == ~0U ? 0 : followed_ - closest_at_;
  places.resize(places.size() > beyond ? places.size() - beyond : places.size());
  if (places.size() > kShown) places.erase(places.begin(), places.end() - kShown);
  text += "what interp did in this step up to there, the last of it:\n";
  text += listing(shadow_->state, shadow_->memory(), places);
  const State& target = soft_->state();
  const u64 done = soft_->fuel() + burnt_;
  std::vector<Place> entered;
  for (u64 n = fuel_ + burnt_; n > done && n - done <= kMostShownBlocks; --n)
    entered.push_back({soft_->entered(n - 1), target.segment[x86::CS].selector});
  text += "the blocks that soft entered in this step, by their first instructions:\n";
  text += listing(target, context_.memory, entered);
  text += "where soft stopped:\n";
  const Place end[] = {{target.rip, target.segment[x86::CS].selector}};
  text += listing(target, context_.memory, end);
  text += "where the last steps began, this one last:\n";
  for (u64 n = kStarts; n-- > 0;) {
    if (outcome_.steps <= n) continue;
    const Place& place = starts_[(outcome_.steps - n) % kStarts];
    char line[48];
    std::snprintf(line, sizeof line, "  %04x:%016llx\n", place.cs,
                  static_cast<unsigned long long>(place.rip));
    text += line;
  }
  soft_->set_fuel(0);
  soft_->kick();
}

}  // namespace

Result<std::unique_ptr<engine::Vcpu>> make(const engine::EngineContext& context, const Options& options,
                                           Outcome& outcome) {
  auto vcpu = std::make_unique<LockStepVcpu>(context, options, outcome);
  if (auto status = vcpu->make_sides(); !status) return status.error();
  return std::unique_ptr<engine::Vcpu>(std::move(vcpu));
}

}  // namespace nacre::lockstep
