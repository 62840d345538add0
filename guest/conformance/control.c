// Control registers, privileged instructions, RFLAGS, and who may do what. SDM vol. 3, chapter 2 and 5.9;
// vol. 1, chapter 19 for ports.
#include "suite.h"
#define GROUP "control"

#define CR0(name, section, value) FAULTS(name, section, GP, 0, "mov %%rax, %%cr0", "a"((uint64_t)(value)))
CR0(cr0_paging_without_protection, "SDM 2B MOV CR", base_cr0 & ~1ull)
CR0(cr0_nw_without_cd, "SDM 2B MOV CR", base_cr0 | cr0_nw)
CR0(cr0_upper_half, "SDM 2B MOV CR", base_cr0 | 1ull << 32)
CR0(cr0_bit_63, "SDM 2B MOV CR", base_cr0 | 1ull << 63)
CASE(cr0_without_paging_in_64_bit_mode, "SDM 2B MOV CR") {
  TRY("mov %%rax, %%cr0", "a"(base_cr0 & ~cr0_pg));
  WANT(GP, 0);
}
CASE(cr0_reserved_low_bits_are_ignored, "SDM 3A 2.5") {
  TRY("mov %%rax, %%cr0\n mov %%cr0, %%rcx", "a"(base_cr0 | 0x40));
  WANT_DONE();
  EQUAL(seen.rcx, base_cr0);
}
CASE(cr0_extension_type_stays_set, "SDM 3A 2.5") {
  TRY("mov %%rax, %%cr0\n mov %%cr0, %%rcx", "a"(base_cr0 & ~0x10ull));
  WANT_DONE();
  EQUAL(seen.rcx & 0x10, 0x10);
}
CASE(refused_cr0_changes_nothing, "SDM 2B MOV CR") {
  TRY("mov %%rax, %%cr0", "a"((base_cr0 | cr0_nw) & ~(uint64_t)cr0_wp));
  WANT(GP, 0);
  EQUAL(cr0(), base_cr0);
}
FAULTS(cr3_address_too_wide, "SDM 3A 4.5", GP, 0, "mov %%rax, %%cr3", "a"(1ull << 60))
CASE(cr3_bit_63_without_pcid, "SDM 3A 4.10.4.1") {
  TRY("mov %%rax, %%cr3", "a"((uint64_t)root | 1ull << 63));
  WANT(GP, 0);
}
CASE(cr3_low_bits_are_kept, "SDM 3A 4.5") {
  TRY("mov %%rax, %%cr3\n mov %%cr3, %%rcx", "a"((uint64_t)root | 0x18));
  WANT_DONE();
  EQUAL(seen.rcx, (uint64_t)root | 0x18);
}
FAULTS(cr4_reserved_bit, "SDM 3A 2.5", GP, 0, "mov %%rax, %%cr4", "a"(base_cr4 | 1ull << 31))
FAULTS(cr4_upper_half, "SDM 3A 2.5", GP, 0, "mov %%rax, %%cr4", "a"(base_cr4 | 1ull << 32))
FAULTS(cr4_without_pae_in_long_mode, "SDM 2B MOV CR", GP, 0, "mov %%rax, %%cr4",
       "a"(base_cr4 & ~(uint64_t)cr4_pae))
FAULTS(cr4_la57_cannot_change_in_long_mode, "SDM 2B MOV CR", GP, 0, "mov %%rax, %%cr4",
       "a"(base_cr4 | cr4_la57))
