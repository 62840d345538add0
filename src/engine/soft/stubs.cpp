#include "engine/soft/stubs.hpp"

namespace nacre::soft {

using x86::Gpr;
using x86::R12;
using x86::R13;
using x86::R14;
using x86::R15;
using x86::RAX;
using x86::RBP;
using x86::RBX;
using x86::RCX;
using x86::RDI;
using x86::RDX;
using x86::RSI;
using x86::RSP;

namespace {

constexpr i32 state_at(usize member) {
  return static_cast<i32>(member);
}  // from &state
constexpr i32 gpr_at(u8 guest) {
  return static_cast<i32>(offsetof(cpu::State, gpr) + 8 * guest);
}
constexpr i32 context_at(usize member) {
  return static_cast<i32>(member) - static_cast<i32>(kContextBase);
}

struct Assembler {
  Emitter& e;
  Entries& entries;

  // Stores the guest's registers; RSP is `pushed` bytes below the state. R14 and R15 are free after it.
  void save_registers(i32 pushed) {
    for (u8 r = 0; r < 13; r++) {
      if (r != RSP) e.store(HostMemory::at(RSP, gpr_at(r) + pushed), static_cast<Gpr>(r));
    }
    e.store(HostMemory::at(RSP, gpr_at(RSP) + pushed), R13);
    // The arithmetic flags join the others, which never leave memory.
    e.byte(0x9c);           // pushfq
    e.bytes({0x41, 0x5f});  // pop r15
    e.and32_imm(R15, static_cast<u32>(x86::Rflags::arithmetic));
    e.load(RAX, HostMemory::at(RSP, state_at(offsetof(cpu::State, rflags)) + pushed));
    e.op_register(0x81, 4, RAX);  // and rax, imm32 (sign-extended)
    e.word32(~static_cast<u32>(x86::Rflags::arithmetic));
    e.op_register(0x09, R15, RAX);  // or rax, r15
    e.store(HostMemory::at(RSP, state_at(offsetof(cpu::State, rflags)) + pushed), RAX);
  }

  // Loads flags. RAX is lost.
  void load_flags(i32 pushed) {
    e.load(RAX, HostMemory::at(RSP, state_at(offsetof(cpu::State, rflags)) + pushed));
    e.and32_imm(RAX, static_cast<u32>(x86::Rflags::arithmetic));
    e.byte(0x50);  // push rax
    e.byte(0x9d);  // popfq
  }

  // After load_flags, which this must not undo when it is done again: leaves when somebody asked for it, else
  // loads the registers. way_in_ends() follows, behind the jump into translated code.
  void check_request_and_load_registers(i32 pushed, usize& leave_at) {
    // First said, then looked: Crew::shoot().
    set_inside(1, pushed);
    WayIn& way = entries.ways_in[entries.ways_in_count];
    way.check = e.size();
    e.op_memory(0x8b, RCX, HostMemory::at(RSP, context_at(offsetof(Context, exit_request)) + pushed), false);
    const usize go_on = e.jrcxz();
    leave_at = e.jmp();
    e.patch8(go_on, e.size());
    for (u8 r = 0; r < 13; r++) {
      if (r != RSP) e.load(static_cast<Gpr>(r), HostMemory::at(RSP, gpr_at(r) + pushed));
    }
    e.load(R13, HostMemory::at(RSP, gpr_at(RSP) + pushed));
    way.loaded = e.size();
  }
  void way_in_ends() { entries.ways_in[entries.ways_in_count++].end = e.size(); }

  void set_inside(u32 value, i32 pushed) {
    e.op_memory(0xc7, 0, HostMemory::at(RSP, context_at(offsetof(Context, inside)) + pushed), false);
    e.word32(value);
  }

  // With RSP at the state or below it, registers saved.
  void leave(i32 pushed) {
    set_inside(0, pushed);
    e.load(RSP, HostMemory::at(RSP, context_at(offsetof(Context, host_rsp)) + pushed));
    e.bytes({0x48, 0x83, 0xc4, 0x08});                                      // add rsp, 8
    e.bytes({0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b});  // pop r15 r14 r13 r12 rbp rbx
    e.ret();
  }

  // A stub that translated code jumps to, for leaving.
  u64 exit_stub(ExitKind kind, bool target_in_r14) {
    const u64 at = e.here();
    if (target_in_r14) e.store(HostMemory::at(RSP, context_at(offsetof(Context, exit_info))), R14);
    save_registers(0);
    e.op_memory(0xc7, 0, HostMemory::at(RSP, context_at(offsetof(Context, exit_kind))), false);
    e.word32(static_cast<u32>(kind));
    leave(0);
    return at;
  }

