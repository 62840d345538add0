#include "engine/soft/translator.hpp"
#include "engine/soft/stubs.hpp"

namespace nacre::soft {

using x86::Class;
using x86::Instruction;
using x86::Operation;
using x86::Rflags;

namespace {

constexpr unsigned kMaxInstructions = 48;
// How many conditional branches a block goes on behind. More means longer straight code and
// fewer links, but more guest code translated twice.
constexpr unsigned kMaxContinuations = 3;

bool is_unconditional_end(const Instruction& insn) {
  switch (insn.info->kind) {
    case Class::Jump:
    case Class::Call:
    case Class::Return:
    case Class::FarBranch:
    case Class::SystemCall:
    case Class::Invalid:
      return true;
    default:
      // What follows STI is needed with it: the interrupt shadow is kept within a block.
      if (insn.info->operation == Operation::Sti) return false;
      return insn.info->operation == Operation::Hlt ||
             (insn.info->attributes & x86::OpcodeAttribute::ends_block) != 0;
  }
}

bool takes_all_flags(const Instruction& insn) {
  const Operation operation = insn.info->operation;
  return operation == Operation::Pushf || operation == Operation::Lahf || insn.info->kind == Class::SystemCall ||
         operation == Operation::Int || operation == Operation::Int3 || operation == Operation::Int1;
}

// Bytes are shifted by at most 31, whatever REX.W says.
u64 shift_count_mask(const Instruction& insn) {
  const bool wide = insn.w && x86::operand_bytes(insn, insn.info->operands[0].width) == 8;
  return wide ? 63 : 31;
}

}  // namespace

// What a string instruction's helper is told besides; 0 for all others.
static u32 string_note(const Instruction& insn) {
  const bool moves = info_is(insn, Operation::Movs);
  if (!moves && !info_is(insn, Operation::Stos)) return 0;
  // (Of 32-bit addresses in 64-bit code: the interpreter's.)
  if (insn.address_size != 8 || insn.repne || (moves && (insn.segment == x86::FS || insn.segment == x86::GS))) return 0;
  const unsigned bytes = (insn.opcode & 1) == 0 ? 1 : insn.operand_size;
  const u32 shift = bytes == 1 ? 0 : bytes == 2 ? 1 : bytes == 4 ? 2 : 3;
  return InterpretNote::string | shift << InterpretNote::element_shift | (moves ? InterpretNote::moves : 0) |
         (insn.rep ? InterpretNote::repeated : 0);
}

u32 interpret_note(const Instruction& insn) {
  if (insn.info == nullptr) return InterpretNote::needs_vector;
  switch (insn.info->kind) {
    case Class::Jump:
    case Class::Call:
    case Class::Return:
      return 0;
    case Class::X87:
    case Class::Sse:
    case Class::Avx:
    case Class::Invalid:
      return insn.length | InterpretNote::needs_vector;
    case Class::System:
    case Class::String:  // maskmovdqu is one
      break;
    default:
      return insn.length;
  }
  switch (insn.info->operation) {
    case Operation::Fxsave:
    case Operation::Fxrstor:
    case Operation::Xsave:
    case Operation::Xsaveopt:
    case Operation::Xsavec:
    case Operation::Xsaves:
    case Operation::Xrstor:
    case Operation::Xrstors:
    case Operation::Ldmxcsr:
    case Operation::Stmxcsr:
    case Operation::Fwait:
    case Operation::Fldenv:
    case Operation::Fnstenv:
    case Operation::Fnsave:
    case Operation::Frstor:
    case Operation::X87:
    case Operation::Mmx:
    case Operation::Vector:
    case Operation::Emms:
    case Operation::Maskmov:
    case Operation::Vzeroupper:
    case Operation::Vzeroall:
    case Operation::Xsetbv:
      return insn.length | InterpretNote::needs_vector;
    default:
      return insn.length;
  }
}

bool Translator::translate(const TranslationInput& input, Emitter& emitter) {
  input_ = input;
  made_.cells = 0;
  e_ = &emitter;
  mode_ = input.mode;
  linear_ = input.linear;
  ended_ = false;
  next_is_shadowed_ = false;
  items_.clear();
  made_.infos.clear();
  made_.exits.clear();
  made_.looked_at.clear();
  colds_.clear();

  decode_block(input);
  find_live_flags();
  find_groups();
  addend_in_r15_ = kNone;
  made_.infos.reserve(2 * items_.size() + 2);
  // A twin and a tail go on where a block that has counted could not.
  const bool counts = options_.counted && (mode_ & Mode::key_only) == 0;
  if (counts) count_entry();
  for (u32 i = 0; i < items_.size() && !ended_; i++) translate_item(i);
  if (!ended_) direct_exit(linear_ + made_.guest_bytes);
  made_.hot_bytes = e_->size();
  emit_cold();
  if (counts) emit_out_of_fuel();
  emit_exit_stubs();
  made_.bytes = e_->size();
  return !e_->overflowed() && e_->size() < 0xffff;
}

u32 Translator::flags_read(const TranslationInput& input) {
  input_ = input;
  mode_ = input.mode;
  linear_ = input.linear;
  items_.clear();
  decode_block(input);
  find_live_flags();
  return items_[0].live_flags;
}

void Translator::decode_block(const TranslationInput& input) {
  usize at = 0;
  unsigned continuations = 0;
  while (items_.size() < kMaxInstructions) {
    Item item{};
    const x86::DecodeStatus status =
        x86::decode(input.bytes + at, input.available - at, code_size(), item.insn);
    // An instruction that runs over the page's end begins its own block.
    if (status == x86::DecodeStatus::NeedMoreBytes && at != 0) {
      looked_at(input.linear + at, input.linear + input.available);
      break;
    }
    item.rip = input.linear + at;
    if (options_.counted && at != 0 && status == x86::DecodeStatus::Ok && takes_all_flags(item.insn)) break;
    if (status == x86::DecodeStatus::NeedMoreBytes || status == x86::DecodeStatus::TooLong) {
      item.insn = Instruction{};
      item.insn.length = 0;
      item.spans = status == x86::DecodeStatus::NeedMoreBytes;
      items_.push_back(item);
      at = input.available;
      break;
    }
    items_.push_back(item);
    at += item.insn.length;
    const Class kind = item.insn.info->kind;
    if (is_unconditional_end(item.insn)) break;
    if (kind == Class::JumpIf && ++continuations > kMaxContinuations) break;
    if (at >= input.available || (input.mode & Mode::spanning) != 0) break;
  }
  made_.guest_bytes = at;
}

// Which arithmetic flags code at `target` may read before it overwrites them. Looks a few instructions ahead,
// within the block's own page only: when that page changes, the block goes with it.
u32 Translator::flags_live_at(u64 target) {
  constexpr unsigned kLookAhead = 4;
  constexpr u64 kPageMask = ~u64{kPageSize - 1};
  u32 unknown = Rflags::arithmetic;
  if ((mode_ & Mode::spanning) != 0) return unknown;
  const u64 first = target;
  for (unsigned n = 0; n < kLookAhead && ((target ^ linear_) & kPageMask) == 0; n++) {
    const u64 offset = target & ~kPageMask;
    Instruction insn;
    looked_at(first, target + x86::kMaxInstructionLength);
    const u8* page = input_.bytes - (linear_ & ~kPageMask);
    if (x86::decode(page + offset, kPageSize - offset, code_size(), insn) != x86::DecodeStatus::Ok) break;
    const bool plain = insn.info->kind == Class::Plain || insn.info->kind == Class::Sse;
    const bool stack = insn.info->kind == Class::Stack &&
                       (info_is(insn, Operation::Push) || info_is(insn, Operation::Pop));
    if ((!plain && !stack) || (x86::flags_tested(insn) & unknown) != 0) break;
    if (plain && (insn.info->attributes & x86::OpcodeAttribute::flags_depend_on_count) == 0) {
      unknown &= ~insn.info->flags_written;
    }
    if (unknown == 0) return 0;
    target += insn.length;
  }
  return unknown;
}

// A range of the block's page; one that goes on where the last began takes its place.
void Translator::looked_at(u64 from, u64 to) {
  const u64 page = linear_ & ~u64{kPageSize - 1};
  if (to > page + kPageSize) to = page + kPageSize;
  const LookedAt range = {static_cast<u16>(from - page), static_cast<u16>(to - from)};
  if (!made_.looked_at.empty() && made_.looked_at.back().offset == range.offset) made_.looked_at.pop_back();
  made_.looked_at.push_back(range);
}

void Translator::find_live_flags() {
  // Whoever comes next may read them all, unless it is known and does not.
  u32 live = items_.empty() ? Rflags::arithmetic : flags_live_at(linear_ + made_.guest_bytes);
  for (usize i = items_.size(); i-- > 0;) {
    Item& item = items_[i];
    const Instruction& insn = item.insn;
    if (insn.info == nullptr) {
      live = Rflags::arithmetic;
      item.live_flags = live;
      continue;
    }
    switch (insn.info->kind) {
      case Class::Plain:
      case Class::X87:
      case Class::Sse:
      case Class::Avx: {
        u32 written = insn.info->flags_written;
        // A count of zero leaves flags alone; only an immediate count is known.
        if ((insn.info->attributes & x86::OpcodeAttribute::flags_depend_on_count) != 0 &&
            (insn.immediate_size == 0 || (insn.immediate & shift_count_mask(insn)) == 0)) {
          const bool by_one = insn.opcode == 0xd0 || insn.opcode == 0xd1;
          if (!(insn.map == x86::Map::Primary && by_one)) written = 0;
        }
        live = (live & ~written) | x86::flags_tested(insn);
        break;
      }
      case Class::JumpIf: {
        const u64 target = item.rip + insn.length + insn.immediate;
        live |= x86::flags_tested(insn) | flags_live_at(target);
        break;
      }
      case Class::Jump:
      case Class::Call:
        live = insn.info->operands[0].kind == x86::OperandKind::Relative
                   ? flags_live_at(item.rip + insn.length + insn.immediate)
                   : Rflags::arithmetic;
        break;
      case Class::System:
        // Those done inline change no arithmetic flag and read none.
        if (is_inline_system(insn, view())) break;
        live = Rflags::arithmetic;
        break;
      case Class::Stack:
        if (insn.info->operation == Operation::Push || insn.info->operation == Operation::Pop ||
            insn.info->operation == Operation::Leave) {
          break;
        }
        live = Rflags::arithmetic;
        break;
      default:
        live = Rflags::arithmetic;
    }
    item.live_flags = live & Rflags::arithmetic;
  }
}

bool Translator::unit_available(const Instruction& insn) const {
  switch (insn.info->kind) {
    case Class::X87:
      return (mode_ & Mode::x87) != 0;
    case Class::Sse:
      return (mode_ & Mode::sse) != 0;
    case Class::Avx:
      return (mode_ & (insn.encoding == x86::Encoding::Evex ? Mode::avx512 : Mode::avx)) != 0;
    default:
      return true;
  }
}

void Translator::translate_item(u32 index) {
  const Item& item = items_[index];
  made_.infos.push_back({});
  current_ = &made_.infos.back();
  current_->guest_offset = static_cast<u16>(item.rip - linear_);
  current_->start = offset16();
  current_->shadowed = next_is_shadowed_;
  next_is_shadowed_ = false;
  commit();
  for (u32 g = 0; g < groups_.size(); g++) {
    if (groups_[g].check_at == index && item.group != g) check_group(g, item);
  }
  bool done = false;
  if (item.spans) {
    tail_exit();
    return;
  }
  if (item.insn.info != nullptr && is_for_translation(item.insn)) {
    switch (item.insn.info->kind) {
      case Class::Plain:
      case Class::X87:
      case Class::Sse:
      case Class::Avx:
        done = unit_available(item.insn) && translate_plain(item);
        break;
      case Class::Stack:
        done = translate_stack(item);
        break;
      case Class::Jump:
      case Class::JumpIf:
      case Class::Call:
      case Class::Return:
        done = translate_branch(item);
        break;
      default:
        done = translate_special(item);
    }
  }
  if (!done) {
    interpret(item);
  } else if (!options_.mistranslate.empty() && !ended_ && options_.mistranslate == item.insn.info->name) {
    commit();
    e_->lea(x86::RAX, HostMemory::at(x86::RAX, 1));
  }
}

// One off Context::fuel, before the first instruction. No flags.
void Translator::count_entry() {
  const HostMemory fuel = HostMemory::context(offsetof(Context, fuel));
  const HostMemory fresh = HostMemory::context(offsetof(Context, fresh));
  ways_out_.clear();
  const auto leave_if_zero = [&](const HostMemory& what) {
    e_->load(x86::RCX, what);
    e_->bytes({0xe3, 2, 0xeb, 5});  // jrcxz +2; jmp +5, over the way out
    ways_out_.push_back(e_->jmp());
  };
  e_->mov(x86::R15, x86::RCX);
  const Instruction& first = items_[0].insn;
  if (first.info != nullptr && takes_all_flags(first)) leave_if_zero(fresh);
  leave_if_zero(fuel);
  e_->lea(x86::RCX, HostMemory::at(x86::RCX, -1));
  e_->store(fuel, x86::RCX);
  e_->mov_imm(x86::R14, linear_);
  e_->store(HostMemory::context_indexed(offsetof(Context, entered), x86::RCX, 3), x86::R14);
  e_->mov(x86::RCX, x86::R15);
  e_->store_imm32(fresh, 0);
}

void Translator::emit_out_of_fuel() {
  for (const usize from : ways_out_) e_->patch32(from, e_->size());
  e_->mov(x86::RCX, x86::R15);
  e_->store_imm32(HostMemory::context(offsetof(Context, enough)), 1);
  set_rip(linear_);
  e_->jmp_to(stubs_.lookup);
}

void Translator::set_rip(u64 rip) {
  const HostMemory slot = HostMemory::context(offsetof(Context, state) + offsetof(cpu::State, rip));
  if (fits_i32(rip)) {
    e_->store_imm32(slot, static_cast<i32>(rip));
    e_->tie();
  } else {
    e_->mov_linear(x86::R15, rip);
    e_->store(slot, x86::R15);
  }
}

void Translator::interpret(const Item& item) {
  commit();
  addend_in_r15_ = kNone;
  set_rip(item.rip);
  const bool alone = item.insn.info != nullptr && !is_behind_sti(static_cast<u32>(&item - items_.data()));
  e_->mov_imm(x86::R14, interpret_note(item.insn) | (alone ? string_note(item.insn) : 0));
  e_->call_to(stubs_.interpret);
  // The stub leaves by itself when the instruction did not simply go on behind itself.
  if (item.insn.info == nullptr || is_unconditional_end(item.insn)) {
    e_->jmp_to(stubs_.lookup);
    ended_ = true;
  }
}

}  // namespace nacre::soft
