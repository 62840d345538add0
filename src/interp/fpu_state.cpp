// Instructions that move whole images of the x87, SSE and extended state, LDMXCSR, STMXCSR and FWAIT: what
// must hold before they run. The images are vector_state's. SDM vol. 1, 10.5, 13.7 to 13.12; vol. 3, 13.1.
#include "cpu/model.hpp"
#include "interp/handlers.hpp"
#include "interp/operand_memory.hpp"
#include "interp/operands.hpp"
#include "interp/vector_state.hpp"

namespace nacre::interp::handlers {
namespace {

using cpu::Xcr0;
using cpu::XsaveLayout;
using x86::Cr0;
using x86::Cr4;

u32 mxcsr(const State& s) {
  return static_cast<u32>(load_host(s.xsave + XsaveLayout::kMxcsr, 4));
}

bool move_image(Core& core, const Instruction& i) {
  OperandMemory memory(core, i.effective_segment(), i.address_size);
  const u32 keys = core.state->pkru;
  const VectorResult result = run_state_image(*core.state, i, core.effective_address(i), memory, core.model);
  if (core.state->pkru != keys) core.flush_all();  // as WRPKRU
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
  return result.vector == Vector::GP ? core.general_protection() : core.raise(result.vector);
}

bool fx_image(Core& core, const Instruction& i) {
  if ((core.state->cr0 & (Cr0::EM | Cr0::TS)) != 0) return core.raise(Vector::NM);
  return move_image(core, i);
}

bool xsave_image(Core& core, const Instruction& i) {
  if ((core.state->cr4 & Cr4::OSXSAVE) == 0) return core.undefined();
  if ((core.state->cr0 & Cr0::TS) != 0) return core.raise(Vector::NM);
  return move_image(core, i);
}

// LDMXCSR and STMXCSR are SSE instructions, in their VEX form AVX ones.
bool mxcsr_available(Core& core, const Instruction& i) {
  const State& s = *core.state;
  if (i.encoding == x86::Encoding::Vex) {
    constexpr u64 needed = Xcr0::SSE | Xcr0::AVX;
    if (!core.protected_mode || (s.cr4 & Cr4::OSXSAVE) == 0 || (s.xcr0 & needed) != needed)
      return core.undefined();
  } else if ((s.cr0 & Cr0::EM) != 0 || (s.cr4 & Cr4::OSFXSR) == 0) {
    return core.undefined();
  }
  return (s.cr0 & Cr0::TS) == 0 || core.raise(Vector::NM);
}

}  // namespace

bool fxsave(Core& core, const Instruction& i) {
  return fx_image(core, i);
}
bool fxrstor(Core& core, const Instruction& i) {
  return fx_image(core, i);
}
bool xsave(Core& core, const Instruction& i) {
  return xsave_image(core, i);
}
bool xrstor(Core& core, const Instruction& i) {
  return xsave_image(core, i);
}

bool ldmxcsr(Core& core, const Instruction& i) {
  u64 value = 0;
  if (!mxcsr_available(core, i) || !read_operand(core, i, 0, value)) return false;
  if ((value & ~u64{cpu::Model::kMxcsrMask}) != 0) return core.general_protection();
  store_host(core.state->xsave + XsaveLayout::kMxcsr, 4, value);
  return true;
}

bool stmxcsr(Core& core, const Instruction& i) {
  return mxcsr_available(core, i) && write_operand(core, i, 0, mxcsr(*core.state));
}

// SDM vol. 2, WAIT; vol. 1, 8.7.
bool fwait(Core& core, const Instruction&) {
  const State& s = *core.state;
  constexpr u64 trapped = Cr0::MP | Cr0::TS;
  if ((s.cr0 & trapped) == trapped) return core.raise(Vector::NM);
  // Not the summary bit, which an image loaded from memory need not have right.
  constexpr u64 exceptions = 0x3f;
  const u64 status = load_host(s.xsave + XsaveLayout::kFsw, 2),
            control = load_host(s.xsave + XsaveLayout::kFcw, 2);
  const bool pending = (load_host(s.xsave + XsaveLayout::kXstateBv, 8) & Xcr0::x87) != 0 &&
                       (status & ~control & exceptions) != 0;
  return !pending || core.raise(Vector::MF);
}

}  // namespace nacre::interp::handlers