CASE(cr4_pcide_with_low_bits_in_cr3, "SDM 2B MOV CR") {
  NEEDS(HAS_PCID, "no PCID");
  set_cr3((uint64_t)root | 8);
  TRY("mov %%rax, %%cr4", "a"(base_cr4 | cr4_pcide));
  WANT(GP, 0);
}
CASE(cr4_smep_without_the_feature, "SDM 3A 2.5") {
  NEEDS(!HAS_SMEP, "there is SMEP");
  TRY("mov %%rax, %%cr4", "a"(base_cr4 | cr4_smep));
  WANT(GP, 0);
}
CASE(cr4_pke_without_the_feature, "SDM 3A 2.5") {
  NEEDS(!HAS_PKU, "there are protection keys");
  TRY("mov %%rax, %%cr4", "a"(base_cr4 | cr4_pke));
  WANT(GP, 0);
}
CASE(cr4_umip_without_the_feature, "SDM 3A 2.5") {
  NEEDS(!HAS_UMIP, "there is UMIP");
  TRY("mov %%rax, %%cr4", "a"(base_cr4 | cr4_umip));
  WANT(GP, 0);
}
CASE(mov_from_cr_is_64_bits_whatever_the_prefix, "SDM 2B MOV CR") {
  TRY("mov $-1, %%rax\n .byte 0x66, 0x0f, 0x20, 0xd8");
  WANT_DONE();
  EQUAL(seen.rax, (uint64_t)root);
}
CASE(mov_cr_ignores_mod, "SDM 2B MOV CR") {
  TRY("xor %%eax, %%eax\n .byte 0x0f, 0x20, 0x18");  // mod 0: still the register
  WANT_DONE();
  EQUAL(seen.rax, (uint64_t)root);
}
FAULTS(cr8_above_15, "SDM 3A 10.8.6", GP, 0, "mov %%rax, %%cr8", "a"(16))
CASE(cr8_is_the_task_priority, "SDM 3A 10.8.6.1") {
  set_cr8(5);
  EQUAL(APIC(apic_tpr) & 0xff, 0x50);
  APIC(apic_tpr) = 0x7a;
  EQUAL(cr8(), 7);
}
CASE(lmsw_sets_but_does_not_clear_pe, "SDM 2A LMSW") {
  TRY("lmsw %%ax\n smsw %%rcx", "a"(0));
  WANT_DONE();
  EQUAL(cr0() & 15, cr0_pe);
}
CASE(lmsw_takes_four_bits, "SDM 2A LMSW") {
  TRY("lmsw %%ax", "a"(0xffff));
  WANT_DONE();
  EQUAL(cr0(), base_cr0 | cr0_mp | cr0_em | cr0_ts);
}
CASE(clts, "SDM 2A CLTS") {
  set_cr0(base_cr0 | cr0_ts);
  TRY("clts");
  EQUAL(cr0(), base_cr0);
}
CASE(smsw_to_memory_is_16_bits, "SDM 2B SMSW") {
  QUAD(PAGE(0)) = -1ull;
  TRY("smsw (%%rbx)", "b"(PAGE(0)));
  EQUAL(QUAD(PAGE(0)), 0xffffffffffff0000 | (base_cr0 & 0xffff));
}
CASE(lgdt_of_a_bad_base, "SDM 2A LGDT") {
  WORD(PAGE(0)) = 0xff;
  QUAD(PAGE(0) + 2) = 1ull << 47;
  TRY("lgdt (%%rbx)", "b"(PAGE(0)));
  WANT(GP, 0);
}
CASE(lidt_of_a_bad_base, "SDM 2A LIDT") {
  WORD(PAGE(0)) = 0xfff;
  QUAD(PAGE(0) + 2) = 1ull << 47;
  TRY("lidt (%%rbx)", "b"(PAGE(0)));
  WANT(GP, 0);
}
CASE(sgdt_stores_ten_bytes, "SDM 2B SGDT") {
  memset((void*)PAGE(0), 0xee, 16);
  TRY("sgdt (%%rbx)", "b"(PAGE(0)));
  EQUAL(WORD(PAGE(0)), table_bytes - 1);
  EQUAL(QUAD(PAGE(0) + 2), (uint64_t)table);
  EQUAL(BYTE(PAGE(0) + 10), 0xee);
}
CASE(lgdt_ignores_the_operand_size_prefix, "SDM 2A LGDT") {
  WORD(PAGE(0)) = table_bytes - 1;
  QUAD(PAGE(0) + 2) = (uint64_t)table;
  TRY(".byte 0x66\n lgdt (%%rbx)\n sgdt 16(%%rbx)", "b"(PAGE(0)));
  WANT_DONE();
  EQUAL(QUAD(PAGE(0) + 18), (uint64_t)table);
}

