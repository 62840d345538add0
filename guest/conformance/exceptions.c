// Each exception: its vector, its error code, whether the saved RIP is the instruction's (a fault) or the
// next one's (a trap), and what else is saved. SDM vol. 3, chapter 6.
#include "suite.h"
#define GROUP "exceptions"

FAULTS(divide_by_zero, "SDM 3A 6.15 #DE", DE, 0, "div %%ecx", "a"(1), "d"(0), "c"(0))
FAULTS(divide_overflow_32, "SDM 2A DIV", DE, 0, "div %%ecx", "a"(0), "d"(5), "c"(5))
FAULTS(divide_overflow_64, "SDM 2A DIV", DE, 0, "div %%rcx", "a"(0), "d"(1), "c"(1))
FAULTS(divide_overflow_8, "SDM 2A DIV", DE, 0, "div %%cl", "a"(0x200), "c"(2))
FAULTS(idiv_of_the_least, "SDM 2A IDIV", DE, 0, "idiv %%ecx", "a"(0x80000000), "d"(-1), "c"(-1))
FAULTS(idiv_overflow_8, "SDM 2A IDIV", DE, 0, "idiv %%cl", "a"(0x80), "c"(1))
CASE(divide_changes_nothing, "SDM 3A 6.15 #DE") {
  TRY("stc\n" MARK "div %%ecx", "a"(7), "d"(9), "c"(9));
  WANT(DE, 0);
  EQUAL(seen.rax, 7);
  EQUAL(seen.rdx, 9);
  EQUAL(seen.rflags & CF, CF);
}
CASE(int3_is_a_trap, "SDM 3A 6.15 #BP") {
  TRY("int3\n" MARK "nop");
  WANT(BP, 0);
}
CASE(int_3_in_two_bytes, "SDM 2A INT") {
  TRY(".byte 0xcd, 3\n" MARK "nop");
  WANT(BP, 0);
}
CASE(int1_is_a_trap, "SDM 2A INT1") {
  TRY(".byte 0xf1\n" MARK "nop");
  WANT(DB, 0);
}
CASE(int_n_of_a_fault_pushes_no_error_code, "SDM 3A 6.4.2") {
  // The handler of vector 14 would take the word where the error code is awaited; a gate without that is put
  // there.
  set_gate(GP, (uint64_t)(idt[done * 2] & 0xffff) | (idt[done * 2] >> 32 & 0xffff0000),
           (struct gate){kernel_code, 0, 0x8e});
  TRY("int $13\n" MARK "nop");
  WANT(done, 0);
}
FAULTS(ud2, "SDM 3A 6.15 #UD", UD, 0, "ud2")
FAULTS(ud1_with_memory_it_does_not_read, "SDM 2B UD", UD, 0, "ud1 (%%rax), %%ecx", "a"(PAGE(0)))
FAULTS(lock_of_a_register, "SDM 2A LOCK", UD, 0, ".byte 0xf0; inc %%eax")
FAULTS(lock_of_a_load, "SDM 2A LOCK", UD, 0, ".byte 0xf0; add (%%rbx), %%eax", "b"(PAGE(0)))
FAULTS(lock_of_mov, "SDM 2A LOCK", UD, 0, ".byte 0xf0; mov %%eax, (%%rbx)", "b"(PAGE(0)))
FAULTS(lock_of_cmp, "SDM 2A LOCK", UD, 0, ".byte 0xf0; cmp %%eax, (%%rbx)", "b"(PAGE(0)))
FAULTS(lock_of_nop, "SDM 2A LOCK", UD, 0, ".byte 0xf0, 0x90")
FAULTS(no_push_cs_in_64_bits, "SDM 2B PUSH", UD, 0, ".byte 0x0e")
FAULTS(no_pusha_in_64_bits, "SDM 2B PUSHA", UD, 0, ".byte 0x60")
FAULTS(no_aaa_in_64_bits, "SDM 2A AAA", UD, 0, ".byte 0x37")
FAULTS(no_daa_in_64_bits, "SDM 2A DAA", UD, 0, ".byte 0x27")
FAULTS(no_aam_in_64_bits, "SDM 2A AAM", UD, 0, ".byte 0xd4, 10")
FAULTS(no_into_in_64_bits, "SDM 2A INTO", UD, 0, ".byte 0xce")
FAULTS(no_salc_in_64_bits, "AMD APM 3 B.3", UD, 0, ".byte 0xd6")
FAULTS(no_far_call_immediate_in_64_bits, "SDM 2A CALL", UD, 0, ".byte 0x9a, 0, 0, 0, 0, 8, 0")
FAULTS(no_far_jump_immediate_in_64_bits, "SDM 2A JMP", UD, 0, ".byte 0xea, 0, 0, 0, 0, 8, 0")
FAULTS(no_group_1_alias_in_64_bits, "SDM 2D A.2", UD, 0, ".byte 0x82, 0xc0, 1")
FAULTS(mov_to_cs, "SDM 2B MOV", UD, 0, ".byte 0x8e, 0xc8")
FAULTS(mov_to_sixth_segment, "SDM 2B MOV", UD, 0, ".byte 0x8e, 0xf0")
FAULTS(lea_of_a_register, "SDM 2A LEA", UD, 0, ".byte 0x8d, 0xc0")
FAULTS(mov_from_cr1, "SDM 2B MOV CR", UD, 0, ".byte 0x0f, 0x20, 0xc8")
FAULTS(mov_from_cr5, "SDM 2B MOV CR", UD, 0, ".byte 0x0f, 0x20, 0xe8")
FAULTS(mov_to_cr9, "SDM 2B MOV CR", UD, 0, ".byte 0x44, 0x0f, 0x22, 0xc8")
FAULTS(mov_from_dr8, "SDM 2B MOV DR", UD, 0, ".byte 0x44, 0x0f, 0x21, 0xc0")
FAULTS(far_call_of_a_register, "SDM 2A CALL", UD, 0, ".byte 0xff, 0xd8")
FAULTS(group_5_seventh, "SDM 2D A.4", UD, 0, ".byte 0xff, 0xf8")
FAULTS(group_4_third, "SDM 2D A.4", UD, 0, ".byte 0xfe, 0xd8")
FAULTS(pop_second, "SDM 2D A.4", UD, 0, ".byte 0x8f, 0xc8, 0, 0")
FAULTS(mov_immediate_second, "SDM 2D A.4", UD, 0, ".byte 0xc7, 0xc8, 0, 0, 0, 0")
FAULTS(cmpxchg8b_of_a_register, "SDM 2A CMPXCHG8B", UD, 0, ".byte 0x0f, 0xc7, 0xc8")
FAULTS(invlpg_of_a_register, "SDM 2A INVLPG", UD, 0, ".byte 0x0f, 0x01, 0xfd")
FAULTS(lgdt_of_a_register, "SDM 2A LGDT", UD, 0, ".byte 0x0f, 0x01, 0xd6")
FAULTS(bt_group_with_low_operation, "SDM 2D A.4", UD, 0, ".byte 0x0f, 0xba, 0xc0, 1")
FAULTS(instruction_of_16_bytes, "SDM 2A 2.3.11", GP, 0,
       ".byte 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90")
