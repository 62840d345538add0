// Accessed and dirty bits; which translations must be forgotten when, and which must not be kept. SDM vol.
// 3, 4.8 and 4.10.
#include "suite.h"
#define GROUP "tlb"

static uint64_t bits(unsigned page) {
  return area_table[page] & (A | D);
}
static void fresh(unsigned page, uint64_t extra) {
  map(page, FRAME(page) | P | W | extra);
}
#define MARKS(name, section, text, wanted) \
  CASE(name, section) {                    \
    fresh(0, 0);                           \
    TRY(text, "b"(PAGE(0) + 8), "a"(0));   \
    WANT_DONE();                           \
    EQUAL(bits(0), wanted);                \
  }
MARKS(read_sets_accessed, "SDM 3A 4.8", "mov (%%rbx), %%rcx", A)
MARKS(write_sets_dirty, "SDM 3A 4.8", "mov %%rcx, (%%rbx)", A | D)
MARKS(read_then_write, "SDM 3A 4.8", "mov (%%rbx), %%rcx\n mov %%rcx, (%%rbx)", A | D)
MARKS(modify_sets_dirty, "SDM 3A 4.8", "incl (%%rbx)", A | D)
MARKS(compare_does_not_set_dirty, "SDM 3A 4.8", "cmpl $0, (%%rbx)", A)
MARKS(lea_touches_nothing, "SDM 3A 4.8", "lea (%%rbx), %%rcx", 0)
MARKS(prefetch_may_set_accessed_only, "SDM 3A 4.8", "prefetcht0 (%%rbx)\n mov (%%rbx), %%rcx", A)
MARKS(nop_with_memory_touches_nothing, "SDM 2B NOP", "nopl (%%rbx)", 0)
MARKS(string_of_no_length_touches_nothing, "SDM 2B REP", "mov %%rbx, %%rdi\n xor %%ecx, %%ecx\n rep stosb", 0)
MARKS(string_store_sets_dirty, "SDM 3A 4.8", "mov %%rbx, %%rdi\n stosb", A | D)
MARKS(not_taken_cmov_reads, "SDM 2A CMOVcc", "xor %%ecx, %%ecx\n cmovnz (%%rbx), %%rcx", A)
MARKS(failed_cmpxchg_writes, "SDM 2A CMPXCHG", "movl $5, %%eax\n cmpxchg %%ecx, (%%rbx)", A | D)
MARKS(clflush_reads, "SDM 2A CLFLUSH", "clflush (%%rbx)\n mov (%%rbx), %%rcx", A)
CASE(fetch_sets_accessed, "SDM 3A 4.8") {
  BYTE(FRAME(0)) = 0xc3;
  fresh(0, 0);
  TRY("call *%%rbx", "b"(PAGE(0)));
  WANT_DONE();
  EQUAL(bits(0), A);
}
CASE(push_sets_dirty, "SDM 3A 4.8") {
  fresh(4, 0), fresh(3, 0);
  TRY("mov %%rsp, %%rcx\n mov %%rbx, %%rsp\n push %%rax\n mov %%rcx, %%rsp", "b"(PAGE(4) + 64));
  WANT_DONE();
  EQUAL(bits(4), A | D);
}
CASE(faulting_write_sets_no_dirty, "SDM 3A 4.8") {
  map(0, FRAME(0) | P);
  TRY("mov %%rcx, (%%rbx)", "b"(PAGE(0)));
  WANT(PF, pf_present | pf_write);
  EQUAL(area_table[0] & D, 0);
}
CASE(faulting_user_access_sets_no_bits, "SDM 3A 4.8") {
  fresh(0, 0);
  USER64("mov %%rcx, (%%rdi)", .rdi = PAGE(0));
  WANT(PF, pf_present | pf_write | pf_user);
  EQUAL(area_table[0] & D, 0);
}
CASE(store_across_marks_both_pages, "SDM 3A 4.8") {
  fresh(0, 0), fresh(1, 0);
  TRY("mov %%rcx, -4(%%rbx)", "b"(PAGE(1)));
  WANT_DONE();
  EQUAL(bits(0), A | D);
  EQUAL(bits(1), A | D);
}
CASE(upper_levels_get_accessed, "SDM 3A 4.8") {
  touch_tables()[area >> 21] &= ~(uint64_t)A;
  pointers[1] &= ~(uint64_t)A;
  flush_translations();
  TRY("mov %%rcx, (%%rbx)", "b"(PAGE(0)));
  EQUAL(directories[area >> 21] & (A | D), A);  // a directory entry has no dirty bit
  EQUAL(pointers[1] & A, A);
}
CASE(large_page_gets_dirty, "SDM 3A 4.8") {
  touch_tables()[area >> 21] = 0x800000 | P | W | PS;
  flush_translations();
  TRY("mov (%%rbx), %%rcx", "b"(PAGE(0)));
  EQUAL(directories[area >> 21] & (A | D), A);
  TRY("mov %%rcx, (%%rbx)", "b"(PAGE(0)));
  EQUAL(directories[area >> 21] & (A | D), A | D);
}
CASE(dirty_is_set_again_after_invlpg, "SDM 3A 4.8") {
  fresh(0, 0);
  TRY("mov %%rcx, (%%rbx)", "b"(PAGE(0)));
  area_table[0] &= ~(uint64_t)(A | D);
  invalidate(PAGE(0));
  TRY("mov %%rcx, (%%rbx)", "b"(PAGE(0)));
  EQUAL(bits(0), A | D);
}
CASE(accessed_is_set_again_after_mov_cr3, "SDM 3A 4.8") {
  fresh(0, 0);
  TRY("mov (%%rbx), %%rcx", "b"(PAGE(0)));
  area_table[0] &= ~(uint64_t)(A | D);
  flush_translations();
  TRY("mov (%%rbx), %%rcx", "b"(PAGE(0)));
  EQUAL(bits(0), A);
}

