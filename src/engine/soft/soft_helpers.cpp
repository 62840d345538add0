// What translated code calls. The guest's vector state may be in host registers.
#include "engine/soft/soft_vcpu.hpp"

namespace nacre::soft {

using cpu::Activity;
using cpu::State;
using x86::Rflags;

namespace {

// memcpy would use vector registers, which may hold the guest's values.
void copy(u8* to, const u8* from, u64 bytes) {
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
}

}  // namespace

HelperResult SoftVcpu::finish_helper(HelperResult result) {
  if (result == HelperResult::Leave && !go_on()) {
    context_->exit_kind = static_cast<u32>(ExitKind::Lookup);
    return result;
  }
  return result == HelperResult::Leave ? HelperResult::Jump : result;
}

// The instruction at state.rip begins anew, in a block that begins with it. If the block it was in did so
// too, it has been entered for nothing.
HelperResult SoftVcpu::start_again() {
  if (counted_ && context_->entered[context_->fuel] == context_->state.rip) context_->fuel++;
  return HelperResult::Leave;
}

// Prepares to run on at state.rip without going through the dispatcher. False when that must have a look.
bool SoftVcpu::go_on() {
  const State& state = context_->state;
  if (state.activity != Activity::Running || state.interrupt_shadow || event_due() || !translatable())
    return false;
  if (direct_ && direct_->wanted(state)) return false;
  const u32 mode = mode_now();
  Lasting lasting = Lasting::Space;
  const Block* block = block_at(state.rip, mode, lasting);
  if (block == nullptr) return false;
  set_mode(mode);
  context_->enter_target = blocks(mode).code_address(*block);
  trace_block();
  return true;
}

bool SoftVcpu::event_due() {
  const State& state = context_->state;
  return state.pending.kind != cpu::Event::Kind::None || state.nmi_pending != 0 ||
         ((state.rflags & Rflags::IF) != 0 && interrupt_pending());
}

NACRE_NOT_INSTRUMENTED HelperResult SoftVcpu::fill_read(Context* context, u64 linear, u64 note) {
  auto* self = static_cast<SoftVcpu*>(context->engine);
  self->left_translated_code();
  return self->back_to_translated_code(self->fill(linear, false, note));
}
NACRE_NOT_INSTRUMENTED HelperResult SoftVcpu::fill_write(Context* context, u64 linear, u64 note) {
  auto* self = static_cast<SoftVcpu*>(context->engine);
  self->left_translated_code();
  return self->back_to_translated_code(self->fill(linear, true, note));
}
NACRE_NOT_INSTRUMENTED HelperResult SoftVcpu::fill_group(Context* context, u64 low, u64 note) {
  auto* self = static_cast<SoftVcpu*>(context->engine);
  self->left_translated_code();
  return self->back_to_translated_code(self->fill_group(low, note));
}
NACRE_NOT_INSTRUMENTED HelperResult SoftVcpu::interpret(Context* context, u64 note) {
  auto* self = static_cast<SoftVcpu*>(context->engine);
  self->left_translated_code();
  return self->back_to_translated_code(self->interpret(note));
}

HelperResult SoftVcpu::interpret(u64 note) {
  this->note(Help::Interpret, context_->state.rip);
  const HelperResult result = (note & InterpretNote::string) != 0 ? string(note) : interpret_here(note);
  // The call's return address is the code behind the instruction: "past" it is where it points already.
  return finish_helper(result == HelperResult::Past ? HelperResult::Again : result);
}

HelperResult SoftVcpu::fill(u64 linear, bool write, u64 note) {
  const u64 epoch = epoch_;
  const u64 bytes = note >> InterpretNote::window_shift;
  const bool crosses = (linear & (kPageSize - 1)) + bytes > kPageSize;
  this->note(crosses ? Help::Crossing : write ? Help::FillWrite : Help::FillRead, context_->state.rip);
  // Going on with the instruction in the block, a kick would find the state between STI and it.
  const bool shadowed = (note & InterpretNote::shadowed) != 0;
  if (crosses) {
    if (!shadowed && (note & InterpretNote::bounce) != 0 && bounce(linear, bytes, write)) {
      return finish_helper(epoch == epoch_ ? HelperResult::Bounced : start_again());
    }
  } else if (tlb_.fill(view_now(), linear, write) && !shadowed) {
    return finish_helper(epoch == epoch_ ? HelperResult::Again : start_again());
  }
  this->note(Help::Denied, context_->state.rip);
  const HelperResult result = interpret_here(note);
  return finish_helper(epoch == epoch_ ? result : HelperResult::Leave);
}

// Where the TLB says that the byte is, after making an entry if need be; null when it may not have one.
u8* SoftVcpu::host_of(View view, u64 linear, bool write) {
  const TlbEntry& entry = context_->tlb[static_cast<usize>(view)][(linear >> kPageShift) & (kTlbEntries - 1)];
  const bool known = (write ? entry.write_tag : entry.read_tag) == (linear & ~u64{kPageSize - 1});
  if (!known && !tlb_.fill(view, linear, write)) return nullptr;
  return reinterpret_cast<u8*>(entry.host_page + (linear & (kPageSize - 1)));
}

// Prepares a crossing access: the operand as it is now is put in Context::bounce.
bool SoftVcpu::bounce(u64 linear, u64 bytes, bool write) {
  Bounce& bounce = context_->bounce;
  const u64 boundary = (linear | (kPageSize - 1)) + 1;
  // 32-bit code: what is behind the end is the interpreter's to say.
  const u64 end = (context_->mode & Mode::code32) != 0 ? Mode::code32_end : 0;
  if (boundary == end || bytes > Bounce::kBoundary) return false;
  const u8* second = host_of(view_now(), boundary, write);
  if (second == nullptr) return false;
  const u8* first = host_of(view_now(), linear, write);
  if (first == nullptr) return false;
  bounce.first = reinterpret_cast<u64>(first);
  bounce.first_bytes = boundary - linear;
  bounce.second = reinterpret_cast<u64>(second);
  bounce.second_bytes = bytes - bounce.first_bytes;
  u8* at = bounce.bytes + Bounce::kBoundary - bounce.first_bytes;
  bounce.at = reinterpret_cast<u64>(at);
  copy(at, first, bounce.first_bytes);
  copy(bounce.bytes + Bounce::kBoundary, second, bounce.second_bytes);
  return true;
}

// A shared check failed. The page may just not be in the TLB; else the window crosses a page, or only a
// part of the group may be accessed, and the block's twin does this run. A block whose group is denied time
// and again is made anew without groups.
HelperResult SoftVcpu::fill_group(u64 low, u64 note) {
  constexpr unsigned kPatience = 16;
  const u64 window = note >> GroupNote::window_shift;
  const bool write = (note & GroupNote::write) != 0;
  const bool stack = (note & GroupNote::stack) != 0;
  const u64 epoch = epoch_;
  const u64 rip = context_->state.rip;
  this->note(stack ? Help::FillStack : Help::FillGroup, rip);
  const bool crosses = ((low ^ (low + window - 1)) & ~u64{kPageSize - 1}) != 0;
  if (!crosses && (stack ? tlb_.fill_stack(view_now(), low, write) : tlb_.fill(view_now(), low, write))) {
    return finish_helper(epoch == epoch_ ? HelperResult::Again : start_again());
  }
  this->note(Help::Twin, rip);
  if (!crosses) {
    const usize offset = code_.offset_of(context_->call_stack[7]);
    BlockStore& store = blocks_at(offset);
    Block* block = store.at_code(offset);
    if (block != nullptr && block->valid && ++block->denied > kPatience) {
      put_away_vector();
      epoch_++;
      forget_jumps_to(*block);
      store.ungroup(store.index(*block));
    }
  }
  return finish_helper(epoch == epoch_ ? HelperResult::Past : start_again());
}

HelperResult SoftVcpu::interpret_here(u64 note) {
  State& state = context_->state;
  if ((note & InterpretNote::needs_vector) != 0) put_away_vector();
  const u64 expected = state.rip + (note & InterpretNote::length_mask);
  const u64 epoch = epoch_;
  interpreter_.execute_one(state);
  if ((note & InterpretNote::length_mask) == 0 || state.rip != expected || epoch != epoch_ ||
      state.activity != Activity::Running || state.interrupt_shadow || mode_now() != context_->mode ||
      ((state.rflags & Rflags::IF) != 0 && interrupt_pending()) || state.nmi_pending != 0 ||
      state.pending.kind != cpu::Event::Kind::None || !translatable()) {
    return HelperResult::Leave;
  }
  return HelperResult::Past;
}

}  // namespace nacre::soft
