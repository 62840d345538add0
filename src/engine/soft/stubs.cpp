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

  // After load_flags, so that single-stepping from here on is not undone by popfq: leaves when somebody
  // asked for it, else loads the registers.
  void check_request_and_load_registers(i32 pushed, usize& leave_at) {
    e.op_memory(0x8b, RCX, HostMemory::at(RSP, context_at(offsetof(Context, exit_request)) + pushed), false);
    const usize go_on = e.jrcxz();
    leave_at = e.jmp();
    e.patch8(go_on, e.size());
    for (u8 r = 0; r < 13; r++) {
      if (r != RSP) e.load(static_cast<Gpr>(r), HostMemory::at(RSP, gpr_at(r) + pushed));
    }
    e.load(R13, HostMemory::at(RSP, gpr_at(RSP) + pushed));
  }

  // With RSP at the state or below it, registers saved.
  void leave(i32 pushed) {
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
    // eax is 0 or 1: the return address moves by 5 * eax.
    e.bytes({0x8d, 0x04, 0x80});        // lea eax, [rax + rax*4]
    e.bytes({0x48, 0x01, 0x04, 0x24});  // add [rsp], rax
    load_flags(pushed);
    usize requested = 0;
    check_request_and_load_registers(pushed, requested);
    e.ret();
    e.patch32(jumping, e.size());
    load_flags(pushed);
    usize requested_too = 0;
    check_request_and_load_registers(pushed, requested_too);
    e.bytes({0x48, 0x8d, 0x64, 0x24, 0x08});  // lea rsp, [rsp + 8]: nobody returns
    e.jmp_memory(HostMemory::context(offsetof(Context, enter_target)));
    e.patch32(requested, e.size());
    e.patch32(requested_too, e.size());
    e.op_memory(0xc7, 0, HostMemory::at(RSP, context_at(offsetof(Context, exit_kind)) + pushed), false);
    e.word32(static_cast<u32>(ExitKind::Async));
    e.patch32(leaving, e.size());
    leave(pushed);
    return at;
  }
};

}  // namespace

Entries emit_stubs(Emitter& e, Stubs& stubs, FillHelper fill_read, FillHelper fill_write,
                   FillHelper fill_group, InterpretHelper interpret) {
  Assembler a{e};
  Entries entries;

  entries.enter = reinterpret_cast<void (*)(Context*)>(e.here());
  e.bytes({0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57});  // push rbx rbp r12 r13 r14 r15
  e.bytes({0x48, 0x83, 0xec, 0x08});                                      // sub rsp, 8: 16-byte alignment
  e.store(HostMemory::at(RDI, static_cast<i32>(offsetof(Context, host_rsp))), RSP);
  e.lea(RSP, HostMemory::at(RDI, static_cast<i32>(kContextBase)));
  a.load_flags(0);
  usize requested = 0;
  a.check_request_and_load_registers(0, requested);
  e.jmp_memory(HostMemory::context(offsetof(Context, enter_target)));
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
  stubs.interpret = a.call_stub(reinterpret_cast<u64>(interpret));
  entries.bytes = (e.size() + 63) & ~usize{63};
  NACRE_CHECK(!e.overflowed());
  return entries;
}

}  // namespace nacre::soft
