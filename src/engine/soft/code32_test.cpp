// 32-bit code on the interpreter and on the translator. Single instructions are compared with the processor by
// engine/conformance (Engines32); here is what leads from one to the next, and from one mode to the other.
#include "engine/soft/both.hpp"

namespace nacre::soft {
namespace {

constexpr u16 kCode32 = 0x18;

// Starts in 32-bit code at `at`, with flat segments.
void begin_in_32_bits(Machine& m) {
  m.put64(0x5018, 0x00cf9b000000ffff);
  cpu::State& s = m.vcpu->state();
  s.gdtr.limit = 0x1f;
  s.segment[x86::CS] = {kCode32, 0xc09b, 0xffffffff, 0};
}

#define AT(label, name) "(" label " - code_" name " + 0x10000)"

GUEST_CODE(recursion32, R"(
  .code32
  mov $15, %edi
  call 1f
  mov %eax, 0x400000
  mov $)" AT("1f", "recursion32") R"(, %edx
  mov $10, %edi
  call *%edx
  mov %eax, 0x400004
  mov %edx, 0x400010
  mov $8, %edi
  call *0x400010
  movl $)" AT("3f", "recursion32") R"(, 0x400014
  jmp *0x400014
  ud2
3: hlt
1: push %ebx
  push %ebp
  mov %esp, %ebp
  mov %edi, %ebx
  cmp $1, %edi
  mov %edi, %eax
  jle 2f
  lea -1(%ebx), %edi
  push %eax
  call 1b
  mov %eax, -4(%ebp)
  lea -2(%ebx), %edi
  call 1b
  add -4(%ebp), %eax
2: leave
  pop %ebx
  ret
  .code64)")

TEST_F(Soft, code32_calls_and_returns) {
  const auto m = run_both(recursion32, kCode, begin_in_32_bits);
  const engine::NamedCounter& blocks_made = m->vcpu->counters()[0];
  EXPECT_STREQ(blocks_made.name, "blocks made");
  EXPECT_GT(blocks_made.counter->value(), 3u);  // it was translated
  EXPECT_EQ(m->get64(0x400000) & 0xffffffff, 610u);
  EXPECT_EQ(m->get64(0x400004) & 0xffffffff, 55u);
  EXPECT_EQ(m->vcpu->state().gpr[x86::RAX], 21u);
}

// Counters by their short opcodes, the accumulator at an address, the stack's other forms, loops that count in ECX.
GUEST_CODE(forms32, R"(
  .code32
  mov $0x7fffffff, %eax
  inc %eax
  seto %bl
  dec %eax
  adc $0, %eax
  incw %ax
  decl %ecx
  mov %eax, 0x400000
  movb $0x5a, %al
  mov %al, 0x400008
  movw 0x400000, %ax
  mov %ax, 0x40000a
  movb 0x400008, %al
  pushl $-5
  pushl 0x400000
  pushw $0x1234
  popw %dx
  push %esp
  pop %esi
  push $0x12345678
  pop %esp
  mov $0x80000, %esp
  push %edi
  popl 0x400010
  pushl 0x400010
  pop %ebp
  mov $100, %ecx
  xor %edi, %edi
1: add %ecx, %edi
  loop 1b
  jecxz 2f
  ud2
2: mov $3, %ecx
3: inc %edi
  cmp $0x13bd, %edi
  loopne 3b
  pushf
  pop %edx
  and $0x8d5, %edx
  pusha
  popa
  mov $0x99, %al
  daa
  aam
  .byte 0x82, 0xc0, 0x11
  xlat
  push $0x7000
  call 4f
  hlt
4: mov 4(%esp), %eax
  ret $4
  .code64)")

TEST_F(Soft, code32_forms_that_64_bit_code_has_not) {
  const auto m = run_both(forms32, kCode, [](Machine& machine) {
    begin_in_32_bits(machine);
    machine.vcpu->state().gpr[x86::RBX] = 0x500000;
    machine.vcpu->state().gpr[x86::RCX] = 0;
    machine.vcpu->state().gpr[x86::RDI] = 0x87654321;
  });
  EXPECT_EQ(m->vcpu->state().gpr[x86::RSP], conformance::kStackTop & 0xffffffff);
  EXPECT_EQ(m->vcpu->state().gpr[x86::RAX], 0x7000u);
}

// Addresses are 32 bits wide: what is added goes round.
GUEST_CODE(wraps32, R"(
  .code32
  mov $0xfffff000, %ebx
  mov $0xc0000000, %ecx
  movl $0x11, 0x401000(%ebx)
  movl $0x22, 0x400f04(%ebx,%ecx,4)
  addl $0x33, 0x401000(%ebx)
  push 0x401000(%ebx)
  pop %edx
  lea 0x2000(%ebx), %esi
  lea 0x2000(%ebx,%ebx), %edi
  bts %esi, 0x401100(%ebx)
  mov 0x401000(%ebx), %al
  hlt
  .code64)")

TEST_F(Soft, code32_addresses_go_round) {
  const auto m = run_both(wraps32, kCode, begin_in_32_bits);
  EXPECT_EQ(m->vcpu->state().gpr[x86::RDX], 0x44u);
  EXPECT_EQ(m->get64(0x3fff04) & 0xffffffff, 0x22u);
}

// Whatever an access over the end of the address space does, it does on both; and so does one to no page.
GUEST_CODE(over_the_end32, ".code32\n mov $0xfffffffe, %ebx\n mov (%ebx), %eax\n hlt\n .code64")
GUEST_CODE(stores_over_the_end32, ".code32\n mov $0xfffffffe, %ebx\n mov %eax, (%ebx)\n hlt\n .code64")
GUEST_CODE(push_at_no_page32, ".code32\n mov $0x40000002, %esp\n push %eax\n hlt\n .code64")
GUEST_CODE(writes_by_cs32, ".code32\n mov %eax, %cs:0x400000\n hlt\n .code64")
GUEST_CODE(limit_of_fs32, ".code32\n mov $0x10, %eax\n mov %eax, %fs\n mov %fs:0x400000, %eax\n hlt\n .code64")

TEST_F(Soft, code32_faults_are_the_interpreters) {
  for (const auto* code : {&over_the_end32, &stores_over_the_end32, &push_at_no_page32, &writes_by_cs32, &limit_of_fs32}) {
    SCOPED_TRACE(code - &over_the_end32);
    run_both(*code, kCode, [](Machine& m) {
      begin_in_32_bits(m);
      // A frame for an exception, whatever the stack pointer is.
      m.put64(0x9000 + 0x24, conformance::kStackTop - 0x1000);
      m.vcpu->state().tr = {0x20, 0x8b, 0x67, 0x9000};
      for (u64 n = 0; n < 32; n++) m.put64(0x6000 + 16 * n, m.get64(0x6000 + 16 * n) | u64{1} << 32);
    });
  }
}

// A segment that is not flat: its base counts from the next instruction on, and no more once it is flat again.
GUEST_CODE(bases32, R"(
  .code32
  mov $3, %ebp
1: mov 0x400000, %eax
  add %eax, %esi
  mov $0x20, %ecx
  mov %ecx, %ds
  mov 0x400000, %eax
  add %eax, %edi
  mov $0x10, %ecx
  mov %ecx, %ds
  dec %ebp
  jnz 1b
  hlt
  .code64)")

TEST_F(Soft, code32_segments_with_a_base) {
  const auto m = run_both(bases32, kCode, [](Machine& machine) {
    begin_in_32_bits(machine);
    machine.put64(0x5020, 0x00cf93100000ffff);  // from 0x100000 on
    machine.vcpu->state().gdtr.limit = 0x27;
    machine.put64(0x400000, 1);
    machine.put64(0x500000, 100);
  });
  EXPECT_EQ(m->vcpu->state().gpr[x86::RSI], 3u);
  EXPECT_EQ(m->vcpu->state().gpr[x86::RDI], 300u);
}

// The same bytes in 64-bit code (INC RAX) and in 32-bit code (DEC EAX, INC EAX), called from either by turns, by a
// register.
GUEST_CODE(both_modes, R"(
  xor %eax, %eax
  mov $)" AT("9f", "both_modes") R"(, %edx
  mov $200, %ebp
1: call *%rdx
  call *%rdx
  ljmp *)" AT("4f", "both_modes") R"(
  .code32
2: call *%edx
  call *%edx
  ljmp $8, $)" AT("3f", "both_modes") R"(
  .code64
3: dec %ebp
  jnz 1b
  hlt
4: .long )" AT("2b", "both_modes") R"(
  .word 0x18
9: .byte 0x48, 0xff, 0xc0, 0xc3)")

TEST_F(Soft, code32_and_64_bit_code_at_one_address) {
  const auto m = run_both(both_modes, kCode, [](Machine& machine) {
    machine.put64(0x5018, 0x00cf9b000000ffff);
    machine.vcpu->state().gdtr.limit = 0x1f;
  });
  EXPECT_EQ(m->vcpu->state().gpr[x86::RAX], 400u);
}

// Without paging, as firmware begins.
GUEST_CODE(unpaged32, R"(
  .code32
  mov $0x400000, %edi
  mov $0x1000, %ecx
  mov $0x5a5a5a5a, %eax
  cld
  rep stosl
  mov $0x400000, %esi
  mov $0x500000, %edi
  mov $0x800, %ecx
  rep movsl
  xor %eax, %eax
  mov $0x2000, %ecx
1: add 0x4ffffc(,%ecx,4), %eax
  dec %ecx
  jnz 1b
  hlt
  .code64)")

TEST_F(Soft, code32_without_paging) {
  const auto m = run_both(unpaged32, kCode, [](Machine& machine) {
    begin_in_32_bits(machine);
    cpu::State& s = machine.vcpu->state();
    s.cr0 &= ~x86::Cr0::PG;
    s.efer = 0;
  });
  EXPECT_EQ(m->vcpu->state().gpr[x86::RAX], static_cast<u32>(0x5a5a5a5a * u64{0x800}));
}

}  // namespace
}  // namespace nacre::soft
