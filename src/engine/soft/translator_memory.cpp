// Addresses and the inline TLB check. docs/soft-engine.md, "A memory access".
#include "engine/soft/stubs.hpp"
#include "engine/soft/translator.hpp"

namespace nacre::soft {

using x86::Gpr;
using x86::Instruction;
using x86::kNoRegister;
using x86::R14;
using x86::R15;
using x86::RCX;

namespace {

constexpr usize gpr_offset(u8 guest) {
  return offsetof(Context, state) + offsetof(cpu::State, gpr) + 8 * guest;
}

// Cold code is left only at its end: there the state is whole nowhere.
InstructionInfo nowhere(usize offset) {
  InstructionInfo info;
  info.start = static_cast<u16>(offset);
  return info;
}

// Whether other processors may see a write in two parts, and bytes it does not write written with their old values.
bool may_be_torn(const Instruction& insn) {
  if (insn.lock || info_is(insn, x86::Operation::Xchg)) return false;
  return insn.mask == 0 && !info_is(insn, x86::Operation::VectorMasked);
}

usize segment_base_offset(u8 segment) {
  return offsetof(Context, state) + offsetof(cpu::State, segment) + segment * sizeof(cpu::Segment) +
         offsetof(cpu::Segment, base);
}

}  // namespace

usize tlb_offset(View view, usize member) {
  return offsetof(Context, tlb) + static_cast<usize>(view) * kTlbEntries * sizeof(TlbEntry) + member;
}
usize stack_page_offset(View view, usize member) {
  return offsetof(Context, stack_page) + static_cast<usize>(view) * sizeof(TlbEntry) + member;
}

// Guest registers R13, R14 and R15 live in memory; guest RSP in host R13; the others at home.
u8 host_register(u8 guest) {
  if (guest == x86::RSP) return x86::R13;
  return guest >= x86::R13 ? kNoRegister : guest;
}

void Translator::load_guest(Gpr to, u8 guest) {
  const u8 host = host_register(guest);
  if (host == kNoRegister) {
    e_->load(to, HostMemory::context(gpr_offset(guest)));
  } else {
    e_->mov(to, static_cast<Gpr>(host));
  }
}

void Translator::store_guest(u8 guest, Gpr from) {
  const u8 host = host_register(guest);
  if (host == kNoRegister) {
    e_->store(HostMemory::context(gpr_offset(guest)), from);
  } else {
    e_->mov(static_cast<Gpr>(host), from);
  }
}

// The linear address of the ModRM operand in R14. Uses R15. No flags.
bool Translator::address(const Instruction& insn, u64 next_rip) {
  const bool wide = insn.address_size == 8;
  addend_in_r15_ = kNone;
  if (insn.base == x86::kRipBase) {
    u64 target = next_rip + static_cast<u64>(insn.displacement);
    if (!wide) target = static_cast<u32>(target), e_->tie();
    e_->mov_linear(R14, target);
  } else {
    if (wide && !fits_i32(insn.displacement)) return false;
    HostMemory memory{kNoRegister, kNoRegister, insn.scale, static_cast<i32>(insn.displacement)};
    if (insn.base != kNoRegister) {
      memory.base = host_register(insn.base);
      if (memory.base == kNoRegister) {
        load_guest(R14, insn.base);
        memory.base = R14;
      }
    }
    if (insn.index != kNoRegister) {
      memory.index = host_register(insn.index);
      if (memory.index == kNoRegister) {
        load_guest(R15, insn.index);
        memory.index = R15;
      }
    }
    if (memory.base == kNoRegister && memory.index == kNoRegister) {
      e_->mov_imm(R14, wide ? static_cast<u64>(insn.displacement) : static_cast<u32>(insn.displacement));
    } else if (!wide) {
      e_->lea32(R14, memory);
    } else if (memory.index == kNoRegister && memory.displacement == 0) {
      if (memory.base != R14) e_->mov(R14, static_cast<Gpr>(memory.base));
    } else {
      e_->lea(R14, memory);
    }
  }
  if (insn.segment == x86::FS || insn.segment == x86::GS) {
    e_->load(R15, HostMemory::context(segment_base_offset(insn.segment)));
    e_->lea(R14, HostMemory::sum(R14, R15));
  }
  return true;
}

// R14: from a linear address to the offset in its page, or away to the cold path. Leaves the TLB index in
// R15 (not for the stack's own entry).
void Translator::check_tag(Cold& cold, bool flags_live) {
  const usize member = cold.write ? offsetof(TlbEntry, write_tag) : offsetof(TlbEntry, read_tag);
  const HostMemory tag = cold.stack ? HostMemory::context(stack_page_offset(view(), member))
                                    : HostMemory::context_indexed(tlb_offset(view(), member), R15, 0);
  addend_in_r15_ = kNone;
  if (!flags_live) {
    if (!cold.stack) {
      e_->rorx(R15, R14, kPageShift - kTlbEntryShift);
      e_->and32_imm(R15, (kTlbEntries - 1) << kTlbEntryShift);
    }
    e_->sub(R14, tag);
    e_->cmp_imm(R14, static_cast<i32>(kPageSize - cold.window));
    cold.from = e_->jcc(0x7);  // ja
  } else {
    // The same without touching flags: RCX is borrowed for JRCXZ, the one branch that reads none.
    cold.fragile = true;
    if (!cold.stack) {
      e_->pext(R15, R14, HostMemory::context(offsetof(Context, tlb_index_mask)));
      e_->rorx(R15, R15, 64 - kTlbEntryShift);
    }
    e_->store(HostMemory::context(offsetof(Context, spill_rcx)), RCX);
    current_->borrow_from(offset16());
    e_->load(RCX, tag);
    e_->not_(RCX);
    e_->lea(R14, {R14, RCX, 0, 1});  // linear - tag
    if (cold.stack) {
      // Both ends: without an index to guard it, the window may begin just below the page.
      e_->lea(R15, HostMemory::at(R14, static_cast<i32>(cold.window) - 1));
      e_->pext(R15, R15, HostMemory::context(offsetof(Context, page_mask)));
      e_->pext(RCX, R14, HostMemory::context(offsetof(Context, page_mask)));
      e_->lea(RCX, HostMemory::sum(RCX, R15));
    } else {
      e_->lea(RCX, HostMemory::at(R14, static_cast<i32>(cold.window) - 1));
      e_->pext(RCX, RCX, HostMemory::context(offsetof(Context, page_mask)));
    }
    const usize hit = e_->jrcxz();
    cold.from = e_->jmp();
    e_->patch8(hit, e_->size());
    e_->load(RCX, HostMemory::context(offsetof(Context, spill_rcx)));
    current_->fragile_end = offset16();
  }
  colds_.push_back(cold);
}

// From a linear address in R14 to the offset in the page (R14) and the host address of the page (R15).
void Translator::check(bool write, unsigned bytes, const Item& item, usize retry) {
  Cold cold{0, retry, static_cast<u32>(&item - items_.data()), write, false};
  cold.window = bytes;
  check_tag(cold, item.live_flags != 0);
  e_->load(R15, HostMemory::context_indexed(tlb_offset(view(), offsetof(TlbEntry, host_page)), R15, 0));
  colds_.back().checked = e_->size();
}

// Of an address that is known now, page and index are constants: one compare, and no crossing.
HostMemory Translator::fixed_operand(const Item& item, u64 linear, bool write, unsigned bytes) {
  const usize entry = tlb_offset(view(), ((linear >> kPageShift) & (kTlbEntries - 1)) << kTlbEntryShift);
  const HostMemory tag =
      HostMemory::context(entry + (write ? offsetof(TlbEntry, write_tag) : offsetof(TlbEntry, read_tag)));
  const i64 page = static_cast<i64>(linear & ~u64{kPageSize - 1});
  Cold cold{0, e_->size(), static_cast<u32>(&item - items_.data()), write, false};
  cold.window = bytes;
  cold.fixed = true;
  cold.linear = linear;
  e_->tie();
  addend_in_r15_ = kNone;
  if (item.live_flags == 0) {
    e_->op_memory(0x81, 7, tag);  // cmp qword, imm32
    e_->word32(static_cast<u32>(page));
    cold.from = e_->jcc(0x5);
  } else {
    cold.fragile = true;
    e_->store(HostMemory::context(offsetof(Context, spill_rcx)), RCX);
    current_->borrow_from(offset16());
    e_->load(RCX, tag);
    e_->lea(RCX, HostMemory::at(RCX, static_cast<i32>(-page)));
    const usize hit = e_->jrcxz();
    cold.from = e_->jmp();
    e_->patch8(hit, e_->size());
    e_->load(RCX, HostMemory::context(offsetof(Context, spill_rcx)));
    current_->fragile_end = offset16();
  }
  colds_.push_back(cold);
  e_->load(R15, HostMemory::context(entry + offsetof(TlbEntry, host_page)));
  return HostMemory::at(R15, static_cast<i32>(linear & (kPageSize - 1)));
}

// The host operand for the ModRM operand, checked. Uses R14 and R15.
std::optional<HostMemory> Translator::checked_operand(const Item& item, bool write, unsigned bytes) {
  const Instruction& insn = item.insn;
  const u64 next = item.rip + insn.length;
  const bool relative = insn.base == x86::kRipBase;
  const bool based = insn.base != kNoRegister && !relative;
  if (!based && insn.index == kNoRegister && (insn.address_size == 8 || code32()) && insn.segment != x86::FS &&
      insn.segment != x86::GS) {
    u64 linear = static_cast<u64>(insn.displacement) + (relative ? next : 0);
    if (code32()) linear = static_cast<u32>(linear);
    const bool crosses = (linear & (kPageSize - 1)) + bytes > kPageSize;
    if (!crosses && fits_i32(linear & ~u64{kPageSize - 1}) && fits_i32(u64{0} - (linear & ~u64{kPageSize - 1}))) {
      return fixed_operand(item, linear, write, bytes);
    }
  }
  const usize retry = e_->size();
  if (!address(insn, next)) return std::nullopt;
  check(write, bytes, item, retry);
  return HostMemory::sum(R14, R15);
}

// The last emitted instruction wrote what the item writes to memory.
void Translator::wrote(const Item& item) {
  if (colds_.empty()) return;
  Cold& cold = colds_.back();
  if (&items_[cold.item] != &item || cold.group || !cold.write || cold.done != 0) return;
  cold.done = e_->size();
  cold.commit = current_->commit;
}

// An access that crosses pages, its operand being in Context::bounce. A read goes on in the hot code; of a write the
// same code is needed again, since something must follow it. The code between check and write is position independent.
void Translator::bounce(const Cold& cold, const Item& item) {
  e_->load(R14, HostMemory::context(offsetof(Context, bounce) + offsetof(Bounce, at)));
  e_->mov_imm(R15, 0);
  if (!cold.write) {
    e_->patch32(e_->jmp(), cold.checked);
    return;
  }
  InstructionInfo info;
  info.guest_offset = static_cast<u16>(item.rip - linear_);
  info.start = offset16();
  info.shadowed = made_.infos[cold.item].shadowed;
  // The commit may stand behind the write (PUSH): writing again would write the same, but not once it is put back.
  const usize limit = cold.commit >= cold.checked && cold.commit < cold.done ? cold.commit - cold.checked : 0;
  info.commit = static_cast<u16>(info.start + limit);
  made_.infos.push_back(info);
  e_->repeat(cold.checked, cold.done);
  made_.infos.push_back(nowhere(e_->size()));
  e_->call_to(stubs_.write_back);
  e_->patch32(e_->jmp(), cold.done);
}

// A shared check failed. Its window crosses a page: on with the twin, whose accesses share nothing.
void Translator::cold_group(const Cold& cold, const Item& item) {
  set_rip(item.rip);
  e_->mov_imm(R15, (cold.window << GroupNote::window_shift) | (cold.write ? GroupNote::write : 0) |
                       (cold.stack ? GroupNote::stack : 0));
  e_->call_to(cold.stack ? stubs_.twin_or_stack[static_cast<usize>(view())] : stubs_.twin_or_group);
  e_->patch32(e_->jmp(), cold.retry);
  twin_exit(item.rip);
}

void Translator::emit_cold() {
  const usize hot_infos = made_.infos.size();
  made_.infos.push_back(nowhere(e_->size()));
  for (const Cold& cold : colds_) {
    const Item& item = items_[cold.item];
    e_->patch32(cold.from, e_->size());
    const usize member = cold.write ? offsetof(TlbEntry, write_tag) : offsetof(TlbEntry, read_tag);
    const HostMemory tag = cold.stack ? HostMemory::context(stack_page_offset(view(), member))
                                      : HostMemory::context_indexed(tlb_offset(view(), member), R15, 0);
    // Back to the linear address.
    if (cold.fixed) {
      if (cold.fragile) e_->load(RCX, HostMemory::context(offsetof(Context, spill_rcx)));
      e_->mov_imm(R14, cold.linear);  // tied by the check
    } else if (cold.fragile) {
      e_->load(RCX, tag);
      e_->lea(R14, HostMemory::sum(R14, RCX));
      e_->load(RCX, HostMemory::context(offsetof(Context, spill_rcx)));
    } else {
      e_->add(R14, tag);
    }
    if (cold.group) {
      cold_group(cold, item);
      continue;
    }
    set_rip(item.rip);
    // What the interpreter must have advanced by for the code to go on behind the instruction.
    const bool may_bounce = cold.fixed   ? false
                            : cold.write ? cold.done != 0 && may_be_torn(item.insn) : cold.checked != 0;
    e_->mov_imm(R15, interpret_note(item.insn) | (may_bounce ? InterpretNote::bounce : 0) |
                         (made_.infos[cold.item].shadowed ? InterpretNote::shadowed : 0) |
                         (cold.window << InterpretNote::window_shift));
    const usize v = static_cast<usize>(view());
    if (may_bounce) {
      e_->call_to(cold.write ? stubs_.bounce_write[v] : stubs_.bounce_read[v]);
    } else {
      e_->call_to(cold.write ? stubs_.fill_write : stubs_.fill_read);
    }
    e_->patch32(e_->jmp(), cold.retry);
    const usize past = e_->jmp();
    if (may_bounce) bounce(cold, item);
    e_->patch32(past, e_->size());
    // The interpreter did the whole instruction: on to the next.
    usize next = made_.hot_bytes;
    for (usize i = 0; i < hot_infos; i++) {
      if (made_.infos[i].guest_offset > item.rip - linear_) {
        next = made_.infos[i].start;
        break;
      }
    }
    if (next == made_.hot_bytes) {
      set_rip(item.rip + item.insn.length);
      e_->jmp_to(stubs_.lookup);
    } else {
      e_->patch32(e_->jmp(), next);
    }
  }
}

}  // namespace nacre::soft