  // A stub that translated code calls: helper(Context*, R14, R15).
  u64 call_stub(u64 helper) {
    const u64 at = e.here();
    constexpr i32 pushed = 8;
    // Arguments go through memory: save_registers needs R15.
    e.store(HostMemory::at(RSP, context_at(offsetof(Context, spill_rcx)) + pushed), R15);
    save_registers(pushed);
    set_inside(0, pushed);
    e.load(RDX, HostMemory::at(RSP, context_at(offsetof(Context, spill_rcx)) + pushed));
    e.mov(RSI, R14);
    e.lea(RDI, HostMemory::at(RSP, pushed - static_cast<i32>(kContextBase)));
    e.mov(RBX, RSP);
    e.load(RSP, HostMemory::at(RSP, context_at(offsetof(Context, host_rsp)) + pushed));
    e.byte(0xfc);  // cld
    e.mov_imm(RAX, helper);
    e.bytes({0xff, 0xd0});  // call rax
    e.mov(RSP, RBX);
    e.bytes({0x83, 0xf8, static_cast<u8>(HelperResult::Leave)});  // cmp eax, imm8
    const usize leaving = e.jcc(0x4);
    e.bytes({0x83, 0xf8, static_cast<u8>(HelperResult::Jump)});
    const usize jumping = e.jcc(0x4);
    // eax is 0, 1 or 2: the return address moves by 5 * eax.
    e.bytes({0x8d, 0x04, 0x80});        // lea eax, [rax + rax*4]
    e.bytes({0x48, 0x01, 0x04, 0x24});  // add [rsp], rax
    load_flags(pushed);
    usize requested = 0;
    check_request_and_load_registers(pushed, requested);
    e.ret();
    way_in_ends();
    e.patch32(jumping, e.size());
    load_flags(pushed);
    usize requested_too = 0;
    check_request_and_load_registers(pushed, requested_too);
    e.bytes({0x48, 0x8d, 0x64, 0x24, 0x08});  // lea rsp, [rsp + 8]: nobody returns
    e.jmp_memory(HostMemory::context(offsetof(Context, enter_target)));
    way_in_ends();
    e.patch32(requested, e.size());
    e.patch32(requested_too, e.size());
    e.op_memory(0xc7, 0, HostMemory::at(RSP, context_at(offsetof(Context, exit_kind)) + pushed), false);
    e.word32(static_cast<u32>(ExitKind::Async));
    e.patch32(leaving, e.size());
    leave(pushed);
    return at;
  }

  static HostMemory spill(usize i) {
    return HostMemory::at(RSP, context_at(offsetof(Context, bounce) + offsetof(Bounce, spill) + 8 * i) + 8);
  }
  // Stubs that answer quickly keep arithmetic flags so; RAX may be used until restore_flags.
  void save_flags() {
    e.store(spill(3), RAX);
    e.byte(0x9f);                 // lahf
    e.bytes({0x0f, 0x90, 0xc0});  // seto al
    e.store(spill(4), RAX);
  }
  void restore_flags() {
    e.load(RAX, spill(4));
    e.bytes({0x04, 0x7f});  // add al, 127: OF
    e.byte(0x9e);           // sahf
    e.load(RAX, spill(3));
  }

  // Returns `further` bytes behind where the call came from. Not by RET, which the host would mispredict.
  void return_further(i32 further) {
    e.load(R15, HostMemory::at(RSP));
    e.lea(R15, HostMemory::at(R15, further));
    e.lea(RSP, HostMemory::at(RSP, 8));
    e.bytes({0x41, 0xff, 0xe7});  // jmp r15
  }

  // The window in R14 and R15 (GroupNote) crosses pages: on with the twin. Else goes on behind, R15 being
  // kept in spill(5).
  void twin_if_crossing() {
    e.store(spill(5), R15);
    save_flags();
    e.rorx(R15, R15, GroupNote::window_shift);
    e.op_register(0x89, R15, R15, false);
    e.lea(R15, {R14, R15, 0, -1});
    e.op_register(0x31, R14, R15);  // xor r15, r14
    e.op_register(0xc1, 5, R15);    // shr r15, 12
    e.byte(kPageShift);
    const usize fits = e.jcc(0x4);
    restore_flags();
    return_further(5);
    e.patch32(fits, e.size());
  }

  u64 twin_or_group(u64 fill_group) {
    const u64 begin = e.here();
    twin_if_crossing();
    restore_flags();
    e.load(R15, spill(5));
    e.jmp_to(fill_group);
    return begin;
  }