CASE(instruction_of_15_bytes, "SDM 2A 2.3.11") {
  TRY(".byte 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90");
  WANT_DONE();
}
FAULTS(vex_after_66, "SDM 2A 2.3.2", UD, 0, ".byte 0x66, 0xc5, 0xf8, 0x57, 0xc0")
FAULTS(vex_after_rex, "SDM 2A 2.3.4", UD, 0, ".byte 0x48, 0xc5, 0xf8, 0x57, 0xc0")
FAULTS(vex_after_lock, "SDM 2A 2.3.3", UD, 0, ".byte 0xf0, 0xc5, 0xf8, 0x57, 0xc0")

// --- protection
FAULTS(read_of_a_bad_address, "SDM 3A 6.15 #GP", GP, 0, "mov (%%rax), %%rcx", "a"(1ull << 47))
FAULTS(write_of_a_bad_address, "SDM 1 3.3.7.1", GP, 0, "mov %%rcx, (%%rax)", "a"(0xffff7fffffffffff))
CASE(jump_to_a_bad_address, "SDM 2A JMP") {
  // Whether RIP is then still the jump's is left open: a translator may notice only at the target.
  TRY("jmp *%%rax", "a"(1ull << 47));
  EQUAL(seen.vector, GP);
  EQUAL(seen.error, 0);
}
CASE(bad_address_by_rbp_is_the_stacks, "SDM 3A 6.15 #SS") {
  TRY("mov %%rax, %%rbp\n" MARK "mov (%%rbp), %%rcx", "a"(1ull << 47));
  WANT(SS, 0);
}
CASE(bad_address_by_rbp_with_ds_prefix, "SDM 2A 2.1.1") {
  // In 64-bit mode the prefix is ignored where it names DS; RBP as a base stays the stack's.
  TRY("mov %%rax, %%rbp\n" MARK ".byte 0x3e\n mov (%%rbp), %%rcx", "a"(1ull << 47));
  WANT(SS, 0);
}
CASE(bad_address_by_fs_is_a_general_fault, "SDM 3A 6.15 #GP") {
  TRY("mov %%rax, %%rbp\n" MARK "mov %%fs:(%%rbp), %%rcx", "a"(1ull << 47));
  WANT(GP, 0);
}
CASE(push_at_a_bad_stack, "SDM 3A 6.15 #SS") {
  TRY("mov %%rax, %%rsp\n" MARK "push %%rcx", "a"((1ull << 47) + 8));
  WANT(SS, 0);
  EQUAL(seen.rsp, (1ull << 47) + 8);
}
CASE(call_at_a_bad_stack, "SDM 3A 6.15 #SS") {
  TRY("mov %%rax, %%rsp\n" MARK "call 1f\n 1:", "a"((1ull << 47) + 8));
  WANT(SS, 0);
}
CASE(pop_at_a_bad_stack, "SDM 3A 6.15 #SS") {
  TRY("mov %%rax, %%rsp\n" MARK "pop %%rcx", "a"(1ull << 47));
  WANT(SS, 0);
}
CASE(quadword_across_the_canonical_border, "SDM 1 3.3.7.1") {
  TRY("mov (%%rax), %%rcx", "a"((1ull << 47) - 4));
  // Both the page below and the address above are bad; the access begins below it.
  EQUAL(seen.vector == GP || seen.vector == PF, 1);
}
CASE(page_fault_writes_cr2_and_pushes_the_fault, "SDM 3A 6.15 #PF") {
  map(0, 0);
  TRY("nop\n" MARK "incl 4(%%rax)", "a"(PAGE(0)));
  WANT(PF, pf_write);
  EQUAL(seen_cr2, PAGE(0) + 4);
}
CASE(cr2_stays_at_other_faults, "SDM 3A 6.15 #PF") {
  set_cr2(0x1234);
  TRY("ud2");
  EQUAL(seen_cr2, 0x1234);
}
CASE(saved_frame_of_the_kernel, "SDM 3A 6.14.2") {
  TRY("pushq $3\n popfq\n mov %%rsp, %%rbx\n" MARK "ud2");
  WANT(UD, 0);
  EQUAL(seen.rsp, seen.rbx);
  EQUAL(seen.cs, kernel_code);
  EQUAL(seen.ss, kernel_data);
  EQUAL(seen.rflags & 0xfff, CF | 2);
}
CASE(stack_is_aligned_before_the_frame_is_pushed, "SDM 3A 6.14.2") {
  // The frame's address is not seen, but the odd RSP comes back whole, and nothing below RSP & ~15 is lost.
  TRY("sub $64, %%rsp\n or $5, %%rsp\n mov %%rsp, %%rbx\n" MARK "ud2");
  WANT(UD, 0);
  EQUAL(seen.rsp, seen.rbx);
}
static uint64_t handler_stack;
static void note_stack(struct frame* frame) {
  handler_stack = (uint64_t)&frame->ss + 8;
  frame->rip += 2;
}
CASE(frame_lies_at_a_multiple_of_16, "SDM 3A 6.14.2") {
  hook[UD] = note_stack;
  TRY("or $7, %%rsp\n mov %%rsp, %%rbx\n ud2");
  WANT_DONE();
  EQUAL(handler_stack, seen.rbx & ~15ull);
}
CASE(interrupt_stack_table, "SDM 3A 6.14.5") {
  hook[UD] = note_stack;
  const uint64_t gate = idt[UD * 2];
  set_gate(UD, (gate & 0xffff) | (gate >> 32 & 0xffff0000), (struct gate){kernel_code, 3, 0x8e});
  set_stack_pointer(0x34, PAGE(4) + 8);
  TRY("ud2");
  WANT_DONE();
  EQUAL(handler_stack, PAGE(4));  // aligned too
}
static uint64_t handler_flags;
static void note_flags(struct frame* frame) {
  __asm__ volatile("pushfq\n pop %0" : "=r"(handler_flags));
  (void)frame;
}
CASE(interrupt_gate_clears_if_tf_nt_rf, "SDM 3A 6.14.1") {
  hook[0x81] = note_flags;
  TRY("pushq $0x4202\n popfq\n int $0x81\n" MARK "nop");
  EQUAL(handler_flags & (IF | TF | NT | RF), 0);
  EQUAL(seen.rflags & (IF | NT), IF | NT);
}
CASE(trap_gate_leaves_if, "SDM 3A 6.12.1.2") {
  hook[0x81] = note_flags;
  const uint64_t gate = idt[0x81 * 2];
  set_gate(0x81, (gate & 0xffff) | (gate >> 32 & 0xffff0000), (struct gate){kernel_code, 0, 0x8f});
  TRY("pushq $0x4202\n popfq\n int $0x81");
  EQUAL(handler_flags & (IF | TF | NT), IF);
}
CASE(fault_saves_rf, "SDM 3B 17.3.1.1") {
  TRY("ud2");
  EQUAL(seen.rflags & RF, RF);
}
CASE(page_fault_saves_rf, "SDM 3B 17.3.1.1") {
  map(0, 0);
  TRY("mov (%%rax), %%rax", "a"(PAGE(0)));
  EQUAL(seen.rflags & RF, RF);
}
CASE(int_n_does_not_save_rf, "SDM 3B 17.3.1.1") {
  TRY("int3");
  EQUAL(seen.rflags & RF, 0);
}

