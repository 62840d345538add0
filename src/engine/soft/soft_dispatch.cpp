// The dispatcher: from block to block, and back to the caller.
#include <algorithm>

#include "engine/soft/soft_vcpu.hpp"

namespace nacre::soft {

using cpu::Activity;
using cpu::State;
using x86::Cr0;
using x86::Cr4;
using x86::Rflags;

u32 SoftVcpu::mode_now() const {
  const State& s = context_->state;
  View view = View::Kernel;
  if (s.cpl() == 3) {
    view = View::User;
  } else if ((s.rflags & Rflags::AC) != 0) {
    view = View::KernelUserAccess;
  }
  u32 mode = static_cast<u32>(view);
  if (!s.in_64bit_code()) mode |= Mode::code32;
  if (native_tsc_ && ((s.cr4 & Cr4::TSD) == 0 || view != View::User)) mode |= Mode::tsc | tscp_;
  if (context_->interrupt_hint != nullptr) mode |= Mode::hint;
  if ((s.cr0 & (Cr0::EM | Cr0::TS)) == 0) {
    mode |= Mode::x87;
    if ((s.cr4 & Cr4::OSFXSR) != 0) mode |= Mode::sse;
    if ((s.cr4 & Cr4::OSXSAVE) != 0) {
      constexpr u64 kAvx = cpu::Xcr0::SSE | cpu::Xcr0::AVX;
      constexpr u64 kAvx512 = kAvx | cpu::Xcr0::opmask | cpu::Xcr0::ZMM_Hi256 | cpu::Xcr0::Hi16_ZMM;
      if ((s.xcr0 & kAvx) == kAvx) mode |= Mode::avx;
      if ((s.xcr0 & kAvx512) == kAvx512) mode |= Mode::avx512;
    }
  }
  return mode;
}

bool SoftVcpu::translatable() const {
  const State& s = context_->state;
  if ((s.rflags & (Rflags::TF | Rflags::RF)) != 0 || (s.dr7 & 0xff) != 0) return false;
  if (!s.in_64bit_code() && !s.in_flat_32bit_code()) return false;
  return (s.rflags & Rflags::AC) == 0 || (s.cr0 & Cr0::AM) == 0 || s.cpl() != 3;
}

TranslationInput SoftVcpu::input_at(const Tlb::CodePage& page, u64 linear, u32 mode) {
  const u64 offset = linear & (kPageSize - 1);
  TranslationInput input;
  input.bytes = page.host + offset;
  input.available = kPageSize - offset;
  input.linear = linear;
  input.mode = mode;
  return input;
}

Block* SoftVcpu::block_at(u64 linear, u32 mode, Lasting& lasting, Reached reached) {
  // Behind the last page, 32-bit code would go on at 0.
  if ((mode & Mode::code32) != 0 && linear >= Mode::code32_end - kPageSize) return nullptr;
  const View view = static_cast<View>(mode & Mode::view_mask);
  look_at_steady_pages();
  const Tlb::CodePage* page = tlb_.code_page(view, linear);
  if (page == nullptr) return nullptr;
  lasting = page->lasting;
  const u64 offset = linear & (kPageSize - 1);
  const u64 physical = page->physical + offset;
  if (Block* known = blocks(mode).find(linear, physical, mode)) return known;
  put_away_vector();
  protect(*page);
  TranslationInput input = input_at(*page, linear, mode);
  if (reached == Reached::Indirectly) input.mismatch = stubs_.indirect;
  BlockStore& store = blocks(mode);
  Block* made = store.add(translator_, input, physical);
  if (made == nullptr) {
    forget_blocks(store);
    made = store.add(translator_, input, physical);
  }
  counters_.blocks_made.count();
  return made;
}

void SoftVcpu::protect(const Tlb::CodePage& page) {
  if (!crew_.claim_code(me_, GuestPhysical(page.physical), page.flags).own_tags) return;
  if (direct_) direct_->mappings().forget_physical(page.physical);
  protect_writes(page.host);
}

// The instruction at `linear`, which goes on on the next page. Null when that cannot be fetched. The first
// page needs no protection here: this is found through a block on it, and by what it holds.
Block* SoftVcpu::tail_at(u64 linear, u32 mode, Lasting& lasting) {
  const View view = static_cast<View>(mode & Mode::view_mask);
  const u64 boundary = (linear | (kPageSize - 1)) + 1;
  look_at_steady_pages();
  const Tlb::CodePage* first = tlb_.code_page(view, linear);
  const Tlb::CodePage* second = tlb_.code_page(view, boundary);
  if (first == nullptr || second == nullptr) return nullptr;
  lasting = std::min(first->lasting, second->lasting);
  BlockStore::SpanningBytes bytes;
  const auto read = [&] {
    for (u64 i = 0; i < bytes.size(); i++) {
      const u64 at = linear + i;
      bytes[i] = (at < boundary ? first : second)->host[at & (kPageSize - 1)];
    }
  };
  read();
  const u32 key = mode | Mode::spanning;
  put_away_vector();
  if (Block* known = blocks(mode).find_spanning(linear, second->physical, key, bytes)) return known;
  protect(*second);
  read();  // what is protected now
  TranslationInput input;
  input.bytes = bytes.data();
  input.available = bytes.size();
  input.linear = linear;
  input.mode = key;
  BlockStore& store = blocks(mode);
  Block* made = store.add_spanning(translator_, input, second->physical, bytes);
  if (made == nullptr) {
    forget_blocks(store);
    made = store.add_spanning(translator_, input, second->physical, bytes);
  }
  counters_.blocks_made.count();
  return made;
}

Block* SoftVcpu::led_to(ExitIndex number, u32 mode, Lasting& lasting) {
  switch (blocks(mode).exit(number).lead) {
    case Lead::Twin:
      return block_at(context_->state.rip, mode | Mode::ungrouped, lasting);
    case Lead::Tail:
      return tail_at(context_->state.rip, mode, lasting);
    default:
      return block_at(context_->state.rip, mode, lasting);
  }
}

void SoftVcpu::set_mode(u32 mode) {
  context_->mode = mode;
  const bool user = (mode & Mode::view_mask) == static_cast<u32>(View::User);
  u32& units = user ? user_units_ : kernel_units_;
  if (units == (mode & ~Mode::view_mask)) return;
  units = mode & ~Mode::view_mask;
  for (unsigned v = 0; v < kViews; v++) {
    if ((static_cast<View>(v) == View::User) == user) tlb_.forget_jumps(static_cast<View>(v));
  }
}

void SoftVcpu::enter(u64 code, u32 mode) {
  set_mode(mode);
  context_->enter_target = code;
  trace_block();
  run_translated();
  // Whoever still steps stops with the next trap, which then finds nobody counting.
  stop_after_ = 0;
}

NACRE_NOT_INSTRUMENTED void SoftVcpu::run_translated() {
  take_back_vector();
  if (stop_after_ != 0) {
    // Enter with TF set.
    seen_code_ = false;
    __asm__ volatile("pushfq\n\torq $0x100, (%%rsp)\n\tpopfq" : : : "memory", "cc");
  }
  entries_.enter(context_.get());
  left_translated_code();
}

engine::Exit SoftVcpu::come_back(engine::ExitReason reason) {
  put_away_vector();
  return {reason, {}};
}

engine::Exit SoftVcpu::run() {
  if (!thread_known_.load(std::memory_order_relaxed)) {
    thread_.emplace(host::KickableThread::current());
    thread_known_.store(true, std::memory_order_release);
    crew_.on_thread(me_, *thread_, direct_ ? &*direct_ : nullptr);
  }
  const host::FaultScope vector_scope(*vector_);
  const host::FaultScope own_scope(*this);
  State& state = context_->state;
  Crew::Answer wanted;
  for (;;) {
    if (direct_lost_) {
      return {engine::ExitReason::Failed,
              Error("The process that ran the guest's programs has died (was it killed, or is "
                    "the host out of memory?).")};
    }
    // Cleared before it is looked what was requested.
    const bool requested = context_->exit_request.exchange(0) != 0;
    if (crew_.answer(me_, requested, wanted)) answer(wanted);
    if (kicked_.exchange(false)) {
      if (direct_ && state.cpl() == 3) direct_->user_interrupted(state);
      return come_back(engine::ExitReason::Kicked);
    }
    if (counted_ && (context_->fuel == 0 || context_->enough != 0))
      return come_back(engine::ExitReason::Kicked);
    if (state.activity != Activity::Running || event_due() || state.interrupt_shadow || !translatable()) {
      put_away_vector();
      burn_fuel();
      switch (interpreter_.step(state)) {
        case interp::StepResult::Executed:
          continue;
        case interp::StepResult::Halted:
          return come_back(engine::ExitReason::Halted);
        case interp::StepResult::Shutdown:
          return come_back(engine::ExitReason::Shutdown);
      }
    }
    if (direct_ && direct_->wanted(state) && run_directly()) continue;
    u32 mode = mode_now();
    Lasting lasting = Lasting::Space;
    Block* block = block_at(state.rip, mode, lasting);
    if (block == nullptr) {
      put_away_vector();
      burn_fuel();
      interpreter_.execute_one(state);
      continue;
    }
    u64 code = blocks(mode).code_address(*block);
    // Requests that need no look at the rest of the machine are answered here.
    for (bool again = true; again;) {
      enter(code, mode);
      again = false;
      mode = context_->mode;  // translated code changes views by itself
      switch (static_cast<ExitKind>(context_->exit_kind)) {
        case ExitKind::Link: {
          const ExitIndex number = static_cast<ExitIndex>(context_->exit_info);
          const u64 epoch = epoch_;
          const BlockExit& exit = blocks(mode).exit(number);
          state.rip = exit.lead == Lead::Tail ? blocks(mode).block(exit.from).linear : exit.target;
          const bool tail = exit.lead == Lead::Tail;
          note(Help::Link, state.rip);
          block = led_to(number, mode, lasting);
          if (requested_now()) break;
          if (block == nullptr) {
            // The block before a tail is there all the same, and would lead here again.
            if (tail) {
              put_away_vector();
              interpreter_.execute_one(state);
            }
            break;
          }
          if (epoch == epoch_ && !trace_blocks_) blocks(mode).link(number, *block, lasting);
          code = blocks(mode).code_address(*block);
          again = true;
          break;
        }
        case ExitKind::Indirect: {
          state.rip = context_->exit_info;
          note(Help::Indirect, state.rip);
          block = block_at(state.rip, mode, lasting, Reached::Indirectly);
          if (block == nullptr || requested_now()) break;
          const u64 entry = blocks(mode).indirect_entry(*block, stubs_.indirect);
          if (entry != 0 && !trace_blocks_) {
            tlb_.remember_jump(static_cast<View>(mode & Mode::view_mask), state.rip, entry, lasting);
          }
          code = blocks(mode).code_address(*block);
          again = true;
          break;
        }
        case ExitKind::Interpret:
          note(Help::Fault, state.rip);
          put_away_vector();
          interpreter_.execute_one(state);
          break;
        case ExitKind::Lookup:
          note(Help::Lookup, state.rip);
          break;
        case ExitKind::Async:
          note(Help::Async, state.rip);
          break;
      }
    }
  }
}

}  // namespace nacre::soft
