// Small programs run to their HLT on the interpreter and on the translator: same registers, same memory.
// The random differential test and the lock-step test cover the instruction set; these cover the engine:
// links, indirect jumps, shared checks, page crossings, self-modifying code, faults inside blocks.
#include <thread>

#include "engine/soft/both.hpp"

namespace nacre::soft {
namespace {

GUEST_CODE(sum_loop, R"(
  mov $1000000, %ecx
  xor %eax, %eax
1: add %rcx, %rax
  dec %rcx
  jnz 1b
  hlt)")

TEST_F(Soft, runs_a_loop) {
  EXPECT_EQ(run_both(sum_loop)->vcpu->state().gpr[x86::RAX], 500000500000U);
}

GUEST_CODE(recursion, R"(
  mov $20, %edi
  call fib_under_test
  hlt
fib_under_test:
  push %rbx
  push %r13
  mov %edi, %ebx
  cmp $1, %edi
  mov %edi, %eax
  jle 1f
  lea -1(%rbx), %edi
  call fib_under_test
  mov %eax, %r13d
  lea -2(%rbx), %edi
  call fib_under_test
  add %r13d, %eax
1: pop %r13
  pop %rbx
  ret)")

TEST_F(Soft, calls_and_returns) {
  EXPECT_EQ(run_both(recursion)->vcpu->state().gpr[x86::RAX], 6765U);
}

TEST_F(Soft, calls_across_pages) {
  run_both(recursion, kCode + 0xff8 - 20);
}

GUEST_CODE(homeless, R"(
  mov $0x1122334455667788, %r13
  mov $0x100000, %r14d
  mov $3, %r15d
  mov %r13, (%r14,%r15,8)
  add (%r14,%r15,8), %r13
  xchg %r13, 8(%r14)
  lock xadd %r15, 24(%r14)
  mov %r13b, %al
  movzbl %r15b, %edx
  imul %r13, %r15
  mov %r15d, %r15d
  rol $7, %r13w
  bt $5, %r13
  cmovc %r15, %r13
  shld $3, %r14, %r13
  push %r15
  pop %r14
  pushq 24+0x100000
  pop %rbx
  andn %r13, %r14, %r15
  mulx %rbx, %rsi, %rdi
  hlt)")

TEST_F(Soft, registers_that_live_in_memory) {
  run_both(homeless);
}

GUEST_CODE(high_bytes, R"(
  mov $0x100000, %ebx
  mov $0x1234, %eax
  mov %ah, (%rbx)
  mov (%rbx), %ch
  add %ah, %ch
  xchg %al, %ah
  mov %ah, %dl
  movzbl %ah, %esi
  cmp (%rbx), %dh
  hlt)")

TEST_F(Soft, high_byte_registers) {
  run_both(high_bytes);
}

GUEST_CODE(crossing, R"(
  mov $0x100ff9, %ebx
  mov $0x0102030405060708, %rax
  mov %rax, (%rbx)
  mov 1(%rbx), %rcx
  mov (%rbx), %rdx
  movdqu -8(%rbx), %xmm0
  movdqu %xmm0, 0x1000(%rbx)
  mov 0x1000(%rbx), %rsi
  mov $0x80003, %esp
  push %rax
  push %rcx
  push %rdx
  pop %rdi
  pop %r8
  pop %r9
  hlt)")

TEST_F(Soft, accesses_that_cross_pages) {
  run_both(crossing);
}

// Every offset over a page boundary, several times, so that the quick ways are taken; flags live and dead.
GUEST_CODE(crossing_everywhere, R"(
  mov $4, %r9d
1: mov $0x100fc0, %ebx
2: mov %rbx, (%rbx)
  stc
  mov (%rbx), %rcx
  adc %rcx, %rax
  add %rax, 3(%rbx)
  incl 5(%rbx)
  movdqu 1(%rbx), %xmm0
  paddb %xmm0, %xmm0
  std
  cld
  movdqu %xmm0, 2(%rbx)
  fildll 4(%rbx)
  fstpt 6(%rbx)
  cmp %ax, 7(%rbx)
  setc 1(%rbx)
  lock xaddq %rax, 2(%rbx)
  xchg %rdx, 9(%rbx)
  mov %rax, %r13
  xor %r13, 11(%rbx)
  add 13(%rbx), %r13
  xadd %r13, 1(%rbx)
  btsq $9, 4(%rbx)
  lea (%rbx), %rsp
  push %r13
  pushq 8(%rbx)
  popq %rsi
  pushf
  pop %r8
  pop %rdi
  add %rdi, %rsi
  call 3f
3: pop %rdi
  inc %rbx
  cmp $0x101000, %rbx
  jne 2b
  dec %r9
  jnz 1b
  mov $0x80000, %esp
  hlt)")

TEST_F(Soft, every_access_that_crosses) { run_both(crossing_everywhere); }

GUEST_CODE(half_a_page_fault, R"(
  mov $0xfffffc, %ebx
  mov $7, %eax
  mov %rax, -8(%rbx)
  mov %rax, (%rbx)
  adc $0, %rax
  hlt)")

TEST_F(Soft, a_crossing_write_with_a_fault_in_its_second_half_writes_nothing) {
  const auto machine = run_both(half_a_page_fault);
  EXPECT_EQ(machine->vcpu->state().gpr[x86::R15], 14U);
  EXPECT_EQ(machine->vcpu->state().cr2, 0x1000000U);
  EXPECT_EQ(machine->get64(0xfffff8), 0U);
}

GUEST_CODE(misaligned_crossing, R"(
  mov $0x100ff8, %ebx
  mov $3, %ecx
1: movups (%rbx), %xmm0
  movups %xmm0, (%rbx)
  dec %ecx
  jnz 1b
  movaps %xmm0, (%rbx)
  hlt)")

TEST_F(Soft, a_crossing_write_that_must_be_aligned_faults) {
  EXPECT_EQ(run_both(misaligned_crossing)->vcpu->state().gpr[x86::R15], 13U);
}

// The accesses of a block share a check whose window lies over a page boundary, in a loop and after a fault-free
// first run; then the second page is gone.
GUEST_CODE(window_over_boundary, R"(
  mov $100, %ecx
1: mov $0x100fe0, %ebx
  cmp $50, %ecx
  jae 2f
  add $0x40, %ebx
2: add %rcx, (%rbx)
  add %rcx, 0x18(%rbx)
  add %rcx, 0x20(%rbx)
  mov 0x28(%rbx), %rax
  stc
  adc %rax, 0x38(%rbx)
  lea 0x20(%rbx), %rsp
  push %rcx
  push %rax
  pop %rdx
  pop %rsi
  mov $0x80000, %esp
  dec %ecx
  jnz 1b
  mov $0xffffe8, %ebx
  mov %rcx, (%rbx)
  incq 8(%rbx)
  incq 0x18(%rbx)
  hlt)")

TEST_F(Soft, windows_over_a_page_boundary) {
  const auto machine = run_both(window_over_boundary);
  EXPECT_EQ(machine->vcpu->state().gpr[x86::R15], 14U);
  EXPECT_EQ(machine->get64(0xfffff0), 1U);
}

// Page 0x101000 is mapped elsewhere, 0x100000 is read-only. They are neighbours in the TLB.
GUEST_CODE(stack_on_read_only_page, R"(
  movq $0x301003, 0x200808
  movq $0x100001, 0x200800
  invlpg 0x100000
  invlpg 0x101000
  mov $3, %ecx
1: mov $0x100800, %esp
  test %ecx, %ecx
  pop %rax
  jmp 2f
2: mov $0x101800, %esp
  test %ecx, %ecx
  push %rcx
  dec %ecx
  jnz 1b
  hlt)")

TEST_F(Soft, a_read_only_stack_page_lends_its_neighbour_nothing) {
  EXPECT_EQ(run_both(stack_on_read_only_page)->get64(0x3017f8), 1U);
}

// Addresses known at translation; the page is mapped elsewhere, then read-only, between rounds of the same code.
GUEST_CODE(fixed_addresses, R"(
  mov $0x200800, %esi
  mov $3, %ecx
1: mov $0x7fffffff, %eax
  add $1, %eax
  mov 0x100010, %rdx
  mov %rcx, 0x100018
  seto %bl
  addq $5, 0x100010
  adc 0x100020, %r13
  mov %r13, 0x100028
  xchg %r13, 0x100020
  mov %dl, 0x100ffe(,%rcx,2)
  lea 0x100040(%rdx), %rdi
  mov %rdi, 0x100ffc
  pushq 0x100028
  call *4f(%rip)
  pop %r8
  cmp $2, %ecx
  jne 2f
  movq $0x301003, (%rsi)
  invlpg 0x100000
2: dec %ecx
  jnz 1b
  movq $0x100001, (%rsi)
  invlpg 0x100000
  mov 0x100010, %rdx
  stc
  mov %rdx, 0x100030
  adc $0, %rdx
  hlt
4: .quad 0x10000 + 3f - code_fixed_addresses
3: ret)")

TEST_F(Soft, addresses_known_at_translation) {
  EXPECT_EQ(run_both(fixed_addresses)->vcpu->state().gpr[x86::R15], 14U);
}

// Copies and fills: over page boundaries, overlapping, elements that cross, backwards, onto code, into a fault.
GUEST_CODE(strings, R"(
  mov $0x100ff1, %edi
  mov $0x0102030405060708, %rax
  mov $700, %ecx
  stc
  rep stosq
  adc %rcx, %rdx
  lea 9f(%rip), %rsi
  mov $0x104ffd, %edi
  mov $8, %ecx
  rep movsb
  mov $0x100100, %esi
  mov $0x100103, %edi
  mov $5000, %ecx
  rep movsb
  mov $0x101ffe, %esi
  mov $0x103001, %edi
  mov $2000, %ecx
  rep movsl
  mov $33, %ecx
  rep stosw
  movsq
  stosl
  xor %ecx, %ecx
  rep movsq
  std
  mov $77, %ecx
  rep stosb
  mov $20, %ecx
  rep movsw
  cld
  lea 9f(%rip), %rdi
  mov $3, %r8d
1: call 9f
  lea 9f(%rip), %rdi
  movb $0x90, %al
  mov %r8d, %ecx
  rep stosb
  dec %r8d
  jnz 1b
  mov $0xffff00, %edi
  mov $0x108003, %esi
  mov $1000, %ecx
  rep movsb
  hlt
9: inc %r9
  inc %r10
  inc %r11
  ret)")

TEST_F(Soft, string_instructions) {
  const auto machine = run_both(strings);
  const cpu::State& s = machine->vcpu->state();
  EXPECT_EQ(s.gpr[x86::R15], 14U);
  EXPECT_EQ(s.cr2, 0x1000000U);
  EXPECT_EQ(s.gpr[x86::RCX], 1000U - 0x100);
  EXPECT_EQ(s.gpr[x86::RDI], 0x1000000U);
}

// The program and one page of data are global; a page of data, one of code and the stack's are not, and become others.
GUEST_CODE(address_space_switch, R"(
  orq $0x100, 0x200080
  orq $0x100, 0x200810
  mov %cr4, %rax
  or $0x80, %rax
  mov %rax, %cr4
  movl $0xc3c0ff48, 0x21000
  movl $0xc3c8ff48, 0x31000
  movq $1000, 0x301000
  mov $0x21000, %ebx
  mov $0x101010, %esp
  mov $6, %ecx
1: mov 0x102000, %rdx
  add $7, %rdx
  mov %rdx, 0x102000
  call *%rbx
  mov 0x101000, %rsi
  add %rcx, %rsi
  mov %rsi, 0x101000
  pushq %rsi
  pop %rdi
  cmp $4, %ecx
  jne 2f
  movq $0x31003, 0x200108
  movq $0x301003, 0x200808
  mov %cr3, %r8
  mov %r8, %cr3
2: dec %ecx
  jnz 1b
  mov $0x80000, %esp
  hlt)")

TEST_F(Soft, an_address_space_switch_drops_what_is_not_global) {
  const auto machine = run_both(address_space_switch);
  EXPECT_EQ(machine->get64(0x301000), 1000U + 3 + 2 + 1);
  EXPECT_EQ(machine->get64(0x102000), 42U);
}

GUEST_CODE(pushed_flags, R"(
  mov $0x100000, %ebx
  stc
  push %rbx
  pushf
  mov %ss, %rcx
  push %rcx
  mov (%rbx), %rdx
  cli
  pushf
  pop %rsi
  pop %rdi
  pop %r8
  mov %rsp, %r9
  push %r9
  pop %rsp
  push %rsp
  pop %r10
  mov $-5, %rax
  bts %rax, 8(%rbx)
  mov $1000, %eax
  lock bts %eax, (%rbx)
  adc $0, %r11
  hlt)")

TEST_F(Soft, flags_and_segments_on_the_stack) { run_both(pushed_flags); }

GUEST_CODE(stack_window, R"(
  mov $0x80018, %esp
  mov $0x1111, %eax
  mov $8, %ecx
1: stc
  push %rax
  push %rcx
  pushq $77
  pop %rdx
  pop %rbx
  pop %rsi
  adc $0, %rdi
  sub $8, %rsp
  dec %ecx
  jnz 1b
  hlt)")

TEST_F(Soft, stack_windows_that_slide_over_a_page_boundary_with_live_flags) { run_both(stack_window); }

GUEST_CODE(live_flags, R"(
  mov $0x100000, %ebx
  stc
  mov (%rbx), %rax
  adc $0, %rax
  mov %rax, 8(%rbx)
  mov $0x7fffffff, %eax
  add $1, %eax
  mov 0x1000(%rbx), %rcx
  push %rcx
  pop %rdx
  seto %r8b
  setc %r9b
  sets %r10b
  pushf
  pop %r11
  hlt)")

TEST_F(Soft, flags_live_through_memory_accesses) {
  run_both(live_flags);
}

GUEST_CODE(jump_table, R"(
  mov $0x100000, %ebx
  lea 1f(%rip), %rax
  mov %rax, (%rbx)
  lea 2f(%rip), %rax
  mov %rax, 8(%rbx)
  lea 3f(%rip), %rax
  mov %rax, 16(%rbx)
  xor %esi, %esi
  mov $3000, %ecx
4: mov %ecx, %eax
  xor %edx, %edx
  mov $3, %edi
  div %edi
  jmp *(%rbx,%rdx,8)
1: add $1, %rsi
  jmp 5f
2: add $100, %rsi
  jmp 5f
3: add $10000, %rsi
  lea 5f(%rip), %rax
  jmp *%rax
5: dec %ecx
  jnz 4b
  hlt)")

TEST_F(Soft, indirect_jumps) {
  EXPECT_EQ(run_both(jump_table)->vcpu->state().gpr[x86::RSI], 1000U * 10101);
}

GUEST_CODE(same_jump_cache_entry, R"(
  mov $3, %ecx
  xor %edx, %edx
1: lea 2f(%rip), %rbx
  call *%rbx
  stc
  lea 2f+0x10000(%rip), %rbx
  call *%rbx
  add %eax, %edx
  dec %ecx
  jnz 1b
  hlt
  .balign 64
2: xor %eax, %eax
  ret
  .fill 0x10000 - 3, 1, 0x90
  mov $0, %eax
  adc $0, %eax
  ret)")

// The second target takes flags over the jump, the first, whose entry of the jump cache it finds, does not.
TEST_F(Soft, flags_live_through_an_indirect_jump_to_another_target_of_the_same_entry) {
  EXPECT_EQ(run_both(same_jump_cache_entry)->vcpu->state().gpr[x86::RDX], 3U);
}

GUEST_CODE(self_modifying, R"(
  lea 2f(%rip), %rbx
  mov $100, %ecx
  xor %eax, %eax
1: call 2f
  incb 2(%rbx)
  dec %ecx
  jnz 1b
  hlt
2: .byte 0x66, 0x05, 0x01, 0x00
  ret)")

TEST_F(Soft, self_modifying_code) {
  EXPECT_EQ(run_both(self_modifying)->vcpu->state().gpr[x86::RAX] & 0xffff, 5050U);
}

// An instruction that spans two pages, run often; then its second page is another one (INVLPG, CR3), then bytes on either
// page change, then the second page is gone.
GUEST_CODE(spanning, R"(
  mov $0x20ffe, %ebx
  movw $0x11b8, (%rbx)
  movl $0xc3443322, 2(%rbx)
  movl $0x90c30000, 5(%rbx)
  movl $0x0d0e0f22, 0x10002(%rbx)
  movl $0x90c30000, 0x10005(%rbx)
  movb $0xc3, 0x10005(%rbx)
  movb $0xc3, 5(%rbx)
  mov $0x200108, %esi
  call 5f
  movq $0x31003, (%rsi)
  invlpg 0x21000
  call 5f
  movq $0x21003, (%rsi)
  mov %cr3, %rax
  mov %rax, %cr3
  call 5f
  movb $0x77, 1(%rbx)
  call 5f
  movb $0x66, 3(%rbx)
  call 5f
  mov $3, %ecx
6: movb %cl, 1(%rbx)
  incb 3(%rbx)
  call *%rbx
  lea (%rdx,%rax,2), %rdx
  dec %ecx
  jnz 6b
  movq $0, (%rsi)
  invlpg 0x21000
  cmp %eax, %eax
  call *%rbx
  hlt
5: mov $4, %ecx
7: call *%rbx
  add %rax, %rdx
  rol $7, %rdx
  dec %ecx
  jnz 7b
  ret)")

TEST_F(Soft, instructions_that_span_pages) {
  const auto machine = run_both(spanning);
  EXPECT_EQ(machine->vcpu->state().gpr[x86::R15], 14U);
  EXPECT_EQ(machine->vcpu->state().cr2, 0x21000U);
}

GUEST_CODE(divide, R"(
  mov $0x8000000000000000, %rax
  cqo
  mov $-1, %rcx
  mov $77, %r13d
  idiv %rcx
  hlt)")

TEST_F(Soft, division_overflow_is_the_guests_fault) {
  EXPECT_EQ(run_both(divide)->vcpu->state().gpr[x86::R15], 0U);
}

GUEST_CODE(page_fault, R"(
  mov $0x40000000, %rbx
  mov $5, %eax
  push %rax
  mov 8(%rbx), %rcx
  hlt)")

TEST_F(Soft, page_faults_are_precise) {
  const auto machine = run_both(page_fault);
  EXPECT_EQ(machine->vcpu->state().gpr[x86::R15], 14U);
  EXPECT_EQ(machine->vcpu->state().cr2, 0x40000008U);
}

GUEST_CODE(non_canonical_stack, R"(
  mov $0x8000000000000010, %rsp
  push %rax
  hlt)")

TEST_F(Soft, non_canonical_stack_is_a_triple_fault) {
  for (const bool soft : {false, true}) {
    Machine machine(soft);
    machine.load(kCode, non_canonical_stack);
    EXPECT_EQ(machine.run(), engine::ExitReason::Shutdown);
  }
}

GUEST_CODE(vector_code, R"(
  mov $0x100000, %ebx
  movl $0x3fc00000, (%rbx)
  movss (%rbx), %xmm0
  addss %xmm0, %xmm0
  movss %xmm0, 4(%rbx)
  cvttss2si %xmm0, %eax
  pcmpeqd %xmm1, %xmm1
  movmskps %xmm1, %ecx
  fld1
  fadd %st(0), %st(0)
  fistpl 8(%rbx)
  movups %xmm1, 13(%rbx)
  hlt)")

TEST_F(Soft, vector_and_x87) {
  EXPECT_EQ(run_both(vector_code)->vcpu->state().gpr[x86::RAX], 3U);
}

GUEST_CODE(endless, R"(
1: add $1, %rax
  push %rax
  pushf
  pop %rcx
  mov %rax, %rcx
  pushq 0x100000
  pop %rdx
  pop %rbx
  mov %rbx, 0x100000
  cmp %rcx, %rax
  jne 2f
  jmp 1b
2: hlt)")

TEST_F(Soft, kicks_stop_an_endless_loop_with_the_state_whole) {
  Machine machine(true);
  machine.load(kCode, endless);
  machine.vcpu->state_changed();
  for (int i = 0; i < 400; i++) {
    std::thread kicker([&] {
      std::this_thread::sleep_for(std::chrono::microseconds(50 + i));
      machine.vcpu->kick();
    });
    EXPECT_EQ(machine.vcpu->run().reason, engine::ExitReason::Kicked);
    kicker.join();
    const cpu::State& s = machine.vcpu->state();
    // RBX and memory trail RAX by at most the instruction they are about to take it over in.
    EXPECT_LE(s.gpr[x86::RAX] - s.gpr[x86::RBX], 1U);
    EXPECT_LE(s.gpr[x86::RBX] - machine.get64(0x100000), 1U);
    EXPECT_TRUE(s.gpr[x86::RSP] == kStackTop || s.gpr[x86::RSP] == kStackTop - 8 || s.gpr[x86::RSP] == kStackTop - 16);
    EXPECT_GE(s.rip, kCode);
    EXPECT_LT(s.rip, kCode + endless.size());
  }
  EXPECT_GT(machine.vcpu->state().gpr[x86::RAX], 1000U);
}

// Counts in a word that lies over a page boundary; RDX follows it.
GUEST_CODE(crossing_count, R"(
  mov $0x100ffc, %ebx
1: inc %rax
  incq (%rbx)
  mov (%rbx), %rdx
  lea 0x1008(%rbx), %rsp
  stc
  push %rdx
  pop %rcx
  jnc 2f
  jmp 1b
2: hlt)")

TEST_F(Soft, kicks_find_crossing_accesses_whole) {
  Machine machine(true);
  machine.load(kCode, crossing_count);
  machine.vcpu->state_changed();
  for (int i = 0; i < 1000; i++) {
    std::thread kicker([&] {
      std::this_thread::sleep_for(std::chrono::microseconds(20 + i % 50));
      machine.vcpu->kick();
    });
    EXPECT_EQ(machine.vcpu->run().reason, engine::ExitReason::Kicked);
    kicker.join();
    const cpu::State& s = machine.vcpu->state();
    if (s.gpr[x86::RAX] == 0) continue;
    const bool between = s.rip == kCode + 8;  // INC of the register done, of memory not yet
    ASSERT_EQ(s.gpr[x86::RAX] - machine.get64(0x100ffc), between ? 1U : 0U) << std::hex << s.rip;
  }
  EXPECT_GT(machine.vcpu->state().gpr[x86::RAX], 1000U);
}

// Two checks in one instruction, both while a flag is live and RCX is borrowed for them.
GUEST_CODE(borrowing_twice, R"(
  mov $0x5ca1ab1e, %ecx
1: add $1, %rax
  stc
  push 0x100100
  pop %rdx
  jnc 2f
  jmp 1b
2: hlt)")

TEST_F(Soft, kicks_find_no_borrowed_register) {
  Machine machine(true);
  machine.load(kCode, borrowing_twice);
  machine.vcpu->state_changed();
  for (int i = 0; i < 1000; i++) {
    std::thread kicker([&] {
      std::this_thread::sleep_for(std::chrono::microseconds(20 + i % 50));
      machine.vcpu->kick();
    });
    EXPECT_EQ(machine.vcpu->run().reason, engine::ExitReason::Kicked);
    kicker.join();
    const cpu::State& s = machine.vcpu->state();
    if (s.gpr[x86::RAX] != 0) {
      ASSERT_EQ(s.gpr[x86::RCX], 0x5ca1ab1eU);
    }
  }
  EXPECT_GT(machine.vcpu->state().gpr[x86::RAX], 1000U);
}

}  // namespace
}  // namespace nacre::soft
