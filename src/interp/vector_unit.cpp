#include "interp/vector_unit.hpp"

#include "base/copy.hpp"
#include "cpu/model.hpp"
#include "interp/vector_encode.hpp"
#include "interp/vector_entry.hpp"
#include "interp/vector_gather.hpp"
#include "interp/vector_registers.hpp"

namespace nacre::interp {
namespace {

using cpu::XsaveLayout;
using x86::Instruction;
using x86::Operation;
using Kind = VectorResult::Kind;

constexpr usize kStubBytes = 32;
constexpr u8 kStubEnd[] = {0xff, 0x64, 0x24, 0x08};  // jmp *8(%rsp)
constexpr unsigned kMaxOperand = 128;                // fnsave: 108
static_assert(EncodedInstruction::kCapacity + sizeof kStubEnd <= kStubBytes);

template <typename T>
T load(const u8* from) {
  T value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}
template <typename T>
void store(u8* to, T value) {
  __builtin_memcpy(to, &value, sizeof value);
}

// Bits that MXCSR may have on this processor. SDM vol. 1, 11.6.6.
u32 host_mxcsr_mask() {
  alignas(16) u8 image[512] = {};
  asm volatile("fxsave64 %0" : "=m"(image));
  const u32 mask = load<u32>(image + XsaveLayout::kMxcsrMask);
  return mask == 0 ? 0xffbf : mask;
}

// Makes an image that XRSTOR takes without a fault, whatever a snapshot or a guest put there.
void sanitize(u8* xsave, u64 components, u32 mxcsr_mask) {
  u8* mxcsr = xsave + XsaveLayout::kMxcsr;
  store(mxcsr, load<u32>(mxcsr) & mxcsr_mask);
  u8* bv = xsave + XsaveLayout::kXstateBv;
  store(bv, load<u64>(bv) & components);
  for (usize i = XsaveLayout::kXcompBv; i < XsaveLayout::kHeaderEnd; i += 8) store(xsave + i, u64{0});
}

// x87 environment and state images. SDM vol. 1, figures 8-9 to 8-12.
unsigned environment_bytes(const Instruction& instruction) {
  const bool wide = instruction.operand_size != 2;
  switch (instruction.info->operation) {
    case Operation::Fldenv:
    case Operation::Fnstenv:
      return wide ? 28 : 14;
    case Operation::Fnsave:
    case Operation::Frstor:
      return wide ? 108 : 94;
    default:
      return 0;
  }
}

unsigned operand_size_of(const Instruction& instruction) {
  const unsigned environment = environment_bytes(instruction);
  return environment != 0 ? environment : memory_bytes(instruction);
}

// vzeroall and vzeroupper outside 64-bit mode leave the upper eight registers alone; the host would not.
void clear_eight(cpu::State& state, const XsaveLayout& layout, unsigned from_byte) {
  VectorRegisters registers(state, layout);
  registers.mark_in_use();
  for (unsigned i = 0; i < 8; ++i) registers.clear_from(i, from_byte);
}

bool is_masked(const Instruction& instruction) {
  switch (instruction.info->operation) {
    case Operation::VectorMasked:
    case Operation::VectorCompress:
    case Operation::VectorExpand:
      return true;
    default:
      return instruction.encoding == x86::Encoding::Evex && instruction.mask != 0;
  }
}

bool is_whole_image(Operation operation) {
  switch (operation) {
    case Operation::Fxsave:
    case Operation::Fxrstor:
    case Operation::Xsave:
    case Operation::Xsaveopt:
    case Operation::Xsavec:
    case Operation::Xsaves:
    case Operation::Xrstor:
    case Operation::Xrstors:
      return true;
    default:
      return false;
  }
}

bool uses_mmx_register(const Instruction& instruction) {
  for (const x86::Operand& operand : instruction.info->operands) {
    if (operand.kind == x86::OperandKind::MmxReg) return true;
    if (operand.kind == x86::OperandKind::MmxRm && !instruction.is_memory) return true;
  }
  return false;
}

bool waits_for_x87(const Instruction& instruction) {
  const Operation operation = instruction.info->operation;
  if (operation == Operation::Mmx || operation == Operation::Emms || uses_mmx_register(instruction))
    return true;
  if (operation == Operation::Fldenv || operation == Operation::Frstor) return true;
  if (operation != Operation::X87 && operation != Operation::Fwait) return false;
  const unsigned group = instruction.modrm >> 3 & 7;
  const bool fnstcw = instruction.is_memory && instruction.opcode == 0xd9 && group == 7;
  const bool fnstsw = (instruction.is_memory && instruction.opcode == 0xdd && group == 7) ||
                      (instruction.opcode == 0xdf && instruction.modrm == 0xe0);
  const bool fnclex_fninit =
      instruction.opcode == 0xdb && instruction.modrm >= 0xe0 && instruction.modrm <= 0xe4;
  return !fnstcw && !fnstsw && !fnclex_fninit;
}

bool x87_exception_pending(const u8* xsave) {
  constexpr u16 kExceptions = 0x3f;
  const u16 control = load<u16>(xsave + XsaveLayout::kFcw);
  const u16 status = load<u16>(xsave + XsaveLayout::kFsw);
  return (load<u64>(xsave + XsaveLayout::kXstateBv) & cpu::Xcr0::x87) != 0 &&
         (status & ~control & kExceptions) != 0;
}

}  // namespace

bool x87_exception_due(const cpu::State& state, const Instruction& instruction) {
  return waits_for_x87(instruction) && x87_exception_pending(state.xsave);
}

VectorUnit::VectorUnit(const VectorPages& pages, const cpu::XsaveLayout& layout)
    : pages_(pages), layout_(layout), mxcsr_mask_(host_mxcsr_mask() & cpu::Model::kMxcsrMask) {
  fill_bytes(pages_.stubs_writable, 0xcc, pages_.stub_bytes);
}

bool VectorUnit::is_stub(u64 address) const {
  const u64 start = reinterpret_cast<u64>(pages_.stubs_executable);
  return address >= start && address - start < pages_.stub_bytes;
}

bool VectorUnit::recover(u64& rip, u8 vector, u64 address) {
  if (!is_stub(rip)) return false;
  fault_ = vector;
  fault_address_ = address;
  rip = reinterpret_cast<u64>(&nacre_vector_exit[0]);
  return true;
}

// The stubs are a direct-mapped cache keyed by their own bytes.
const u8* VectorUnit::stub_for(const EncodedInstruction& encoded) {
  u64 hash = 0xcbf29ce484222325;  // FNV-1a
  for (unsigned i = 0; i < encoded.length; ++i) hash = (hash ^ encoded.bytes[i]) * 0x100000001b3;
  const usize slot = static_cast<usize>(hash >> 20) % (pages_.stub_bytes / kStubBytes) * kStubBytes;

  u8 wanted[kStubBytes];
  unsigned length = 0;
  for (; length < encoded.length; ++length) wanted[length] = encoded.bytes[length];
  for (const u8 byte : kStubEnd) wanted[length++] = byte;

  u8* stub = pages_.stubs_writable + slot;
  unsigned same = 0;
  while (same < length && stub[same] == wanted[same]) ++same;
  if (same != length) {
    for (unsigned i = 0; i < length; ++i) stub[i] = wanted[i];
    nacre_vector_serialize();
  }
  return pages_.stubs_executable + slot;
}

VectorResult VectorUnit::execute(cpu::State& state, const EncodedInstruction& encoded, u8* operand) {
  StubContext context{};
  for (unsigned i = 0; i < 16; ++i) context.gpr[i] = state.gpr[i];
  context.gpr[encoded.stack_pointer] = state.gpr[x86::RSP];
  context.gpr[encoded.rdi] = state.gpr[x86::RDI];
  context.gpr[x86::RDI] = reinterpret_cast<u64>(operand);
  context.flags = state.rflags & x86::Rflags::arithmetic;
  context.stub = stub_for(encoded);
  context.xsave = state.xsave;
  context.components = layout_.components & encoded.components;
  sanitize(state.xsave, layout_.components, mxcsr_mask_);

  fault_ = -1;
  nacre_vector_enter(&context);
  if (fault_ >= 0) return {Kind::Exception, static_cast<x86::Vector>(fault_)};

  const u64 new_rsp = context.gpr[encoded.stack_pointer];
  const u64 new_rdi = context.gpr[encoded.rdi];
  for (unsigned i = 0; i < 16; ++i) {
    const bool stands_in = i == encoded.stack_pointer || i == encoded.rdi;
    if (i != x86::RSP && i != x86::RDI && !stands_in) state.gpr[i] = context.gpr[i];
  }
  if (encoded.stack_pointer != x86::RSP) state.gpr[x86::RSP] = new_rsp;
  if (encoded.rdi != x86::RDI) state.gpr[x86::RDI] = new_rdi;
  state.rflags = (state.rflags & ~x86::Rflags::arithmetic) | (context.flags & x86::Rflags::arithmetic);
  return {};
}

// The processor noted the stub's and the bounce buffer's addresses as last x87 instruction and operand.
void VectorUnit::hide_host_pointers(cpu::State& state, u64 guest_offset) const {
  u8* fip = state.xsave + XsaveLayout::kFip;
  if (!is_stub(load<u64>(fip))) return;
  store(fip, state.rip);
  u8* fdp = state.xsave + XsaveLayout::kFdp;
  const u64 bounce = reinterpret_cast<u64>(pages_.bounce);
  if (load<u64>(fdp) - (bounce - kPageSize) < 3 * kPageSize) store(fdp, guest_offset);
}

VectorResult VectorUnit::run(cpu::State& state, const Instruction& instruction, u64 offset,
                             VectorMemory& memory) {
  if (layout_.components == 0 || is_whole_image(instruction.info->operation)) return {Kind::Unsupported};
  switch (instruction.info->operation) {
    case Operation::Gather:
      return gather(state, layout_, instruction, offset, memory);
    case Operation::Scatter:
      return scatter(state, layout_, instruction, offset, memory);
    case Operation::GatherPrefetch:
      return {};
    case Operation::Vzeroupper:
    case Operation::Vzeroall:
      if (state.in_64bit_code()) break;
      clear_eight(state, layout_, instruction.info->operation == Operation::Vzeroall ? 0 : 16);
      return {};
    case Operation::Ldmxcsr:
      return load_mxcsr(state, offset, memory);
    case Operation::Stmxcsr:
      return {memory.write(offset, state.xsave + XsaveLayout::kMxcsr, 4) ? Kind::Done : Kind::MemoryFault};
    default:
      break;
  }
  if (x87_exception_due(state, instruction)) return {Kind::Exception, x86::Vector::MF};
  EncodedInstruction encoded;
  if (!encode_for_stub(instruction, state.in_64bit_code(), encoded)) return {Kind::Unsupported};

  if (instruction.info->operation == Operation::Maskmov) {
    const unsigned bytes = instruction.info->operands[0].kind == x86::OperandKind::MmxReg ||
                                   instruction.info->operands[1].kind == x86::OperandKind::MmxReg
                               ? 8
                               : 16;
    return run_masked_store(state, encoded, bytes, offset, memory);
  }
  const x86::Operand* operand = memory_operand(instruction);
  if (operand != nullptr && is_masked(instruction)) {
    const unsigned bytes = operand_size_of(instruction);
    if (bytes == 0 || bytes > kMaxOperand) return {Kind::Unsupported};
    return operand->access == x86::Access::Read ? run_masked_load(state, encoded, bytes, offset, memory)
                                                : run_masked_store(state, encoded, bytes, offset, memory);
  }
  const VectorResult result = run_unmasked(state, instruction, encoded, offset, memory);
  if (instruction.info->kind == x86::Class::X87) hide_host_pointers(state, offset);
  return result;
}

// In software: the host may have bits in MXCSR (AMD: MM) that the guest's processor has not.
VectorResult VectorUnit::load_mxcsr(cpu::State& state, u64 offset, VectorMemory& memory) const {
  u32 value = 0;
  if (!memory.read(offset, &value, sizeof value)) return {Kind::MemoryFault};
  if ((value & ~mxcsr_mask_) != 0) return {Kind::Exception, x86::Vector::GP};
  store(state.xsave + XsaveLayout::kMxcsr, value);
  return {};
}

VectorResult VectorUnit::run_unmasked(cpu::State& state, const Instruction& instruction,
                                      const EncodedInstruction& encoded, u64 offset, VectorMemory& memory) {
  const x86::Operand* operand = memory_operand(instruction);
  if (operand == nullptr) return execute(state, encoded, pages_.bounce);

  const unsigned bytes = operand_size_of(instruction);
  if (bytes == 0 || bytes > kMaxOperand) return {Kind::Unsupported};
  const bool reads = operand->access != x86::Access::Write;
  const bool writes = operand->access != x86::Access::Read;
  // An x87 store whose exception is unmasked stores nothing: then what is there is written back.
  const bool may_not_write = writes && instruction.info->operation == Operation::X87 &&
                             (load<u16>(state.xsave + XsaveLayout::kFcw) & 0x3f) != 0x3f;
  if (writes && may_not_write && !memory.probe_write(offset, bytes)) return {Kind::MemoryFault};
  if ((reads || may_not_write) && !memory.read(offset, pages_.bounce, bytes)) return {Kind::MemoryFault};
  if (writes && !memory.probe_write(offset, bytes)) return {Kind::MemoryFault};
  const VectorResult result = execute(state, encoded, pages_.bounce);
  if (result.kind == Kind::Done && writes && !memory.write(offset, pages_.bounce, bytes)) {
    return {Kind::MemoryFault};
  }
  return result;
}

// Masked accesses do not fault on elements that the mask leaves out. Which those are, the processor knows:
// where a page of the guest's operand may not be accessed, the operand is laid over the edge of the bounce
// page in the same way, and the host's fault says that the guest has one, and where. Likewise for alignment,
// which some processors check for active elements only.
VectorUnit::Layout VectorUnit::lay_out(unsigned bytes, u64 offset, bool first_allowed,
                                       bool second_allowed) const {
  const u64 to_page_end = kPageSize - (offset & (kPageSize - 1));
  const unsigned first = to_page_end < bytes ? static_cast<unsigned>(to_page_end) : bytes;
  u8* const page_end = pages_.bounce + kPageSize;
  const u64 misalignment = offset & 63;
  if (first_allowed && (second_allowed || first == bytes)) return {pages_.bounce + misalignment, first};
  if (first_allowed) return {page_end - first, first};
  if (second_allowed && first < bytes) return {pages_.bounce - first, first};
  return {page_end + misalignment, first};
}

// Asks the memory once more for the byte that the host found missing, so that its last word is the fault to
// report.
VectorResult VectorUnit::guest_fault(const u8* operand, unsigned bytes, u64 offset, bool is_write,
                                     VectorMemory& memory) const {
  u64 at = fault_address_ - reinterpret_cast<u64>(operand);
  if (at >= bytes) at = 0;
  u8 byte = 0;
  const bool allowed = is_write ? memory.probe_write(offset + at, 1) : memory.read(offset + at, &byte, 1);
  return allowed ? VectorResult{Kind::Exception, x86::Vector::GP} : VectorResult{Kind::MemoryFault};
}

VectorResult VectorUnit::run_masked_load(cpu::State& state, const EncodedInstruction& encoded, unsigned bytes,
                                         u64 offset, VectorMemory& memory) {
  const Layout whole = lay_out(bytes, offset, true, true);
  if (memory.read(offset, whole.operand, bytes)) return execute(state, encoded, whole.operand);

  u8 data[kMaxOperand] = {};
  const bool first = memory.read(offset, data, whole.first_bytes);
  const unsigned rest = bytes - whole.first_bytes;
  const bool second = rest != 0 && memory.read(offset + whole.first_bytes, data + whole.first_bytes, rest);
  const Layout layout = lay_out(bytes, offset, first, second);
  if (first) copy_bytes(layout.operand, data, layout.first_bytes);
  if (second) copy_bytes(layout.operand + layout.first_bytes, data + layout.first_bytes, rest);
  const VectorResult result = execute(state, encoded, layout.operand);
  const bool faulted = result.kind == Kind::Exception && result.vector == x86::Vector::PF;
  return faulted ? guest_fault(layout.operand, bytes, offset, false, memory) : result;
}

// A masked store writes only some bytes. It runs twice, over zeros and over ones: what then agrees was
// written.
VectorResult VectorUnit::run_masked_store(cpu::State& state, const EncodedInstruction& encoded,
                                          unsigned bytes, u64 offset, VectorMemory& memory) {
  const Layout whole = lay_out(bytes, offset, true, true);
  const unsigned rest = bytes - whole.first_bytes;
  const bool first = memory.probe_write(offset, whole.first_bytes);
  const bool second = rest != 0 && memory.probe_write(offset + whole.first_bytes, rest);
  const Layout layout = lay_out(bytes, offset, first, second);
  const unsigned begin = first ? 0 : layout.first_bytes;
  const unsigned end = second ? bytes : layout.first_bytes;  // [begin, end) may be written, if anything may

  const u32 mxcsr = load<u32>(state.xsave + XsaveLayout::kMxcsr);
  u8 over[2][kMaxOperand] = {};
  for (unsigned fill = 0; fill < 2; ++fill) {
    if (first || second) fill_bytes(layout.operand + begin, fill == 0 ? 0 : 0xff, end - begin);
    const VectorResult result = execute(state, encoded, layout.operand);
    if (result.kind == Kind::Exception && result.vector == x86::Vector::PF) {
      store(state.xsave + XsaveLayout::kMxcsr, mxcsr);
      return guest_fault(layout.operand, bytes, offset, true, memory);
    }
    if (result.kind != Kind::Done) return result;
    if (first || second) copy_bytes(over[fill] + begin, layout.operand + begin, end - begin);
  }
  if (!first && !second) return {};
  for (unsigned i = begin; i < end;) {
    unsigned run_end = i;
    while (run_end < end && over[0][run_end] == over[1][run_end]) ++run_end;
    if (run_end != i && !memory.write(offset + i, over[0] + i, run_end - i)) return {Kind::MemoryFault};
    i = run_end + 1;
  }
  return {};
}

}  // namespace nacre::interp