  // The stack is on another page than before; that page may be in the TLB all the same. R14 is not needed
  // to try again.
  u64 twin_or_stack(View view, u64 fill_group) {
    constexpr i32 pushed = 8;
    const auto at = [](usize member) { return HostMemory::at(RSP, context_at(member) + pushed); };
    const auto entry = [&](usize member) {
      HostMemory memory = at(tlb_offset(view, member));
      memory.index = R15;
      return memory;
    };
    const u64 begin = e.here();
    twin_if_crossing();
    e.rorx(R15, R14, kPageShift - kTlbEntryShift);
    e.and32_imm(R15, (kTlbEntries - 1) << kTlbEntryShift);
    e.op_memory(0x33, R14, entry(offsetof(TlbEntry, write_tag)));  // xor
    e.cmp_imm(R14, static_cast<i32>(kPageSize) - 1);
    const usize miss = e.jcc(0x7);
    e.load(R14, entry(offsetof(TlbEntry, write_tag)));
    e.store(at(stack_page_offset(view, offsetof(TlbEntry, read_tag))), R14);
    e.store(at(stack_page_offset(view, offsetof(TlbEntry, write_tag))), R14);
    e.load(R14, entry(offsetof(TlbEntry, addend)));
    e.store(at(stack_page_offset(view, offsetof(TlbEntry, addend))), R14);
    restore_flags();
    e.ret();
    e.patch32(miss, e.size());
    e.op_memory(0x33, R14, entry(offsetof(TlbEntry, write_tag)));
    restore_flags();
    e.load(R15, spill(5));
    e.jmp_to(fill_group);
    return begin;
  }

  // Before the helper that fills: an access of up to 16 bytes that crosses pages, both in the TLB, is put in
  // Context::bounce at once. What is read beyond the operand is of the same two pages.
  u64 bounce(View view, bool write, u64 fill) {
    constexpr i32 pushed = 8;
    constexpr i32 kPage = static_cast<i32>(kPageSize);
    const auto at = [](usize member) { return HostMemory::at(RSP, context_at(member) + pushed); };
    const auto in_bounce = [&](usize member) { return at(offsetof(Context, bounce) + member); };
    const auto entry = [&](usize member, Gpr index) {
      HostMemory memory = at(tlb_offset(view, member));
      memory.index = index;
      return memory;
    };
    const usize tag = write ? offsetof(TlbEntry, write_tag) : offsetof(TlbEntry, read_tag);
    constexpr Gpr used[] = {RCX, RDX, RSI};
    const auto take_back = [&] {
      restore_flags();
      for (usize i = 0; i < 3; i++) e.load(used[i], spill(i));
    };
    const u64 begin = e.here();
    for (usize i = 0; i < 3; i++) e.store(spill(i), used[i]);
    e.store(spill(5), R15);
    save_flags();
    usize slow[5];
    e.op_register(0x89, R14, RCX, false);
    e.and32_imm(RCX, kPageSize - 1);
    e.rorx(RSI, R15, InterpretNote::window_shift);
    e.op_register(0x89, RSI, RSI, false);
    e.lea(RDX, HostMemory::sum(RSI, RCX));
    e.cmp_imm(RDX, kPage);
    slow[0] = e.jcc(0x6);                // jbe: a miss, no crossing
    e.op_register(0xf7, 0, R15, false);  // test r15d, imm32
    e.word32(InterpretNote::bounce);
    slow[1] = e.jcc(0x4);
    e.cmp_imm(RSI, 16);
    slow[2] = e.jcc(0x7);
    if (write) {
      e.lea(RDX, HostMemory::at(RDX, -kPage));
      e.store(in_bounce(offsetof(Bounce, second_bytes)), RDX);
    }
    e.rorx(R15, R14, kPageShift - kTlbEntryShift);
    e.and32_imm(R15, (kTlbEntries - 1) << kTlbEntryShift);
    e.lea(RSI, HostMemory::at(R15, 1 << kTlbEntryShift));
    e.and32_imm(RSI, (kTlbEntries - 1) << kTlbEntryShift);
    e.mov(RDX, R14);
    e.op_register(0x29, RCX, RDX);  // sub rdx, rcx
    e.op_memory(0x3b, RDX, entry(tag, R15));
    slow[3] = e.jcc(0x5);
    e.lea(RDX, HostMemory::at(RDX, kPage));
    e.op_memory(0x3b, RDX, entry(tag, RSI));
    slow[4] = e.jcc(0x5);
    e.load(R15, entry(offsetof(TlbEntry, host_page), R15));
    e.load(RSI, entry(offsetof(TlbEntry, host_page), RSI));
    for (i32 part = 0; part < 2; part++) {
      e.load(RDX, HostMemory::at(R15, kPage - 16 + 8 * part));
      e.store(in_bounce(offsetof(Bounce, bytes) + Bounce::kBoundary - 16 + 8 * static_cast<usize>(part)),
              RDX);
      e.load(RDX, HostMemory::at(RSI, 8 * part));
      e.store(in_bounce(offsetof(Bounce, bytes) + Bounce::kBoundary + 8 * static_cast<usize>(part)), RDX);
    }
    HostMemory operand = in_bounce(offsetof(Bounce, bytes));
    operand.index = RCX;
    operand.displacement += static_cast<i32>(Bounce::kBoundary) - kPage;
    e.lea(RDX, operand);
    e.store(in_bounce(offsetof(Bounce, at)), RDX);
    if (write) {
      e.lea(R15, HostMemory::sum(R15, RCX));
      e.store(in_bounce(offsetof(Bounce, first)), R15);
      e.store(in_bounce(offsetof(Bounce, second)), RSI);
      e.mov_imm(RDX, kPageSize);
      e.op_register(0x29, RCX, RDX);
      e.store(in_bounce(offsetof(Bounce, first_bytes)), RDX);
    }
    take_back();
    return_further(10);
    for (const usize jump : slow) e.patch32(jump, e.size());
    take_back();
    e.load(R15, spill(5));
    e.jmp_to(fill);
    return begin;
  }