// --- invalidation
static void fill(void) {
  for (unsigned i = 0; i < 8; i++) QUAD(FRAME(i)) = i;
}
static void use(unsigned page) {
  TRY("mov (%%rbx), %%rcx\n mov %%rcx, (%%rbx)", "b"(PAGE(page)));
}
CASE(invlpg_takes_one_page, "SDM 3A 4.10.4.1") {
  fill();
  use(0);
  area_table[0] = FRAME(5) | P | W;
  invalidate(PAGE(0) + 0xfff);  // any address of the page
  EQUAL(QUAD(PAGE(0)), 5);
}
CASE(invlpg_of_an_absent_page, "SDM 2A INVLPG") {
  map(0, 0);
  TRY("invlpg (%%rbx)", "b"(PAGE(0)));
  WANT_DONE();
}
CASE(invlpg_of_a_bad_address, "SDM 2A INVLPG") {
  TRY("invlpg (%%rbx)", "b"(1ull << 47));
  WANT_DONE();
}
CASE(invlpg_of_a_large_page, "SDM 3A 4.10.4.1") {
  touch_tables()[area >> 21] = 0x800000 | P | W | PS;
  flush_translations();
  QUAD(0x9ff000) = 1, QUAD(0xbff000) = 2, QUAD(0x801000) = 3, QUAD(0xa01000) = 4;
  EQUAL(QUAD(area + 0x1ff000), 1);
  EQUAL(QUAD(area + 0x1000), 3);
  directories[area >> 21] = 0xa00000 | P | W | PS;
  invalidate(area + 0x5000);
  EQUAL(QUAD(area + 0x1ff000), 2);
  EQUAL(QUAD(area + 0x1000), 4);
}
CASE(invlpg_takes_global_pages, "SDM 3A 4.10.4.1") {
  fill();
  set_cr4(base_cr4 | cr4_pge);
  map(0, FRAME(0) | P | W | G);
  use(0);
  area_table[0] = FRAME(5) | P | W | G;
  invalidate(PAGE(0));
  EQUAL(QUAD(PAGE(0)), 5);
}
CASE(mov_cr3_takes_pages_that_are_not_global, "SDM 3A 4.10.4.1") {
  fill();
  use(0), use(1);
  area_table[0] = FRAME(5) | P | W;
  area_table[1] = 0;
  flush_translations();
  EQUAL(QUAD(PAGE(0)), 5);
  TRY("mov (%%rbx), %%rcx", "b"(PAGE(1)));
  WANT(PF, 0);
}
CASE(clearing_pge_takes_global_pages, "SDM 3A 4.10.4.1") {
  fill();
  set_cr4(base_cr4 | cr4_pge);
  map(0, FRAME(0) | P | W | G);
  use(0);
  area_table[0] = FRAME(5) | P | W | G;
  set_cr4(base_cr4);
  EQUAL(QUAD(PAGE(0)), 5);
}
CASE(setting_pge_takes_everything, "SDM 3A 4.10.4.1") {
  fill();
  use(0);
  area_table[0] = FRAME(5) | P | W;
  set_cr4(base_cr4 | cr4_pge);
  EQUAL(QUAD(PAGE(0)), 5);
}
CASE(setting_smep_is_seen_at_once, "SDM 3A 4.10.4.1") {
  NEEDS(HAS_SMEP, "no SMEP");
  map(0, FRAME(0) | P | W | U);
  BYTE(FRAME(0)) = 0xc3;
  TRY("call *%%rbx", "b"(PAGE(0)));
  WANT_DONE();
  set_cr4(base_cr4 | cr4_smep);
  TRY("jmp *%%rbx", "b"(PAGE(0)));
  WANT_AT(PF, pf_present | pf_fetch, PAGE(0));
}
CASE(changing_wp_is_seen_at_once, "SDM 3A 4.10.4.1") {
  map(0, FRAME(0) | P);
  set_cr0(base_cr0 & ~(uint64_t)cr0_wp);
  TRY("mov %%rcx, (%%rbx)", "b"(PAGE(0)));
  WANT_DONE();
  set_cr0(base_cr0);
  TRY("mov %%rcx, (%%rbx)", "b"(PAGE(0)));
  WANT(PF, pf_present | pf_write);
}
CASE(changing_nxe_is_seen_after_a_flush, "SDM 3A 4.10.4.1") {
  map(0, FRAME(0) | P | W | NX);
  TRY("mov (%%rbx), %%rcx", "b"(PAGE(0)));
  WANT_DONE();
  write_msr(msr_efer, base_efer & ~efer_nxe);
  flush_translations();
  TRY("mov (%%rbx), %%rcx", "b"(PAGE(0)));
  WANT(PF, pf_present | pf_reserved);
}
CASE(absent_entries_are_not_cached, "SDM 3A 4.10.2.3") {
  fill();
  map(0, 0);
  TRY("mov (%%rbx), %%rcx", "b"(PAGE(0)));
  WANT(PF, 0);
  area_table[0] = FRAME(5) | P | W;  // and no invalidation
  TRY("mov (%%rbx), %%rcx", "b"(PAGE(0)));
  WANT_DONE();
  EQUAL(seen.rcx, 5);
}
CASE(page_fault_takes_the_translation, "SDM 3A 4.10.4.1") {
  // A fault invalidates what it used: more rights given without INVLPG hold at the second try.
  map(0, FRAME(0) | P);
  TRY("mov (%%rbx), %%rcx", "b"(PAGE(0)));
  area_table[0] |= W;
  TRY("mov %%rcx, (%%rbx)", "b"(PAGE(0)));
  TRUE(seen.vector == done || seen.vector == PF);
  TRY("mov %%rcx, (%%rbx)", "b"(PAGE(0)));
  WANT_DONE();
}
CASE(write_to_a_clean_page_walks_again, "SDM 3A 4.10.2.2") {
  // The dirty bit is set in the table as it is then, not by a remembered address.
  fresh(0, 0);
  TRY("mov (%%rbx), %%rcx", "b"(PAGE(0)));
  EQUAL(bits(0), A);
  TRY("mov %%rcx, (%%rbx)", "b"(PAGE(0)));
  EQUAL(bits(0), A | D);
}
CASE(directory_entry_changed_and_invlpg, "SDM 3A 4.10.3") {
  // INVLPG takes the paging-structure caches too.
  static uint64_t other[512] __attribute__((aligned(4096)));
  fill();
  use(0);
  other[0] = FRAME(6) | P | W;
  touch_tables()[area >> 21] = (uint64_t)other | P | W | U;
  invalidate(PAGE(0));
  EQUAL(QUAD(PAGE(0)), 6);
}
CASE(one_frame_under_two_addresses, "SDM 3A 4.10") {
  map(1, FRAME(0) | P | W);
  QUAD(PAGE(0)) = 11;
  EQUAL(QUAD(PAGE(1)), 11);
  QUAD(PAGE(1)) = 12;
  EQUAL(QUAD(PAGE(0)), 12);
}
CASE(table_changed_through_its_own_mapping, "SDM 3A 4.10") {
  fill();
  map(1, (uint64_t)area_table | P | W);
  use(0);
  QUAD(PAGE(1)) = FRAME(3) | P | W;
  invalidate(PAGE(0));
  EQUAL(QUAD(PAGE(0)), 3);
}

