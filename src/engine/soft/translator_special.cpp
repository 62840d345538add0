// System instructions frequent enough in kernels to be done without the interpreter. Only where the block's
// view says that the privilege is right; everything else goes to the interpreter, which checks and faults.
#include "engine/soft/translator.hpp"

namespace nacre::soft {

using x86::Gpr;
using x86::Instruction;
using x86::Operation;
using x86::R14;
using x86::R15;

namespace {

constexpr usize state_offset(usize member) {
  return offsetof(Context, state) + member;
}
constexpr usize segment_base(x86::SegmentIndex segment) {
  return state_offset(offsetof(cpu::State, segment) + segment * sizeof(cpu::Segment) +
                      offsetof(cpu::Segment, base));
}

}  // namespace

bool is_inline_system(const Instruction& insn, View view) {
  switch (insn.info->operation) {
    case Operation::Nop:
    case Operation::Endbr:
    case Operation::Prefetch:
    case Operation::Pause:
    case Operation::Lfence:
    case Operation::Mfence:
    case Operation::Sfence:
      return true;
    case Operation::Rdtsc:
    case Operation::Rdtscp:
      return true;
    case Operation::Swapgs:
    case Operation::Cli:
    case Operation::Sti:
      return view != View::User;
    default:
      return false;
  }
}

// memory &= mask, without flags: what PEXT takes out, PDEP puts back.
void Translator::mask_memory(const HostMemory& memory, u64 mask_offset) {
  e_->load(R14, memory);
  e_->pext(R14, R14, HostMemory::context(mask_offset));
  e_->pdep(R14, R14, HostMemory::context(mask_offset));
  e_->store(memory, R14);
}

bool Translator::translate_special(const Item& item) {
  addend_in_r15_ = kNone;
  const Instruction& insn = item.insn;
  const bool kernel = view() != View::User;
  const HostMemory flags = HostMemory::context(state_offset(offsetof(cpu::State, rflags)));
  switch (insn.info->operation) {
    case Operation::Nop:
    case Operation::Endbr:
    case Operation::Prefetch:
      return true;
    case Operation::Pause:
      e_->bytes({0xf3, 0x90});
      return true;
    case Operation::Lfence:
      e_->bytes({0x0f, 0xae, 0xe8});
      return true;
    case Operation::Mfence:
      e_->bytes({0x0f, 0xae, 0xf0});
      return true;
    case Operation::Sfence:
      e_->bytes({0x0f, 0xae, 0xf8});
      return true;
    case Operation::Swapgs: {
      if (!kernel) return false;
      const HostMemory gs = HostMemory::context(segment_base(x86::GS));
      const HostMemory other = HostMemory::context(state_offset(offsetof(cpu::State, kernel_gs_base)));
      e_->load(R14, gs);
      e_->load(R15, other);
      commit();
      e_->store(other, R14);
      e_->store(gs, R15);
      return true;
    }
    case Operation::Cli:
      if (!kernel) return false;
      mask_memory(flags, offsetof(Context, all_but_if));
      return true;
    case Operation::Sti: {
      // The shadow matters before HLT (a wake-up must not slip between the two), and can only be kept
      // within a block.
      const usize next = static_cast<usize>(&item - items_.data()) + 1;
      if (!kernel || (mode_ & Mode::hint) == 0 || next >= items_.size() || items_[next].insn.info == nullptr ||
          info_is(items_[next].insn, Operation::Hlt)) {
        return false;
      }
      e_->mov(R15, x86::RCX);
      current_->borrow_from(offset16());
      e_->load(R14, HostMemory::context(offsetof(Context, interrupt_hint)));
      e_->movzx8(x86::RCX, HostMemory::at(R14));
      const usize quiet = e_->jrcxz();
      e_->mov(x86::RCX, R15);
      interpret(item);
      const usize done = e_->jmp();
      e_->patch8(quiet, e_->size());
      e_->mov(x86::RCX, R15);
      current_->fragile_end = offset16();
      e_->load(R14, flags);
      e_->pext(R14, R14, HostMemory::context(offsetof(Context, all_but_if)));
      e_->pdep(R14, R14, HostMemory::context(offsetof(Context, all_but_if)));
      e_->lea(R14, HostMemory::at(R14, static_cast<i32>(x86::Rflags::IF)));
      commit();
      e_->store(flags, R14);
      e_->patch32(done, e_->size());
      next_is_shadowed_ = true;
      return true;
    }
    case Operation::Mov: {
      // Reading a segment register. Loading one is the interpreter's.
      const x86::Operand& source = insn.info->operands[1];
      if (source.kind != x86::OperandKind::SegmentReg || insn.is_memory || insn.operand_size == 2 || insn.reg > x86::GS) {
        return false;
      }
      commit();
      e_->load_word(R14, HostMemory::context(state_offset(offsetof(cpu::State, segment) + insn.reg * sizeof(cpu::Segment) +
                                                          offsetof(cpu::Segment, selector))));
      store_guest(insn.rm, R14);
      return true;
    }
    case Operation::Rdtsc:
    case Operation::Rdtscp:
      if ((mode_ & Mode::tsc) == 0) return false;
      if (info_is(insn, Operation::Rdtscp) && (mode_ & Mode::tscp) == 0) return false;
      if (info_is(insn, Operation::Rdtscp)) e_->bytes({0x0f, 0xae, 0xe8});  // as ordered as LFENCE makes it
      commit();
      e_->bytes({0x0f, 0x31});
      e_->rorx(x86::RDX, x86::RDX, 32);
      e_->lea(x86::RAX, HostMemory::sum(x86::RAX, x86::RDX));
      e_->load(R14, HostMemory::context(state_offset(offsetof(cpu::State, tsc_offset))));
      e_->lea(x86::RAX, HostMemory::sum(x86::RAX, R14));
      e_->rorx(x86::RDX, x86::RAX, 32);
      e_->op_register(0x89, x86::RDX, x86::RDX, false);
      e_->op_register(0x89, x86::RAX, x86::RAX, false);
      if (info_is(insn, Operation::Rdtscp)) {
        e_->op_memory(0x8b, x86::RCX, HostMemory::context(state_offset(offsetof(cpu::State, tsc_aux))), false);
      }
      return true;
    case Operation::Stac:
    case Operation::Clac: {
      // The view says what AC is now, so that it can be changed by an addition, which needs no flags.
      const bool set = info_is(insn, Operation::Stac);
      if (!kernel) return false;
      const View to = set ? View::KernelUserAccess : View::Kernel;
      if (to == view()) return true;
      e_->load(R14, flags);
      e_->lea(R14, HostMemory::at(
                       R14, set ? static_cast<i32>(x86::Rflags::AC) : -static_cast<i32>(x86::Rflags::AC)));
      commit();
      e_->store(flags, R14);
      exit_to_view(to, item.rip + insn.length);
      return true;
    }
    default:
      return false;
  }
}

// pushfq: the host's arithmetic flags and the guest's others.
void Translator::push_flags(const Item& item) {
  addend_in_r15_ = kNone;
  // While RSP is moved nothing may stop here.
  current_->fragile_begin = offset16();
  e_->byte(0x9c);           // pushfq: into Context::call_stack
  e_->bytes({0x41, 0x5e});  // pop r14
  current_->fragile_end = offset16();
  e_->pext(R14, R14, HostMemory::context(offsetof(Context, arithmetic_flags)));
  e_->pdep(R14, R14, HostMemory::context(offsetof(Context, arithmetic_flags)));
  e_->load(R15, HostMemory::context(state_offset(offsetof(cpu::State, rflags))));
  e_->pext(R15, R15, HostMemory::context(offsetof(Context, system_flags)));
  e_->pdep(R15, R15, HostMemory::context(offsetof(Context, system_flags)));
  e_->lea(R14, HostMemory::sum(R14, R15));
  e_->store(HostMemory::context(offsetof(Context, spill_value)), R14);
  e_->lea(R14, push_slot(item));
  e_->load(R15, HostMemory::context(offsetof(Context, spill_value)));
  commit();
  e_->store(HostMemory::at(R14), R15);
  wrote(item);
  addend_in_r15_ = kNone;
}

// Goes on behind an instruction that changed the view.
void Translator::exit_to_view(View to, u64 target) {
  e_->store_dword_imm(HostMemory::context(offsetof(Context, mode)),
                      (mode_ & ~(Mode::view_mask | Mode::key_only)) | static_cast<u32>(to));
  direct_exit(target);
}

// bt, bts, btr, btc of memory with the bit's number in a register: the number reaches beyond the operand.
// No flags. A negative number makes an address that is not canonical, and so goes to the interpreter.
bool Translator::translate_bit_string(const Item& item) {
  const Instruction& insn = item.insn;
  if (insn.operand_size == 2 || code32()) return false;
  const bool write = !info_is(insn, Operation::Bt);
  const bool wide = insn.operand_size == 8;
  const usize width = wide ? sizeof(u64) : 0;
  const usize retry = e_->size();
  if (!address(insn, item.rip + insn.length)) return false;
  load_guest(R15, insn.reg);
  if (!wide) e_->op_register(0x63, R15, R15);  // movsxd r15, r15d
  e_->pext(R15, R15, HostMemory::context(offsetof(Context, bit_word) + width));
  e_->lea(R14, {R14, R15, static_cast<u8>(wide ? 3 : 2), 0});
  check(write, wide ? 8 : 4, item, retry);
  e_->lea(R14, HostMemory::sum(R14, R15));
  load_guest(R15, insn.reg);
  e_->pext(R15, R15, HostMemory::context(offsetof(Context, bit_in_word) + width));
  commit();
  if (insn.lock) e_->byte(0xf0);
  e_->byte(static_cast<u8>(0x45 | (wide ? 8 : 0)));  // REX.R: R15; REX.B: R14
  e_->bytes({0x0f, insn.opcode});
  e_->modrm_memory(R15, HostMemory::at(R14));
  wrote(item);
  return true;
}

}  // namespace nacre::soft
