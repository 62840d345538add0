// What keeps the kernel out of user pages: SMEP, SMAP, protection keys; and accesses that are the kernel's
// whoever makes them.
#include "suite.h"
#define GROUP "paging"

static void user_page(unsigned n) {
  map(n, FRAME(n) | P | W | U);
  BYTE(FRAME(n)) = 0xc3;
}
CASE(smep_fetch_of_a_user_page, "SDM 3A 4.6.1") {
  NEEDS(HAS_SMEP, "no SMEP");
  user_page(0);
  set_cr4(base_cr4 | cr4_smep);
  TRY("jmp *%%rbx", "b"(PAGE(0)));
  WANT_AT(PF, pf_present | pf_fetch, PAGE(0));
}
CASE(no_smep_fetch_of_a_user_page, "SDM 3A 4.6.1") {
  user_page(0);
  TRY("call *%%rbx", "b"(PAGE(0)));
  WANT_DONE();
}
CASE(smep_lets_users_fetch, "SDM 3A 4.6.1") {
  NEEDS(HAS_SMEP, "no SMEP");
  set_cr4(base_cr4 | cr4_smep);
  USER64("nop");
  WANT_DONE();
}
CASE(smep_asks_all_levels_for_the_user_bit, "SDM 3A 4.6.1") {
  NEEDS(HAS_SMEP, "no SMEP");
  user_page(0);
  touch_tables()[area >> 21] &= ~4ull;
  set_cr4(base_cr4 | cr4_smep);
  flush_translations();
  TRY("call *%%rbx", "b"(PAGE(0)));
  WANT_DONE();
}
CASE(smep_without_nxe_tells_fetches, "SDM 3A 4.7") {
  NEEDS(HAS_SMEP, "no SMEP");
  write_msr(msr_efer, base_efer & ~efer_nxe);
  set_cr4(base_cr4 | cr4_smep);
  map(0, 0);
  TRY("jmp *%%rbx", "b"(PAGE(0)));
  WANT_AT(PF, pf_fetch, PAGE(0));
}
CASE(smap_read, "SDM 3A 4.6.1") {
  NEEDS(HAS_SMAP, "no SMAP");
  user_page(0);
  set_cr4(base_cr4 | cr4_smap);
  TRY("mov (%%rbx), %%rax", "b"(PAGE(0)));
  WANT(PF, pf_present);
}
CASE(smap_write, "SDM 3A 4.6.1") {
  NEEDS(HAS_SMAP, "no SMAP");
  user_page(0);
  set_cr4(base_cr4 | cr4_smap);
  TRY("mov %%rax, (%%rbx)", "b"(PAGE(0)));
  WANT(PF, pf_present | pf_write);
}
CASE(smap_is_lifted_by_ac, "SDM 3A 4.6.1") {
  NEEDS(HAS_SMAP, "no SMAP");
  user_page(0);
  set_cr4(base_cr4 | cr4_smap);
  TRY("stac\n mov (%%rbx), %%rax\n mov %%rax, (%%rbx)\n clac", "b"(PAGE(0)));
  WANT_DONE();
}
CASE(smap_comes_back_with_clac, "SDM 2A CLAC") {
  NEEDS(HAS_SMAP, "no SMAP");
  user_page(0);
  set_cr4(base_cr4 | cr4_smap);
  TRY("stac\n mov (%%rbx), %%rax\n clac\n" MARK "mov (%%rbx), %%rax", "b"(PAGE(0)));
  WANT(PF, pf_present);
}
CASE(smap_is_lifted_by_popf, "SDM 3A 4.6.1") {
  NEEDS(HAS_SMAP, "no SMAP");
  user_page(0);
  set_cr4(base_cr4 | cr4_smap);
  TRY("pushq $0x40002\n popfq\n mov (%%rbx), %%rax\n pushq $2\n popfq\n" MARK "mov (%%rbx), %%rax",
      "b"(PAGE(0)));
  WANT(PF, pf_present);
}
CASE(smap_does_not_stop_fetches, "SDM 3A 4.6.1") {
  NEEDS(HAS_SMAP, "no SMAP");
  user_page(0);
  set_cr4(base_cr4 | cr4_smap);
  TRY("call *%%rbx", "b"(PAGE(0)));
  WANT_DONE();
}
CASE(smap_without_write_protection, "SDM 3A 4.6.1") {
  NEEDS(HAS_SMAP, "no SMAP");
  user_page(0);
  set_cr4(base_cr4 | cr4_smap);
  set_cr0(base_cr0 & ~(uint64_t)cr0_wp);
  TRY("mov %%rax, (%%rbx)", "b"(PAGE(0)));
  WANT(PF, pf_present | pf_write);
}
CASE(smap_of_a_stack, "SDM 3A 4.6.1") {
  NEEDS(HAS_SMAP, "no SMAP");
  user_page(0);
  set_cr4(base_cr4 | cr4_smap);
  set_gate(PF, (idt[PF * 2] & 0xffff) | (idt[PF * 2] >> 32 & 0xffff0000),
           (struct gate){kernel_code, 1, 0x8e});
  TRY("mov %%rbx, %%rsp\n" MARK "push %%rax", "b"(PAGE(0) + 0x800));
  WANT(PF, pf_present | pf_write);
}
CASE(stac_needs_smap, "SDM 2B STAC") {
  NEEDS(!HAS_SMAP, "there is SMAP");
  TRY("stac");
  WANT(UD, 0);
}
CASE(user_stac, "SDM 2B STAC") {
  NEEDS(HAS_SMAP, "no SMAP");
  USER64("stac");
  WANT(UD, 0);
}
CASE(interrupt_gate_keeps_smap_by_clearing_nothing, "SDM 3A 6.12.1.2") {
  // Delivery leaves AC alone.
  NEEDS(HAS_SMAP, "no SMAP");
  TRY("stac\n" MARK "ud2");
  WANT(UD, 0);
  EQUAL(seen.rflags & AC_flag, AC_flag);
}
CASE(smap_and_user_code_reading_its_own, "SDM 3A 4.6.1") {
  NEEDS(HAS_SMAP, "no SMAP");
  user_page(0);
  set_cr4(base_cr4 | cr4_smap);
  USER64("mov (%%rdi), %%rax", .rdi = PAGE(0));
  WANT_DONE();
}
static void write_pkru(uint32_t value) {
  __asm__ volatile("wrpkru" : : "a"(value), "c"(0), "d"(0));
}
CASE(protection_key_denies_access, "SDM 3A 4.6.2") {
  NEEDS(HAS_PKU, "no protection keys");
  map(0, FRAME(0) | P | W | U | 3ull << 59);
  set_cr4(base_cr4 | cr4_pke);
  write_pkru(1u << 6);
  TRY("mov (%%rbx), %%rax", "b"(PAGE(0)));
  WANT(PF, pf_present | pf_key);
}
CASE(protection_key_denies_user_writes, "SDM 3A 4.6.2") {
  NEEDS(HAS_PKU, "no protection keys");
  map(0, FRAME(0) | P | W | U | 3ull << 59);
  set_cr4(base_cr4 | cr4_pke);
  write_pkru(2u << 6);
  USER64("mov (%%rdi), %%rax\n" MARK "mov %%rax, (%%rdi)", .rdi = PAGE(0));
  WANT(PF, pf_present | pf_key | pf_write | pf_user);
}
// Page 0 as the users' with key 3, and PKRU with these two bits for it: 1 no access, 2 no writes.
static void key_3(uint32_t rights, uint64_t entry) {
  map(0, FRAME(0) | entry | 3ull << 59);
  set_cr4(base_cr4 | cr4_pke);
  write_pkru(rights << 6);
}
CASE(protection_key_of_another_page, "SDM 3A 4.6.2") {
  NEEDS(HAS_PKU, "no protection keys");
  key_3(0, P | W | U);
  write_pkru(~(3u << 6) & ~3u);
  USER64("mov %%rax, (%%rdi)", .rdi = PAGE(0));
  WANT_DONE();
}
CASE(protection_key_denies_what_was_allowed_a_moment_ago, "SDM 3A 4.6.2") {
  NEEDS(HAS_PKU, "no protection keys");
  key_3(0, P | W | U);
  USER64("mov %%rax, (%%rdi)\n mov $0xc0, %%eax\n xor %%ecx, %%ecx\n xor %%edx, %%edx\n .byte 0x0f, 0x01, 0xef\n" MARK
         "mov (%%rdi), %%rax", .rdi = PAGE(0));
  WANT(PF, pf_present | pf_key | pf_user);
}
CASE(protection_key_and_write_protect, "SDM 3A 4.6.2") {
  NEEDS(HAS_PKU, "no protection keys");
  key_3(2, P | W | U);
  TRY("mov (%%rbx), %%rax\n" MARK "mov %%rax, (%%rbx)", "b"(PAGE(0)));
  WANT(PF, pf_present | pf_key | pf_write);
  uint64_t cr0;
  __asm__ volatile("mov %%cr0, %0" : "=r"(cr0));
  __asm__ volatile("mov %0, %%cr0" : : "r"(cr0 & ~0x10000ull));
  TRY("mov %%rax, (%%rbx)", "b"(PAGE(0)));
  WANT_DONE();
  __asm__ volatile("mov %0, %%cr0" : : "r"(cr0));
}
CASE(protection_key_is_told_with_other_reasons, "SDM 3A 4.7") {
  NEEDS(HAS_PKU, "no protection keys");
  key_3(3, P | U);
  USER64(MARK "mov %%rax, (%%rdi)", .rdi = PAGE(0));
  WANT(PF, pf_present | pf_key | pf_write | pf_user);
}
CASE(protection_key_of_a_kernel_page, "SDM 3A 4.6.2") {
  NEEDS(HAS_PKU, "no protection keys");
  key_3(3, P | W);
  TRY("mov %%rax, (%%rbx)", "b"(PAGE(0)));
  WANT_DONE();
}
CASE(protection_key_lets_code_run, "SDM 3A 4.6.2") {
  NEEDS(HAS_PKU, "no protection keys");
  BYTE(PAGE(0)) = 0xcc;
  key_3(3, P | U);
  USER64("jmp *%%rdi", .rdi = PAGE(0));
  EQUAL(seen.vector, done);
}
CASE(protection_key_without_pke, "SDM 3A 4.6.2") {
  NEEDS(HAS_PKU, "no protection keys");
  key_3(3, P | W | U);
  set_cr4(base_cr4);
  USER64("mov %%rax, (%%rdi)", .rdi = PAGE(0));
  WANT_DONE();
}
CASE(rdpkru_reads_what_was_written, "SDM 2B RDPKRU") {
  NEEDS(HAS_PKU, "no protection keys");
  set_cr4(base_cr4 | cr4_pke);
  write_pkru(0x12345670);
  TRY("mov $-1, %%rax\n mov $-1, %%rdx\n .byte 0x0f, 0x01, 0xee", "c"(0));
  WANT_DONE();
  EQUAL(seen.rax, 0x12345670);
  EQUAL(seen.rdx, 0);
}
CASE(rdpkru_of_another_register, "SDM 2B RDPKRU") {
  NEEDS(HAS_PKU, "no protection keys");
  set_cr4(base_cr4 | cr4_pke);
  TRY(".byte 0x0f, 0x01, 0xee", "c"(1));
  WANT(GP, 0);
}
CASE(wrpkru_with_edx, "SDM 2C WRPKRU") {
  NEEDS(HAS_PKU, "no protection keys");
  set_cr4(base_cr4 | cr4_pke);
  TRY(".byte 0x0f, 0x01, 0xef", "a"(0), "c"(0), "d"(1));
  WANT(GP, 0);
}
CASE(xsave_and_xrstor_of_protection_keys, "SDM 1 13.5.7") {
  NEEDS(HAS_PKU, "no protection keys");
  set_cr4(base_cr4 | cr4_pke | cr4_osxsave);
  const uint64_t image = PAGE(4), at = cpuid(0xd, 9).b;
  EQUAL(cpuid(0xd, 9).a, 8);
  write_pkru(0x500);
  TRY("xor %%ecx, %%ecx\n xor %%edx, %%edx\n mov $0x203, %%eax\n xsetbv\n xsave (%%rbx)", "b"(image));
  WANT_DONE();
  EQUAL(QUAD(image + 512) & 0x200, 0x200);
  EQUAL(LONG(image + at), 0x500);
  LONG(image + at) = 0xc0;
  map(0, FRAME(0) | P | W | U | 3ull << 59);
  TRY("mov (%%rbx), %%rdi\n xrstor (%%rsi)\n" MARK "mov (%%rbx), %%rdi", "b"(PAGE(0)), "S"(image), "a"(0x200), "d"(0));
  WANT(PF, pf_present | pf_key);
  // Not in the image: initial, which is 0.
  QUAD(image + 512) = 0;
  TRY("xrstor (%%rsi)\n mov (%%rbx), %%rdi\n xor %%ecx, %%ecx\n .byte 0x0f, 0x01, 0xee", "b"(PAGE(0)), "S"(image), "a"(0x200), "d"(0));
  WANT_DONE();
  EQUAL(seen.rax, 0);
}
CASE(wrpkru_without_pke, "SDM 2C WRPKRU") {
  TRY("xor %%ecx, %%ecx\n xor %%edx, %%edx\n xor %%eax, %%eax\n" MARK ".byte 0x0f, 0x01, 0xef");
  WANT(UD, 0);
}