// --- a gate of its own kind
CASE(user_int_n_checks_the_gates_privilege, "SDM 3A 6.12.1.1") {
  USER64("int $0x81");
  WANT(GP, 0x81 * 8 + 2);
}
CASE(user_int3_checks_the_gates_privilege, "SDM 3A 6.12.1.1") {
  const uint64_t gate = idt[BP * 2];
  set_gate(BP, (gate & 0xffff) | (gate >> 32 & 0xffff0000), (struct gate){kernel_code, 0, 0x8e});
  USER64("int3");
  WANT(GP, BP * 8 + 2);
}
CASE(rdssp_without_shadow_stacks_does_nothing, "SDM 2B RDSSPD/RDSSPQ") {
  // Kernels ask whether there are any by what is in the register afterwards.
  TRY("mov $-1, %%rcx\n mov $-1, %%rdx\n .byte 0xf3, 0x48, 0x0f, 0x1e, 0xc9\n .byte 0xf3, 0x0f, 0x1e, 0xca");
  WANT_DONE();
  EQUAL(seen.rcx, ~0ull);
  EQUAL(seen.rdx, ~0ull);
  USER32("mov $-1, %%ecx\n .byte 0xf3, 0x0f, 0x1e, 0xc9");
  WANT_DONE();
  EQUAL(seen.rcx, 0xffffffff);
}
CASE(user_int1_does_not_check_the_gate, "SDM 2A INT1") {
  USER64(".byte 0xf1\n" MARK "nop");
  WANT(DB, 0);
}
CASE(user_fault_does_not_check_the_gate, "SDM 3A 6.12.1.1") {
  USER64("ud2");
  WANT(UD, 0);
}
CASE(gate_beyond_the_limit, "SDM 2A INT") {
  set_idt_limit(0x81 * 16 - 1);
  TRY("int $0x81");
  WANT(GP, 0x81 * 8 + 2);
}
CASE(gate_partly_beyond_the_limit, "SDM 2A INT") {
  set_idt_limit(0x81 * 16 + 14);
  TRY("int $0x81");
  WANT(GP, 0x81 * 8 + 2);
}
CASE(gate_just_within_the_limit, "SDM 2A INT") {
  set_idt_limit(0x81 * 16 + 15);
  TRY("int $0x81\n" MARK "nop");
  WANT(0x81, 0);
}
CASE(gate_that_is_not_present, "SDM 3A 6.15 #NP") {
  set_gate(0x81, STRAY, (struct gate){kernel_code, 0, 0x0e});
  TRY("int $0x81");
  WANT(NP, 0x81 * 8 + 2);
}
CASE(gate_of_no_type, "SDM 3A 6.15 #GP") {
  set_gate(0x81, STRAY, (struct gate){kernel_code, 0, 0x80});
  TRY("int $0x81");
  WANT(GP, 0x81 * 8 + 2);
}
CASE(gate_to_a_task_in_long_mode, "SDM 3A 6.14") {
  set_gate(0x81, STRAY, (struct gate){task, 0, 0x85});
  TRY("int $0x81");
  WANT(GP, 0x81 * 8 + 2);
}
CASE(gate_with_null_selector, "SDM 2A INT") {
  set_gate(0x81, STRAY, (struct gate){0, 0, 0x8e});
  TRY("int $0x81");
  WANT(GP, 0);
}
CASE(gate_to_data, "SDM 2A INT") {
  set_gate(0x81, STRAY, (struct gate){kernel_data, 0, 0x8e});
  TRY("int $0x81");
  WANT(GP, kernel_data);
}
CASE(gate_to_absent_code, "SDM 2A INT") {
  set_gate(0x81, STRAY, (struct gate){absent_code, 0, 0x8e});
  TRY("int $0x81");
  WANT(NP, absent_code);
}
CASE(gate_to_32_bit_code, "SDM 3A 6.14.1") {
  set_gate(0x81, STRAY, (struct gate){kernel_code_32, 0, 0x8e});
  TRY("int $0x81");
  WANT(GP, kernel_code_32);
}
CASE(gate_to_less_privileged_code, "SDM 2A INT") {
  set_gate(0x81, STRAY, (struct gate){user_code_64, 0, 0x8e});
  TRY("int $0x81");
  WANT(GP, user_code_64 & ~3);
}
CASE(gate_to_a_selector_beyond_the_table, "SDM 2A INT") {
  set_gate(0x81, STRAY, (struct gate){0xff8, 0, 0x8e});
  TRY("int $0x81");
  WANT(GP, 0xff8);
}
CASE(gate_to_a_bad_offset, "SDM 2A INT") {
  set_gate(0x81, 0, (struct gate){kernel_code, 0, 0x8e});
  idt[0x81 * 2 + 1] = 0x8000;
  TRY("int $0x81");
  WANT(GP, 0);
}
CASE(fault_in_delivering_an_exception_has_the_external_bit, "SDM 3A 6.13") {
  // #UD is no contributory exception, so that what comes of its bad gate is not a double fault.
  set_gate(UD, STRAY, (struct gate){kernel_data, 0, 0x8e});
  TRY("ud2");
  WANT(GP, kernel_data + 1);
}
CASE(absent_gate_of_an_exception, "SDM 3A 6.13") {
  set_gate(UD, STRAY, (struct gate){kernel_code, 0, 0x0e});
  TRY("ud2");
  WANT(NP, UD * 8 + 3);
}

