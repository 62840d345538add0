// String instructions. SDM vol. 2, MOVS … and REP; vol. 1, 7.3.9. A repeated one does a bounded number of
// iterations a step, keeps rCX, rSI and rDI exact after each, and comes back to itself when it is not done.
#include "interp/flags.hpp"
#include "interp/handlers.hpp"
#include "interp/operands.hpp"

namespace nacre::interp::handlers {
namespace {

constexpr unsigned kIterationsAStep = 4096;

SegmentIndex source_segment(const Instruction& i) {
  return i.segment == x86::kNoSegment ? x86::DS : static_cast<SegmentIndex>(i.segment);
}

unsigned element_size(const Instruction& i) {
  return (i.opcode & 1) == 0 ? 1 : i.operand_size;
}

u64 index(const Core& core, const Instruction& i, x86::Gpr reg) {
  return core.gpr(reg, i.address_size);
}

void advance(Core& core, const Instruction& i, x86::Gpr reg, u64 bytes) {
  const u64 value = core.state->gpr[reg];
  core.set_gpr(reg, i.address_size, core.has_flag(Rflags::DF) ? value - bytes : value + bytes);
}

// Runs `once(bool& stop)` rCX times, or once without a prefix.
template <typename Once>
bool repeat(Core& core, const Instruction& i, Once once, unsigned iterations = kIterationsAStep) {
  bool stop = false;
  if (!i.rep && !i.repne) return once(stop);
  for (unsigned n = 0; n < iterations; ++n) {
    const u64 count = index(core, i, x86::RCX);
    if (count == 0) return true;
    if (!once(stop)) return false;
    core.set_gpr(x86::RCX, i.address_size, count - 1);
    if (stop || count == 1) return true;
    // Each iteration can trap by itself.
    if (core.has_flag(Rflags::TF) || core.debug_hits != 0) break;
  }
  core.next_rip = core.state->rip;
  return true;
}

// How many elements from `offset` up stay within the page and the address size.
u64 elements_in_page(const Instruction& i, u64 linear, u64 offset, unsigned size) {
  const u64 in_page = (kPageSize - (linear & (kPageSize - 1))) / size;
  const u64 before_wrap = (low_bytes_mask(i.address_size) - offset) / size;
  return in_page < before_wrap ? in_page : before_wrap;
}

bool bulk_possible(const Core& core, const Instruction& i) {
  return i.rep && !core.has_flag(Rflags::DF | Rflags::TF) && !core.watching && !core.alignment_checked;
}

// Where bulk goes again after the element that crosses a page, a few one by one are enough.
unsigned iterations_without_bulk(const Core& core, const Instruction& i) {
  return bulk_possible(core, i) ? 4 : kIterationsAStep;
}

// The host's own string instructions, element by element as the guest's: overlaps mean the same.
void host_movs(u8* to, const u8* from, u64 count, unsigned size) {
  switch (size) {
    case 1:
      asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
      break;
    case 2:
      asm volatile("rep movsw" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
      break;
    case 4:
      asm volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
      break;
    default:
      asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
      break;
  }
}

void host_stos(u8* to, u64 value, u64 count, unsigned size) {
  switch (size) {
    case 1:
      asm volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(value) : "memory");
      break;
    case 2:
      asm volatile("rep stosw" : "+D"(to), "+c"(count) : "a"(value) : "memory");
      break;
    case 4:
      asm volatile("rep stosl" : "+D"(to), "+c"(count) : "a"(value) : "memory");
      break;
    default:
      asm volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(value) : "memory");
      break;
  }
}

void finish_bulk(Core& core, const Instruction& i, u64 elements) {
  const u64 count = index(core, i, x86::RCX) - elements;
  core.set_gpr(x86::RCX, i.address_size, count);
  if (count != 0) core.next_rip = core.state->rip;
}

u64 smaller(u64 a, u64 b) {
  return a < b ? a : b;
}

// Up to the end of a page in RAM at once. `elements` 0: not possible here, go one by one.
bool bulk_movs(Core& core, const Instruction& i, unsigned size, u64& elements) {
  elements = 0;
  const u64 count = index(core, i, x86::RCX);
  if (!bulk_possible(core, i) || count < 2) return true;
  const u64 source = index(core, i, x86::RSI), target = index(core, i, x86::RDI);
  u64 from = 0, to = 0;
  if (!core.linear_address(source_segment(i), source, size, AccessType::Read, from)) return false;
  if (!core.linear_address(x86::ES, target, size, AccessType::Write, to)) return false;
  u64 n = smaller(count, elements_in_page(i, from, source, size));
  n = smaller(n, elements_in_page(i, to, target, size));
  if (n < 2) return true;
  if (!core.linear_address(source_segment(i), source, n * size, AccessType::Read, from) ||
      !core.linear_address(x86::ES, target, n * size, AccessType::Write, to)) {
    return true;  // a segment ends in the middle: one by one finds where
  }
  const TlbEntry* read = core.translate(from, AccessType::Read, core.privilege);
  if (read == nullptr) return false;
  const TlbEntry* write = core.translate(to, AccessType::Write, core.privilege);
  if (write == nullptr) return false;
  if (read->host == nullptr || write->host == nullptr) return true;
  const u64 offset = to & (kPageSize - 1);
  host_movs(write->host + offset, read->host + (from & (kPageSize - 1)), n, size);
  core.mark_written(*write, offset, n * size);
  elements = n;
  return true;
}

bool bulk_stos(Core& core, const Instruction& i, unsigned size, u64& elements) {
  elements = 0;
  const u64 count = index(core, i, x86::RCX);
  if (!bulk_possible(core, i) || count < 2) return true;
  const u64 target = index(core, i, x86::RDI);
  u64 to = 0;
  if (!core.linear_address(x86::ES, target, size, AccessType::Write, to)) return false;
  const u64 n = smaller(count, elements_in_page(i, to, target, size));
  if (n < 2 || !core.linear_address(x86::ES, target, n * size, AccessType::Write, to)) return true;
  const TlbEntry* write = core.translate(to, AccessType::Write, core.privilege);
  if (write == nullptr) return false;
  if (write->host == nullptr) return true;
  const u64 offset = to & (kPageSize - 1);
  host_stos(write->host + offset, core.state->gpr[x86::RAX], n, size);
  core.mark_written(*write, offset, n * size);
  elements = n;
  return true;
}

// After cmps and scas: repe stops on a difference, repne on equality.
bool comparison_ends(const Core& core, const Instruction& i) {
  return core.has_flag(Rflags::ZF) == i.repne;
}

}  // namespace

