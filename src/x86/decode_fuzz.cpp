// No bytes make the decoder read past what it was given, or say something that a consumer would index with.
#include <cstdlib>
#include <memory>

#include "x86/format.hpp"
#include "x86/instruction.hpp"

namespace nacre::x86 {
namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void check(const Instruction& i, CodeSize size) {
  const unsigned gprs = size == CodeSize::Bits64 ? 16 : 8;
  require(i.info->kind != Class::Invalid && i.info->name != nullptr);
  require(i.length >= 1 && i.length <= kMaxInstructionLength);
  require(i.operand_size == 2 || i.operand_size == 4 || i.operand_size == 8);
  require(i.address_size == 2 || i.address_size == 4 || i.address_size == 8);
  require(size == CodeSize::Bits64 ? i.address_size != 2 : i.address_size != 8 && i.operand_size != 8);
  require(i.reg < (i.encoding == Encoding::Evex ? 2 * gprs : gprs) && i.rm < 32);
  require(i.base < gprs || i.base == kRipBase || i.base == kNoRegister);
  const bool vsib = (i.info->attributes & OpcodeAttribute::has_vsib) != 0;
  require(i.index < (vsib ? 2 * gprs : gprs) || i.index == kNoRegister);
  require(i.vvvv < 32 && i.mask < 8 && i.scale < 4 && i.rounding < 4);
  require(i.segment <= GS || i.segment == kNoSegment);
  require(i.opcode_offset < i.length && i.displacement_offset + i.displacement_size <= i.length);
  require(i.immediate_offset + i.immediate_size <= i.length && i.modrm_offset < i.length);
  require(memory_bytes(i) <= 64);
  const u32 arithmetic = i.info->flags_written;
  require((i.info->flags_undefined & ~arithmetic) == 0);
  for (const Operand& operand : i.info->operands) {
    switch (operand.kind) {  // registers that only some numbers have
      case OperandKind::GprReg:
        require(i.reg < gprs);
        break;
      case OperandKind::GprVvvv:
        require(i.vvvv < gprs);
        break;
      case OperandKind::SegmentReg:
        require(i.reg <= GS);
        break;
      case OperandKind::ControlReg:
        require(i.reg <= 8);
        break;
      case OperandKind::DebugReg:
      case OperandKind::MaskReg:
        require(i.reg < 8);
        break;
      case OperandKind::MaskRm:
        require(i.is_memory || i.rm < 8);
        break;
      case OperandKind::MaskVvvv:
        require(i.vvvv < 8);
        break;
      case OperandKind::GprRm:
      case OperandKind::GprRmOnly:
      case OperandKind::GprOpcode:
        require(i.is_memory || i.rm < gprs);
        break;
      default:
        break;
    }
  }
  static_cast<void>(gprs_read(i) | gprs_written(i));
  static_cast<void>(flags_tested(i));
  char text[kFormattedLength];
  require(format(i, 0, text, sizeof text) + 1 < sizeof text);
}

}  // namespace
}  // namespace nacre::x86

extern "C" int LLVMFuzzerTestOneInput(const nacre::u8* data, nacre::usize size) {
  using namespace nacre::x86;
  for (const CodeSize code_size : {CodeSize::Bits16, CodeSize::Bits32, CodeSize::Bits64}) {
    // Exactly as many bytes as are said to be there, so that the sanitizer sees one too many.
    const auto bytes = std::make_unique<nacre::u8[]>(size);
    for (nacre::usize n = 0; n < size; ++n) bytes[n] = data[n];
    Instruction i;
    const DecodeStatus status = decode(bytes.get(), size, code_size, i);
    require(i.info != nullptr && i.length <= size && i.length <= kMaxInstructionLength);
    if (status == DecodeStatus::NeedMoreBytes) require(size < kMaxInstructionLength);
    if (status != DecodeStatus::Ok) {
      require(i.info->kind == Class::Invalid);
      continue;
    }
    check(i, code_size);
    // With fewer bytes it is not an instruction yet.
    Instruction cut;
    require(decode(bytes.get(), i.length - 1u, code_size, cut) == DecodeStatus::NeedMoreBytes);
  }
  return 0;
}
