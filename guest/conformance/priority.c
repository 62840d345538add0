// Which of several exceptions comes when more than one applies, and that the loser leaves nothing behind. SDM
// vol. 3, 6.9 and table 6-2; the order of checks in each instruction's own page.
#include "suite.h"
#define GROUP "priority"

static void on_ist(unsigned vector) {
  const uint64_t gate = idt[vector * 2];
  set_gate(vector, (gate & 0xffff) | (gate >> 32 & 0xffff0000), (struct gate){kernel_code, 1, 0x8e});
}
CASE(fetch_fault_before_undefined, "SDM 3A table 6-2") {
  // The bytes on the second page would make it undefined.
  BYTE(PAGE(1) - 1) = 0x0f;
  map(1, 0);
  TRY("jmp *%%rbx", "b"(PAGE(1) - 1));
  WANT_AT(PF, pf_fetch, PAGE(1) - 1);
  EQUAL(seen_cr2, PAGE(1));
}
CASE(too_long_before_undefined, "SDM 3A table 6-2") {
  TRY(".byte 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x0f, 0x0b");
  WANT(GP, 0);
}
CASE(fetch_fault_before_too_long, "SDM 3A table 6-2") {
  memset((void*)(PAGE(1) - 14), 0x66, 14);
  map(1, 0);
  TRY("jmp *%%rbx", "b"(PAGE(1) - 14));
  WANT_AT(PF, pf_fetch, PAGE(1) - 14);
}
CASE(undefined_before_privilege, "SDM 3A table 6-2") {
  USER64(".byte 0xf0\n hlt");
  WANT(UD, 0);
}
CASE(undefined_before_device_not_available, "SDM 3A table 6-2") {
  set_cr0(base_cr0 | cr0_ts);
  TRY(".byte 0xd9, 0xe2");  // an x87 escape that is no instruction
  TRUE(seen.vector == UD || seen.vector == NM);
  TRY(".byte 0xf0\n fnop");
  WANT(UD, 0);
}
CASE(device_not_available_before_the_operand, "SDM 3A table 6-2") {
  set_cr0(base_cr0 | cr0_ts);
  map(0, 0);
  TRY("fldl (%%rbx)", "b"(PAGE(0)));
  WANT(NM, 0);
}
CASE(device_not_available_before_alignment, "SDM 3A table 6-2") {
  set_cr0(base_cr0 | cr0_ts);
  TRY("movaps (%%rbx), %%xmm0", "b"(PAGE(0) + 8));
  WANT(NM, 0);
}
CASE(privilege_before_the_operand, "SDM 3A table 6-2") {
  map(18, 0);
  USER64("lidt (%%rdi)", .rdi = PAGE(18));
  WANT(GP, 0);
}
CASE(privilege_before_a_bad_register_number, "SDM 2B RDMSR") {
  USER64("mov $0x12345678, %%ecx\n" MARK "rdmsr");
  WANT(GP, 0);
}
CASE(operand_fault_before_the_division, "SDM 2A DIV") {
  map(0, 0);
  TRY("divl (%%rbx)", "b"(PAGE(0)), "a"(1), "d"(0));
  WANT(PF, 0);
}
CASE(division_by_what_was_read, "SDM 2A DIV") {
  QUAD(PAGE(0)) = 0;
  TRY("divl (%%rbx)", "b"(PAGE(0)), "a"(1), "d"(0));
  WANT(DE, 0);
}
CASE(canonical_before_paging, "SDM 1 3.3.7.1") {
  TRY("mov (%%rbx), %%rax", "b"(0x8000000000001000));
  WANT(GP, 0);
}
CASE(descriptor_limit_before_its_page, "SDM 2B MOV") {
  TRY("mov %%eax, %%ds", "a"(0xfff8));
  WANT(GP, 0xfff8);
}
CASE(selector_read_before_it_is_checked, "SDM 2B MOV") {
  map(0, 0);
  TRY("mov (%%rbx), %%ds", "b"(PAGE(0)));
  WANT(PF, 0);
}
CASE(descriptor_on_an_absent_page, "SDM 3A 4.6") {
  const struct {
    uint16_t limit;
    uint64_t base;
  } __attribute__((packed)) pointer = {0x17ff, PAGE(0) + 0xf00};
  memcpy((void*)(PAGE(0) + 0xf00), table, sizeof table);
  map(1, 0);
  TRY("lgdt (%%rcx)\n" MARK "mov %%eax, %%ds", "a"(0x800), "c"(&pointer));
  WANT(PF, 0);
  EQUAL(seen_cr2, PAGE(0) + 0xf00 + 0x800);
}
CASE(descriptor_read_by_users_is_the_supervisors, "SDM 3A 4.6") {
  const struct {
    uint16_t limit;
    uint64_t base;
  } __attribute__((packed)) pointer = {0x17ff, PAGE(0) + 0xf00};
  memcpy((void*)(PAGE(0) + 0xf00), table, sizeof table);
  map(1, 0);
  __asm__ volatile("lgdt %0" : : "m"(pointer));
  USER64("mov $0x803, %%eax\n" MARK "mov %%eax, %%ds");
  WANT(PF, 0);  // no user bit in the error code
}
CASE(gate_on_an_absent_page, "SDM 3A 6.15 #PF") {
  // The table of interrupts goes over a border; the page of the gate is absent. INT n of it is a page fault.
  const struct {
    uint16_t limit;
    uint64_t base;
  } __attribute__((packed)) pointer = {0xfff, PAGE(0) + 0x400};
  memcpy((void*)PAGE(0) + 0x400, idt, 0xc00);
  memcpy((void*)PAGE(1), (uint8_t*)idt + 0xc00, 0x400);
  map(1, 0);
  TRY("lidt (%%rcx)\n" MARK "int $0xc8", "c"(&pointer));
  WANT(PF, 0);
  EQUAL(seen_cr2 & ~15ull, PAGE(0) + 0x400 + 0xc80);
}
CASE(stack_fault_before_the_target_of_a_call, "AMD APM 3 CALL") {
  // Intel's text checks the target first; AMD's processors push first.
  map(0, 0);
  on_ist(PF);
  TRY("mov %%rbx, %%rsp\n" MARK "call *%%rcx", "b"(PAGE(0) + 64), "c"(1ull << 47));
  TRUE(seen.vector == PF || seen.vector == GP);
}
CASE(call_reads_its_target_before_it_pushes, "SDM 2A CALL") {
  map(0, 0), map(2, 0);
  on_ist(PF);
  TRY("mov %%rbx, %%rsp\n" MARK "call *(%%rcx)", "b"(PAGE(0) + 64), "c"(PAGE(2)));
  WANT(PF, 0);
  EQUAL(seen_cr2, PAGE(2));
}
CASE(push_reads_before_it_writes, "SDM 2B PUSH") {
  map(0, 0), map(2, 0);
  on_ist(PF);
  TRY("mov %%rbx, %%rsp\n" MARK "pushq (%%rcx)", "b"(PAGE(0) + 64), "c"(PAGE(2)));
  WANT(PF, 0);
  EQUAL(seen_cr2, PAGE(2));
  EQUAL(seen.rsp, PAGE(0) + 64);
}
CASE(pop_reads_the_stack_before_it_writes, "SDM 2B POP") {
  map(0, 0), map(2, 0);
  on_ist(PF);
  TRY("mov %%rbx, %%rsp\n" MARK "popq (%%rcx)", "b"(PAGE(0) + 64), "c"(PAGE(2)));
  WANT(PF, 0);
  EQUAL(seen_cr2, PAGE(0) + 64);
}
CASE(pop_with_rsp_as_base_uses_the_new_one, "SDM 2B POP") {
  TRY("sub $32, %%rsp\n movq $77, (%%rsp)\n popq 8(%%rsp)\n mov 8(%%rsp), %%rcx\n lea 24(%%rsp), %%rsp");
  WANT_DONE();
  EQUAL(seen.rcx, 77);
}
CASE(push_rsp_pushes_the_old, "SDM 2B PUSH") {
  TRY("mov %%rsp, %%rcx\n push %%rsp\n pop %%rdx");
  EQUAL(seen.rdx, seen.rcx);
}
CASE(enter_that_faults_keeps_rsp_and_rbp, "SDM 2A ENTER") {
  map(3, 0);
  on_ist(PF);
  TRY("mov %%rbx, %%rsp\n mov $0x1234, %%ebp\n" MARK "enter $0x20, $0", "b"(PAGE(4)));
  WANT(PF, pf_write);
  EQUAL(seen.rsp, PAGE(4));
  EQUAL(seen.rbp, 0x1234);
}
CASE(leave_that_faults_keeps_rsp_and_rbp, "SDM 2A LEAVE") {
  map(0, 0);
  TRY("mov %%rsp, %%rcx\n mov %%rbx, %%rbp\n" MARK "leave", "b"(PAGE(0)));
  WANT(PF, 0);
  EQUAL(seen.rsp, seen.rcx);
  EQUAL(seen.rbp, PAGE(0));
}
CASE(faulting_add_with_carry_keeps_the_carry, "SDM 3A 6.5") {
  map(0, 0);
  TRY("stc\n" MARK "adcl $1, (%%rbx)", "b"(PAGE(0)));
  WANT(PF, pf_write);
  EQUAL(seen.rflags & CF, CF);
}
CASE(faulting_load_keeps_the_register, "SDM 3A 6.5") {
  map(0, 0);
  TRY("movl (%%rbx), %%eax", "b"(PAGE(0)), "a"(0x1122334455667788));
  WANT(PF, 0);
  EQUAL(seen.rax, 0x1122334455667788);
}
CASE(faulting_xadd_keeps_both, "SDM 3A 6.5") {
  map(0, FRAME(0) | P);
  QUAD(FRAME(0)) = 5;
  TRY("xaddq %%rax, (%%rbx)", "b"(PAGE(0)), "a"(7));
  WANT(PF, pf_present | pf_write);
  EQUAL(seen.rax, 7);
  EQUAL(QUAD(FRAME(0)), 5);
}
CASE(faulting_cmpxchg_keeps_the_accumulator, "SDM 3A 6.5") {
  map(0, FRAME(0) | P);
  QUAD(FRAME(0)) = 5;
  TRY("cmpxchgq %%rcx, (%%rbx)", "b"(PAGE(0)), "a"(7), "c"(9));
  WANT(PF, pf_present | pf_write);
  EQUAL(seen.rax, 7);
}
CASE(faulting_shift_through_memory_keeps_flags, "SDM 3A 6.5") {
  map(0, FRAME(0) | P);
  LONG(FRAME(0)) = 0x80000000;
  TRY("clc\n" MARK "shll $1, (%%rbx)", "b"(PAGE(0)));
  WANT(PF, pf_present | pf_write);
  EQUAL(seen.rflags & CF, 0);
  EQUAL(LONG(FRAME(0)), 0x80000000);
}
CASE(faulting_double_word_store_is_not_torn, "SDM 3A 6.5") {
  map(1, FRAME(1) | P);
  LONG(FRAME(0) + 0xffc) = 0;
  TRY("movl $-1, (%%rbx)", "b"(PAGE(1) - 2));
  WANT(PF, pf_present | pf_write);
  EQUAL(LONG(FRAME(0) + 0xffc), 0);
}
CASE(not_taken_cmov_faults_all_the_same, "SDM 2A CMOVcc") {
  map(0, 0);
  TRY("cmp %%eax, %%eax\n" MARK "cmovne (%%rbx), %%rcx", "b"(PAGE(0)));
  WANT(PF, 0);
}
CASE(not_taken_cmov_of_32_bits_clears_the_upper_half, "SDM 2A CMOVcc") {
  TRY("cmp %%eax, %%eax\n cmovne %%edx, %%ecx", "c"(0x1122334455667788));
  EQUAL(seen.rcx, 0x55667788);
}
CASE(ret_that_faults_keeps_rsp, "SDM 2B RET") {
  map(0, 0);
  on_ist(PF);
  TRY("mov %%rbx, %%rsp\n" MARK "ret", "b"(PAGE(0) + 8));
  WANT(PF, 0);
  EQUAL(seen.rsp, PAGE(0) + 8);
}
CASE(loop_does_not_touch_memory_or_flags, "SDM 2A LOOP") {
  TRY("mov $3, %%ecx\n stc\n 1: loop 1b");
  EQUAL(seen.rcx, 0);
  EQUAL(seen.rflags & CF, CF);
}
CASE(breakpoint_before_interrupt_window, "SDM 3A table 6-2") {
  // A single-step trap and a pending interrupt: the trap is taken first; its frame shows that IF was set.
  hook[0x51] = count_interrupt;
  APIC(apic_icr) = 0x44051;
  TRY("pushq $0x302\n popfq\n" MARK "nop\n nop\n nop");
  TRUE(seen.vector == DB);
}