// --- double faults: SDM vol. 3, table 6-5
static void absent(unsigned vector) {
  const uint64_t gate = idt[vector * 2];
  set_gate(vector, (gate & 0xffff) | (gate >> 32 & 0xffff0000), (struct gate){kernel_code, 0, 0x0e});
}
CASE(double_fault_of_two_contributory, "SDM 3A 6.15 #DF") {
  absent(GP);
  TRY("mov %%eax, %%ds", "a"(0xfff8));
  EQUAL(seen.vector, DF);
  EQUAL(seen.error, 0);
}
CASE(double_fault_of_divide_and_np, "SDM 3A 6.15 #DF") {
  absent(DE);
  TRY("div %%ecx", "a"(1), "d"(0), "c"(0));
  EQUAL(seen.vector, DF);
}
CASE(double_fault_of_page_fault_and_np, "SDM 3A 6.15 #DF") {
  absent(PF);
  map(0, 0);
  TRY("mov (%%rax), %%rax", "a"(PAGE(0)));
  EQUAL(seen.vector, DF);
}
CASE(page_fault_after_a_contributory_is_serial, "SDM 3A 6.15 #DF") {
  // #GP goes to a stack that is not there: the page fault is delivered, not a double fault.
  const uint64_t gate = idt[GP * 2], of_pf = idt[PF * 2];
  set_gate(GP, (gate & 0xffff) | (gate >> 32 & 0xffff0000), (struct gate){kernel_code, 3, 0x8e});
  set_gate(PF, (of_pf & 0xffff) | (of_pf >> 32 & 0xffff0000), (struct gate){kernel_code, 1, 0x8e});
  set_stack_pointer(0x34, PAGE(4));
  map(3, 0);
  TRY("mov %%eax, %%ds", "a"(0xfff8));
  WANT(PF, pf_write);
  EQUAL(seen_cr2 & ~0xfffull, PAGE(3));
}
CASE(double_fault_of_two_page_faults, "SDM 3A 6.15 #DF") {
  const uint64_t gate = idt[PF * 2];
  set_gate(PF, (gate & 0xffff) | (gate >> 32 & 0xffff0000), (struct gate){kernel_code, 3, 0x8e});
  set_stack_pointer(0x34, PAGE(4));
  map(3, 0);
  map(0, 0);
  TRY("mov (%%rax), %%rax", "a"(PAGE(0)));
  EQUAL(seen.vector, DF);
  EQUAL(seen.error, 0);
}
CASE(page_fault_in_delivering_a_benign_exception, "SDM 3A 6.15 #DF") {
  const uint64_t gate = idt[UD * 2];
  set_gate(UD, (gate & 0xffff) | (gate >> 32 & 0xffff0000), (struct gate){kernel_code, 3, 0x8e});
  set_stack_pointer(0x34, PAGE(4));
  map(3, 0);
  TRY("ud2");
  WANT(PF, pf_write);
}
CASE(stack_fault_of_a_bad_stack_pointer_in_the_task_state, "SDM 3A 6.14.2") {
  set_stack_pointer(0x04, 1ull << 47);
  USER64("int $0x80");
  WANT(SS, 0);
}
CASE(stack_fault_in_delivering_a_fault_has_the_external_bit, "SDM 3A 6.13") {
  set_stack_pointer(0x04, 1ull << 47);
  USER64("ud2");
  WANT(SS, 1);
}
