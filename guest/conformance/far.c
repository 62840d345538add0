// Far transfers in long mode: jumps, calls and returns to segments and through call gates. SDM vol. 3, 5.8;
// vol. 2A CALL, JMP; vol. 2B RET.
#include "suite.h"
#define GROUP "far"

static struct {
  uint32_t offset;
  uint16_t selector;
} __attribute__((packed)) target;
static void aim(uint64_t offset, unsigned selector) {
  target.offset = (uint32_t)offset;
  target.selector = (uint16_t)selector;
}
#define JUMP "ljmpl *(%%rbx)"
#define FAR_JUMP(name, section, selector, vector, error) \
  CASE(name, section) {                                  \
    aim(STRAY, selector);                                \
    TRY(JUMP, "b"(&target));                             \
    WANT(vector, error);                                 \
  }
#define FAR_JUMP_TO(name, section, descriptor, vector, error) \
  CASE(name, section) {                                       \
    table[spare / 8] = descriptor;                            \
    aim(STRAY, spare);                                        \
    TRY(JUMP, "b"(&target));                                  \
    WANT(vector, error);                                      \
  }
FAR_JUMP(jump_to_null, "SDM 2A JMP", 0, GP, 0)
FAR_JUMP(jump_to_null_with_rpl, "SDM 2A JMP", 3, GP, 0)
FAR_JUMP(jump_beyond_the_table, "SDM 2A JMP", 0x1000, GP, 0x1000)
FAR_JUMP(jump_to_data, "SDM 2A JMP", kernel_data, GP, kernel_data)
FAR_JUMP(jump_to_user_code, "SDM 3A 5.8.1", user_code_64 & ~3, GP, user_code_64 & ~3)
FAR_JUMP(jump_to_user_code_with_rpl, "SDM 3A 5.8.1", user_code_64, GP, user_code_64 & ~3)
FAR_JUMP(jump_with_rpl_above_cpl, "SDM 3A 5.8.1", kernel_code | 3, GP, kernel_code)
FAR_JUMP(jump_to_absent_code, "SDM 2A JMP", absent_code, NP, absent_code)
FAR_JUMP(jump_to_the_task_in_long_mode, "SDM 2A JMP", task, GP, task)
FAR_JUMP_TO(jump_to_code_that_is_16_and_64_bits, "SDM 3A 5.2.1",
            SEGMENT(0, 0xfffffull, 0x9b, flag_long | flag_32 | flag_pages), GP, spare)
FAR_JUMP_TO(jump_to_a_task_gate_in_long_mode, "SDM 2A JMP", SEGMENT(0, 0, 0x85, 0), GP, spare)
FAR_JUMP_TO(jump_to_a_16_bit_call_gate_in_long_mode, "SDM 2A JMP", SEGMENT(0, 0, 0x84, 0), GP, spare)
FAR_JUMP_TO(jump_to_a_local_table, "SDM 2A JMP", SEGMENT(0, 0, 0x82, 0), GP, spare)
FAR_JUMP_TO(jump_to_conforming_code_of_less_privilege, "SDM 3A 5.8.1.2",
            SEGMENT(0, 0xfffffull, 0xff, flag_long | flag_pages), GP, spare)
FAR_JUMP_TO(jump_checks_privilege_before_presence, "SDM 2A JMP",
            SEGMENT(0, 0xfffffull, 0x7b, flag_long | flag_pages), GP, spare)
