// Translator: guest bytes in, host code out. Knows nothing of where blocks are kept or linked; the
// runtime (soft_vcpu) gives it memory and takes the result. docs/soft-engine.md explains the register
// plan, the memory check and flag safety.
#pragma once

#include <array>
#include <optional>
#include <string_view>
#include <vector>

#include "engine/soft/block.hpp"
#include "engine/soft/context.hpp"
#include "engine/soft/emitter.hpp"
#include "x86/instruction.hpp"
#include "x86/operation.hpp"

namespace nacre::soft {

// Addresses in the code cache of the routines that translated code calls.
struct Stubs {
  // R14 = linear address, R15 = InterpretNote; returns to the next instruction to retry, 5 bytes on when done, 10
  // bytes on when the operand is in Context::bounce.
  u64 fill_read = 0;
  u64 fill_write = 0;
  // The same, quicker when the access crosses pages.
  u64 bounce_read[kViews] = {}, bounce_write[kViews] = {};
  u64 write_back = 0;  // what is in Context::bounce to where it belongs; keeps all registers and flags
  // R14 = low end of the window, R15 = GroupNote; returns to the next instruction to retry, 5 bytes on when the
  // window does not fit one page.
  u64 fill_group = 0;
  // The same, quicker when the window crosses pages, or RSP is on another page of the TLB.
  u64 twin_or_group = 0;
  u64 twin_or_stack[kViews] = {};
  u64 interpret = 0;   // runs the instruction at state.rip; returns, or leaves to the dispatcher
  u64 link = 0;        // exit_info = exit number
  u64 indirect = 0;    // R14 = target RIP
  u64 lookup = 0;      // state.rip = target RIP
};

struct TranslationInput {
  const u8* bytes = nullptr;  // the guest's code, from `linear` to the end of its page; of Mode::spanning one instruction
  usize available = 0;
  u64 linear = 0;
  u32 mode = 0;
  bool grouping = true;      // let accesses share checks
  u64 mismatch = 0;          // not 0: an indirect jump leads here; where to go when it meant another block
  ExitIndex first_exit = 0;  // number of the first exit
  u32 first_cell = 0;        // number and address of the first link cell; the others follow
  u64 first_cell_address = 0;
};

// What differs for a vCPU that is compared with another (soft.hpp: CountedVcpu).
struct TranslatorOptions {
  bool counted = false;           // blocks count down Context::fuel, and leave when there is none
  std::string_view mistranslate;  // a mnemonic
};

// A block before it has a place in a store.
struct PlannedExit {
  u64 target = 0;
  u32 site = 0;  // offset in the block of the rel32 (or RIP-relative disp32)
  u32 stub = 0;  // offset in the block
  bool is_cell = false;
  u32 cell = 0;
  Lead lead = Lead::Block;
  constexpr bool operator==(const PlannedExit&) const = default;
};
// Bytes of the guest's page that were looked at beyond the block's own.
struct LookedAt {
  u16 offset = 0, bytes = 0;
};
struct Translation {
  std::vector<InstructionInfo> infos;
  std::vector<PlannedExit> exits;
  std::vector<LookedAt> looked_at;
  u32 cells = 0;
  usize bytes = 0, hot_bytes = 0, guest_bytes = 0;
};

// The host register a guest GPR lives in, or x86::kNoRegister when it lives in memory (R13 to R15).
u8 host_register(u8 guest);

// Offsets in Context.
usize tlb_offset(View view, usize member);
usize stack_page_offset(View view, usize member);

// Of a plain instruction: whether it cannot be copied all the same, and the guest GPRs it writes.
bool needs_interpreter(const x86::Instruction& insn);
// System instructions that are translated (translator_special.cpp) and neither read nor leave changed
// arithmetic flags.
bool is_inline_system(const x86::Instruction& insn, View view);
u16 written_registers(const x86::Instruction& insn);
inline bool info_is(const x86::Instruction& insn, x86::Operation operation) {
  return insn.info->operation == operation;
}

// What the helpers are told about an instruction: InterpretNote bits.
u32 interpret_note(const x86::Instruction& insn);

class Translator {
 public:
  Translator(const Stubs& stubs, TranslatorOptions options) : stubs_(stubs), options_(options) {}

  // Translates one block into `emitter`. False when the buffer was too small.
  bool translate(const TranslationInput& input, Emitter& emitter);
  [[nodiscard]] const Translation& translation() const { return made_; }

  // The arithmetic flags that code at this place may read before it overwrites them; translates nothing.
  u32 flags_read(const TranslationInput& input);

  // Emits "if R14 is not `rip` go to `mismatch`"; uses R15, and no flags.
  static void verify_target(Emitter& emitter, u64 rip, u64 mismatch);

 private:
  struct Item {
    x86::Instruction insn;
    u64 rip;
    u32 live_flags;   // Rflags bits somebody may still read, before the instruction
    u32 group;        // kNone, or the group its memory access belongs to
    bool spans;       // not decoded: it goes on on the next page
  };
  // One memory check whose miss path is still to be emitted.
  struct Cold {
    usize from;   // offset of the jump's rel32
    usize retry;  // offset to start again at
    u32 item;
    bool write;
    bool fragile;  // RCX is borrowed
    bool group = false;
    bool stack = false;
    u32 window = 0;       // bytes accessed, or those of a group
    usize checked = 0;    // offset behind the check
    usize done = 0;       // of a write: offset behind what writes, 0 when it cannot be done elsewhere
    u16 commit = 0;       // of a write: offset of the instruction's commit
    bool fixed = false;   // the address is known: `linear`
    u64 linear = 0;
  };

