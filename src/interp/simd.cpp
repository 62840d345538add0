// x87, MMX, SSE, AVX and AVX-512: the checks an instruction's class asks for, then the vector unit runs
// it. SDM vol. 3, 2.5 and 13.1; vol. 2, tables 2-17 ff. (exception classes).
#include "interp/handlers.hpp"
#include "interp/operand_memory.hpp"
#include "interp/vector_unit.hpp"

namespace nacre::interp::handlers {
namespace {

using cpu::Xcr0;
using x86::Cr0;
using x86::Cr4;
using x86::Operation;

bool x87_available(Core& core, const Instruction& i) {
  const u64 cr0 = core.state->cr0;
  const bool is_mmx = i.info->operation == Operation::Mmx || i.info->operation == Operation::Emms;
  if (is_mmx && (cr0 & Cr0::EM) != 0) return core.undefined();
  return (cr0 & (Cr0::EM | Cr0::TS)) == 0 || core.raise(Vector::NM);
}

bool sse_available(Core& core) {
  const State& s = *core.state;
  if ((s.cr0 & Cr0::EM) != 0 || (s.cr4 & Cr4::OSFXSR) == 0) return core.undefined();
  return (s.cr0 & Cr0::TS) == 0 || core.raise(Vector::NM);
}

bool uses_mask_registers(const Instruction& i) {
  for (const x86::Operand& operand : i.info->operands) {
    using x86::OperandKind;
    if (operand.kind == OperandKind::MaskReg || operand.kind == OperandKind::MaskRm ||
        operand.kind == OperandKind::MaskVvvv) {
      return true;
    }
  }
  return i.encoding == x86::Encoding::Evex;
}

bool avx_available(Core& core, const Instruction& i) {
  const State& s = *core.state;
  u64 needed = Xcr0::SSE | Xcr0::AVX;
  if (uses_mask_registers(i)) needed |= Xcr0::opmask | Xcr0::ZMM_Hi256 | Xcr0::Hi16_ZMM;
  const bool usable = core.protected_mode && (s.cr4 & Cr4::OSXSAVE) != 0 && (s.xcr0 & needed) == needed;
  if (!usable) return core.undefined();
  return (s.cr0 & Cr0::TS) == 0 || core.raise(Vector::NM);
}

// Checked before everything else about the address, as processors do. Of masked operands the vector unit
// knows.
bool misaligned(const Core& core, const Instruction& i, SegmentIndex segment, u64 offset) {
  if (i.mask != 0) return false;
  if ((i.info->attributes & x86::OpcodeAttribute::aligned_memory) == 0 || memory_operand(i) == nullptr)
    return false;
  const unsigned bytes = memory_bytes(i);
  const u64 base = core.code64 && segment < x86::FS ? 0 : core.state->segment[segment].base;
  return bytes >= 16 && ((base + offset) & (bytes - 1)) != 0;
}

bool available(Core& core, const Instruction& i) {
  if (i.encoding != x86::Encoding::Legacy) return avx_available(core, i);
  const bool is_x87 = i.info->kind == x86::Class::X87 || i.info->operation == Operation::X87 ||
                      i.info->operation == Operation::Mmx || i.info->operation == Operation::Emms ||
                      (i.opcode >= 0xd8 && i.opcode <= 0xdf && i.map == x86::Map::Primary);
  return is_x87 ? x87_available(core, i) : sse_available(core);
}

}  // namespace

bool simd(Core& core, const Instruction& i) {
  if (!available(core, i)) return false;
  const bool implicit = i.info->operation == Operation::Maskmov;
  const auto implicit_segment = i.segment == x86::kNoSegment ? x86::DS : static_cast<SegmentIndex>(i.segment);
  const SegmentIndex segment = implicit ? implicit_segment : i.effective_segment();
  const bool is_gather = i.info->operation == Operation::Gather || i.info->operation == Operation::Scatter ||
                         i.info->operation == Operation::GatherPrefetch;
  u64 offset = 0;
  if (implicit) {
    offset = core.gpr(x86::RDI, i.address_size);
  } else if (is_gather) {
    // The index is a vector: the unit adds its elements.
    offset = static_cast<u64>(i.displacement) + (i.base < 16 ? core.state->gpr[i.base] : 0);
  } else {
    offset = core.effective_address(i);
  }

  if (x87_exception_due(*core.state, i)) return core.raise(Vector::MF);
  if (misaligned(core, i, segment, offset)) return core.general_protection();
  OperandMemory memory(core, segment, i.address_size);
  const VectorResult result = core.vector.run(*core.state, i, offset, memory);
  switch (result.kind) {
    case VectorResult::Kind::Done:
      return true;
    case VectorResult::Kind::MemoryFault:
      return false;
    case VectorResult::Kind::Unsupported:
      return core.undefined();
    case VectorResult::Kind::Exception:
      break;
  }
  if (result.vector == Vector::GP) return core.general_protection();
  // SIMD exceptions are #UD until the system says that it handles them. SDM vol. 3, 2.5, OSXMMEXCPT.
  if (result.vector == Vector::XM && (core.state->cr4 & Cr4::OSXMMEXCPT) == 0) return core.undefined();
  return core.raise(result.vector);
}

}  // namespace nacre::interp::handlers
