// Control flow and the stack. docs/soft-engine.md, "Jumps, calls and returns".
#include "engine/soft/translator.hpp"

namespace nacre::soft {

using x86::Class;
using x86::Gpr;
using x86::Instruction;
using x86::kNoRegister;
using x86::Operation;
using x86::R13;
using x86::R14;
using x86::R15;
using x86::RBP;
using x86::RCX;

namespace {
constexpr Gpr kGuestRsp = R13;
}

// Flags stay, whether this block wants them or not: on a mismatch they are for another block. So RCX is put aside in
// R15, for JRCXZ.
void Translator::verify_target(Emitter& emitter, u64 rip, u64 mismatch) {
  emitter.mov(R15, RCX);
  const u64 negated = u64{0} - rip;
  if (fits_i32(negated)) {
    emitter.lea(RCX, HostMemory::at(R14, static_cast<i32>(negated)));
  } else {
    emitter.mov_imm(RCX, negated);
    emitter.lea(RCX, HostMemory::sum(RCX, R14));
  }
  const usize match = emitter.jrcxz();
  emitter.mov(RCX, R15);
  emitter.jmp_to(mismatch);
  emitter.patch8(match, emitter.size());
  emitter.mov(RCX, R15);
}

u64 Translator::next_cell(PlannedExit& exit) {
  exit.cell = input_.first_cell + made_.cells;
  return input_.first_cell_address + sizeof(u64) * made_.cells++;
}

void Translator::direct_exit(u64 target) {
  PlannedExit exit{target, 0, 0, elsewhere(target), 0, Lead::Block};
  if (exit.is_cell) {
    e_->jmp_rip(next_cell(exit));
  } else {
    exit.site = static_cast<u32>(e_->jmp());
  }
  made_.exits.push_back(exit);
  ended_ = true;
}

void Translator::direct_exit_if(u8 condition, u64 target) {
  PlannedExit exit{target, 0, 0, elsewhere(target), 0, Lead::Block};
  if (exit.is_cell) {
    // jncc over; jmp [cell]
    e_->bytes({static_cast<u8>(0x70 | (condition ^ 1)), 6});
    e_->jmp_rip(next_cell(exit));
  } else {
    exit.site = static_cast<u32>(e_->jcc(condition));
  }
  made_.exits.push_back(exit);
}

// To the block that starts here and shares no checks.
void Translator::twin_exit(u64 rip) {
  PlannedExit exit;
  exit.target = rip;
  exit.lead = Lead::Twin;
  exit.site = static_cast<u32>(e_->jmp());
  made_.exits.push_back(exit);
}

// To the instruction here as both its pages have it. Through a cell, since the second page may become another one.
void Translator::tail_exit() {
  PlannedExit exit;
  exit.target = (linear_ | (kPageSize - 1)) + 1;
  exit.lead = Lead::Tail;
  exit.is_cell = true;
  e_->jmp_rip(next_cell(exit));
  made_.exits.push_back(exit);
  ended_ = true;
}

void Translator::emit_exit_stubs() {
  for (usize i = 0; i < made_.exits.size(); i++) {
    PlannedExit& exit = made_.exits[i];
    exit.stub = static_cast<u32>(e_->size());
    if (!exit.is_cell) e_->patch32(exit.site, exit.stub);
    e_->store_imm32(HostMemory::context(offsetof(Context, exit_info)),
                    static_cast<i32>(input_.first_exit + i));
    e_->fix_last(4, Fixup::Kind::ExitNumber);
    e_->jmp_to(stubs_.link);
  }
}

// R14 = target. The block there checks that it was meant. `restartable`: nothing of the instruction has
// been done yet.
void Translator::jump_indirect(bool restartable) {
  e_->movzx16(R15, R14);
  if (restartable) commit();
  e_->jmp_memory(HostMemory::context_indexed(
      offsetof(Context, jump_cache) + static_cast<usize>(view()) * kJumpCacheEntries * sizeof(u64), R15, 3));
  ended_ = true;
}

// Where a push stores, checked. R14 and R15 are in use after it.
HostMemory Translator::push_slot(const Item& item) {
  if (item.group != kNone) return group_operand(item);
  const usize retry = e_->size();
  e_->op_memory(0x8d, R14, HostMemory::at(kGuestRsp, -word()), !code32());  // lea
  check(true, static_cast<unsigned>(word()), item, retry);
  return HostMemory::sum(R14, R15);
}

// Where a pop loads from, checked.
HostMemory Translator::pop_slot(const Item& item) {
  if (item.group != kNone) return group_operand(item);
  const usize retry = e_->size();
  e_->op_register(0x89, kGuestRsp, R14, !code32());
  check(false, static_cast<unsigned>(word()), item, retry);
  return HostMemory::sum(R14, R15);
}

// No flags.
void Translator::move_stack(i32 by) {
  e_->op_memory(0x8d, kGuestRsp, HostMemory::at(kGuestRsp, by), !code32());
}

void Translator::push_return_address(const Item& item, u64 next) {
  const HostMemory slot = push_slot(item);
  if (code32()) {
    commit();
    e_->store_dword_imm(slot, static_cast<u32>(next));
    e_->tie();
  } else if (fits_i32(next)) {
    commit();
    e_->store_imm32(slot, static_cast<i32>(next));
    e_->tie();
  } else {
    e_->lea(R14, slot);
    e_->mov_linear(R15, next);
    commit();
    e_->store(HostMemory::at(R14), R15);
  }
  wrote(item);
  move_stack(-word());
}

bool Translator::translate_stack(const Item& item) {
  const Instruction& insn = item.insn;
  const x86::OpcodeInfo& info = *insn.info;
  if (insn.operand_size_prefix || insn.address_size != word()) return false;
  const x86::Operand& operand = info.operands[0];
  const usize retry = e_->size();
  if (info.operation == Operation::Push) {
    if (operand.kind == x86::OperandKind::Immediate) {
      const HostMemory slot = push_slot(item);
      commit();
      if (code32()) {
        e_->store_dword_imm(slot, static_cast<u32>(insn.immediate));
      } else {
        e_->store_imm32(slot, static_cast<i32>(insn.immediate));
      }
    } else if (operand.kind == x86::OperandKind::GprOpcode ||
               (operand.kind == x86::OperandKind::GprRm && !insn.is_memory)) {
      const u8 guest = operand.kind == x86::OperandKind::GprOpcode
                           ? static_cast<u8>((insn.opcode & 7) | ((insn.rex & 1) << 3))
                           : insn.rm;
      const HostMemory slot = push_slot(item);
      if (host_register(guest) != kNoRegister) {
        commit();
        store_word_of_stack(slot, static_cast<Gpr>(host_register(guest)));
      } else if (slot.base != R14) {
        load_guest(R14, guest);
        commit();
        e_->store(slot, R14);
      } else {
        e_->lea(R14, slot);
        load_guest(R15, guest);
        commit();
        e_->store(HostMemory::at(R14), R15);
      }
    } else if (operand.kind == x86::OperandKind::GprRm) {
      const std::optional<HostMemory> source = checked_operand(item, false, static_cast<unsigned>(word()));
      if (!source) return false;
      load_word_of_stack(R14, *source);
      e_->store(HostMemory::context(offsetof(Context, spill_value)), R14);
      e_->lea(R14, push_slot(item));
      e_->load(R15, HostMemory::context(offsetof(Context, spill_value)));
      commit();
      store_word_of_stack(HostMemory::at(R14), R15);
    } else {
      return false;
    }
    wrote(item);
    move_stack(-word());
    return true;
  }
  if (info.operation == Operation::Pop) {
    u8 guest = 0;
    if (operand.kind == x86::OperandKind::GprOpcode) {
      guest = static_cast<u8>((insn.opcode & 7) | ((insn.rex & 1) << 3));
    } else if (operand.kind == x86::OperandKind::GprRm && !insn.is_memory) {
      guest = insn.rm;
    } else {
      return false;
    }
    const HostMemory slot = pop_slot(item);
    if (guest == x86::RSP) {
      load_word_of_stack(R14, slot);
      commit();
      e_->mov(kGuestRsp, R14);
      return true;
    }
    if (host_register(guest) == kNoRegister) {
      e_->load(R14, slot);
      commit();
      store_guest(guest, R14);
    } else {
      commit();
      load_word_of_stack(static_cast<Gpr>(host_register(guest)), slot);
    }
    move_stack(word());
    return true;
  }
  if (info.operation == Operation::Pushf && !code32()) {
    push_flags(item);
    e_->lea(kGuestRsp, HostMemory::at(kGuestRsp, -8));
    return true;
  }
  if (info.operation == Operation::Leave) {
    e_->op_register(0x89, RBP, R14, !code32());
    check(false, static_cast<unsigned>(word()), item, retry);
    load_word_of_stack(R14, HostMemory::sum(R14, R15));
    commit();
    e_->op_memory(0x8d, kGuestRsp, HostMemory::at(RBP, word()), !code32());  // lea
    e_->mov(RBP, R14);
    return true;
  }
  return false;
}

// An indirect branch's target, in R14.
void Translator::load_target(u8 guest) {
  if (code32()) {
    e_->op_register(0x89, host_register(guest), R14, false);
  } else {
    load_guest(R14, guest);
  }
}

bool Translator::translate_branch(const Item& item) {
  const Instruction& insn = item.insn;
  const u64 next = item.rip + insn.length;
  const bool relative = insn.info->operands[0].kind == x86::OperandKind::Relative;
  if (insn.operand_size_prefix) return false;  // processors differ about it
  u64 target = next + insn.immediate;
  if (code32()) target = static_cast<u32>(target);
  const unsigned bytes = static_cast<unsigned>(word());
  switch (insn.info->operation) {
    case Operation::Jmp:
      if (relative) {
        direct_exit(target);
        return true;
      }
      if (insn.is_memory) {
        const std::optional<HostMemory> source = checked_operand(item, false, bytes);
        if (!source) return false;
        load_word_of_stack(R14, *source);
      } else {
        load_target(insn.rm);
      }
      jump_indirect(true);
      return true;
    case Operation::Jcc:
      commit();
      direct_exit_if(insn.opcode & 15, target);
      break;
    case Operation::Jrcxz:
    case Operation::Loop:
    case Operation::Loope:
    case Operation::Loopne: {
      if (insn.address_size != bytes) return false;
      commit();
      // op +2; jmp not_taken; taken: jmp target; not_taken:
      if (code32()) e_->byte(0x67);  // ECX
      e_->bytes({insn.opcode, 2, 0xeb, 5});
      const bool was_ended = ended_;
      const usize before = e_->size();
      direct_exit(target);
      ended_ = was_ended;
      const usize distance = e_->size() - before;
      if (distance == 6) e_->byte(0x90);
      // Fix the distance of the short jump over the exit (5 for rel32, 7 for a cell with its padding).
      e_->patch8(before - 1, e_->size());
      break;
    }
    case Operation::Call:
      if (relative) {
        push_return_address(item, next);
        direct_exit(target);
      } else {
        if (insn.is_memory) {
          const std::optional<HostMemory> source = checked_operand(item, false, bytes);
          if (!source) return false;
          load_word_of_stack(R14, *source);
        } else {
          load_target(insn.rm);
        }
        e_->store(HostMemory::context(offsetof(Context, spill_value)), R14);
        push_return_address(item, next);
        e_->load(R14, HostMemory::context(offsetof(Context, spill_value)));
        jump_indirect(false);
      }
      return true;
    case Operation::Ret:
      load_word_of_stack(R14, pop_slot(item));
      commit();
      move_stack(word() + static_cast<i32>(insn.immediate_size != 0 ? insn.immediate & 0xffff : 0));
      jump_indirect(false);
      return true;
    default:
      return false;
  }
  // Conditional branches: the block may go on behind them.
  return true;
}

}  // namespace nacre::soft
