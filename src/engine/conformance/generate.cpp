#include "engine/conformance/generate.hpp"

#include <cstring>

#include "engine/conformance/encode_random.hpp"
#include "engine/conformance/state_random.hpp"

namespace nacre::conformance {
namespace {

using x86::Class;
using x86::Instruction;
using x86::OperandKind;
using x86::Operation;

// Gives the registers and displacement of a decoded instruction values that make it do something.
class Shaper {
 public:
  Shaper(Random& random, const cpu::XsaveLayout& layout, const Instruction& instruction, Case& test)
      : random_(random), layout_(layout), i_(instruction), test_(test), gpr_(test.before.gpr) {}

  void shape() {
    shape_stack();
    shape_strings();
    shape_bit_offset();
    shape_double_shift();
    if (i_.is_memory && i_.address_size != 2 && !random_.percent(8)) shape_memory();
    shape_absolute_offset();
    shape_branch();
  }

 private:
  void set_code(unsigned offset, unsigned bytes, u64 value) {
    for (unsigned n = 0; n < bytes; ++n) test_.code[offset + n] = static_cast<u8>(value >> (8 * n));
  }
  [[nodiscard]] bool mode64() const { return i_.code_size == x86::CodeSize::Bits64; }
  u64 segment_base() const { return i_.segment == x86::GS ? kGsBase : 0; }
  u64 next_rip() const { return test_.before.rip + i_.length; }
  // Somewhere in the int3s, but not inside the instruction.
  u64 code_target() {
    u64 target = kCode + random_.below(kCodeBytes);
    if (target >= test_.before.rip && target < next_rip()) target = next_rip();
    return target;
  }

  void shape_stack() {
    const Operation operation = i_.info->operation;
    if (random_.percent(10)) gpr_[x86::RSP] = random_target(random_, 8, false);
    if (operation == Operation::Leave || operation == Operation::Enter) {
      gpr_[x86::RBP] = random_target(random_, 8, false);
    }
    if (operation == Operation::Ret && random_.percent(70)) test_.patch(gpr_[x86::RSP], code_target());
    if (operation == Operation::Popf) {
      test_.patch(gpr_[x86::RSP], random_.next() & (x86::Rflags::arithmetic | x86::Rflags::DF | 0x3000));
    }
  }

  void shape_strings() {
    if (i_.info->kind != Class::String) return;
    if (i_.info->operation == Operation::Xlat) {
      gpr_[x86::RBX] = random_target(random_, 1, false) - (gpr_[x86::RAX] & 0xff) - segment_base();
      return;
    }
    gpr_[x86::RSI] = random_target(random_, 8, false) - segment_base();
    gpr_[x86::RDI] = random_target(random_, 16, false);
    if (i_.info->operation == Operation::Maskmov) gpr_[x86::RDI] -= segment_base();
    if ((i_.rep || i_.repne) && !random_.percent(5)) gpr_[x86::RCX] = random_.below(40);
  }

  // bt, bts … on memory reach as far as the register says.
  void shape_bit_offset() {
    switch (i_.info->operation) {
      case Operation::Bt:
      case Operation::Bts:
      case Operation::Btr:
      case Operation::Btc:
        if (i_.is_memory && i_.info->operands[1].kind == OperandKind::GprReg && !random_.percent(5)) {
          gpr_[i_.reg] = random_.below(1024) - 512;
        }
        break;
      default:
        break;
    }
  }

  // Counts above the operand's size leave everything undefined.
  void shape_double_shift() {
    const Operation operation = i_.info->operation;
    if ((operation != Operation::Shld && operation != Operation::Shrd) || i_.operand_size != 2) return;
    const u64 count = random_.below(17) | random_.below(8) << 5;
    if (i_.immediate_size != 0) {
      set_code(i_.immediate_offset, 1, count);
    } else {
      gpr_[x86::RCX] = (gpr_[x86::RCX] & ~u64{0xff}) | count;
    }
  }

  void shape_vector_index(u64 target) {
    const bool has_base = i_.base != x86::kNoRegister;
    const unsigned bytes = (i_.opcode & 1) != 0 ? 8 : 4;
    for (unsigned n = 0; n < 64 / bytes; ++n) set_index(n, bytes, random_.below(256) - 128);
    if (has_base) gpr_[i_.base] = target - static_cast<u64>(i_.displacement) - segment_base();
  }
  void set_index(unsigned element, unsigned bytes, u64 value) {
    u8* at = nullptr;
    const unsigned byte = element * bytes;
    u8* image = test_.before.xsave;
    using L = cpu::XsaveLayout;
    if (i_.index >= 16) {
      at = image + layout_.offset[L::kHi16Zmm] + 64 * (i_.index - 16) + byte;
    } else if (byte < 16) {
      at = image + L::kXmm + 16 * i_.index + byte;
    } else if (byte < 32) {
      at = image + layout_.offset[L::kYmmHigh] + 16 * i_.index + byte - 16;
    } else {
      at = image + layout_.offset[L::kZmmHigh] + 32 * i_.index + byte - 32;
    }
    if ((layout_.components & 0xe0) == 0 && (byte >= 32 || i_.index >= 16)) return;
    std::memcpy(at, &value, bytes);
  }