FAR_JUMP_TO(jump_beyond_the_limit, "SDM 3A 5.3", SEGMENT(0, 0xfff, 0x9b, flag_32), GP, 0)
CASE(failed_jump_keeps_cs, "SDM 2A JMP") {
  aim(STRAY, kernel_data);
  TRY("mov %%cs, %%ecx\n" MARK JUMP, "b"(&target));
  EQUAL(seen.cs, kernel_code);
}
CASE(jump_to_64_bit_code, "SDM 2A JMP") {
  TRY("movl $1f, (%%rbx)\n movw $8, 4(%%rbx)\n " JUMP "\n ud2\n 1:", "b"(&target));
  WANT_DONE();
}
CASE(jump_sets_the_accessed_bit, "SDM 3A 3.4.5.1") {
  table[spare / 8] = SEGMENT(0, 0xfffffull, 0x9a, flag_long | flag_pages);
  TRY("movl $1f, (%%rbx)\n movw $0x70, 4(%%rbx)\n " JUMP "\n 1:", "b"(&target));
  WANT_DONE();
  EQUAL(table[spare / 8] >> 40 & 1, 1);
  EQUAL(seen.cs, spare);
}
CASE(jump_to_conforming_code_keeps_cpl, "SDM 3A 5.8.1.2") {
  table[spare / 8] = SEGMENT(0, 0xfffffull, 0x9f, flag_long | flag_pages);
  USER64(
      "sub $16, %%rsp\n lea 1f(%%rip), %%eax\n mov %%eax, (%%rsp)\n movw $0x70, 4(%%rsp)\n ljmpl *(%%rsp)\n "
      "1:");
  WANT_DONE();
  EQUAL(seen.cs, spare | 3);
}
CASE(jump_to_32_bit_code_and_back, "SDM 2A JMP") {
  KERNEL32("ljmp $8, $0x40010010\n .org 71b + 16\n .code64\n mov $0x123456789, %%rcx");
  WANT_DONE();
  EQUAL(seen.rcx, 0x123456789);
}
CASE(call_pushes_cs_and_rip, "SDM 2A CALL") {
  TRY("mov %%rsp, %%rdx\n movl $1f, (%%rbx)\n movw $8, 4(%%rbx)\n lcalll *(%%rbx)\n ud2\n 1: sub %%rsp, "
      "%%rdx\n mov 4(%%rsp), %%rcx\n",
      "b"(&target));
  WANT_DONE();
  EQUAL(seen.rdx, 8);
  EQUAL(seen.rcx & 0xffff, kernel_code);
}
CASE(call_on_a_bad_stack_goes_nowhere, "SDM 2A CALL") {
  aim(STRAY, kernel_code);
  TRY("mov %%rax, %%rsp\n" MARK "lcalll *(%%rbx)", "b"(&target), "a"((1ull << 47) + 8));
  WANT(SS, 0);
  EQUAL(seen.rsp, (1ull << 47) + 8);
}
CASE(call_to_an_absent_segment_pushes_nothing, "SDM 2A CALL") {
  aim(STRAY, absent_code);
  TRY("mov %%rsp, %%rdx\n" MARK "lcalll *(%%rbx)", "b"(&target));
  WANT(NP, absent_code);
  EQUAL(seen.rsp, seen.rdx);
}

// --- call gates: 16 bytes in long mode. SDM vol. 3, 5.8.3.1
extern const char gate_target[];
static volatile uint64_t gate_stack, gate_words[5];
static void note_gate(struct frame* frame) {
  gate_stack = frame->rsp;
  for (unsigned i = 0; i < 5; i++) gate_words[i] = QUAD(frame->rsp + 8 * i);
  seen = *frame;
}
__asm__(".pushsection .text\n gate_target: int $0x82\n lretq\n gate_end: .popsection");
static void put_gate(uint64_t offset, unsigned selector, uint8_t access) {
  table[spare / 8] =
      (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)access << 40 | (offset & 0xffff0000) << 32;
  table[spare / 8 + 1] = offset >> 32;
  hook[0x82] = note_gate;
}
CASE(call_gate_without_change_of_privilege, "SDM 3A 5.8.3.1") {
  put_gate((uint64_t)gate_target, kernel_code, 0x8c);
  aim(0, spare);
  TRY("mov %%rsp, %%rdx\n lcalll *(%%rbx)\n 1: lea 1b(%%rip), %%rcx\n sub %%rsp, %%rdx", "b"(&target));
  WANT_DONE();
  EQUAL(gate_words[0], seen.rcx);
  EQUAL(gate_words[1], kernel_code);
  EQUAL(seen.rdx, 0);
}
CASE(call_gate_to_more_privilege_switches_stacks, "SDM 3A 5.8.5.1") {
  put_gate((uint64_t)gate_target, kernel_code, 0xec);
  USER64(
      "sub $8, %%rsp\n movl $0, (%%rsp)\n movw $0x73, 4(%%rsp)\n lcalll *(%%rsp)\n 1: lea 1b(%%rip), %%rcx\n "
      "mov %%ss, %%edx");
  WANT_DONE();
  EQUAL(gate_stack, (uint64_t)interrupt_stack + sizeof interrupt_stack - 32);
  EQUAL(gate_words[0], seen.rcx);
  EQUAL(gate_words[1], user_code_64);
  EQUAL(gate_words[2], seen.rsp);
  EQUAL(gate_words[3], user_data);
  EQUAL(seen.rdx, user_data);
}
CASE(call_gate_makes_ss_null, "SDM 3A 5.8.5.1") {
  put_gate((uint64_t)gate_target, kernel_code, 0xec);
  static volatile uint64_t ss;
  ss = 99;
  void note_ss(struct frame * frame) {
    ss = frame->ss;
  }
  hook[0x82] = note_ss;
  USER64("sub $8, %%rsp\n movl $0, (%%rsp)\n movw $0x73, 4(%%rsp)\n lcalll *(%%rsp)");
  WANT_DONE();
  EQUAL(ss, 0);
}
CASE(call_gate_of_the_kernel_by_users, "SDM 3A 5.8.4") {
  put_gate((uint64_t)gate_target, kernel_code, 0x8c);
  USER64("sub $8, %%rsp\n movl $0, (%%rsp)\n movw $0x73, 4(%%rsp)\n" MARK "lcalll *(%%rsp)");
  WANT(GP, spare);
}
#define GATE(name, offset, selector, access, vector, error) \
  CASE(name, "SDM 2A CALL") {                               \
    put_gate(offset, selector, access);                     \
    aim(0, spare);                                          \
    TRY("lcalll *(%%rbx)", "b"(&target));                   \
    WANT(vector, error);                                    \
  }
