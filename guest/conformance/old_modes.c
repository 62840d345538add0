// Real mode and V86 mode. SDM vol. 3, chapter 20.
#include "legacy.h"
#define GROUP "legacy"

#define REAL(name, section, vector, text, ...)  \
  CASE(name, section) {                         \
    prepare_legacy();                           \
    LEGACY(16, text, .real = 1, ##__VA_ARGS__); \
    SEEN(vector, 0);                            \
  }
CASE(real_mode_runs, "SDM 3A 20.1") {
  prepare_legacy();
  LEGACY(16, "mov $0x1234, %%cx\n push %%cx\n pop %%dx\n mov %%cs, %%bx", .real = 1);
  SEEN_DONE();
  EQUAL(legacy_seen.edx & 0xffff, 0x1234);
  EQUAL(legacy_seen.ebx & 0xffff, 0x2000);
}
REAL(real_divide, "SDM 3A 20.1.4", DE, "xor %%cx, %%cx\n" MARK "div %%cx")
REAL(real_undefined, "SDM 3A 20.1.4", UD, "ud2")
REAL(real_int3, "SDM 3A 20.1.4", BP, "int3\n" MARK "nop")
REAL(real_into, "SDM 2A INTO", OF, "mov $0x7fff, %%ax\n inc %%ax\n into\n" MARK "nop")
REAL(real_bound, "SDM 2A BOUND", BR,
     "push $5\n push $1\n mov %%sp, %%bx\n mov $6, %%ax\n" MARK "bound %%ax, %%ss:(%%bx)")
REAL(real_lar_does_not_exist, "SDM 2A LAR", UD, "lar %%ax, %%ax")
REAL(real_lldt_does_not_exist, "SDM 2A LLDT", UD, "lldt %%ax")
REAL(real_str_does_not_exist, "SDM 2B STR", UD, "str %%ax")
REAL(real_verr_does_not_exist, "SDM 2C VERR", UD, "verr %%ax")
REAL(real_arpl_does_not_exist, "SDM 2A ARPL", UD, ".byte 0x63, 0xc0")
REAL(real_sysenter, "SDM 2B SYSENTER", GP, "sysenter")
REAL(real_word_at_the_end_of_the_segment, "SDM 3A 20.1.1", GP, "mov $0xffff, %%bx\n" MARK "mov (%%bx), %%ax")
REAL(real_offset_above_64_kib, "SDM 3A 20.1.1", GP, "mov $0x10000, %%ebx\n" MARK "mov (%%ebx), %%al")
REAL(real_stack_word_at_the_end, "SDM 3A 20.1.1", SS, "mov $0xffff, %%bp\n" MARK "mov (%%bp), %%ax")
REAL(real_interrupt_beyond_the_tables_limit, "SDM 3A 20.1.4", GP,
     "lidt %%cs:1f - 71b\n jmp 2f\n 1: .word 0x7f\n .long 0\n 2:" MARK "int $0x80")
REAL(real_device_not_available, "SDM 3A 6.15 #NM", NM,
     "mov %%cr0, %%eax\n or $8, %%al\n mov %%eax, %%cr0\n" MARK "fnop")
CASE(real_segments_are_paragraphs, "SDM 3A 20.1.1") {
  prepare_legacy();
  WORD(0x2c124ull) = 0xabcd;
  LEGACY(16, "mov $0x2c12, %%ax\n mov %%ax, %%es\n mov %%es:4, %%cx", .real = 1);
  SEEN_DONE();
  EQUAL(legacy_seen.ecx & 0xffff, 0xabcd);
}
CASE(real_interrupt_clears_if_and_tf, "SDM 3A 20.1.4") {
  prepare_legacy();
  LEGACY(16, "pushw $0x0202\n popfw\n int $0x80", .real = 1);
  EQUAL(legacy_seen.vector, done);
  EQUAL(legacy_seen.eflags & IF, IF);
}
CASE(real_int_goes_through_the_table, "SDM 3A 20.1.4") {
  prepare_legacy();
  LEGACY(16,
         "xor %%ax, %%ax\n mov %%ax, %%es\n movw $1f - 71b, %%es:0x60 * 4\n mov %%cs, %%es:0x60 * 4 + 2\n"
         "mov %%sp, %%dx\n stc\n int $0x60\n 3: sbb %%si, %%si\n jmp 2f\n"
         "1: mov %%sp, %%bp\n mov (%%bp), %%bx\n sub %%bp, %%dx\n clc\n iret\n 2: mov $3b - 71b, %%cx",
         .real = 1);
  SEEN_DONE();
  EQUAL(legacy_seen.edx & 0xffff, 6);
  EQUAL(legacy_seen.ebx & 0xffff, legacy_seen.ecx & 0xffff);
  EQUAL(legacy_seen.esi & 0xffff, 0xffff);  // IRET brought carry back
}
CASE(real_iret_of_16_bits_keeps_upper_flags, "SDM 2A IRET") {
  prepare_legacy();
  LEGACY(16, "pushl $0x200002\n popfl\n pushfw\n push %%cs\n push $1f - 71b\n iret\n 1: pushfl\n pop %%eax",
         .real = 1);
  SEEN_DONE();
  EQUAL(legacy_seen.eax & ID, ID);
}
CASE(real_push_wraps_at_zero, "SDM 3A 20.1.1") {
  prepare_legacy();
  LEGACY(16, "xor %%sp, %%sp\n push %%ax\n mov %%sp, %%cx", .real = 1, .ss = 0x1000);
  SEEN_DONE();
  EQUAL(legacy_seen.ecx & 0xffff, 0xfffe);
}
CASE(real_a20_is_open, "SDM 3A 20.1.1") {
  prepare_legacy();
  const uint16_t low = WORD(0x500ull), high = WORD(0x100500ull);
  LEGACY(16, "mov $0xffff, %%ax\n mov %%ax, %%es\n mov %%es:0x510, %%cx", .real = 1);
  SEEN_DONE();
  EQUAL(legacy_seen.ecx & 0xffff, high);
  (void)low;
}
CASE(real_smsw, "SDM 2B SMSW") {
  prepare_legacy();
  LEGACY(16, "smsw %%ax", .real = 1);
  SEEN_DONE();
  EQUAL(legacy_seen.eax & 1, 0);
}
CASE(real_32_bit_operands, "SDM 2A 2.1.1") {
  prepare_legacy();
  LEGACY(16, "mov $0x12345678, %%eax\n push %%eax\n pop %%ecx", .real = 1);
  SEEN_DONE();
  EQUAL(legacy_seen.ecx, 0x12345678);
}

// --- V86 mode: ends by HLT, which is not allowed there
#define V86_WITH(flags, name, section, vector, error, text) \
  CASE(name, section) {                                     \
    prepare_legacy();                                       \
    LEGACY(16, text, .eflags = VM | (flags));               \
    SEEN(vector, error);                                    \
  }
#define V86(...) V86_WITH(0, __VA_ARGS__)
#define V86_IOPL_3(...) V86_WITH(0x3000, __VA_ARGS__)
#define IOPL_3 .eflags = VM | 0x3000
CASE(v86_mode_runs, "SDM 3A 20.2") {
  prepare_legacy();
  LEGACY(16, "mov $0x1234, %%cx\n push %%cx\n pop %%dx\n mov %%cs, %%bx\n" MARK "hlt", .eflags = VM);
  SEEN(GP, 0);
  EQUAL(legacy_seen.edx & 0xffff, 0x1234);
  EQUAL(legacy_seen.ebx & 0xffff, 0x2000);
}
CASE(v86_fault_saves_and_clears_the_segments, "SDM 3A 20.3.1") {
  prepare_legacy();
  LEGACY(16, "hlt", .eflags = VM, .ds = 0x1111, .es = 0x2222, .fs = 0x3333, .gs = 0x4444);
  SEEN(GP, 0);
  EQUAL(legacy_seen.ds, 0x1111);
  EQUAL(legacy_seen.es, 0x2222);
  EQUAL(legacy_seen.fs, 0x3333);
  EQUAL(legacy_seen.gs, 0x4444);
  EQUAL(legacy_seen.ss, 0x2000);
  EQUAL(legacy_seen.esp, 0xc000);
}
V86(v86_cli, "SDM 3A 20.2.7", GP, 0, "cli")
V86(v86_sti, "SDM 3A 20.2.7", GP, 0, "sti")
V86(v86_pushf, "SDM 3A 20.2.7", GP, 0, "pushf")
V86(v86_popf, "SDM 3A 20.2.7", GP, 0, "popf")
V86(v86_int_n, "SDM 3A 20.2.7", GP, 0, "int $0x21")
V86(v86_iret, "SDM 3A 20.2.7", GP, 0, "iret")
V86(v86_int3_does_not_look_at_iopl, "SDM 3A 20.2.7", BP, 0, "int3\n" MARK "nop")
V86_IOPL_3(v86_hlt_even_with_iopl_3, "SDM 3A 20.2.4", GP, 0, "hlt")
V86_IOPL_3(v86_mov_cr, "SDM 3A 20.2.4", GP, 0, "mov %%cr0, %%eax")
V86_IOPL_3(v86_lgdt, "SDM 3A 20.2.4", GP, 0, "lgdt 0")
V86(v86_lar, "SDM 3A 20.2.4", UD, 0, "lar %%ax, %%ax")
V86(v86_ltr, "SDM 3A 20.2.4", UD, 0, "ltr %%ax")
V86(v86_str, "SDM 2B STR", UD, 0, "str %%ax")
V86(v86_arpl, "SDM 2A ARPL", UD, 0, ".byte 0x63, 0xc0")
V86_IOPL_3(v86_ports_need_the_map_whatever_iopl, "SDM 3A 20.2.8.1", GP, 0, "in $0x80, %%al")
V86(v86_divide, "SDM 3A 20.2.7", DE, 0, "xor %%cx, %%cx\n" MARK "div %%cx")
V86(v86_limit, "SDM 3A 20.2.1", GP, 0, "mov $0xffff, %%bx\n" MARK "mov (%%bx), %%ax")
V86(v86_stack_limit, "SDM 3A 20.2.1", SS, 0, "mov $0xffff, %%bp\n" MARK "mov (%%bp), %%ax")
V86_IOPL_3(v86_int_of_a_privileged_gate, "SDM 3A 20.2.7", GP, 0x81 * 8 + 2, "int $0x81")
V86_IOPL_3(v86_int_with_iopl_3, "SDM 3A 20.3.1", done, 0, "int $0x80\n" MARK)
V86_IOPL_3(v86_pushf_with_iopl_3, "SDM 3A 20.2.7", GP, 0, "pushf\n pop %%ax\n" MARK "hlt")
V86_IOPL_3(v86_rdmsr, "SDM 3A 20.2.4", GP, 0, "rdmsr")
V86(v86_sysenter_without_selector, "SDM 2B SYSENTER", GP, 0, "sysenter")
CASE(v86_iret_keeps_iopl_and_vm, "SDM 3A 20.2.7") {
  prepare_legacy();
  LEGACY(16, "pushw $0\n push %%cs\n pushw $1f - 71b\n iret\n 1:" MARK "hlt", IOPL_3);
  SEEN(GP, 0);
  EQUAL(legacy_seen.eflags & (VM | 0x3000), VM | 0x3000);
}
CASE(v86_handler_must_be_at_privilege_0, "SDM 3A 20.3.1") {
  prepare_legacy();
  set_legacy_gate(0x80, 0x28000, user_code_32, 0xee);
  LEGACY(16, "int $0x80", IOPL_3);
  SEEN(GP, user_code_32 & ~3);
}
CASE(v86_port_map_allows, "SDM 3A 20.2.8.1") {
  prepare_legacy();
  legacy_state[0x88 + 0x80 / 8] = 0xfe;
  LEGACY(16, "out %%al, $0x80\n" MARK "hlt", .eflags = VM);
  SEEN(GP, 0);
}
CASE(v86_page_fault_is_a_users, "SDM 3A 20.2.6") {
  prepare_legacy();
  uint32_t* const low = (uint32_t*)(uint64_t)(directory_32[0] & ~0xfffu);
  low[0x10] = 0;
  LEGACY(16, "mov %%es:0, %%ax", .eflags = VM, .es = 0x1000, PAGED_32);
  SEEN(PF, pf_user);
  EQUAL(legacy_seen.cr2, 0x10000);
}

// --- V86 extensions. SDM vol. 3, 20.3
#define VME HAS(1, 0, d, 1)
CASE(vme_redirected_interrupt, "SDM 3A 20.3.3") {
  NEEDS(VME, "no VME");
  prepare_legacy();
  WORD((uint64_t)legacy_state + 0x66) = 0x88;
  legacy_state[0x68 + 0x60 / 8] = 0;  // the map just below the port map: vector 60h stays in the task
  LONG(0x60ull * 4) = 0x20000040;
  LEGACY(16, "int $0x60\n .org 71b + 0x40\n" MARK "hlt", .eflags = VM, .cr4 = cr4_vme);
  SEEN(GP, 0);
  EQUAL(legacy_seen.eflags & VM, VM);
}
CASE(vme_cli_clears_the_virtual_flag, "SDM 3A 20.3.3") {
  NEEDS(VME, "no VME");
  prepare_legacy();
  LEGACY(16, "cli\n" MARK "hlt", .eflags = VM | 0x80000 | IF, .cr4 = cr4_vme);
  SEEN(GP, 0);
  EQUAL(legacy_seen.eflags & 0x80200, IF);
}
CASE(vme_sti_with_a_pending_interrupt, "SDM 3A 20.3.3") {
  NEEDS(VME, "no VME");
  prepare_legacy();
  LEGACY(16, "sti", .eflags = VM | 0x100000, .cr4 = cr4_vme);
  SEEN(GP, 0);
}
CASE(vme_cannot_be_set_without_the_feature, "SDM 3A 2.5") {
  NEEDS(!VME, "there is VME");
  TRY("mov %%rax, %%cr4", "a"(base_cr4 | cr4_vme));
  WANT(GP, 0);
}