  void shape_memory() {
    const bool aligned = (i_.info->attributes & x86::OpcodeAttribute::aligned_memory) != 0;
    u64 target = random_target(random_, memory_bytes(i_), aligned);
    if (i_.info->operands[0].kind == OperandKind::Vsib || i_.info->operands[1].kind == OperandKind::Vsib) {
      return shape_vector_index(target);
    }
    target -= segment_base();
    const u64 displacement = static_cast<u64>(i_.displacement);
    if (i_.base == x86::kRipBase) {
      return set_code(i_.displacement_offset, 4, target - next_rip());
    }
    if (i_.base == x86::kNoRegister) {
      u64 scaled = 0;
      if (i_.index != x86::kNoRegister) {
        gpr_[i_.index] = random_.below(64);
        scaled = gpr_[i_.index] << i_.scale;
      }
      if (i_.displacement_size == 4) set_code(i_.displacement_offset, 4, target - scaled);
      return;
    }
    if (i_.index == i_.base) {
      gpr_[i_.base] = (target - displacement) / (1 + (u64{1} << i_.scale));
      return;
    }
    u64 scaled = 0;
    if (i_.index != x86::kNoRegister) {
      if (i_.index != x86::RSP && random_.percent(80)) gpr_[i_.index] = random_.below(64) - 32;
      scaled = gpr_[i_.index] << i_.scale;
    }
    gpr_[i_.base] = target - displacement - scaled;
  }

  void shape_absolute_offset() {
    if (i_.is_memory || i_.displacement_size == 0 || i_.has_modrm) return;
    const u64 target = random_target(random_, 8, false) - segment_base();
    set_code(i_.displacement_offset, i_.displacement_size, target);
  }

  void shape_branch() {
    const x86::Operand& operand = i_.info->operands[0];
    if (operand.kind == OperandKind::Relative) {
      const u64 distance = code_target() - next_rip();
      const i64 limit = i_.immediate_size == 1 ? 127 : i64{1} << 30;
      const i64 wanted = static_cast<i64>(distance);
      if (wanted <= limit && wanted >= -limit) {
        set_code(i_.immediate_offset, i_.immediate_size, distance);
      } else {
        set_code(i_.immediate_offset, i_.immediate_size, random_.below(100));
      }
      return;
    }
    if ((i_.info->kind != Class::Jump && i_.info->kind != Class::Call) || random_.percent(15)) return;
    if (!i_.is_memory) {
      gpr_[i_.rm] = code_target();
    } else if (i_.base != x86::kNoRegister && i_.base != x86::kRipBase) {
      const u64 scaled = i_.index == x86::kNoRegister ? 0 : gpr_[i_.index] << i_.scale;
      const u64 at = gpr_[i_.base] + scaled + static_cast<u64>(i_.displacement) + segment_base();
      test_.patch(at, code_target());
    }
  }

