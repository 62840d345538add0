// String instructions: what a fault in the middle leaves, directions, address sizes, counts, segments, REP
// and ports. SDM vol. 1, 7.3.9; vol. 2B, REP.
#include "suite.h"
#define GROUP "strings"

static void pattern(uint64_t at, unsigned bytes) {
  for (unsigned i = 0; i < bytes; i++) BYTE(at + i) = (uint8_t)(i + 1);
}
#define REGISTERS(rsi_, rdi_, rcx_) \
  do {                              \
    EQUAL(seen.rsi, rsi_);          \
    EQUAL(seen.rdi, rdi_);          \
    EQUAL(seen.rcx, rcx_);          \
  } while (0)
#define STRING(text, from, to, n) \
  TRY(text, "S"((uint64_t)(from)), "D"((uint64_t)(to)), "c"((uint64_t)(n)), "a"(0x1122334455667788))
CASE(movs_into_an_absent_page, "SDM 2B REP") {
  pattern(PAGE(0), 64);
  map(3, 0);
  STRING("rep movsb", PAGE(0), PAGE(3) - 10, 64);
  WANT(PF, pf_write);
  EQUAL(seen_cr2, PAGE(3));
  REGISTERS(PAGE(0) + 10, PAGE(3), 54);
  EQUAL(BYTE(PAGE(3) - 1), 10);
}
CASE(movs_from_an_absent_page, "SDM 2B REP") {
  map(1, 0);
  STRING("rep movsb", PAGE(1) - 7, PAGE(2), 64);
  WANT(PF, 0);
  EQUAL(seen_cr2, PAGE(1));
  REGISTERS(PAGE(1), PAGE(2) + 7, 57);
}
CASE(movs_goes_on_after_the_fault, "SDM 2B REP") {
  static uint64_t repaired;
  void repair(struct frame * frame) {
    (void)frame, repaired++, map(3, FRAME(3) | P | W);
  }
  pattern(PAGE(0), 64);
  map(3, 0);
  repaired = 0;
  hook[PF] = repair;
  STRING("rep movsb", PAGE(0), PAGE(3) - 10, 64);
  WANT_DONE();
  EQUAL(repaired, 1);
  EQUAL(BYTE(PAGE(3) + 53), 64);
}
CASE(movsq_with_an_element_across, "SDM 2B REP") {
  pattern(PAGE(0), 64);
  QUAD(PAGE(3) - 4) = 0;
  map(3, 0);
  STRING("rep movsq", PAGE(0), PAGE(3) - 12, 4);
  WANT(PF, pf_write);
  EQUAL(seen_cr2, PAGE(3));
  REGISTERS(PAGE(0) + 8, PAGE(3) - 4, 3);
  EQUAL(LONG(PAGE(3) - 4), 0);  // nothing of the element that faulted
}
CASE(movs_backwards_into_an_absent_page, "SDM 2B REP") {
  pattern(PAGE(0), 64);
  map(2, 0);
  STRING("std\n" MARK "rep movsb", PAGE(0) + 63, PAGE(3) + 4, 64);
  WANT(PF, pf_write);
  EQUAL(seen_cr2, PAGE(3) - 1);
  REGISTERS(PAGE(0) + 58, PAGE(3) - 1, 59);
}
CASE(stos_into_a_read_only_page, "SDM 2B STOS") {
  map(3, FRAME(3) | P);
  STRING("rep stosl", 0, PAGE(3) - 8, 8);
  WANT(PF, pf_present | pf_write);
  REGISTERS(0, PAGE(3), 6);
  EQUAL(LONG(PAGE(3) - 4), 0x55667788);
}
CASE(lods_from_an_absent_page_keeps_the_last, "SDM 2A LODS") {
  pattern(PAGE(1) - 4, 4);
  map(1, 0);
  STRING("rep lodsb", PAGE(1) - 4, 0, 8);
  WANT(PF, 0);
  REGISTERS(PAGE(1), 0, 4);
  EQUAL(seen.rax, 0x1122334455667704);
}
CASE(scas_into_an_absent_page, "SDM 2B SCAS") {
  memset((void*)(PAGE(1) - 8), 1, 8);
  map(1, 0);
  STRING("repne scasb", 0, PAGE(1) - 8, 64);
  WANT(PF, 0);
  REGISTERS(0, PAGE(1), 56);
}
CASE(scas_stops_before_the_absent_page, "SDM 2B SCAS") {
  memset((void*)(PAGE(1) - 8), 0, 8);
  BYTE(PAGE(1) - 1) = 0x88;
  map(1, 0);
  STRING("repne scasb", 0, PAGE(1) - 8, 64);
  WANT_DONE();
  REGISTERS(0, PAGE(1), 56);
  EQUAL(seen.rflags & 0x40, 0x40);
}
CASE(cmps_tells_which_operand_lacks, "SDM 2A CMPS") {
  memset((void*)PAGE(0), 5, 64);
  memset((void*)PAGE(2), 5, 64);
  map(3, 0);
  memset((void*)(PAGE(3) - 16), 5, 16);
  STRING("repe cmpsb", PAGE(0), PAGE(3) - 16, 64);
  WANT(PF, 0);
  EQUAL(seen_cr2, PAGE(3));
  REGISTERS(PAGE(0) + 16, PAGE(3), 48);
}
CASE(cmps_stops_at_the_difference, "SDM 2A CMPS") {
  memset((void*)PAGE(0), 5, 64);
  memset((void*)PAGE(2), 5, 64);
  BYTE(PAGE(2) + 9) = 4;
  STRING("repe cmpsb", PAGE(0), PAGE(2), 64);
  WANT_DONE();
  REGISTERS(PAGE(0) + 10, PAGE(2) + 10, 54);
  EQUAL(seen.rflags & 0x41, 0);  // 5 - 4: neither zero nor borrow
}
CASE(count_zero_changes_nothing, "SDM 2B REP") {
  map(0, 0);
  STRING("cmp %%eax, %%eax\n repne scasb", 0, PAGE(0), 0);
  WANT_DONE();
  EQUAL(seen.rflags & 0x40, 0x40);
}
CASE(count_zero_of_movs_at_a_bad_address, "SDM 2B REP") {
  STRING("rep movsb", 1ull << 47, 1ull << 47, 0);
  WANT_DONE();
}
CASE(movs_to_a_bad_address, "SDM 2B MOVS") {
  STRING("rep movsb", PAGE(0), 1ull << 47, 4);
  WANT(GP, 0);
  REGISTERS(PAGE(0), 1ull << 47, 4);
}
CASE(movs_reads_before_it_writes, "SDM 2B MOVS") {
  // Both pages are absent: the source's fault comes.
  map(0, 0), map(2, 0);
  STRING("movsb", PAGE(0), PAGE(2), 1);
  WANT(PF, 0);
  EQUAL(seen_cr2, PAGE(0));
}
CASE(overlapping_forward_repeats, "SDM 2B MOVS") {
  BYTE(PAGE(0)) = 7;
  STRING("rep movsb", PAGE(0), PAGE(0) + 1, 32);
  WANT_DONE();
  EQUAL(BYTE(PAGE(0) + 32), 7);
}
CASE(overlapping_backward_copies, "SDM 2B MOVS") {
  pattern(PAGE(0), 16);
  STRING("std\n rep movsb\n cld", PAGE(0) + 15, PAGE(0) + 16, 16);
  WANT_DONE();
  EQUAL(BYTE(PAGE(0) + 16), 16);
  EQUAL(BYTE(PAGE(0) + 1), 1);
}
CASE(overlapping_by_less_than_an_element, "SDM 2B MOVS") {
  pattern(PAGE(0), 64);
  STRING("rep movsq", PAGE(0), PAGE(0) + 3, 3);
  WANT_DONE();
  // The second element reads what the first wrote.
  EQUAL(BYTE(PAGE(0) + 3), 1);
  EQUAL(BYTE(PAGE(0) + 11), 6);
}
CASE(address_size_32_cuts_the_pointers, "SDM 2B MOVS") {
  pattern(PAGE(0), 8);
  STRING(".byte 0x67\n rep movsb", 0xabcd00000000 | PAGE(0), 0x123400000000 | PAGE(2), 0xffff00000000 | 8);
  WANT_DONE();
  REGISTERS(PAGE(0) + 8, PAGE(2) + 8, 0);
  EQUAL(BYTE(PAGE(2) + 7), 8);
}
CASE(address_size_32_without_repeat, "SDM 2B LODS") {
  STRING(".byte 0x67\n lodsb", 0xabcd00000000 | PAGE(0), 0, 0);
  WANT_DONE();
  EQUAL(seen.rsi, PAGE(0) + 1);
}
CASE(segment_override_is_the_sources, "SDM 2B MOVS") {
  write_msr(msr_fs_base, 0x1000);
  BYTE(PAGE(1)) = 0x31;
  STRING(".byte 0x64\n movsb", PAGE(0), PAGE(2), 0);
  WANT_DONE();
  EQUAL(BYTE(PAGE(2)), 0x31);
}
CASE(segment_override_does_not_touch_the_destination, "SDM 2B STOS") {
  write_msr(msr_fs_base, 0x1000);
  BYTE(PAGE(2)) = 0, BYTE(PAGE(3)) = 0;
  STRING(".byte 0x64\n stosb", 0, PAGE(2), 0);
  WANT_DONE();
  EQUAL(BYTE(PAGE(2)), 0x88);
  EQUAL(BYTE(PAGE(3)), 0);
}
CASE(repne_of_movs_repeats, "SDM 2B REP") {
  pattern(PAGE(0), 8);
  STRING(".byte 0xf2\n movsb", PAGE(0), PAGE(2), 8);
  WANT_DONE();
  EQUAL(seen.rcx, 0);
}
CASE(user_string_of_kernel_memory, "SDM 3A 4.6.1") {
  USER64("mov $16, %%ecx\n" MARK "rep stosb", .rdi = PAGE(0));
  WANT(PF, pf_present | pf_write | pf_user);
  EQUAL(seen.rcx, 16);
}
CASE(user_string_runs_into_kernel_memory, "SDM 3A 4.6.1") {
  map(19, FRAME(19) | P | W | U);
  map(20, FRAME(20) | P | W);
  USER64("mov $16, %%ecx\n" MARK "rep stosb", .rdi = PAGE(20) - 6);
  WANT(PF, pf_present | pf_write | pf_user);
  EQUAL(seen.rcx, 10);
  EQUAL(seen.rdi, PAGE(20));
}
CASE(stos_across_many_pages, "SDM 2B STOS") {
  map(3, FRAME(9) | P | W);  // frames that do not lie side by side
  STRING("rep stosq", 0, PAGE(2), 1536);
  WANT_DONE();
  EQUAL(QUAD(FRAME(9)), 0x1122334455667788);
  EQUAL(QUAD(FRAME(4) + 4088), 0x1122334455667788);
}
CASE(stos_sets_dirty_only_where_it_was, "SDM 3A 4.8") {
  map(2, FRAME(2) | P | W), map(3, FRAME(3) | P | W);
  STRING("rep stosb", 0, PAGE(3) - 16, 16);
  WANT_DONE();
  EQUAL(area_table[2] & D, D);
  EQUAL(area_table[3] & (A | D), 0);
}
CASE(outs_from_an_absent_page, "SDM 2B OUTS") {
  map(1, 0);
  TRY("rep outsb", "S"(PAGE(1) - 3), "c"(8), "d"(0x80));
  WANT(PF, 0);
  EQUAL(seen.rcx, 5);
  EQUAL(seen.rsi, PAGE(1));
}
CASE(ins_into_an_absent_page, "SDM 2A INS") {
  map(1, 0);
  TRY("rep insb", "D"(PAGE(1) - 3), "c"(8), "d"(0x80));
  WANT(PF, pf_write);
  EQUAL(seen.rcx, 5);
  EQUAL(seen.rdi, PAGE(1));
}
CASE(user_outs_with_a_port_that_is_allowed, "SDM 1 19.5.2") {
  task_state[0x68 + 0x80 / 8] = 0xfe;
  USER64("mov %%rdi, %%rsi\n mov $0x80, %%dx\n mov $2, %%ecx\n rep outsb", .rdi = (uint64_t)user_stack - 64);
  WANT_DONE();
}
CASE(user_outs_privilege_before_the_fault, "SDM 2B OUTS") {
  map(18, 0);
  USER64("mov %%rdi, %%rsi\n mov $0x80, %%dx\n" MARK "outsb", .rdi = PAGE(18));
  WANT(GP, 0);
}
CASE(string_in_compatibility_mode, "SDM 2B REP") {
  USER32("mov $0x40011000, %%edi\n mov $8, %%ecx\n mov $0x33, %%al\n rep stosb");
  WANT_DONE();
  EQUAL(BYTE(FRAME(17) + 7), 0x33);
  EQUAL(seen.rdi, 0x40011008);
}
CASE(string_beyond_a_limit, "SDM 3A 5.3") {
  table[spare / 8] = SEGMENT((uint64_t)user_stack - 0x1000, 0xf, 0xf3, flag_32);
  USER32("mov $0x73, %%eax\n mov %%eax, %%es\n mov $12, %%edi\n mov $8, %%ecx\n" MARK "rep stosb");
  WANT(GP, 0);
  EQUAL(seen.rcx, 4);
  EQUAL(seen.rdi, 16);
}
