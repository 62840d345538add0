// IRET in long mode: what it checks of the frame, in which order, which flags it loads. SDM vol. 2A, IRET. In
// the older modes: legacy.c.
#include "suite.h"
#define GROUP "iret"

// Pushes a frame and returns; rdx is RSP before IRET. Inputs: rax RIP, rbx CS, rcx flags, rsi RSP, rdi SS.
#define IRETQ \
  "push %%rdi\n push %%rsi\n push %%rcx\n push %%rbx\n push %%rax\n mov %%rsp, %%rdx\n" MARK "iretq"
#define FRAME_OF(rip, cs, flags, rsp, ss) \
  "a"((uint64_t)(rip)), "b"((uint64_t)(cs)), "c"((uint64_t)(flags)), "S"((uint64_t)(rsp)), "D"((uint64_t)(ss))
#define USER_FRAME(cs, flags, ss) FRAME_OF(user_code, cs, flags, user_stack - 64, ss)
#define REFUSED(name, section, vector, error, frame) \
  CASE(name, section) {                              \
    TRY(IRETQ, frame);                               \
    WANT(vector, error);                             \
    EQUAL(seen.rsp, seen.rdx);                       \
  }
REFUSED(to_null_code, "SDM 2A IRET", GP, 0, USER_FRAME(0, 2, user_data))
REFUSED(to_null_code_with_rpl_3, "SDM 2A IRET", GP, 0, USER_FRAME(3, 2, user_data))
REFUSED(to_data, "SDM 2A IRET", GP, kernel_data, USER_FRAME(kernel_data, 2, user_data))
REFUSED(to_absent_code, "SDM 2A IRET", NP, absent_code, USER_FRAME(absent_code, 2, kernel_data))
REFUSED(beyond_the_table, "SDM 2A IRET", GP, 0x1000, USER_FRAME(0x1000, 2, user_data))
REFUSED(to_the_local_table, "SDM 2A IRET", GP, 0x14, USER_FRAME(0x14, 2, user_data))
REFUSED(to_user_code_with_rpl_0, "SDM 2A IRET", GP, user_code_64 & ~3,
        USER_FRAME(user_code_64 & ~3, 2, user_data))
REFUSED(to_kernel_code_with_rpl_3, "SDM 2A IRET", GP, kernel_code, USER_FRAME(kernel_code | 3, 2, user_data))
REFUSED(to_a_system_descriptor, "SDM 2A IRET", GP, task, USER_FRAME(task, 2, user_data))
REFUSED(to_users_with_null_ss, "SDM 2A IRET", GP, 0, USER_FRAME(user_code_64, 2, 0))
REFUSED(to_compatibility_mode_with_null_ss, "SDM 2A IRET", GP, 0, USER_FRAME(user_code_32, 2, 3))
REFUSED(to_users_with_kernel_ss, "SDM 2A IRET", GP, kernel_data, USER_FRAME(user_code_64, 2, kernel_data))
REFUSED(to_users_with_ss_of_rpl_0, "SDM 2A IRET", GP, user_data & ~3,
        USER_FRAME(user_code_64, 2, user_data & ~3))
REFUSED(to_users_with_code_as_ss, "SDM 2A IRET", GP, user_code_64 & ~3,
        USER_FRAME(user_code_64, 2, user_code_64))
REFUSED(to_users_with_ss_beyond_the_table, "SDM 2A IRET", GP, 0x1000, USER_FRAME(user_code_64, 2, 0x1003))
REFUSED(to_a_bad_address, "SDM 2A IRET", GP, 0, FRAME_OF(1ull << 47, kernel_code, 2, user_stack, kernel_data))
REFUSED(to_a_bad_address_of_users, "SDM 2A IRET", GP, 0,
        FRAME_OF(1ull << 47, user_code_64, 2, user_stack, user_data))