  Random& random_;
  const cpu::XsaveLayout& layout_;
  const Instruction& i_;
  Case& test_;
  u64 (&gpr_)[16];
};

// What AMD's and Intel's processors do differently; the interpreter does as Intel's.
bool differs_by_vendor(const Instruction& i) {
  // Near branches with an operand size of 16 bits: AMD cuts the target off, Intel ignores the prefix.
  const bool branch = i.info->kind == Class::Jump || i.info->kind == Class::JumpIf ||
                      i.info->kind == Class::Call || i.info->kind == Class::Return;
  const bool mode64 = i.code_size == x86::CodeSize::Bits64;
  if (branch && i.operand_size_prefix && mode64) return true;
  // A repeat prefix on loope, loopne: AMD takes its condition for the opcode's.
  if ((i.info->operation == Operation::Loope || i.info->operation == Operation::Loopne) && (i.rep || i.repne))
    return true;
  // 0F 0D with a register: #UD on AMD, a hint on Intel.
  if (i.map == x86::Map::Map0F && i.opcode == 0x0d && i.encoding == x86::Encoding::Legacy && !i.is_memory)
    return true;
  // movsxd with a 16-bit destination reads 4 bytes on AMD, 2 on Intel.
  if (i.info->operation == Operation::Movsxd && i.operand_size == 2) return true;
  // Whether the ModRM byte of ud0 and ud1 is fetched.
  if (i.info->operation == Operation::Ud0 || i.info->operation == Operation::Ud1) return true;
  // vpextrd, vpinsrd with W outside 64-bit mode: #UD on AMD, W ignored on Intel.
  if (i.code_size != x86::CodeSize::Bits64 && i.w && i.map == x86::Map::Map0F3A &&
      (i.opcode == 0x16 || i.opcode == 0x22)) {
    return true;
  }
  // EVEX.X cleared with RSP as a source: AMD's family 25 reads RSP without what pushes and pops before it
  // have added.
  const bool evex_x =
      i.encoding == x86::Encoding::Evex && !i.is_memory && (i.bytes[i.modrm_offset - 4] & 0x40) == 0;
  if (evex_x && i.rm == x86::RSP) return true;
  // SHA on unaligned memory: AMD takes it, Intel raises #GP.
  return i.info->feature == x86::Feature::Sha && i.is_memory;
}

// Counts above the operand's size leave everything undefined. SDM vol. 2, SHLD, SHRD.
bool double_shift_undefined(const Instruction& i, const Case& test) {
  if ((i.info->operation != Operation::Shld && i.info->operation != Operation::Shrd) || i.operand_size != 2) {
    return false;
  }
  const u64 count = i.immediate_size != 0 ? test.code[i.immediate_offset] : test.before.gpr[x86::RCX];
  return (count & 31) > 16;
}

}  // namespace

bool Generator::comparable(const Instruction& instruction) const {
  const x86::OpcodeInfo& info = *instruction.info;
  switch (info.kind) {
    case Class::Invalid:
    case Class::SystemCall:
    case Class::FarBranch:
      return info.operation == Operation::Int3;
    case Class::PortIo:
      return true;  // #GP(0)
    case Class::System:
    default:
      break;
  }
  if (!model_->has(info.feature)) return false;
  if (instruction.segment == x86::FS) return false;  // the child's own thread data
  if (instruction.segment == x86::GS && instruction.code_size != x86::CodeSize::Bits64)
    return false;  // null there
  if (differs_by_vendor(instruction)) return false;
  if ((info.attributes & x86::OpcodeAttribute::privileged) != 0) {
    // #GP(0); but for what an outer hypervisor or the kernel answers itself.
    return info.operation != Operation::Rdpmc && info.operation != Operation::Vmcall &&
           info.operation != Operation::Vmmcall;
  }
  for (const x86::Operand& operand : info.operands) {
    if (operand.kind == OperandKind::SegmentReg || operand.kind == OperandKind::SegmentFixed) return false;
  }
  switch (info.operation) {
    case Operation::Rdtsc:
    case Operation::Rdtscp:
    case Operation::Rdpmc:
    case Operation::Cpuid:
    case Operation::Rdpid:
    case Operation::Rdrand:
    case Operation::Rdseed:
    case Operation::Xgetbv:
    case Operation::Rdfsbase:
    case Operation::Rdgsbase:
    case Operation::Wrfsbase:
    case Operation::Wrgsbase:
    case Operation::Sgdt:
    case Operation::Sidt:
    case Operation::Sldt:
    case Operation::Str:
    case Operation::Smsw:
    case Operation::Lar:
    case Operation::Lsl:
    case Operation::Verr:
    case Operation::Verw:
    case Operation::Lds:
    case Operation::Les:
    case Operation::Lfs:
    case Operation::Lgs:
    case Operation::Lss:
    case Operation::Vmcall:
    case Operation::Vmmcall:
    case Operation::Vmfunc:
    case Operation::Vmx:
    case Operation::Svm:
    case Operation::Monitor:
    case Operation::Mwait:
    case Operation::Rdpkru:
    case Operation::Wrpkru:
    case Operation::Xbegin:
    case Operation::Xabort:
    case Operation::Xend:
    case Operation::Xtest:
    case Operation::Umonitor:
    case Operation::Umwait:
    case Operation::Tpause:
    // Images of the whole state hold the host's MXCSR_MASK and header: interp/vector_state_test.cpp.
    case Operation::Fxsave:
    case Operation::Fxrstor:
    case Operation::Xsave:
    case Operation::Xsaveopt:
    case Operation::Xsavec:
    case Operation::Xsaves:
    case Operation::Xrstor:
    case Operation::Xrstors:
      return false;
    default:
      return true;
  }
}

bool Generator::make(u64 seed, Case& test) {
  Random random(seed);
  test = Case{};
  random_encoding(random, family_, code_size_, test.code);
  const x86::DecodeStatus status = decode(test.code, 16, code_size_, instruction_);
  if (status != x86::DecodeStatus::Ok || !comparable(instruction_)) return false;

  test.code_bytes = instruction_.length;
  test.memory_seed = random.next();
  // At the page's end now and then: whole, or cut off by the unmapped page behind it.
  test.code_offset = static_cast<u16>(random.below(kCodeBytes - 64));
  if (random.percent(5))
    test.code_offset = static_cast<u16>(kCodeBytes - random.below(instruction_.length + 2u) - 1);
  random_registers(random, model_->xsave(), test.before);
  test.code_size = code_size_;
  test.before.rip = kCode + test.code_offset;
  Shaper(random, model_->xsave(), instruction_, test).shape();
  if (code_size_ != x86::CodeSize::Bits64) {
    for (unsigned i = 0; i < 16; ++i) test.before.gpr[i] &= i < 8 ? 0xffffffff : 0;
  }
  return !double_shift_undefined(instruction_, test);
}

}  // namespace nacre::conformance
