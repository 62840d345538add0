// Makes random cases: an encoding (all maps, prefixes, VEX and EVEX), decoded by our decoder, and a state
// under which it mostly reaches the data pages and their edges. Tests only.
#pragma once

#include "cpu/model.hpp"
#include "engine/conformance/random.hpp"
#include "engine/conformance/test_case.hpp"
#include "x86/instruction.hpp"

namespace nacre::conformance {

// Which encodings to draw from.
enum class Family : u8 { Any, General, X87, Sse, Vex, Evex };

class Generator {
 public:
  Generator(const cpu::Model& model, Family family, x86::CodeSize code_size = x86::CodeSize::Bits64)
      : model_(&model), family_(family), code_size_(code_size) {}

  // The case of `seed`: always the same one on processors of one kind. False: this seed gives nothing
  // that can be compared (an instruction the guest's processor does not have, or that shows the host).
  bool make(u64 seed, Case& test);

  // What make() decoded.
  [[nodiscard]] const x86::Instruction& instruction() const { return instruction_; }

  // Whether a guest and a Linux process can both execute it, and both do the same.
  [[nodiscard]] bool comparable(const x86::Instruction& instruction) const;

 private:
  const cpu::Model* model_;
  Family family_;
  x86::CodeSize code_size_;
  x86::Instruction instruction_;
};

}  // namespace nacre::conformance