GATE(call_gate_absent, (uint64_t)gate_target, kernel_code, 0x0c, NP, spare)
GATE(call_gate_to_null, (uint64_t)gate_target, 0, 0x8c, GP, 0)
GATE(call_gate_to_data, (uint64_t)gate_target, kernel_data, 0x8c, GP, kernel_data)
GATE(call_gate_to_32_bit_code, (uint64_t)gate_target, kernel_code_32, 0x8c, GP, kernel_code_32)
GATE(call_gate_to_less_privileged_code, (uint64_t)gate_target, user_code_64 & ~3, 0x8c, GP, user_code_64 & ~3)
GATE(call_gate_to_absent_code, (uint64_t)gate_target, absent_code, 0x8c, NP, absent_code)
GATE(call_gate_to_a_bad_offset, 1ull << 47, kernel_code, 0x8c, GP, 0)
GATE(call_gate_beyond_the_table, (uint64_t)gate_target, 0xff8, 0x8c, GP, 0xff8)
CASE(call_gate_with_a_type_in_the_upper_half, "SDM 3A 5.8.3.1") {
  put_gate((uint64_t)gate_target, kernel_code, 0x8c);
  table[spare / 8 + 1] |= 1ull << 40;
  aim(0, spare);
  TRY("lcalll *(%%rbx)", "b"(&target));
  WANT(GP, spare);
}
CASE(jump_through_a_gate_does_not_change_privilege, "SDM 3A 5.8.4") {
  put_gate((uint64_t)gate_target, kernel_code, 0xec);
  USER64("sub $8, %%rsp\n movl $0, (%%rsp)\n movw $0x73, 4(%%rsp)\n" MARK "ljmpl *(%%rsp)");
  WANT(GP, kernel_code);
}
CASE(call_gate_with_a_bad_stack_in_the_task_state, "SDM 2A CALL") {
  put_gate((uint64_t)gate_target, kernel_code, 0xec);
  set_stack_pointer(4, 1ull << 47);
  set_gate(SS, (idt[SS * 2] & 0xffff) | (idt[SS * 2] >> 32 & 0xffff0000),
           (struct gate){kernel_code, 1, 0x8e});
  USER64("sub $8, %%rsp\n movl $0, (%%rsp)\n movw $0x73, 4(%%rsp)\n" MARK "lcalll *(%%rsp)");
  EQUAL(seen.vector, SS);
}

// --- far returns
#define RETURN(name, section, selector, vector, error)                                 \
  CASE(name, section) {                                                                \
    TRY("push %%rax\n pushq $stray\n mov %%rsp, %%rdx\n" MARK "lretq", "a"(selector)); \
    WANT(vector, error);                                                               \
    EQUAL(seen.rsp, seen.rdx);                                                         \
  }
