// Protected mode of 32 and 16 bits: exceptions, privilege, segments, far transfers, IRET, the fast calls.
// Segment limits at length and hardware task switches are tested by ROMs instead.
#include "legacy.h"
#define GROUP "legacy"

// In the kernel, without paging.
#define RULE(name, section, vector, error, text, ...) \
  CASE(name, section) {                               \
    prepare_legacy();                                 \
    LEGACY(32, text, ##__VA_ARGS__);                  \
    SEEN(vector, error);                              \
  }
#define USER .cs = user_code_32
CASE(protected_mode_runs, "SDM 3A 9.8") {
  prepare_legacy();
  LEGACY(32, "mov $0x12345678, %%ecx\n push %%ecx\n pop %%edx");
  SEEN_DONE();
  EQUAL(legacy_seen.edx, 0x12345678);
  EQUAL(legacy_seen.cs, kernel_code_32);
}
RULE(p32_divide, "SDM 3A 6.15 #DE", DE, 0, "xor %%ecx, %%ecx\n" MARK "div %%ecx")
RULE(p32_into, "SDM 3A 6.15 #OF", OF, 0, "mov $0x7fffffff, %%eax\n inc %%eax\n into\n" MARK "nop")
CASE(p32_into_without_overflow, "SDM 2A INTO") {
  prepare_legacy();
  LEGACY(32, "xor %%eax, %%eax\n into");
  SEEN_DONE();
}
RULE(p32_bound, "SDM 3A 6.15 #BR", BR, 0, "push $10\n push $5\n mov $11, %%eax\n" MARK "bound %%eax, (%%esp)")
CASE(p32_bound_within, "SDM 2A BOUND") {
  prepare_legacy();
  LEGACY(32, "push $10\n push $5\n mov $10, %%eax\n bound %%eax, (%%esp)");
  SEEN_DONE();
}
RULE(p32_bound_is_signed, "SDM 2A BOUND", BR, 0,
     "push $10\n push $5\n mov $-1, %%eax\n" MARK "bound %%eax, (%%esp)")
RULE(p32_bound_of_a_register, "SDM 2A BOUND", UD, 0, ".byte 0x62, 0xc0")
RULE(p32_aam_by_zero, "SDM 2A AAM", DE, 0, ".byte 0xd4, 0")
RULE(p32_ud2, "SDM 3A 6.15 #UD", UD, 0, "ud2")
RULE(p32_device_not_available, "SDM 3A 6.15 #NM", NM, 0, "fnop", .cr0 = cr0_pe | 0x30 | cr0_em)
RULE(p32_selector_beyond_the_table, "SDM 2B MOV", GP, 0xff8, "mov $0xff8, %%eax\n" MARK "mov %%eax, %%ds")
RULE(p32_null_ss, "SDM 2B MOV", GP, 0, "xor %%eax, %%eax\n" MARK "mov %%eax, %%ss")
RULE(p32_null_ds_is_used, "SDM 3A 5.4.1", GP, 0,
     "xor %%eax, %%eax\n mov %%eax, %%ds\n" MARK "mov 0x20000, %%eax")
RULE(p32_far_jump_to_null, "SDM 2A JMP", GP, 0, "ljmp $0, $0")
RULE(p32_far_jump_to_data, "SDM 2A JMP", GP, kernel_data, "ljmp $0x10, $0x2a000")
RULE(p32_far_call_to_absent_code, "SDM 2A CALL", NP, absent_code, "lcall $0x48, $0x2a000")
RULE(p32_far_jump_to_user_code, "SDM 3A 5.8.1", GP, 0x18, "ljmp $0x1b, $0x2a000")
RULE(p32_far_return_to_null, "SDM 2B RET", GP, 0, "push $0\n push $0x2a000\n" MARK "lret")
RULE(p32_iret_to_data, "SDM 2A IRET", GP, kernel_data, "push $2\n push $0x10\n push $0x2a000\n" MARK "iretl")
RULE(p32_sysret_outside_long_mode, "SDM 2B SYSRET", UD, 0, ".byte 0x0f, 0x07")
RULE(p32_swapgs, "SDM 2B SWAPGS", UD, 0, ".byte 0x0f, 0x01, 0xf8")
RULE(p32_sysexit_without_selector, "SDM 2B SYSEXIT", GP, 0,
     "xor %%eax, %%eax\n xor %%edx, %%edx\n mov $0x174, %%ecx\n wrmsr\n" MARK "sysexit")
RULE(p32_instruction_of_16_bytes, "SDM 2A 2.3.11", GP, 0,
     ".byte 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90")
RULE(p32_mov_to_cr0_of_paging_without_protection, "SDM 2B MOV CR", GP, 0,
     "mov $0x80000030, %%eax\n" MARK "mov %%eax, %%cr0")
RULE(p32_cr4_reserved_bit, "SDM 2B MOV CR", GP, 0, "mov $0x80000000, %%eax\n" MARK "mov %%eax, %%cr4")
CASE(p32_efer_lme_without_paging_is_free, "SDM 3A 9.8.5") {
  prepare_legacy();
  LEGACY(32,
         "mov $0xc0000080, %%ecx\n rdmsr\n or $0x100, %%eax\n wrmsr\n rdmsr\n mov %%eax, %%ebx\n and "
         "$~0x100, %%eax\n wrmsr");
  SEEN_DONE();
  EQUAL(legacy_seen.ebx & 0x500, 0x100);  // enabled, not active
}
RULE(p32_write_to_code, "SDM 3A 5.5", GP, 0, "mov %%eax, %%cs:0x20000")
CASE(p32_read_of_execute_only_code, "SDM 3A 5.5") {
  prepare_legacy();
  table[spare / 8] = SEGMENT(0, 0xfffffull, 0x99, flag_32 | flag_pages);
  LEGACY(32, "ljmp $0x70, $1f - 71b + 0x20000\n 1:" MARK "mov %%cs:0x20000, %%eax");
  SEEN(GP, 0);
}
CASE(p32_write_to_read_only_data, "SDM 3A 5.5") {
  prepare_legacy();
  table[spare / 8] = SEGMENT(0, 0xfffffull, 0x91, flag_32 | flag_pages);
  LEGACY(32, "mov 0x2c000, %%eax\n" MARK "mov %%eax, 0x2c000", .ds = spare);
  SEEN(GP, 0);
}
CASE(p32_limit, "SDM 3A 5.3") {
  prepare_legacy();
  table[spare / 8] = SEGMENT(0x2c000ull, 0xf, 0x93, flag_32);
  LEGACY(32, "mov 12, %%eax\n" MARK "mov 13, %%eax", .ds = spare);
  SEEN(GP, 0);
}
CASE(p32_limit_in_pages, "SDM 3A 5.3") {
  prepare_legacy();
  table[spare / 8] = SEGMENT(0x2c000ull, 0, 0x93, flag_32 | flag_pages);
  LEGACY(32, "mov 0xffc, %%eax\n" MARK "mov 0xffd, %%eax", .ds = spare);
  SEEN(GP, 0);
}
CASE(p32_expand_down_below, "SDM 3A 5.3") {
  prepare_legacy();
  table[spare / 8] = SEGMENT(0, 0x2bull, 0x97, flag_32 | flag_pages);
  LEGACY(32, "mov 0x2c000, %%eax\n" MARK "mov 0x2bffc, %%eax", .ds = spare);
  SEEN(GP, 0);
}
CASE(p32_expand_down_of_16_bits_ends_at_64_kib, "SDM 3A 5.3") {
  prepare_legacy();
  table[spare / 8] = SEGMENT(0x10000ull, 0xfff, 0x97, 0);
  LEGACY(32, "mov 0xfffc, %%eax\n" MARK "mov 0xfffd, %%eax", .ds = spare);
  SEEN(GP, 0);
}
CASE(p32_base_is_added, "SDM 3A 3.4.4") {
  prepare_legacy();
  table[spare / 8] = SEGMENT(0x2c000ull, 0xff, 0x93, flag_32);
  LONG(0x2c020ull) = 0x5a5a;
  LEGACY(32, "mov 0x20, %%eax", .ds = spare);
  SEEN_DONE();
  EQUAL(legacy_seen.eax, 0x5a5a);
}
CASE(p32_code_limit, "SDM 3A 5.3") {
  prepare_legacy();
  table[spare / 8] = SEGMENT(0x20000ull, 0xf, 0x9b, flag_32);
  LEGACY(32, "ljmp $0x70, $0x20\n");
  SEEN(GP, 0);
}
CASE(p32_jump_beyond_the_limit, "SDM 2A JMP") {
  prepare_legacy();
  table[spare / 8] = SEGMENT(0x20000ull, 0x3f, 0x9b, flag_32);
  LEGACY(32, "ljmp $0x70, $1f - 71b\n 1: mov $0x100, %%eax\n jmp *%%eax");
  EQUAL(legacy_seen.vector, GP);
  EQUAL(legacy_seen.error, 0);
  EQUAL(legacy_seen.cs, spare);
}
CASE(p32_execution_runs_beyond_the_limit, "SDM 3A 5.3") {
  prepare_legacy();
  table[spare / 8] = SEGMENT(0x20000ull, 0x1f, 0x9b, flag_32);
  LEGACY(32, "ljmp $0x70, $1f - 71b\n 1: nop\n jmp 2f\n .org 71b + 0x1e\n 2: mov $1, %%eax");
  EQUAL(legacy_seen.vector, GP);
  EQUAL(legacy_seen.eip, 0x1e);
}
CASE(p32_frame_without_change_of_privilege, "SDM 3A 6.12.1") {
  prepare_legacy();
  LEGACY(32, "mov %%esp, %%ecx\n" MARK "ud2", .eflags = 0x40000);
  SEEN(UD, 0);
  EQUAL(legacy_seen.esp, legacy_seen.ecx);
  EQUAL(legacy_seen.eflags & AC_flag, AC_flag);
}
CASE(p32_fault_saves_rf, "SDM 3B 17.3.1.1") {
  prepare_legacy();
  LEGACY(32, "ud2");
  EQUAL(legacy_seen.eflags & RF, RF);
}

// --- privilege 3
CASE(p32_users_run, "SDM 3A 5.5") {
  prepare_legacy();
  LEGACY(32, "mov %%cs, %%eax\n mov %%ss, %%ecx", USER);
  SEEN_DONE();
  EQUAL(legacy_seen.cs, user_code_32);
  EQUAL(legacy_seen.ss, user_data);
  EQUAL(legacy_seen.esp, 0x2c000);
}
RULE(p32_user_cli, "SDM 2A CLI", GP, 0, "cli", USER)
RULE(p32_user_hlt, "SDM 2A HLT", GP, 0, "hlt", USER)
RULE(p32_user_mov_cr, "SDM 2B MOV CR", GP, 0, "mov %%cr0, %%eax", USER)
RULE(p32_user_in, "SDM 1 19.5", GP, 0, "in $0x80, %%al", USER)
RULE(p32_user_int_of_the_kernels_gate, "SDM 3A 6.12.1.1", GP, 0x81 * 8 + 2, "int $0x81", USER)
RULE(p32_user_kernel_data, "SDM 3A 5.6", GP, kernel_data, "mov $0x10, %%eax\n" MARK "mov %%eax, %%ds", USER)
RULE(p32_user_far_call_to_the_kernel, "SDM 3A 5.8.1", GP, kernel_code_32, "lcall $0x30, $0x2a000", USER)
RULE(p32_user_iret_to_the_kernel, "SDM 2A IRET", GP, kernel_code_32,
     "push $2\n push $0x30\n push $0x2a000\n" MARK "iretl", USER)
CASE(p32_user_port_map_beyond_the_limit, "SDM 1 19.5.2") {
  prepare_legacy();
  WORD((uint64_t)legacy_state + 0x66) = 0xffff;
  LEGACY(32, "in $0x80, %%al", USER);
  SEEN(GP, 0);
}
CASE(p32_user_port_map, "SDM 1 19.5.2") {
  prepare_legacy();
  legacy_state[0x88 + 0x80 / 8] = 0xfe;
  LEGACY(32, "out %%al, $0x80\n" MARK "out %%al, $0x81", USER);
  SEEN(GP, 0);
}
CASE(p32_user_alignment, "SDM 3A 6.15 #AC") {
  prepare_legacy();
  LEGACY(32, "mov 1(%%esp), %%eax", USER, .cr0 = cr0_pe | 0x30 | cr0_am, .eflags = AC_flag);
  SEEN(AC, 0);
}
CASE(p32_user_iopl_3, "SDM 2A CLI") {
  prepare_legacy();
  LEGACY(32, "cli\n in $0x80, %%al\n pushfl\n pop %%eax", USER, .eflags = 0x3202);
  SEEN_DONE();
  EQUAL(legacy_seen.eax & 0x3200, 0x3000);
}
RULE(p32_user_sysenter_without_selector, "SDM 2B SYSENTER", GP, 0, "sysenter", USER)
CASE(p32_user_sysenter, "SDM 2B SYSENTER") {
  prepare_legacy();
  write_msr(msr_sysenter_cs, kernel_code_32);
  write_msr(msr_sysenter_eip, legacy_code + 64);
  write_msr(msr_sysenter_esp, 0x2b000);
  // SS is the next descriptor after CS: here the system one of the task, which SYSENTER does not look at.
  LEGACY(32, "sysenter\n .org 71b + 64\n mov %%cs, %%ecx\n mov %%ss, %%edx\n mov %%esp, %%ebx", USER);
  write_msr(msr_sysenter_cs, 0);
  EQUAL(legacy_seen.vector, done);
  EQUAL(legacy_seen.ecx, kernel_code_32);
  EQUAL(legacy_seen.edx, kernel_code_32 + 8);
  EQUAL(legacy_seen.ebx, 0x2b000);
}

// --- 16-bit segments in protected mode
CASE(p16_runs, "SDM 3A 21.1") {
  prepare_legacy();
  LEGACY(16, "mov $0x12345678, %%ecx\n mov $0x9999, %%cx\n push %%cx\n pop %%dx", .cs = low_code_16);
  SEEN_DONE();
  EQUAL(legacy_seen.ecx, 0x12349999);
  EQUAL(legacy_seen.edx, 0x9999);
}
CASE(p16_stack_of_16_bits_keeps_upper_esp, "SDM 3A 21.2") {
  prepare_legacy();
  table[spare / 8] = SEGMENT(0x20000ull, 0xffff, 0x93, 0);
  LEGACY(32,
         "mov $0x70, %%eax\n mov %%eax, %%ss\n mov $0x1234c000, %%esp\n push %%eax\n mov %%esp, %%ecx\n mov "
         "$0x10, %%eax\n mov %%eax, %%ss\n mov $0x2c000, %%esp");
  SEEN_DONE();
  EQUAL(legacy_seen.ecx, 0x1234bffc);
}
CASE(p16_gate_pushes_words, "SDM 3A 21.4") {
  // A 16-bit interrupt gate: three words on the stack.
  prepare_legacy();
  static const uint8_t handler[] = {
      0x8b, 0x1c, 0x24, 0x8b, 0x4c, 0x24, 4, 0xcd, 0x80};  // mov (%esp), %ebx; mov 4(%esp), %ecx; int $0x80
  memcpy((void*)0x28000ull, handler, sizeof handler);
  table[spare / 8] = SEGMENT(0x20000ull, 0xffff, 0x9b, flag_32);
  set_legacy_gate(0x82, 0x8000, spare, 0x86);
  LEGACY(32, "mov %%esp, %%edx\n int $0x82");
  EQUAL(legacy_seen.vector, done);
  EQUAL(legacy_seen.esp, legacy_seen.edx - 6);
  EQUAL(legacy_seen.ebx >> 16, kernel_code_32);
}
CASE(p16_pusha_and_popa, "SDM 2B PUSHA") {
  prepare_legacy();
  LEGACY(16,
         "mov $1, %%ax\n mov $2, %%bx\n mov %%sp, %%dx\n pusha\n mov %%sp, %%cx\n sub %%cx, %%dx\n mov %%dx, "
         "%%si\n popa",
         .cs = low_code_16, .ss = low_code_16 + 8, .esp = 0xc000);
  SEEN_DONE();
  EQUAL(legacy_seen.ebx & 0xffff, 2);
}

// --- call gates and far calls outside long mode
static void call_gate(unsigned selector, uint32_t offset, unsigned words, uint8_t access) {
  table[spare / 8] = (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)words << 32 |
                     (uint64_t)access << 40 | (uint64_t)(offset & 0xffff0000) << 32;
}
CASE(p32_call_gate_copies_parameters, "SDM 3A 5.8.5") {
  prepare_legacy();
  // At the target: the third doubleword above the return address is the first parameter.
  static const uint8_t target[] = {0x8b, 0x5c, 0x24, 8, 0x8b, 0x4c, 0x24, 12, 0x89, 0xe2, 0xcd, 0x80};
  memcpy((void*)0x28000ull, target, sizeof target);
  call_gate(kernel_code_32, 0x28000, 2, 0xec);
  LEGACY(32, "push $0x111\n push $0x222\n lcall $0x73, $0", USER);
  EQUAL(legacy_seen.vector, done);
  EQUAL(legacy_seen.ebx, 0x222);
  EQUAL(legacy_seen.ecx, 0x111);
  EQUAL(legacy_seen.edx, (uint32_t)(uint64_t)interrupt_stack + sizeof interrupt_stack - 24);
}
CASE(p32_call_gate_absent, "SDM 2A CALL") {
  prepare_legacy();
  call_gate(kernel_code_32, 0x28000, 0, 0x6c);
  LEGACY(32, "lcall $0x73, $0", USER);
  SEEN(NP, spare);
}
CASE(p32_call_gate_of_the_kernel, "SDM 3A 5.8.4") {
  prepare_legacy();
  call_gate(kernel_code_32, 0x28000, 0, 0x8c);
  LEGACY(32, "lcall $0x73, $0", USER);
  SEEN(GP, spare);
}
CASE(p32_gate_of_an_interrupt_by_far_call, "SDM 2A CALL") {
  prepare_legacy();
  call_gate(kernel_code_32, 0x28000, 0, 0x8e);
  LEGACY(32, "lcall $0x70, $0");
  SEEN(GP, spare);
}
CASE(p32_inc_is_no_rex, "SDM 2A 2.2.1") {
  prepare_legacy();
  LEGACY(32, "mov $5, %%eax\n .byte 0x40, 0x40, 0x48");
  SEEN_DONE();
  EQUAL(legacy_seen.eax, 6);
}
CASE(p32_arpl, "SDM 2A ARPL") {
  prepare_legacy();
  LEGACY(32, "mov $0x10, %%eax\n mov $3, %%ecx\n arpl %%cx, %%ax\n setz %%dl");
  SEEN_DONE();
  EQUAL(legacy_seen.eax, 0x13);
  EQUAL(legacy_seen.edx & 0xff, 1);
}
