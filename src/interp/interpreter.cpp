// The step: events, fetch, execute, traps. SDM vol. 3, 6.9 (priority), 17.3.1 (debug exceptions).
#include "interp/interpreter.hpp"

#include "cpu/debug_status.hpp"
#include "cpu/model.hpp"
#include "interp/delivery.hpp"
#include "interp/handlers.hpp"

namespace nacre::interp {

using cpu::Activity;
using cpu::ControlRegisters;
using cpu::Event;

namespace {

constexpr u64 kDr6SingleStep = 1 << 14;
constexpr unsigned kMaxNestedFaults = 8;

Event debug_exception() {
  Event event;
  event.kind = Event::Kind::Exception;
  event.vector = static_cast<u8>(Vector::DB);
  return event;
}

// An interrupt could be taken before the next instruction.
bool window_is_open(const State& state) {
  return (state.rflags & Rflags::IF) != 0 && !state.interrupt_shadow;
}

}  // namespace

Interpreter::Interpreter(memory::AddressSpace& memory, cpu::Platform& platform, const cpu::Model& model,
                         VectorUnit& vector, cpu::TranslationObserver* observer)
    : core_(memory, platform, model, vector, observer) {}

void Interpreter::flush() {
  core_.tlb.flush_all();
}

StepResult Interpreter::deliver(State& state, const Event& event) {
  core_.begin(state);
  state.interrupt_shadow = false;
  if (state.activity == Activity::Halted) state.activity = Activity::Running;
  if (event.kind == Event::Kind::Nmi) state.nmi_blocked = true;
  Event current = event;
  core_.debug_hits = 0;
  for (unsigned attempt = 0; attempt < kMaxNestedFaults; ++attempt) {
    if (listener_ != nullptr) listener_->event(state, current);
    const bool delivered = deliver_event(core_, current, state.rip);
    if (core_.debug_hits != 0) {  // of a task that wants to be debugged: the trap is the next event
      cpu::tell_debug_causes(state, core_.debug_hits);
      core_.debug_hits = 0;
      if (delivered) state.pending = debug_exception();
    }
    if (delivered) return StepResult::Executed;
    Event next;
    if (!combine_faults(current, core_.fault, next)) break;
    current = next;
  }
  state.activity = Activity::Shutdown;
  return StepResult::Shutdown;
}

bool Interpreter::deliver_due(State& state) {
  if (state.interrupt_shadow || state.activity == Activity::WaitForSipi ||
      state.activity == Activity::Shutdown)
    return false;
  if (state.nmi_pending != 0 && !state.nmi_blocked) {
    --state.nmi_pending;
    Event event;
    event.kind = Event::Kind::Nmi;
    event.vector = static_cast<u8>(Vector::NMI);
    deliver(state, event);
    return true;
  }
  if ((state.rflags & Rflags::IF) == 0 || !core_.platform.interrupt_pending()) return false;
  const int vector = core_.platform.acknowledge_interrupt();
  if (vector < 0) return false;
  Event event;
  event.kind = Event::Kind::ExternalInterrupt;
  event.vector = static_cast<u8>(vector);
  deliver(state, event);
  return true;
}

StepResult Interpreter::step(State& state) {
  if (state.activity == Activity::Shutdown) return StepResult::Shutdown;
  if (state.pending.kind != Event::Kind::None) {
    const Event event = state.pending;
    state.pending = {};
    return deliver(state, event);
  }
  if (deliver_due(state))
    return state.activity == Activity::Shutdown ? StepResult::Shutdown : StepResult::Executed;
  if (state.activity != Activity::Running) return StepResult::Halted;
  return execute_one(state);
}

// SDM vol. 3, 17.3.1.1.
bool Interpreter::hits_instruction_breakpoint() {
  State& s = *core_.state;
  if ((s.rflags & Rflags::RF) != 0) return false;
  const u64 linear = core_.code64 ? s.rip : (s.segment[x86::CS].base + s.rip) & 0xffffffff;
  u64 hits = 0;
  for (unsigned n = 0; n < 4; ++n) {
    const bool enabled = (s.dr7 >> (2 * n) & 3) != 0;
    const bool on_execution = (s.dr7 >> (16 + 4 * n) & 3) == 0;
    if (enabled && on_execution && s.dr[n] == linear) hits |= u64{1} << n;
  }
  if (hits != 0) cpu::tell_debug_causes(s, hits);
  return hits != 0;
}

void Interpreter::report_unknown(const x86::Instruction& instruction) {
  if (listener_ == nullptr || reports_ >= kMaxReports) return;
  ++reports_;
  listener_->unknown_instruction(*core_.state, instruction);
}

bool Interpreter::execute_told(const DecodedInstruction& decoded) {
  State& s = *core_.state;
  const auto operation = decoded.instruction.info->operation;
  const auto edx_eax = [&s] { return (s.gpr[x86::RDX] & 0xffffffff) << 32 | (s.gpr[x86::RAX] & 0xffffffff); };
  if (operation == x86::Operation::Rdmsr || operation == x86::Operation::Wrmsr) {
    const bool write = operation == x86::Operation::Wrmsr;
    const u32 number = static_cast<u32>(s.gpr[x86::RCX]);
    const u64 written = edx_eax();
    const bool known = decoded.handler(core_, decoded.instruction);
    listener_->msr(s, write, number, write ? written : edx_eax(), known);
    return known;
  }
  const auto before = ControlRegisters::of(s);
  const bool done = decoded.handler(core_, decoded.instruction);
  if (const auto after = ControlRegisters::of(s); !(after == before))
    listener_->control_registers(s, before, after);
  return done;
}

bool Interpreter::execute(const DecodedInstruction& decoded) {
  const u32 checks = decoded.checks;
  if (checks != 0) [[unlikely]] {
    if ((checks & FetchCheck::too_long) != 0) return core_.general_protection();
    if ((checks & FetchCheck::unknown) != 0) report_unknown(decoded.instruction);
    if ((checks & (FetchCheck::undefined | FetchCheck::unknown)) != 0) return core_.undefined();
    if ((checks & FetchCheck::protected_only) != 0 && !core_.protected_mode) return core_.undefined();
    if ((checks & FetchCheck::privileged) != 0 && core_.state->cpl() != 0) return core_.general_protection();
    if ((checks & FetchCheck::orders_memory) != 0) order_memory();
  }
  const u64 next = core_.state->rip + decoded.instruction.length;
  core_.next_rip = core_.code64 ? next : next & 0xffffffff;
  if (tells_system_registers_ && decoded.instruction.info->kind == x86::Class::System) [[unlikely]] {
    if (!execute_told(decoded)) return false;
  } else if (!decoded.handler(core_, decoded.instruction)) {
    return false;
  }
  if ((checks & FetchCheck::changes_mode) != 0) core_.refresh_mode();
  return true;
}

// Traps after a completed instruction. SDM vol. 3, 17.3.1.2 and 17.3.1.4; 6.8.3 for what waits after a load
// of SS.
StepResult Interpreter::finish(bool single_step) {
  State& s = *core_.state;
  u64 cause = core_.debug_hits;
  if (core_.loaded_ss) {
    core_.held_hits = cause;
    return StepResult::Executed;
  }
  if (single_step && !core_.suppress_trap) cause |= kDr6SingleStep;
  if (cause == 0) return StepResult::Executed;
  cpu::tell_debug_causes(s, cause);
  // A trap ends a shadow that this instruction began, and a halt.
  return deliver(s, debug_exception());
}

// The mode cached in the core is current.
StepResult Interpreter::execute_next() {
  State& state = *core_.state;
  core_.suppress_trap = false;
  core_.debug_hits = core_.held_hits;
  core_.held_hits = 0;
  // AMD's breakpoints on the instruction after MOV SS do hit.
  const bool holds_breakpoints = core_.loaded_ss && core_.model.vendor() != cpu::Vendor::Amd;
  core_.loaded_ss = false;
  state.interrupt_shadow = false;
  if (core_.watching && !holds_breakpoints && hits_instruction_breakpoint())
    return deliver(state, debug_exception());
  const DecodedInstruction* decoded = fetcher_.fetch(core_);
  if (decoded == nullptr) {
    const Event fault = core_.fault;
    return deliver(state, fault);
  }

  const bool single_step = (state.rflags & Rflags::TF) != 0;
  state.rflags &= ~Rflags::RF;
  if (!execute(*decoded)) {
    const Event fault = core_.fault;
    return deliver(state, fault);
  }
  state.rip = core_.next_rip;
  if (single_step || core_.debug_hits != 0) [[unlikely]]
    return finish(single_step);
  return StepResult::Executed;
}

StepResult Interpreter::execute_one(State& state) {
  core_.begin(state);
  return execute_next();
}

StepResult Interpreter::run(State& state, unsigned count) {
  bool open = window_is_open(state);
  StepResult result = step(state);
  if (result != StepResult::Executed || count <= 1) return result;
  core_.begin(state);
  for (unsigned n = 1; n < count && result == StepResult::Executed && state.activity == Activity::Running &&
                       state.pending.kind == Event::Kind::None;
       ++n) {
    const bool was_open = open;
    open = window_is_open(state);
    // However short the window that the guest opens (sti; nop; cli), what is pending goes through it; and
    // what the guest makes a device do comes at once, as kernels that drive one by one instruction and then
    // look expect.
    if ((open && !was_open) || core_.may_interrupt) break;
    if (state.nmi_pending != 0 && !state.nmi_blocked) [[unlikely]]
      break;  // IRET has let it in
    result = execute_next();
  }
  core_.may_interrupt = false;
  return result;
}

}  // namespace nacre::interp