// --- at privilege 3: #GP(0), and the instruction does nothing
#define FORBIDDEN(name, section, text) \
  CASE(user_##name, section) {         \
    USER64(text);                      \
    WANT(GP, 0);                       \
  }
FORBIDDEN(hlt, "SDM 2A HLT", "hlt")
FORBIDDEN(cli, "SDM 2A CLI", "cli")
FORBIDDEN(sti, "SDM 2B STI", "sti")
FORBIDDEN(clts, "SDM 2A CLTS", "clts")
FORBIDDEN(lmsw, "SDM 2A LMSW", "lmsw %%ax")
FORBIDDEN(invd, "SDM 2A INVD", "invd")
FORBIDDEN(wbinvd, "SDM 2C WBINVD", "wbinvd")
FORBIDDEN(invlpg, "SDM 2A INVLPG", "invlpg (%%rsp)")
FORBIDDEN(lgdt, "SDM 2A LGDT", "lgdt (%%rsp)")
FORBIDDEN(lidt, "SDM 2A LIDT", "lidt (%%rsp)")
FORBIDDEN(ltr, "SDM 2B LTR", "ltr %%ax")
FORBIDDEN(mov_from_cr0, "SDM 2B MOV CR", "mov %%cr0, %%rax")
FORBIDDEN(mov_to_cr3, "SDM 2B MOV CR", "mov %%rax, %%cr3")
FORBIDDEN(mov_from_cr8, "SDM 2B MOV CR", "mov %%cr8, %%rax")
FORBIDDEN(rdmsr, "SDM 2B RDMSR", "rdmsr")
FORBIDDEN(wrmsr, "SDM 2C WRMSR", "wrmsr")
CASE(user_xsetbv, "SDM 2C XSETBV") {
  NEEDS(HAS_XSAVE, "no XSAVE");
  USER64("xor %%ecx, %%ecx\n" MARK "xsetbv");
  WANT(GP, 0);
}
FORBIDDEN(in, "SDM 1 19.5", "in $0x80, %%al")
FORBIDDEN(out, "SDM 1 19.5", "out %%al, $0x80")
FORBIDDEN(ins, "SDM 1 19.5", "mov $0x80, %%dx\n" MARK "insb")
CASE(user_hlt_with_an_address_that_faults, "SDM 2A INVLPG") {
  // The privilege is looked at before the operand.
  USER64("lgdt (%%rdi)", .rdi = 1ull << 47);
  WANT(GP, 0);
}
CASE(user_cli_with_iopl_3, "SDM 2A CLI") {
  USER64("cli\n pushfq\n pop %%rax", .flags = 0x3202);
  WANT_DONE();
  EQUAL(seen.rax & IF, 0);
}
CASE(user_in_with_iopl_3, "SDM 1 19.5.1") {
  USER64("in $0x80, %%al", .flags = 0x3002);
  WANT_DONE();
}
CASE(user_in_with_iopl_2, "SDM 1 19.5.1") {
  USER64("in $0x80, %%al", .flags = 0x2002);
  WANT(GP, 0);
}
static void allow(unsigned first, unsigned count_of) {
  WORD(task_state + 0x66) = 0x68;
  for (unsigned i = first; i < first + count_of; i++) task_state[0x68 + i / 8] &= (uint8_t) ~(1u << i % 8);
}
CASE(port_bitmap_allows, "SDM 1 19.5.2") {
  allow(0x80, 1);
  USER64("out %%al, $0x80");
  WANT_DONE();
}
CASE(port_bitmap_needs_each_byte, "SDM 1 19.5.2") {
  allow(0x80, 1);
  USER64("out %%ax, $0x80");
  WANT(GP, 0);
}
CASE(port_bitmap_across_its_bytes, "SDM 1 19.5.2") {
  allow(0x86, 4);
  USER64("in $0x86, %%eax");
  WANT_DONE();
}
CASE(port_beyond_the_bitmap, "SDM 1 19.5.2") {
  USER64("mov $0x108, %%dx\n" MARK "out %%al, %%dx");
  WANT(GP, 0);
}
CASE(port_bitmap_beyond_the_limit, "SDM 1 19.5.2") {
  allow(0x80, 1);
  WORD(task_state + 0x66) = 0xfff;
  USER64("out %%al, $0x80");
  WANT(GP, 0);
}
CASE(user_rdtsc_forbidden, "SDM 2B RDTSC") {
  set_cr4(base_cr4 | cr4_tsd);
  USER64("rdtsc");
  WANT(GP, 0);
}
CASE(kernel_rdtsc_when_users_may_not, "SDM 2B RDTSC") {
  set_cr4(base_cr4 | cr4_tsd);
  TRY("rdtsc");
  WANT_DONE();
}
CASE(user_rdtscp_forbidden, "SDM 2B RDTSCP") {
  NEEDS(HAS_RDTSCP, "no RDTSCP");
  set_cr4(base_cr4 | cr4_tsd);
  USER64("rdtscp");
  WANT(GP, 0);
}
CASE(rdtscp_tells_the_auxiliary_value, "SDM 2B RDTSCP") {
  NEEDS(HAS_RDTSCP, "no RDTSCP");
  write_msr(msr_tsc_aux, 0x1234);
  USER64("rdtscp");
  WANT_DONE();
  EQUAL(seen.rcx, 0x1234);
}
CASE(user_rdpmc_forbidden, "SDM 2B RDPMC") {
  USER64("xor %%ecx, %%ecx\n" MARK "rdpmc");
  WANT(GP, 0);
}
#define UMIP(name, text)                     \
  CASE(umip_##name, "SDM 3A 2.5 CR4.UMIP") { \
    NEEDS(HAS_UMIP, "no UMIP");              \
    USER64(text);                            \
    WANT_DONE();                             \
    set_cr4(base_cr4 | cr4_umip);            \
    USER64(text);                            \
    WANT(GP, 0);                             \
  }