  // The operand of a write, in two parts, from Context::bounce. No host register or flag changes.
  u64 write_back() {
    constexpr i32 pushed = 8;
    const auto at = [](usize member) {
      return HostMemory::at(RSP, context_at(offsetof(Context, bounce) + member) + pushed);
    };
    constexpr Gpr used[] = {RSI, RDI, RCX};
    const u64 begin = e.here();
    for (usize i = 0; i < 3; i++) e.store(spill(i), used[i]);
    e.load(RSI, at(offsetof(Bounce, at)));
    e.load(RDI, at(offsetof(Bounce, first)));
    e.load(RCX, at(offsetof(Bounce, first_bytes)));
    e.bytes({0xf3, 0xa4});  // rep movsb
    e.load(RDI, at(offsetof(Bounce, second)));
    e.load(RCX, at(offsetof(Bounce, second_bytes)));
    e.bytes({0xf3, 0xa4});
    for (usize i = 0; i < 3; i++) e.load(used[i], spill(i));
    e.ret();
    return begin;
  }
};

}  // namespace

Entries emit_stubs(Emitter& e, Stubs& stubs, FillHelper fill_read, FillHelper fill_write,
                   FillHelper fill_group, InterpretHelper interpret) {
  Entries entries;
  Assembler a{e, entries};

  entries.enter = reinterpret_cast<void (*)(Context*)>(e.here());
  e.bytes({0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57});  // push rbx rbp r12 r13 r14 r15
  e.bytes({0x48, 0x83, 0xec, 0x08});                                      // sub rsp, 8: 16-byte alignment
  e.store(HostMemory::at(RDI, static_cast<i32>(offsetof(Context, host_rsp))), RSP);
  e.lea(RSP, HostMemory::at(RDI, static_cast<i32>(kContextBase)));
  a.load_flags(0);
  usize requested = 0;
  a.check_request_and_load_registers(0, requested);
  e.jmp_memory(HostMemory::context(offsetof(Context, enter_target)));
  a.way_in_ends();
  e.patch32(requested, e.size());
  e.op_memory(0xc7, 0, HostMemory::at(RSP, context_at(offsetof(Context, exit_kind))), false);
  e.word32(static_cast<u32>(ExitKind::Async));
  a.leave(0);

  stubs.link = a.exit_stub(ExitKind::Link, false);
  stubs.indirect = a.exit_stub(ExitKind::Indirect, true);
  stubs.lookup = a.exit_stub(ExitKind::Lookup, false);
  entries.async = a.exit_stub(ExitKind::Async, false);
  entries.fault = a.exit_stub(ExitKind::Interpret, false);
  stubs.fill_read = a.call_stub(reinterpret_cast<u64>(fill_read));
  stubs.fill_write = a.call_stub(reinterpret_cast<u64>(fill_write));
  stubs.fill_group = a.call_stub(reinterpret_cast<u64>(fill_group));
  entries.quick_begin = e.size();
  stubs.twin_or_group = a.twin_or_group(stubs.fill_group);
  for (unsigned view = 0; view < kViews; view++) {
    stubs.twin_or_stack[view] = a.twin_or_stack(static_cast<View>(view), stubs.fill_group);
    stubs.bounce_read[view] = a.bounce(static_cast<View>(view), false, stubs.fill_read);
    stubs.bounce_write[view] = a.bounce(static_cast<View>(view), true, stubs.fill_write);
  }
  stubs.write_back = a.write_back();
  entries.quick_end = e.size();
  stubs.interpret = a.call_stub(reinterpret_cast<u64>(interpret));
  entries.bytes = (e.size() + 63) & ~usize{63};
  NACRE_CHECK(!e.overflowed());
  return entries;
}

}  // namespace nacre::soft
