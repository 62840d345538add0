#include "engine/conformance/sequence.hpp"

#include <cstring>

#include "engine/conformance/encode_random.hpp"
#include "engine/conformance/guest.hpp"
#include "engine/conformance/state_random.hpp"

namespace nacre::conformance {
namespace {

using x86::Class;
using x86::Instruction;
using x86::OperandKind;
using x86::Operation;

constexpr u16 bit(unsigned gpr) {
  return static_cast<u16>(1u << gpr);
}
// Bases of memory operands, and indices, which hold small numbers.
constexpr u16 kPointers = bit(x86::RBX) | bit(x86::RSI) | bit(x86::R11) | bit(x86::R14);
constexpr u16 kIndices = bit(x86::RDI) | bit(x86::R15);

bool is_relative(const Instruction& i) {
  return i.info->operands[0].kind == OperandKind::Relative;
}

bool kind_fits(const Instruction& i) {
  switch (i.info->kind) {
    case Class::Plain:
    case Class::X87:
    case Class::Sse:
    case Class::Avx:
      break;
    case Class::Stack:
      return (i.info->operation == Operation::Push || i.info->operation == Operation::Pop) &&
             i.info->operands[0].kind != OperandKind::SegmentFixed;
    case Class::JumpIf:
      return true;
    case Class::Jump:
    case Class::Call:
      return is_relative(i);
    case Class::Return:
      return i.immediate_size == 0;
    default:
      return false;
  }
  switch (i.info->operation) {
    case Operation::Maskmov:
    case Operation::Gather:
    case Operation::Scatter:
    case Operation::GatherPrefetch:
    case Operation::Fldenv:
    case Operation::Fnstenv:
    case Operation::Fnsave:
    case Operation::Frstor:
    case Operation::Ldmxcsr:
    case Operation::Int3:
    case Operation::Lahf:
    case Operation::Pushf:
      return false;
    default:
      return true;
  }
}

}  // namespace

bool Sequence::Piece::is_relative() const {
  return !idiom && conformance::is_relative(instruction);
}

bool Sequence::fits(const Piece& piece) const {
  const Instruction& i = piece.instruction;
  if (!kind_fits(i)) return false;
  const bool stack =
      i.info->kind == Class::Stack || i.info->kind == Class::Call || i.info->kind == Class::Return;
  u16 written = gprs_written(i);
  const OperandKind first = i.info->operands[0].kind;
  const bool explicit_rsp =
      (first == OperandKind::GprOpcode && ((i.opcode & 7) | (i.rex & 1) << 3) == x86::RSP) ||
      (first == OperandKind::GprRm && !i.is_memory && i.rm == x86::RSP);
  if (stack && !explicit_rsp) written = static_cast<u16>(written & ~bit(x86::RSP));
  if ((written & (kPointers | kIndices | bit(x86::RSP))) != 0) return false;
  if (loops_ && ((written & bit(x86::RCX)) != 0 || i.info->kind == Class::Return)) return false;
  // Bit strings reach as far as their register says.
  const bool bit_test = i.info->operation == Operation::Bt || i.info->operation == Operation::Bts ||
                        i.info->operation == Operation::Btr || i.info->operation == Operation::Btc;
  if (bit_test && i.is_memory && i.info->operands[1].kind == OperandKind::GprReg) return false;
  const bool wide_shift =
      (i.info->operation == Operation::Shld || i.info->operation == Operation::Shrd) && i.operand_size == 2;
  return !wide_shift;
}

bool Sequence::defined() const {
  u32 undefined = 0;  // at this point
  u32 ever_undefined = 0;
  bool goes_back = false, jumped = loops_;
  if (loops_) {
    for (const Piece& piece : pieces_) ever_undefined |= piece.flags_undefined();
    undefined = ever_undefined;
  }
  for (const Piece& piece : pieces_) {
    const Instruction& i = piece.instruction;
    u32 tested = flags_tested(i);
    if (i.info->kind == Class::SystemCall || i.info->kind == Class::FarBranch ||
        i.info->operation == Operation::Pushf || i.info->operation == Operation::Lahf) {
      tested = x86::Rflags::arithmetic;  // a copy of all is kept
    }
    if ((tested & undefined) != 0) return false;
    const bool certain = (i.info->attributes & x86::OpcodeAttribute::flags_depend_on_count) == 0;
    if (certain && !jumped && !piece.idiom) undefined &= ~i.info->flags_written;
    undefined |= piece.flags_undefined();
    ever_undefined |= piece.flags_undefined();
    goes_back |= i.info->kind == Class::Return;
    // A jump may leave out what makes a flag defined again.
    jumped |= piece.target_at != 0 || i.info->kind == Class::JumpIf || i.info->kind == Class::Jump || i.info->kind == Class::Call;
    if (jumped) undefined = ever_undefined;
  }
  return !goes_back || ever_undefined == 0;
}

// Gives a memory operand one of the bases (rm 3: RBX or R11, rm 6: RSI or R14, as the prefix has it) and
// sometimes an index (7: RDI or R15).
void Sequence::retarget_memory(Random& random, Piece& piece) const {
  const unsigned at = piece.instruction.modrm_offset;
  const unsigned reg = piece.bytes[at] & 0x38;
  const bool indexed = random.percent(15);
  const unsigned base = random.percent(60) ? 3 : 6;
  const bool byte_displacement = piece.instruction.encoding != x86::Encoding::Evex && random.percent(50);
  piece.bytes[at] = static_cast<u8>((byte_displacement ? 0x40 : 0x80) | reg | (indexed ? 4 : base));
  if (indexed) piece.bytes[at + 1] = static_cast<u8>(random.below(4) << 6 | 7 << 3 | base);
  x86::Instruction probe;
  if (decode(piece.bytes, 16, x86::CodeSize::Bits64, probe) != x86::DecodeStatus::Ok) return;
  if (probe.base == x86::kNoRegister || probe.base >= 16 || probe.displacement_offset == 0) return;
  const unsigned bytes = memory_bytes(probe);
  const u64 index = indexed && probe.index < 16 ? registers_.gpr[probe.index] << probe.scale : 0;
  const u64 start = registers_.gpr[probe.base] + index;
  u64 target = start + random.below(192) - 96;
  if ((probe.info->attributes & x86::OpcodeAttribute::aligned_memory) != 0 && bytes >= 16 &&
      random.percent(90)) {
    target &= ~u64{bytes - 1};
  }
  const u64 displacement = target - start;
  for (unsigned n = 0; n < probe.displacement_size; ++n) {
    piece.bytes[probe.displacement_offset + n] = static_cast<u8>(displacement >> (8 * n));
  }
}

// Privileged and sensitive instructions; random bytes follow, as ModRM and immediates.
bool Sequence::make_system_piece(Random& random, Piece& piece) const {
  static constexpr u8 kEncodings[][4] = {
      {1, 0xfa},              // cli
      {1, 0xfb},              // sti
      {1, 0x9c},              // pushf
      {1, 0x9d},              // popf
      {1, 0x9e},              // sahf
      {1, 0x9f},              // lahf
      {1, 0x8c},              // mov r/m, sreg
      {1, 0x8e},              // mov sreg, r/m
      {1, 0xcd},              // int
      {1, 0xf4},              // hlt
      {2, 0x48, 0xcf},        // iretq
      {2, 0x0f, 0x05},        // syscall
      {3, 0x48, 0x0f, 0x07},  // sysretq
      {2, 0x0f, 0x06},        // clts
      {2, 0x0f, 0x20},        // mov r, cr
      {2, 0x0f, 0x21},        // mov r, dr
      {2, 0x0f, 0xa0},        // push fs
      {2, 0x0f, 0xa1},        // pop fs
      {2, 0x0f, 0xa8},        // push gs
      {2, 0x0f, 0xa9},        // pop gs
      {2, 0x0f, 0xa2},        // cpuid
      {2, 0x0f, 0x02},        // lar
      {2, 0x0f, 0x03},        // lsl
      {2, 0x0f, 0x00},        // sldt, str, lldt, ltr, verr, verw
      {3, 0x0f, 0x01, 0xf8},  // swapgs
      {3, 0x0f, 0x01, 0xca},  // clac
      {3, 0x0f, 0x01, 0xcb},  // stac
      {3, 0x0f, 0x01, 0xd0},  // xgetbv
      {3, 0x0f, 0x01, 0x3b},  // invlpg [rbx]
      {3, 0xf3, 0x0f, 0xae},  // rdfsbase …, and others
      {2, 0x0f, 0xae},        // fxsave, xsave, fences …
      {2, 0x0f, 0x32},        // rdmsr
      {2, 0x0f, 0x30},        // wrmsr
  };
  const auto& encoding = kEncodings[random.below(sizeof kEncodings / sizeof kEncodings[0])];
  for (u8& byte : piece.bytes) byte = random.byte();
  std::memcpy(piece.bytes, encoding + 1, encoding[0]);
  if (decode(piece.bytes, 16, x86::CodeSize::Bits64, piece.instruction) != x86::DecodeStatus::Ok)
    return false;
  if (!model_->has(piece.instruction.info->feature)) return false;
  if (piece.instruction.is_memory && piece.bytes[2] != 0x3b) {
    retarget_memory(random, piece);
    if (decode(piece.bytes, 16, x86::CodeSize::Bits64, piece.instruction) != x86::DecodeStatus::Ok)
      return false;
  }
  if (loops_) return false;
  piece.length = piece.instruction.length;
  const bool ltr = piece.instruction.info->operation == Operation::Ltr;
  return !ltr && (gprs_written(piece.instruction) & (kPointers | kIndices)) == 0;
}

bool Sequence::make_piece(Random& random, Piece& piece) {
  if (random.percent(15)) return make_idiom(random, piece);
  if (ring_ == Ring::Supervisor && random.percent(50)) return make_system_piece(random, piece);
  random_encoding(random, family_, x86::CodeSize::Bits64, piece.bytes);
  if (random.percent(6)) {  // more short jumps than chance gives
    piece.bytes[0] = static_cast<u8>(0x70 | random.below(16));
  } else if (random.percent(6)) {
    piece.bytes[0] = static_cast<u8>(0x50 | random.below(16));  // push, pop
  } else if (random.percent(2)) {
    piece.bytes[0] = random.percent(70) ? 0xe8 : 0xc3;  // call, ret
  }
  if (decode(piece.bytes, 16, x86::CodeSize::Bits64, piece.instruction) != x86::DecodeStatus::Ok)
    return false;
  if (!generator_.comparable(piece.instruction)) return false;
  const u32 attributes = piece.instruction.info->attributes;
  if (piece.instruction.is_memory && (attributes & x86::OpcodeAttribute::has_vsib) != 0) return false;
  if (piece.instruction.is_memory) {
    retarget_memory(random, piece);
    if (decode(piece.bytes, 16, x86::CodeSize::Bits64, piece.instruction) != x86::DecodeStatus::Ok)
      return false;
    if (!generator_.comparable(piece.instruction)) return false;
  }
  piece.length = piece.instruction.length;
  return fits(piece);
}

void Sequence::make(u64 seed) {
  Random random(seed);
  pieces_.clear();
  random_registers(random, model_->xsave(), registers_);
  memory_seed_ = random.next();
  code_offset_ = static_cast<u16>(random.below(kCodeBytes - kMaxCodeBytes));
  registers_.rip = kCode + code_offset_;
  registers_.gpr[x86::RBX] = kData + 0x800 + random.below(64);
  registers_.gpr[x86::RSI] = kData + kPageSize - 64 + random.below(128);
  registers_.gpr[x86::R11] = kData + 0x1800 + 8 * random.below(16);
  registers_.gpr[x86::R14] =
      kData + (random.percent(15) ? kWritableBytes - random.below(64) : 0x1c00 + random.below(64));
  registers_.gpr[x86::RDI] = random.below(16);
  registers_.gpr[x86::R15] = random.below(16);
  loops_ = random.percent(30);
  if (loops_) registers_.gpr[x86::RCX] = 1 + random.below(6);
  const usize limit = loops_ ? 120 : kMaxCodeBytes;
  const usize wanted = 2 + random.below(random.percent(20) ? 30 : 9);
  usize bytes = 0;
  bool has_return = false, leaves_addresses = false;
  for (unsigned attempts = 0; attempts < 4000 && pieces_.size() < wanted; ++attempts) {
    Piece piece;
    if (!make_piece(random, piece) || bytes + piece.length > limit) continue;
    // An address of the code may be anywhere on the stack then, and a return may go back to it for ever.
    const bool returns = !piece.idiom && piece.instruction.info->kind == Class::Return;
    if ((returns && leaves_addresses) || (piece.target_at != 0 && has_return)) continue;
    pieces_.push_back(piece);
    if (!defined()) {
      pieces_.pop_back();
      continue;
    }
    bytes += piece.length;
    has_return |= returns;
    leaves_addresses |= piece.target_at != 0;
  }
  for (usize i = 0; i < pieces_.size(); ++i) {
    if (pieces_[i].is_branch()) pieces_[i].jump_to = i + 1 + random.below(pieces_.size() - i);
  }
  if (!loops_) return;
  Piece loop;
  loop.bytes[0] = 0xe2;
  decode(loop.bytes, 16, x86::CodeSize::Bits64, loop.instruction);
  loop.length = loop.instruction.length;
  loop.jump_to = random.percent(60) ? 0 : random.below(pieces_.size() + 1);
  pieces_.push_back(loop);
}

Case Sequence::assemble() const {
  Case test;
  test.before = registers_;
  test.memory_seed = memory_seed_;
  test.code_offset = code_offset_;
  test.supervisor = ring_ == Ring::Supervisor;
  usize starts[64] = {};
  usize at = 0;
  for (usize i = 0; i < pieces_.size(); ++i) {
    starts[i] = at;
    std::memcpy(test.code + at, pieces_[i].bytes, pieces_[i].length);
    at += pieces_[i].length;
  }
  starts[pieces_.size()] = at;
  test.code_bytes = static_cast<u8>(at);
  for (usize i = 0; i < pieces_.size(); ++i) {
    const Piece& piece = pieces_[i];
    const Instruction& instruction = piece.instruction;
    if (piece.target_at != 0) {
      const u32 target = static_cast<u32>(registers_.rip + starts[piece.jump_to]);
      std::memcpy(test.code + starts[i] + piece.target_at, &target, sizeof target);
    }
    if (piece.alias_at != 0) {
      const u64 last = kCodeAlias + code_offset_ + starts[i + 1] - 4;
      std::memcpy(test.code + starts[i] + piece.alias_at, &last, sizeof last);
    }
    if (!piece.is_relative()) continue;
    const u64 distance = starts[pieces_[i].jump_to] - starts[i + 1];
    for (unsigned n = 0; n < instruction.immediate_size; ++n) {
      test.code[starts[i] + instruction.immediate_offset + n] = static_cast<u8>(distance >> (8 * n));
    }
  }
  return test;
}

void Sequence::remove(usize index) {
  pieces_.erase(pieces_.begin() + static_cast<std::ptrdiff_t>(index));
  for (usize i = 0; i < pieces_.size(); ++i) {
    if (pieces_[i].jump_to > index) --pieces_[i].jump_to;
    const bool back =
        loops_ && pieces_[i].instruction.info->operation == Operation::Loop && i + 1 == pieces_.size();
    if (!back && pieces_[i].is_branch() && pieces_[i].jump_to <= i) pieces_[i].jump_to = i + 1;
  }
}

const Sequence::Piece* Sequence::piece_at(u64 rip) const {
  u64 at = registers_.rip;
  for (const Piece& piece : pieces_) {
    if (at == rip) return &piece;
    at += piece.length;
  }
  return nullptr;
}

Ignored Sequence::ignored(const Outcome& native, Tolerance tolerance) const {
  constexpr u8 kBreakpoint = 3;
  Ignored result;
  for (const Piece& piece : pieces_) result.flags |= piece.flags_undefined();
  const bool faulted = native.vector != kBreakpoint;
  if (faulted && tolerance.flags_of_faulting_instruction) result.flags = ~u64{0};
  if (const Piece* piece = piece_at(native.after.rip); faulted && piece != nullptr) {
    const Ignored single = ignored_for(piece->instruction, native, tolerance);
    result.everything = single.everything;
    result.fault_address = single.fault_address;
  }
  return result;
}

std::string Sequence::mnemonics() const {
  std::string text;
  for (const Piece& piece : pieces_) {
    if (!text.empty()) text += "; ";
    text += piece.instruction.info->name;
    if (piece.idiom) text += " …";
  }
  return text;
}

}  // namespace nacre::conformance