  void decode_block(const TranslationInput& input);
  void find_live_flags();
  [[nodiscard]] u32 flags_live_at(u64 target);
  void translate_item(u32 index);
  void count_entry();
  void emit_out_of_fuel();
  bool translate_plain(const Item& item);
  bool translate_stack(const Item& item);
  bool translate_branch(const Item& item);
  bool translate_special(const Item& item);
  void push_flags(const Item& item);
  bool translate_bit_string(const Item& item);
  void exit_to_view(View view, u64 target);
  void mask_memory(const HostMemory& memory, u64 mask_offset);
  void interpret(const Item& item);

  // Groups.
  struct GroupAccess {
    u8 base;
    i32 offset;  // from base + index, shifted left by scale
    unsigned bytes;
    bool write;
    u8 index = x86::kNoRegister;
    u8 scale = 0;
  };
  struct Group {
    u8 base, index, scale;
    u32 version, index_version;  // how often base and index had been changed
    i64 low, high;               // window, from the base's value when that version began
    bool write;
    u32 count;
    bool checked;
    bool kept;      // its addend is in its slot
    u32 check_at;  // the item before which it is checked
    u32 first, last;  // items that access
  };
  [[nodiscard]] std::optional<GroupAccess> group_access_of(const Item& item) const;
  void find_groups();
  [[nodiscard]] u32 early_check(u32 from, u32 item) const;
  [[nodiscard]] bool is_behind_sti(u32 item) const;
  void check_group(u32 number, const Item& item);
  [[nodiscard]] bool loses_addend(u32 number, u32 from) const;
  void group_address(u8 base, u8 index, u8 scale, i32 offset);
  HostMemory group_operand(const Item& item);
  void check_tag(Cold& cold, bool flags_live);
  void wrote(const Item& item);
  void bounce(const Cold& cold, const Item& item);
  void cold_group(const Cold& cold, const Item& item);

  // Addresses and checks.
  bool address(const x86::Instruction& insn, u64 next_rip);
  void check(bool write, unsigned bytes, const Item& item, usize retry);
  std::optional<HostMemory> checked_operand(const Item& item, bool write, unsigned bytes);
  HostMemory fixed_operand(const Item& item, u64 linear, bool write, unsigned bytes);
  void set_rip(u64 rip);
  void looked_at(u64 from, u64 to);
  void load_guest(Gpr to, u8 guest);
  void store_guest(u8 guest, Gpr from);
  void commit() { current_->commit = offset16(); }

  // Instruction rewriting.
  struct Fields {
    u8 reg, rm, vvvv, opcode_reg;
  };
  void encode(const x86::Instruction& insn, const Fields& fields, const HostMemory* memory);

  // Control flow.
  void load_word_of_stack(Gpr to, const HostMemory& from) { e_->op_memory(0x8b, to, from, !code32()); }
  void store_word_of_stack(const HostMemory& to, Gpr from) { e_->op_memory(0x89, from, to, !code32()); }
  void move_stack(i32 by);
  void load_target(u8 guest);
  bool translate_absolute(const Item& item);
  HostMemory push_slot(const Item& item);
  HostMemory pop_slot(const Item& item);
  void push_return_address(const Item& item, u64 next);
  void direct_exit(u64 target);  // jmp
  void direct_exit_if(u8 condition, u64 target);
  void twin_exit(u64 rip);
  void tail_exit();
  [[nodiscard]] bool elsewhere(u64 target) const {
    return (target ^ linear_) >= kPageSize || (mode_ & Mode::spanning) != 0;
  }
  void jump_indirect(bool restartable);
  void emit_cold();
  void emit_exit_stubs();
  u64 next_cell(PlannedExit& exit);
  [[nodiscard]] bool code32() const { return (mode_ & Mode::code32) != 0; }
  [[nodiscard]] i32 word() const { return code32() ? 4 : 8; }  // bytes that a push moves
  [[nodiscard]] x86::CodeSize code_size() const { return code32() ? x86::CodeSize::Bits32 : x86::CodeSize::Bits64; }
  [[nodiscard]] bool is_for_translation(const x86::Instruction& insn) const;
  [[nodiscard]] View view() const { return static_cast<View>(mode_ & Mode::view_mask); }
  [[nodiscard]] u16 offset16() const { return static_cast<u16>(e_->size()); }
  [[nodiscard]] bool unit_available(const x86::Instruction& insn) const;

  const Stubs& stubs_;
  const TranslatorOptions options_;
  TranslationInput input_;
  Translation made_;
  Emitter* e_ = nullptr;
  u32 mode_ = 0;
  u64 linear_ = 0;
  bool ended_ = false;
  bool next_is_shadowed_ = false;  // the instruction before was STI
  InstructionInfo* current_ = nullptr;
  std::vector<Item> items_;
  std::vector<Cold> colds_;
  std::vector<usize> ways_out_;  // of a counted block's entry: offsets of rel32s
  std::vector<Group> groups_;
  using Deltas = std::array<i32, 16>;
  std::vector<Deltas> deltas_;  // for each item
  u32 addend_in_r15_ = kNone;  // the group whose addend R15 holds between instructions
};

}  // namespace nacre::soft
