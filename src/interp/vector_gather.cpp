#include "interp/vector_gather.hpp"

#include "base/bits.hpp"
#include "interp/vector_registers.hpp"

namespace nacre::interp {
namespace {

using x86::Instruction;
using Kind = VectorResult::Kind;

// The element sizes that the opcode says: W the data's, bit 0 the index's.
struct Shape {
  unsigned data_bytes, index_bytes, elements;

  explicit Shape(const Instruction& instruction)
      : data_bytes(instruction.w ? 8 : 4),
        index_bytes((instruction.opcode & 1) != 0 ? 8 : 4),
        elements(instruction.vector_length / (data_bytes > index_bytes ? data_bytes : index_bytes)) {}
};

u64 element_offset(const VectorRegisters& registers, const Instruction& instruction, const Shape& shape,
                   u64 offset, unsigned element) {
  const u64 index = registers.element(instruction.index, element, shape.index_bytes);
  return offset + (sign_extend(index, 8 * shape.index_bytes) << instruction.scale);
}

// EVEX: what lies above the vector is zeroed with the first element, not with the last.
void complete(VectorRegisters& registers, const Instruction& instruction, const Shape& shape,
              unsigned element, u64 value) {
  registers.set_element(instruction.reg, element, shape.data_bytes, value);
  registers.clear_from(instruction.reg, instruction.vector_length);
}

bool same_registers(const Instruction& instruction) {
  if (instruction.reg == instruction.index) return true;
  if (instruction.encoding == x86::Encoding::Evex) return false;
  return instruction.vvvv == instruction.index || instruction.vvvv == instruction.reg;
}

// VEX: the mask is the sign of each element of a vector register, which is cleared as elements complete.
VectorResult gather_vex(VectorRegisters& registers, const Instruction& instruction, u64 offset,
                        VectorMemory& memory) {
  const Shape shape(instruction);
  const unsigned mask_register = instruction.vvvv;
  const unsigned sign = 8 * shape.data_bytes - 1;
  for (unsigned i = 0; i < shape.elements; ++i) {
    if ((registers.element(mask_register, i, shape.data_bytes) >> sign & 1) == 0) {
      registers.set_element(mask_register, i, shape.data_bytes, 0);
      continue;
    }
    u64 value = 0;
    const u64 at = element_offset(registers, instruction, shape, offset, i);
    if (!memory.read(at, &value, shape.data_bytes)) return {Kind::MemoryFault};
    registers.set_element(instruction.reg, i, shape.data_bytes, value);
    registers.set_element(mask_register, i, shape.data_bytes, 0);
  }
  registers.clear_from(mask_register, 0);
  registers.clear_from(instruction.reg, shape.elements * shape.data_bytes);
  return {};
}

VectorResult gather_evex(VectorRegisters& registers, const Instruction& instruction, u64 offset,
                         VectorMemory& memory) {
  const Shape shape(instruction);
  u64 mask = registers.mask(instruction.mask);
  for (unsigned i = 0; i < shape.elements; ++i) {
    if ((mask >> i & 1) == 0) continue;
    u64 value = 0;
    const u64 at = element_offset(registers, instruction, shape, offset, i);
    if (!memory.read(at, &value, shape.data_bytes)) return {Kind::MemoryFault};
    complete(registers, instruction, shape, i, value);
    mask &= ~(u64{1} << i);
    registers.set_mask(instruction.mask, mask);
  }
  registers.set_mask(instruction.mask, 0);
  registers.clear_from(instruction.reg, shape.elements * shape.data_bytes);
  return {};
}

}  // namespace

VectorResult gather(cpu::State& state, const cpu::XsaveLayout& layout, const Instruction& instruction,
                    u64 offset, VectorMemory& memory) {
  if (same_registers(instruction)) return {Kind::Exception, x86::Vector::UD};
  VectorRegisters registers(state, layout);
  registers.mark_in_use();
  return instruction.encoding == x86::Encoding::Evex ? gather_evex(registers, instruction, offset, memory)
                                                     : gather_vex(registers, instruction, offset, memory);
}

VectorResult scatter(cpu::State& state, const cpu::XsaveLayout& layout, const Instruction& instruction,
                     u64 offset, VectorMemory& memory) {
  VectorRegisters registers(state, layout);
  registers.mark_in_use();
  const Shape shape(instruction);
  u64 mask = registers.mask(instruction.mask);
  for (unsigned i = 0; i < shape.elements; ++i) {
    if ((mask >> i & 1) == 0) continue;
    const u64 value = registers.element(instruction.reg, i, shape.data_bytes);
    const u64 at = element_offset(registers, instruction, shape, offset, i);
    if (!memory.write(at, &value, shape.data_bytes)) return {Kind::MemoryFault};
    mask &= ~(u64{1} << i);
    registers.set_mask(instruction.mask, mask);
  }
  registers.set_mask(instruction.mask, 0);
  return {};
}

}  // namespace nacre::interp