UMIP(sgdt, "sgdt -32(%%rsp)")
UMIP(sidt, "sidt -32(%%rsp)")
UMIP(sldt, "sldt %%eax")
UMIP(str, "str %%eax")
UMIP(smsw, "smsw %%eax")
CASE(umip_leaves_the_kernel_alone, "SDM 3A 2.5 CR4.UMIP") {
  NEEDS(HAS_UMIP, "no UMIP");
  set_cr4(base_cr4 | cr4_umip);
  TRY("sldt %%eax\n str %%ecx\n smsw %%edx\n sgdt (%%rbx)", "b"(PAGE(0)));
  WANT_DONE();
  EQUAL(seen.rcx & 0xffff, task);
}

// --- RFLAGS
CASE(user_popf_keeps_iopl_and_if, "SDM 2B POPF") {
  USER64("pushq $0x3202\n popfq\n pushfq\n pop %%rax");
  WANT_DONE();
  EQUAL(seen.rax & 0x3200, 0);
}
CASE(user_popf_with_iopl_3_changes_if_only, "SDM 2B POPF") {
  USER64("pushq $0x202\n popfq\n pushfq\n pop %%rax", .flags = 0x3002);
  WANT_DONE();
  EQUAL(seen.rax & 0x3200, 0x3200);
}
CASE(kernel_popf_changes_iopl, "SDM 2B POPF") {
  TRY("pushq $0x3002\n popfq\n pushfq\n pop %%rax");
  EQUAL(seen.rax, 0x3002);
}
CASE(popf_reserved_bits, "SDM 1 3.4.3") {
  TRY("push %%rax\n popfq\n pushfq\n pop %%rax", "a"(0xffffffff00008028));
  WANT_DONE();
  EQUAL(seen.rax, 2);
}
CASE(popf_clears_rf, "SDM 2B POPF") {
  TRY("pushq $0x10002\n popfq\n pushfq\n pop %%rax");
  EQUAL(seen.rax & RF, 0);
}
CASE(popf_of_16_bits_keeps_the_rest, "SDM 2B POPF") {
  TRY("pushq $0x200002\n popfq\n pushw $0x0001\n popfw\n pushfq\n pop %%rax");
  EQUAL(seen.rax, 0x200003);
}
CASE(pushf_clears_rf_and_vm_in_the_image, "SDM 2B PUSHF") {
  hook[BP] = NULL;
  TRY("mov %%rsp, %%rsi\n pushq $0x10\n push %%rsi\n pushq $0x10002\n pushq $8\n pushq $1f\n iretq\n 1: "
      "pushfq\n pop %%rax");
  WANT_DONE();
  EQUAL(seen.rax & (RF | VM), 0);
}
CASE(popf_id_flag_says_cpuid, "SDM 1 3.4.3.3") {
  TRY("pushq $0x200002\n popfq\n pushfq\n pop %%rax");
  EQUAL(seen.rax & ID, ID);
}
CASE(lahf_and_sahf, "SDM 2A LAHF") {
  TRY("mov $0xff, %%ah\n sahf\n lahf");
  WANT_DONE();
  EQUAL(seen.rax >> 8 & 0xff, 0xd7);
}