CASE(to_users_with_absent_ss, "SDM 2A IRET") {
  table[spare / 8] = SEGMENT(0, 0xfffffull, 0x73, flag_32 | flag_pages);
  TRY(IRETQ, USER_FRAME(user_code_64, 2, spare | 3));
  // AMD: #SS. Intel's text has #SS in the steps and #NP in the list of exceptions.
  if (!is_amd && seen.vector == NP)
    WANT(NP, spare);
  else
    WANT(SS, spare);
}
CASE(to_users_with_read_only_ss, "SDM 2A IRET") {
  table[spare / 8] = SEGMENT(0, 0xfffffull, 0xf1, flag_32 | flag_pages);
  TRY(IRETQ, USER_FRAME(user_code_64, 2, spare | 3));
  WANT(GP, spare);
}
CASE(to_code_that_is_16_and_64_bits, "SDM 2A IRET") {
  table[spare / 8] = SEGMENT(0, 0xfffffull, 0xfb, flag_32 | flag_long | flag_pages);
  TRY(IRETQ, USER_FRAME(spare | 3, 2, user_data));
  WANT(GP, spare);
}
CASE(beyond_the_limit_of_compatibility_code, "SDM 2A IRET") {
  table[spare / 8] = SEGMENT(0, 0xfffull, 0xfb, flag_32);
  TRY(IRETQ, FRAME_OF(0x1000, spare | 3, 2, user_stack, user_data));
  WANT(GP, 0);
}
CASE(within_the_kernel, "SDM 2A IRET") {
  TRY("mov %%rsp, %%rsi\n mov $0x10, %%edi\n mov $1f, %%eax\n mov $8, %%ebx\n mov $3, %%ecx\n" IRETQ
      "\n ud2\n 1: pushfq\n pop %%r8");
  WANT_DONE();
  EQUAL(seen.r8, 3);
}
CASE(within_the_kernel_pops_rsp_and_ss_too, "SDM 2A IRET") {
  TRY("mov %%rsp, %%rsi\n sub $256, %%rsi\n mov $0x10, %%edi\n mov $1f, %%eax\n mov $8, %%ebx\n mov $2, "
      "%%ecx\n" IRETQ "\n ud2\n 1: mov %%rsp, %%r8");
  WANT_DONE();
  EQUAL(seen.r8, seen.rsi);
}
CASE(kernel_may_have_null_ss, "SDM 2A IRET") {
  TRY("mov %%rsp, %%rsi\n mov $0, %%edi\n mov $1f, %%eax\n mov $8, %%ebx\n mov $2, %%ecx\n" IRETQ
      "\n ud2\n 1: mov %%ss, %%r8d");
  WANT_DONE();
  EQUAL(seen.r8, 0);
}
CASE(nested_task, "SDM 2A IRET") {
  TRY("pushq $0x4002\n popfq\n push %%rdi\n push %%rsi\n push %%rcx\n push %%rbx\n push %%rax\n" MARK "iretq",
      FRAME_OF(STRAY, kernel_code, 2, 0, kernel_data));
  WANT(GP, 0);
}
CASE(order_code_before_stack, "SDM 2A IRET") {
  TRY(IRETQ, USER_FRAME(kernel_data, 2, kernel_data));
  WANT(GP, kernel_data);
  TRY(IRETQ, USER_FRAME(0x1003, 2, 0x2003));
  WANT(GP, 0x1000);
}
CASE(frame_on_an_absent_page, "SDM 2A IRET") {
  map(0, 0);
  const uint64_t gate = idt[PF * 2];
  set_gate(PF, (gate & 0xffff) | (gate >> 32 & 0xffff0000), (struct gate){kernel_code, 1, 0x8e});
  TRY("mov %%rbx, %%rsp\n" MARK "iretq", "b"(PAGE(0)));
  WANT(PF, 0);
  EQUAL(seen.rsp, PAGE(0));
}
CASE(loads_all_flags_in_the_kernel, "SDM 2A IRET") {
  const uint64_t flags = 0x245ed7 & ~(uint64_t)(IF | TF | NT);  // ID, AC, IOPL and the arithmetic flags
  TRY("mov %%rsp, %%rsi\n mov $0x10, %%edi\n mov $1f, %%eax\n mov $8, %%ebx\n" IRETQ
      "\n ud2\n 1: pushfq\n pop %%r8",
      "c"(flags));
  WANT_DONE();
  EQUAL(seen.r8, (flags & ~0x28ull) | 2);
}
CASE(clears_vif_and_vip_as_written, "SDM 2A IRET") {
  TRY("mov %%rsp, %%rsi\n mov $0x10, %%edi\n mov $1f, %%eax\n mov $8, %%ebx\n" IRETQ
      "\n ud2\n 1: pushfq\n pop %%r8",
      "c"(0x180002));
  WANT_DONE();
  EQUAL(seen.r8, 0x180002);
}
CASE(vm_flag_is_not_loaded_in_long_mode, "SDM 2A IRET") {
  TRY("mov %%rsp, %%rsi\n mov $0x10, %%edi\n mov $1f, %%eax\n mov $8, %%ebx\n" IRETQ
      "\n ud2\n 1: pushfq\n pop %%r8",
      "c"(0x20002));
  WANT_DONE();
  EQUAL(seen.r8 & VM, 0);
}
CASE(users_get_iopl_and_if_from_the_kernel, "SDM 2A IRET") {
  USER64("pushfq\n pop %%r8", .flags = 0x3202);
  WANT_DONE();
  EQUAL(seen.r8 & 0x3200, 0x3200);
}
CASE(users_cannot_raise_iopl, "SDM 2A IRET") {
  USER64(
      "mov %%rsp, %%rax\n push $0x23\n push %%rax\n push $0x3202\n push $0x2b\n lea 1f(%%rip), %%rax\n push "
      "%%rax\n iretq\n ud2\n 1: pushfq\n pop %%r8");
  WANT_DONE();
  EQUAL(seen.r8 & 0x3200, 0);
}
CASE(users_with_iopl_3_change_if, "SDM 2A IRET") {
  USER64(
      "mov %%rsp, %%rax\n push $0x23\n push %%rax\n push $0x0202\n push $0x2b\n lea 1f(%%rip), %%rax\n push "
      "%%rax\n iretq\n ud2\n 1: pushfq\n pop %%r8",
      .flags = 0x3002);
  WANT_DONE();
  EQUAL(seen.r8 & 0x3200, 0x3200);  // IF set; IOPL kept
}
CASE(users_to_the_kernel, "SDM 2A IRET") {
  USER64("push $0x10\n push $0\n push $2\n push $8\n push $0\n" MARK "iretq");
  WANT(GP, kernel_code);
}
CASE(to_users_makes_kernel_segments_null, "SDM 2A IRET") {
  // The way of every USER64; DS and ES are loaded with the users' before, FS and GS here.
  __asm__ volatile("mov %0, %%fs\n mov %1, %%gs" : : "r"((uint32_t)kernel_data), "r"((uint32_t)user_data));
  USER64("mov %%fs, %%eax\n mov %%gs, %%ebx\n mov %%ds, %%ecx");
  WANT_DONE();
  EQUAL(seen.rax, 0);
  EQUAL(seen.rbx, user_data);
  EQUAL(seen.rcx, user_data);
}
CASE(to_users_keeps_the_base_of_what_becomes_null, "SDM 2A IRET") {
  // It is the selector that becomes null: users of 64-bit mode still reach through the base.
  __asm__ volatile("mov %0, %%fs\n mov %0, %%gs" : : "r"((uint32_t)kernel_data));
  WORD(PAGE(0) + 8) = 0x1122;
  map(0, FRAME(0) | P | W | U);
  write_msr(msr_fs_base, PAGE(0));
  write_msr(msr_gs_base, PAGE(0) + 8);
  USER64("movzwl %%fs:8, %%eax\n movzwl %%gs:0, %%ebx\n mov %%fs, %%ecx");
  WANT_DONE();
  EQUAL(seen.rax, 0x1122);
  EQUAL(seen.rbx, 0x1122);
  EQUAL(seen.rcx, 0);
}
CASE(to_users_clears_the_rpl_of_null_selectors, "SDM 2A IRET") {
  __asm__ volatile("mov %0, %%fs\n mov %0, %%gs" : : "r"(3));
  write_msr(msr_fs_base, 0x123456789000);
  USER64("mov %%fs, %%eax\n mov %%gs, %%ebx");
  WANT_DONE();
  EQUAL(seen.rax, 0);
  EQUAL(seen.rbx, 0);
  EQUAL(read_msr(msr_fs_base), 0x123456789000);
}
CASE(to_users_keeps_conforming_code_in_ds, "SDM 2A IRET") {
  table[spare / 8] = SEGMENT(0, 0xfffffull, 0x9f, flag_32 | flag_pages);
  __asm__ volatile("mov %0, %%fs" : : "r"((uint32_t)spare));
  USER64("mov %%fs, %%eax");
  WANT_DONE();
  EQUAL(seen.rax, spare);
}
CASE(to_compatibility_mode_takes_32_bits_of_rip, "SDM 2A IRET") {
  static const uint8_t bytes[] = {0xcc, 0x90};
  memcpy((void*)FRAME(16), bytes, 2);
  TRY("push $0x23\n push %%rcx\n push $2\n push $0x1b\n push %%rax\n iretq", "a"(user_code), "c"(user_stack));
  WANT_DONE();
  EQUAL(seen.cs, user_code_32);
  EQUAL(seen.rsp, user_stack);
}
CASE(iretd_in_64_bits, "SDM 2A IRET") {
  TRY("mov %%rsp, %%rbx\n sub $20, %%rsp\n movl $1f, (%%rsp)\n movl $8, 4(%%rsp)\n movl $3, 8(%%rsp)\n mov "
      "%%ebx, 12(%%rsp)\n movl $0x10, 16(%%rsp)\n iretl\n ud2\n 1: pushfq\n pop %%r8");
  WANT_DONE();
  EQUAL(seen.r8, 3);
}
CASE(iret_of_16_bits, "SDM 2A IRET") {
  TRY("sub $10, %%rsp\n movw $0x1234, (%%rsp)\n movw $0x4444, 2(%%rsp)\n" MARK "iretw");
  WANT(GP, 0x4444);
}
CASE(unblocks_nothing_when_it_faults, "SDM 3A 6.7.1") {
  TRY(IRETQ, USER_FRAME(0, 2, user_data));
  WANT(GP, 0);
  EQUAL(seen.cs, kernel_code);
  EQUAL(seen.ss, kernel_data);
}
CASE(rf_from_the_frame_suppresses_a_breakpoint, "SDM 3B 17.3.1.1") {
  extern const char iret_target[];
  set_dr0((uint64_t)iret_target);
  set_dr7(0x402);
  TRY("mov %%rsp, %%rsi\n mov $0x10, %%edi\n mov $iret_target, %%eax\n mov $8, %%ebx\n" IRETQ
      "\n ud2\n iret_target: nop\n nop",
      "c"(0x10002));
  WANT_DONE();
  TRY("nop\n" MARK "jmp iret_target");
  EQUAL(seen.vector, DB);
  EQUAL(seen.rip, (uint64_t)iret_target);
}