bool movs(Core& core, const Instruction& i) {
  const unsigned size = element_size(i);
  u64 elements = 0;
  if (!bulk_movs(core, i, size, elements)) return false;
  if (elements != 0) {
    advance(core, i, x86::RSI, elements * size);
    advance(core, i, x86::RDI, elements * size);
    finish_bulk(core, i, elements);
    return true;
  }
  return repeat(
      core, i,
      [&](bool&) {
        u64 value = 0;
        if (!core.load(source_segment(i), index(core, i, x86::RSI), size, value)) return false;
        if (!core.store(x86::ES, index(core, i, x86::RDI), size, value)) return false;
        advance(core, i, x86::RSI, size);
        advance(core, i, x86::RDI, size);
        return true;
      },
      iterations_without_bulk(core, i));
}

bool stos(Core& core, const Instruction& i) {
  const unsigned size = element_size(i);
  u64 elements = 0;
  if (!bulk_stos(core, i, size, elements)) return false;
  if (elements != 0) {
    advance(core, i, x86::RDI, elements * size);
    finish_bulk(core, i, elements);
    return true;
  }
  return repeat(
      core, i,
      [&](bool&) {
        if (!core.store(x86::ES, index(core, i, x86::RDI), size, core.state->gpr[x86::RAX])) return false;
        advance(core, i, x86::RDI, size);
        return true;
      },
      iterations_without_bulk(core, i));
}

bool lods(Core& core, const Instruction& i) {
  const unsigned size = element_size(i);
  return repeat(core, i, [&](bool&) {
    u64 value = 0;
    if (!core.load(source_segment(i), index(core, i, x86::RSI), size, value)) return false;
    core.set_gpr(x86::RAX, size, value);
    advance(core, i, x86::RSI, size);
    return true;
  });
}

bool scas(Core& core, const Instruction& i) {
  const unsigned size = element_size(i);
  return repeat(core, i, [&](bool& stop) {
    u64 value = 0;
    if (!core.load(x86::ES, index(core, i, x86::RDI), size, value)) return false;
    subtract_with_flags(core.state->rflags, core.state->gpr[x86::RAX], value, false, size);
    advance(core, i, x86::RDI, size);
    stop = comparison_ends(core, i);
    return true;
  });
}

bool cmps(Core& core, const Instruction& i) {
  const unsigned size = element_size(i);
  return repeat(core, i, [&](bool& stop) {
    u64 first = 0, second = 0;
    if (!core.load(source_segment(i), index(core, i, x86::RSI), size, first)) return false;
    if (!core.load(x86::ES, index(core, i, x86::RDI), size, second)) return false;
    subtract_with_flags(core.state->rflags, first, second, false, size);
    advance(core, i, x86::RSI, size);
    advance(core, i, x86::RDI, size);
    stop = comparison_ends(core, i);
    return true;
  });
}

}  // namespace nacre::interp::handlers
