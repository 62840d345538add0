// Instruction fetch. SDM vol. 3, 4.6 (fetch rights), 5.3 (code limit), 6.15 (#GP for 15 bytes).
#include "interp/fetch.hpp"

#include <array>
#include <utility>

#include "cpu/model.hpp"
#include "interp/handlers.hpp"
#include "interp/operands.hpp"

namespace nacre::interp {
namespace {

using x86::CodeSize;
using x86::DecodeStatus;
using x86::OpcodeAttribute;

constexpr unsigned kWindow = 16;

CodeSize code_size_of(const Core& core) {
  if (core.code64) return CodeSize::Bits64;
  const bool wide = (core.state->segment[x86::CS].attributes & SegmentAttributes::DB) != 0;
  return wide ? CodeSize::Bits32 : CodeSize::Bits16;
}

bool fetch_address(Core& core, u64& linear) {
  const State& s = *core.state;
  if (core.code64) {
    linear = s.rip;
    return is_canonical(linear) || core.general_protection();
  }
  const Segment& code = s.segment[x86::CS];
  linear = (code.base + s.rip) & 0xffffffff;
  return s.rip <= code.limit || core.general_protection();
}

// Copies up to `wanted` bytes of the page behind `entry`. Other processors may be writing there: what is
// decoded is the copy.
void copy_code(Core& core, const TlbEntry& entry, u64 offset, u8* to, unsigned wanted) {
  for (unsigned n = 0; n < wanted; ++n) {
    to[n] = entry.host != nullptr
                ? entry.host[offset + n]
                : static_cast<u8>(core.platform.mmio_read(GuestPhysical(entry.physical + offset + n), 1));
  }
}

// LOCK needs a memory destination and an instruction that knows it. SDM vol. 2, LOCK.
bool lock_allowed(const Instruction& i) {
  return (i.info->attributes & OpcodeAttribute::lockable) != 0 && is_memory_operand(i, 0);
}

bool feature_present(const Core& core, const Instruction& i) {
  const bool wide = (i.info->attributes & OpcodeAttribute::avx2_when_256) != 0 && i.vector_length == 32;
  const x86::Feature feature = wide ? x86::Feature::Avx2 : i.info->feature;
  return feature == x86::Feature::Base || core.model.has(feature);
}

// Control and debug registers, EFER, RFLAGS beyond arithmetic, CS: only instructions of these classes, all of
// which end a block for the same reason.
bool changes_mode(const Instruction& i) {
  if ((i.info->attributes & OpcodeAttribute::ends_block) == 0) return false;
  switch (i.info->kind) {
    case x86::Class::System:
    case x86::Class::FarBranch:
    case x86::Class::SystemCall:
    case x86::Class::Stack:
      return true;
    default:
      return false;
  }
}

// MFENCE, and what SDM vol. 3, 9.3 lists as serializing.
bool orders_memory(const Instruction& i) {
  using x86::Operation;
  switch (i.info->operation) {
    case Operation::Mfence:
    case Operation::Serialize:
    case Operation::Cpuid:
    case Operation::Iret:
    case Operation::MovCr:
    case Operation::MovDr:
    case Operation::Wrmsr:
    case Operation::Invd:
    case Operation::Wbinvd:
    case Operation::Invlpg:
    case Operation::Invpcid:
    case Operation::Lgdt:
    case Operation::Lidt:
    case Operation::Lldt:
    case Operation::Ltr:
      return true;
    default:
      return false;
  }
}

u32 checks_for(const Core& core, const Instruction& i, DecodeStatus status, Handler handler) {
  if (status == DecodeStatus::TooLong) return FetchCheck::too_long;
  if (status != DecodeStatus::Ok || i.info->kind == x86::Class::Invalid) return FetchCheck::undefined;
  if (i.lock && !lock_allowed(i)) return FetchCheck::undefined;
  if (!feature_present(core, i)) return FetchCheck::undefined;
  if (handler == nullptr) return FetchCheck::unknown;
  u32 checks = changes_mode(i) ? FetchCheck::changes_mode : 0;
  if (orders_memory(i)) checks |= FetchCheck::orders_memory;
  const u32 attributes = i.info->attributes;
  const bool never_in_real =
      i.encoding != x86::Encoding::Legacy || (attributes & OpcodeAttribute::protected_only) != 0;
  if (never_in_real) checks |= FetchCheck::protected_only;
  // stac and clac raise #UD, not #GP, outside CPL 0: their handler's matter.
  const bool is_ac = i.info->operation == x86::Operation::Stac || i.info->operation == x86::Operation::Clac;
  if ((attributes & OpcodeAttribute::privileged) != 0 && !is_ac) checks |= FetchCheck::privileged;
  return checks;
}

// The mask of the bytes that an instruction of each length has in one of the two words.
struct LengthMask {
  u64 word[2];
};
constexpr u64 mask_of(unsigned length, unsigned start) {
  return length <= start ? 0 : low_bytes_mask(length - start);
}
template <usize... lengths>
constexpr std::array<LengthMask, kWindow> make_masks(std::index_sequence<lengths...>) {
  return {LengthMask{{mask_of(lengths, 0), mask_of(lengths, 8)}}...};
}
constexpr auto kMasks = make_masks(std::make_index_sequence<kWindow>());

u32 make_key(unsigned length, CodeSize code_size) {
  return length << 8 | static_cast<u32>(code_size) | 1 << 7;
}

// What did not decode is not kept: how many of its bytes made it so is the decoder's business.
void set_key(DecodedInstruction& entry, const u8* bytes, CodeSize code_size, DecodeStatus status) {
  const unsigned length = entry.instruction.length;
  entry.key = 0;
  if (status != DecodeStatus::Ok || length == 0 || length >= kWindow) return;
  for (unsigned half = 0; half < 2; ++half)
    entry.bytes[half] = load_host(bytes + 8 * half, 8) & kMasks[length].word[half];
  entry.key = make_key(length, code_size);
}

bool matches(const DecodedInstruction& entry, u64 low, u64 high, unsigned available, CodeSize code_size) {
  const unsigned length = entry.key >> 8;
  const LengthMask& mask = kMasks[length];
  return (low & mask.word[0]) == entry.bytes[0] && (high & mask.word[1]) == entry.bytes[1] &&
         entry.key == make_key(length, code_size) && length <= available;
}

}  // namespace

const DecodedInstruction* Fetcher::decode(Core& core, DecodedInstruction& entry, u64 linear, u8* bytes,
                                          unsigned available, CodeSize code_size) {
  DecodeStatus status = x86::decode(bytes, available, code_size, entry.instruction);
  if (status == DecodeStatus::NeedMoreBytes && available < kWindow) {
    entry.key = 0;  // no hit if the rest faults
    const u64 next = core.code64 ? linear + available : (linear + available) & 0xffffffff;
    const TlbEntry* page = core.translate(next, AccessType::Execute, core.privilege);
    if (page == nullptr) return nullptr;
    copy_code(core, *page, next & (kPageSize - 1), bytes + available, kWindow - available);
    status = x86::decode(bytes, kWindow, code_size, entry.instruction);
  }
  entry.handler = handler_for(entry.instruction.info->operation);
  entry.checks = checks_for(core, entry.instruction, status, entry.handler);
  set_key(entry, bytes, code_size, status);
  return &entry;
}

const DecodedInstruction* Fetcher::fetch(Core& core) {
  u64 linear = 0;
  if (!fetch_address(core, linear)) return nullptr;
  const TlbEntry* page = core.translate(linear, AccessType::Execute, core.privilege);
  if (page == nullptr) return nullptr;
  const u64 offset = linear & (kPageSize - 1);
  const unsigned available =
      offset > kPageSize - kWindow ? static_cast<unsigned>(kPageSize - offset) : kWindow;
  u64 words[2] = {};
  u8* bytes = reinterpret_cast<u8*>(words);
  if (available == kWindow && page->host != nullptr) [[likely]] {
    words[0] = load_host(page->host + offset, 8);
    words[1] = load_host(page->host + offset + 8, 8);
  } else {
    copy_code(core, *page, offset, bytes, available);
  }

  const CodeSize code_size = code_size_of(core);
  DecodedInstruction& entry = cache_[(linear ^ linear >> 12) & (kEntries - 1)];
  if (!matches(entry, words[0], words[1], available, code_size)) {
    if (decode(core, entry, linear, bytes, available, code_size) == nullptr) return nullptr;
  }
  if (!core.code64 && core.state->rip + entry.instruction.length - 1 > core.state->segment[x86::CS].limit) {
    core.general_protection();
    return nullptr;
  }
  return &entry;
}

}  // namespace nacre::interp
