// Sequences of random instructions with forward jumps and calls, some of them the body of a loop: what a
// translator does across instructions (shared address checks, dead flags, stack moves, links between blocks)
// shows only there. Memory operands go through registers that the sequence never writes. Tests only.
#pragma once

#include <vector>

#include "cpu/model.hpp"
#include "engine/conformance/compare.hpp"
#include "engine/conformance/generate.hpp"
#include "engine/conformance/test_case.hpp"
#include "x86/instruction.hpp"

namespace nacre::conformance {

// Supervisor: with privileged instructions, for comparing engines with each other.
enum class Ring : u8 { User, Supervisor };

class Sequence {
 public:
  Sequence(const cpu::Model& model, Family family, Ring ring = Ring::User)
      : generator_(model, family), model_(&model), family_(family), ring_(ring) {}

  // The sequence of `seed`.
  void make(u64 seed);
  // The case it is now: code laid out, jumps resolved.
  [[nodiscard]] Case assemble() const;

  [[nodiscard]] usize size() const { return pieces_.size(); }
  void remove(usize index);
  // False when an instruction reads a flag that the manuals leave undefined at that point.
  [[nodiscard]] bool defined() const;

  // What cannot be compared after `native`.
  [[nodiscard]] Ignored ignored(const Outcome& native, Tolerance tolerance) const;
  [[nodiscard]] std::string mnemonics() const;

 private:
  struct Piece {
    x86::Instruction instruction;
    u8 bytes[24] = {};
    u8 length = 0;
    usize jump_to = 0;  // index of a later piece, or size(): only of branches
    // Of an idiom, several instructions that are only useful together; `instruction` is the first of them.
    bool idiom = false;
    u8 target_at = 0;  // where the 32-bit address of its jump's target stands
    u8 alias_at = 0;   // where the address at which the supervisor writes its last four bytes stands
    u32 undefined = 0;

    [[nodiscard]] bool is_relative() const;
    [[nodiscard]] bool is_branch() const { return target_at != 0 || is_relative(); }
    [[nodiscard]] u32 flags_undefined() const { return idiom ? undefined : instruction.info->flags_undefined; }
  };

  bool make_piece(Random& random, Piece& piece);
  bool make_idiom(Random& random, Piece& piece) const;
  void retarget_memory(Random& random, Piece& piece) const;
  bool make_system_piece(Random& random, Piece& piece) const;
  [[nodiscard]] bool fits(const Piece& piece) const;
  [[nodiscard]] const Piece* piece_at(u64 rip) const;

  Generator generator_;
  const cpu::Model* model_;
  Family family_;
  Ring ring_;
  Registers registers_;
  u64 memory_seed_ = 0;
  bool loops_ = false;  // ends with `loop`; RCX counts and nothing else writes it
  u16 code_offset_ = 0;
  std::vector<Piece> pieces_;
};

}  // namespace nacre::conformance