// --- PCID
#define WITH_PCID()           \
  NEEDS(HAS_PCID, "no PCID"); \
  fill();                     \
  set_cr4(base_cr4 | cr4_pcide)
CASE(pcid_cr3_bit_63_is_not_kept, "SDM 3A 4.10.4.1") {
  WITH_PCID();
  set_cr3((uint64_t)root | 3 | 1ull << 63);
  EQUAL(cr3(), (uint64_t)root | 3);
}
CASE(pcid_load_forgets_its_own, "SDM 3A 4.10.4.1") {
  WITH_PCID();
  set_cr3((uint64_t)root | 3);
  use(0);
  area_table[0] = FRAME(5) | P | W;
  set_cr3((uint64_t)root | 3);
  EQUAL(QUAD(PAGE(0)), 5);
}
CASE(pcid_clearing_the_switch_forgets_all, "SDM 3A 4.10.4.1") {
  WITH_PCID();
  set_cr3((uint64_t)root | 3);
  use(0);
  set_cr3((uint64_t)root);
  area_table[0] = FRAME(5) | P | W;
  set_cr4(base_cr4);
  EQUAL(QUAD(PAGE(0)), 5);
}
CASE(pcid_reserved_bits_of_cr3, "SDM 3A 4.10.4.1") {
  WITH_PCID();
  TRY("mov %%rax, %%cr3", "a"((uint64_t)root | 1ull << 62));
  WANT(GP, 0);
}
struct invpcid_operand {
  uint64_t pcid, address;
};
static void invpcid(uint64_t type, uint64_t pcid, uint64_t address) {
  const struct invpcid_operand operand = {pcid, address};
  TRY("invpcid (%%rbx), %%rax", "a"(type), "b"(&operand));
}
#define WITH_INVPCID() NEEDS(HAS_INVPCID, "no INVPCID")
CASE(invpcid_one_address, "SDM 2A INVPCID") {
  WITH_INVPCID();
  fill();
  use(0);
  area_table[0] = FRAME(5) | P | W;
  invpcid(0, 0, PAGE(0));
  WANT_DONE();
  EQUAL(QUAD(PAGE(0)), 5);
}
CASE(invpcid_one_context, "SDM 2A INVPCID") {
  WITH_INVPCID();
  fill();
  use(0);
  area_table[0] = FRAME(5) | P | W;
  invpcid(1, 0, 0);
  WANT_DONE();
  EQUAL(QUAD(PAGE(0)), 5);
}
CASE(invpcid_all_with_global, "SDM 2A INVPCID") {
  WITH_INVPCID();
  fill();
  set_cr4(base_cr4 | cr4_pge);
  map(0, FRAME(0) | P | W | G);
  use(0);
  area_table[0] = FRAME(5) | P | W | G;
  invpcid(2, 0, 0);
  WANT_DONE();
  EQUAL(QUAD(PAGE(0)), 5);
}
CASE(invpcid_all_but_global, "SDM 2A INVPCID") {
  WITH_INVPCID();
  fill();
  use(0);
  area_table[0] = FRAME(5) | P | W;
  invpcid(3, 0, 0);
  WANT_DONE();
  EQUAL(QUAD(PAGE(0)), 5);
}
CASE(invpcid_type_4, "SDM 2A INVPCID") {
  WITH_INVPCID();
  invpcid(4, 0, 0);
  WANT(GP, 0);
}
CASE(invpcid_reserved_bits, "SDM 2A INVPCID") {
  WITH_INVPCID();
  invpcid(0, 0x1000, PAGE(0));
  WANT(GP, 0);
}
CASE(invpcid_bad_address, "SDM 2A INVPCID") {
  WITH_INVPCID();
  invpcid(0, 0, 1ull << 47);
  WANT(GP, 0);
}
CASE(invpcid_of_a_context_without_pcide, "SDM 2A INVPCID") {
  WITH_INVPCID();
  invpcid(1, 5, 0);
  WANT(GP, 0);
}
CASE(invpcid_by_users, "SDM 2A INVPCID") {
  WITH_INVPCID();
  USER64("invpcid (%%rsp), %%rax");
  WANT(GP, 0);
}
