// Kicks, and faults of translated code. docs/soft-engine.md, "Precision, interrupts, faults".
#include "engine/soft/soft_vcpu.hpp"

#include <unistd.h>

namespace nacre::soft {

using x86::Rflags;

namespace {

constexpr u64 kTrapFlag = Rflags::TF;

}  // namespace

bool SoftVcpu::stop_at(ucontext_t* context, u64 rip, u64 stub) {
  context_->state.rip = rip;
  context->uc_mcontext.gregs[REG_RIP] = static_cast<greg_t>(stub);
  context->uc_mcontext.gregs[REG_EFL] &= ~static_cast<greg_t>(kTrapFlag);
  return true;
}

// The stubs look at exit_request themselves; behind that they are sent back to look again. Not those that go back to
// translated code without the dispatcher or a helper.
void SoftVcpu::stop_in_stub(ucontext_t* context, usize offset) {
  auto& registers = context->uc_mcontext.gregs;
  context_->exit_request.store(1, std::memory_order_relaxed);
  registers[REG_EFL] &= ~static_cast<greg_t>(kTrapFlag);
  if (offset >= entries_.quick_begin && offset < entries_.quick_end) registers[REG_EFL] |= static_cast<greg_t>(kTrapFlag);
  for (usize i = 0; i < entries_.ways_in_count; i++) {
    const WayIn& way = entries_.ways_in[i];
    if (offset <= way.check || offset >= way.end) continue;
    if (offset <= way.loaded) {
      registers[REG_RIP] = static_cast<greg_t>(code_.executable(way.check));
    } else {
      registers[REG_EFL] |= static_cast<greg_t>(kTrapFlag);
    }
  }
}

bool SoftVcpu::handle(int signal, siginfo_t* info, ucontext_t* context) {
  auto& registers = context->uc_mcontext.gregs;
  const u64 pc = static_cast<u64>(registers[REG_RIP]);
  // Not by TF as it is now: the step may have been a popf that cleared it.
  const bool stepping = signal == SIGTRAP && info->si_code == TRAP_TRACE;
  const bool kick_signal = signal == host::SignalDispatcher::kick_signal();
  if (stepping && stop_after_ != 0 && count_step(context)) return true;
  if (!code_.holds(pc)) {
    if (!kick_signal && !stepping) return false;
    context_->exit_request.store(1, std::memory_order_relaxed);
    if (kick_signal && direct_) direct_->interrupt();
    registers[REG_EFL] &= ~static_cast<greg_t>(kTrapFlag);
    return true;
  }
  const usize offset = code_.offset_of(pc);
  if ((kick_signal || stepping) && offset < entries_.bytes) {
    stop_in_stub(context, offset);
    return true;
  }
  BlockStore& store = blocks_at(offset);
  const Block* block = store.at_code(offset);
  const InstructionInfo* at = block == nullptr ? nullptr : store.instruction_at(*block, offset);
  bool whole = false;  // the guest's state is that before the instruction
  if (at != nullptr) {
    const usize within = offset - block->code;
    whole = within <= at->commit && !at->borrowed_at(within);
    if (at->shadowed && (kick_signal || stepping)) whole = false;
  }
  if (kick_signal || stepping) {
    context_->exit_request.store(1, std::memory_order_relaxed);
    if (whole) return stop_at(context, block->linear + at->guest_offset, entries_.async);
    // Between two instructions: on until a place where the state is whole.
    registers[REG_EFL] |= static_cast<greg_t>(kTrapFlag);
    return true;
  }
  // A fault of the guest's own: division, alignment, an unmasked floating-point exception. The interpreter
  // runs the instruction again and raises what the architecture says.
  if (!whole) return false;
  return stop_at(context, block->linear + at->guest_offset, entries_.fault);
}

// True: on with the next host instruction. What the way into the first block takes does not count, and helpers
// are not stepped through.
bool SoftVcpu::count_step(ucontext_t* context) {
  const u64 pc = static_cast<u64>(context->uc_mcontext.gregs[REG_RIP]);
  const bool in_block = code_.holds(pc) && blocks_at(code_.offset_of(pc)).at_code(code_.offset_of(pc)) != nullptr;
  if (in_block) {
    seen_code_ = true;
    stop_after_ = stop_after_ - 1;
  } else if (seen_code_ && !code_.holds(pc)) {
    stop_after_ = 0;
  }
  if (stop_after_ == 0) {
    context_->enough = 1;
    return false;
  }
  context->uc_mcontext.gregs[REG_EFL] |= static_cast<greg_t>(kTrapFlag);
  return true;
}

void SoftVcpu::kick() {
  kicked_.store(true);
  if (!thread_known_.load(std::memory_order_acquire)) return;
  // From its own thread (a handler of the kick signal, or a device within a Platform call) no signal is sent:
  // it would come back here from that handler for ever.
  if (gettid() == thread_->id()) {
    context_->exit_request.store(1, std::memory_order_relaxed);
    return;
  }
  // Natively running guest code is stopped from here: its tracer would have to be woken first, to do the same.
  context_->exit_request.store(1);
  if (!direct_ || !direct_->interrupt()) thread_->kick();
}

}  // namespace nacre::soft
