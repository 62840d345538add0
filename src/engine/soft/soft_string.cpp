// MOVS and STOS on pages that the TLB may hold, a page at a time, by the host's own string instructions. What is
// not so simple is the interpreter's: from where this stopped, since a repeated string instruction may be
// interrupted between any two elements (SDM vol. 1, 7.3.9.3).
#include "engine/soft/soft_vcpu.hpp"

namespace nacre::soft {

using cpu::State;
using x86::Rflags;

namespace {

u64 smaller(u64 a, u64 b) {
  return a < b ? a : b;
}

// Element by element as the guest's: what overlaps means the same.
void host_movs(u8* to, const u8* from, u64 count, unsigned shift) {
  switch (shift) {
    case 0:
      __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
      break;
    case 1:
      __asm__ volatile("rep movsw" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
      break;
    case 2:
      __asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
      break;
    default:
      __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
  }
}

void host_stos(u8* to, u64 value, u64 count, unsigned shift) {
  switch (shift) {
    case 0:
      __asm__ volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(value) : "memory");
      break;
    case 1:
      __asm__ volatile("rep stosw" : "+D"(to), "+c"(count) : "a"(value) : "memory");
      break;
    case 2:
      __asm__ volatile("rep stosl" : "+D"(to), "+c"(count) : "a"(value) : "memory");
      break;
    default:
      __asm__ volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(value) : "memory");
  }
}

u64 elements_to_page_end(u64 linear, unsigned shift) {
  return (kPageSize - (linear & (kPageSize - 1))) >> shift;
}

}  // namespace

// As many elements as both pages still have. Denied when there are none, or a page is not to be had; Stopped when
// something is requested.
SoftVcpu::StringPart SoftVcpu::string_part(u64 note, u64& left) {
  State& state = context_->state;
  const unsigned shift = note >> InterpretNote::element_shift & 3;
  const bool moves = (note & InterpretNote::moves) != 0;
  u64& to = state.gpr[x86::RDI];
  u64& from = state.gpr[x86::RSI];
  u64 count = smaller(left, elements_to_page_end(to, shift));
  if (moves) count = smaller(count, elements_to_page_end(from, shift));
  if (count == 0) return StringPart::Denied;
  // The source is read first, so its fault comes first.
  const u8* source = moves ? host_of(view_now(), from, false) : nullptr;
  if (moves && source == nullptr) return StringPart::Denied;
  u8* destination = host_of(view_now(), to, true);
  if (destination == nullptr) return StringPart::Denied;
  // What writes by a tag counts as translated code, and looks for requests as that does on the way in: Crew::shoot().
  __atomic_store_n(&context_->inside, 1u, __ATOMIC_RELAXED);
  __asm__ volatile("" : : : "memory");
  if (requested_now()) {
    __atomic_store_n(&context_->inside, 0u, __ATOMIC_RELAXED);
    return StringPart::Stopped;
  }
  if (moves) {
    host_movs(destination, source, count, shift);
    from += count << shift;
  } else {
    host_stos(destination, state.gpr[x86::RAX], count, shift);
  }
  __atomic_store_n(&context_->inside, 0u, __ATOMIC_RELEASE);
  to += count << shift;
  left -= count;
  if ((note & InterpretNote::repeated) != 0) state.gpr[x86::RCX] = left;
  return StringPart::Done;
}

HelperResult SoftVcpu::string(u64 note) {
  State& state = context_->state;
  if ((state.rflags & Rflags::DF) != 0) return interpret_here(note);
  const u64 epoch = epoch_;
  u64 left = (note & InterpretNote::repeated) != 0 ? state.gpr[x86::RCX] : 1;
  bool begun = false;
  while (left != 0) {
    switch (string_part(note, left)) {
      case StringPart::Done:
        begun = true;
        break;
      case StringPart::Stopped:
        if (begun) return HelperResult::Leave;
        [[fallthrough]];  // not to leave between STI and this
      case StringPart::Denied: {
        const HelperResult result = interpret_here(note);
        return epoch == epoch_ ? result : HelperResult::Leave;
      }
    }
    // A walk may have written to a page table that holds code.
    if (left != 0 && (requested_now() || epoch != epoch_)) return HelperResult::Leave;
  }
  state.rip += note & InterpretNote::length_mask;
  return epoch == epoch_ ? HelperResult::Past : HelperResult::Leave;
}

}  // namespace nacre::soft