// --- alignment checks: #AC(0) at privilege 3 only
static void aligned(void) {
  set_cr0(base_cr0 | cr0_am);
}
#define UNALIGNED(name, section, text) \
  CASE(name, section) {                \
    aligned();                         \
    USER64(text, .flags = AC_flag);    \
    WANT(AC, 0);                       \
  }
UNALIGNED(alignment_of_a_word, "SDM 3A 6.15 #AC", "mov 1(%%rsp), %%ax")
UNALIGNED(alignment_of_a_doubleword, "SDM 3A 6.15 #AC", "mov 2(%%rsp), %%eax")
UNALIGNED(alignment_of_a_quadword, "SDM 3A 6.15 #AC", "mov 4(%%rsp), %%rax")
UNALIGNED(alignment_of_a_store, "SDM 3A 6.15 #AC", "mov %%eax, -3(%%rsp)")
CASE(alignment_needs_the_mask, "SDM 3A 6.15 #AC") {
  USER64("mov 1(%%rsp), %%rax", .flags = AC_flag);
  WANT_DONE();
}
CASE(alignment_needs_the_flag, "SDM 3A 6.15 #AC") {
  aligned();
  USER64("mov 1(%%rsp), %%rax");
  WANT_DONE();
}
CASE(alignment_is_not_checked_in_the_kernel, "SDM 3A 6.15 #AC") {
  aligned();
  TRY("pushq $0x40002\n popfq\n mov 1(%%rsp), %%rax");
  WANT_DONE();
}
CASE(bytes_are_always_aligned, "SDM 3A 6.15 #AC") {
  aligned();
  USER64("mov 1(%%rsp), %%al", .flags = AC_flag);
  WANT_DONE();
}
CASE(alignment_before_page_fault_in_user_memory, "SDM 3A 6.9") {
  // Which comes first is not laid down for one access; both are faults of it.
  aligned();
  map(18, 0);
  USER64("mov 1(%%rdi), %%eax", .rdi = PAGE(18), .flags = AC_flag);
  TRUE(seen.vector == AC || seen.vector == PF);
}