RETURN(return_to_null, "SDM 2B RET", 0, GP, 0)
RETURN(return_to_data, "SDM 2B RET", kernel_data, GP, kernel_data)
RETURN(return_to_absent_code, "SDM 2B RET", absent_code, NP, absent_code)
RETURN(return_beyond_the_table, "SDM 2B RET", 0x1000, GP, 0x1000)
RETURN(return_with_rpl_unlike_the_segment, "SDM 2B RET", kernel_code | 3, GP, kernel_code)
RETURN(return_to_user_code_with_rpl_0, "SDM 2B RET", user_code_64 & ~3, GP, user_code_64 & ~3)
RETURN(return_to_the_task, "SDM 2B RET", task, GP, task)
CASE(return_to_a_bad_address, "SDM 2B RET") {
  TRY("push $8\n push %%rax\n" MARK "lretq", "a"(1ull << 47));
  WANT(GP, 0);
}
CASE(return_to_more_privilege, "SDM 2B RET") {
  USER64("push $8\n push $0\n" MARK "lretq");
  WANT(GP, kernel_code);
}
CASE(return_to_users, "SDM 2B RET") {
  static const uint8_t bytes[] = {0xcc, 0x90};
  memcpy((void*)FRAME(16), bytes, 2);
  TRY("push $0x23\n push %%rcx\n push $0x2b\n push %%rax\n lretq", "a"(user_code), "c"(user_stack - 64));
  WANT_DONE();
  EQUAL(seen.cs, user_code_64);
  EQUAL(seen.ss, user_data);
  EQUAL(seen.rsp, user_stack - 64);
}
CASE(return_to_users_drops_the_parameters_of_both_stacks, "SDM 2B RET") {
  static const uint8_t bytes[] = {0xcc, 0x90};
  memcpy((void*)FRAME(16), bytes, 2);
  TRY("push $0x23\n push %%rcx\n push $0\n push $0\n push $0x2b\n push %%rax\n lretq $16", "a"(user_code),
      "c"(user_stack - 64));
  WANT_DONE();
  EQUAL(seen.rsp, user_stack - 48);
}
CASE(return_to_users_makes_kernel_segments_null, "SDM 2B RET") {
  static const uint8_t bytes[] = {0x8c, 0xda, 0x8c, 0xe1, 0xcc};  // mov %ds, %edx; mov %fs, %ecx; int3
  memcpy((void*)FRAME(16), bytes, sizeof bytes);
  TRY("mov %%ebx, %%fs\n push $0x23\n push %%rcx\n push $0x2b\n push %%rax\n lretq", "a"(user_code),
      "c"(user_stack - 64), "b"(user_data));
  WANT_DONE();
  EQUAL(seen.rdx, 0);
  EQUAL(seen.rcx, user_data);
}
CASE(return_to_users_with_null_stack_segment, "SDM 2B RET") {
  TRY("push $0\n push %%rcx\n push $0x2b\n push %%rax\n" MARK "lretq", "a"(user_code), "c"(user_stack - 64));
  WANT(GP, 0);
}
CASE(return_to_users_with_the_kernels_stack_segment, "SDM 2B RET") {
  TRY("push $0x10\n push %%rcx\n push $0x2b\n push %%rax\n" MARK "lretq", "a"(user_code),
      "c"(user_stack - 64));
  WANT(GP, kernel_data);
}
CASE(return_to_users_with_an_absent_stack_segment, "SDM 2B RET") {
  table[spare / 8] = SEGMENT(0, 0xfffffull, 0x73, flag_32 | flag_pages);
  TRY("push $0x73\n push %%rcx\n push $0x2b\n push %%rax\n" MARK "lretq", "a"(user_code),
      "c"(user_stack - 64));
  WANT(SS, spare);
}
CASE(return_of_32_bits, "SDM 2B RET") {
  TRY("mov %%rsp, %%rbx\n sub $8, %%rsp\n movl $1f, (%%rsp)\n movl $8, 4(%%rsp)\n lretl\n ud2\n 1: sub "
      "%%rsp, %%rbx");
  WANT_DONE();
  EQUAL(seen.rbx, 0);
}
