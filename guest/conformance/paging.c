// Four-level paging: which access a translation lets through, the error code when it does not, reserved bits
// at each level, large pages, SMEP, SMAP, protection keys. SDM vol. 3, chapter 4. The legacy formats:
// legacy_paging.c.
#include "suite.h"
#define GROUP "paging"

#define READ "mov (%%rbx), %%rax"
#define WRITE "mov %%rax, (%%rbx)"
#define AT0 "b"(PAGE(0) + 8)
#define PAGE_FAULT(error)         \
  do {                            \
    WANT(PF, error);              \
    EQUAL(seen_cr2, PAGE(0) + 8); \
  } while (0)
#define ACCESS(name, section, entry, text, error) \
  CASE(name, section) {                           \
    map(0, FRAME(0) | (entry));                   \
    TRY(text, AT0);                               \
    PAGE_FAULT(error);                            \
  }
#define ALLOWED(name, section, entry, text) \
  CASE(name, section) {                     \
    map(0, FRAME(0) | (entry));             \
    TRY(text, AT0);                         \
    WANT_DONE();                            \
  }

ACCESS(read_of_an_absent_page, "SDM 3A 4.7", 0, READ, 0)
ACCESS(write_of_an_absent_page, "SDM 3A 4.7", 0, WRITE, pf_write)
ACCESS(absent_page_with_other_bits_set, "SDM 3A 4.3", W | U | PS | NX | 1ull << 51, READ, 0)
ACCESS(write_of_a_read_only_page, "SDM 3A 4.6.1", P, WRITE, pf_present | pf_write)
ALLOWED(read_of_a_read_only_page, "SDM 3A 4.6.1", P, READ)
ACCESS(modify_of_a_read_only_page_is_a_write, "SDM 3A 4.7", P, "incl (%%rbx)", pf_present | pf_write)
ACCESS(locked_modify_of_a_read_only_page, "SDM 3A 4.7", P, "lock incl (%%rbx)", pf_present | pf_write)
ACCESS(cmpxchg_that_fails_writes_all_the_same, "SDM 2A CMPXCHG", P,
       "xor %%eax, %%eax\n movl $1, %%ecx\n" MARK "cmpxchg %%ecx, (%%rbx)", pf_present | pf_write)
ACCESS(test_only_reads, "SDM 2B TEST", 0, "testl $1, (%%rbx)", 0)
CASE(fetch_from_a_page_without_execution, "SDM 3A 4.6.1") {
  map(0, FRAME(0) | P | W | NX);
  TRY("jmp *%%rbx", AT0);
  WANT_AT(PF, pf_present | pf_fetch, PAGE(0) + 8);
  EQUAL(seen_cr2, PAGE(0) + 8);
}
CASE(call_pushes_before_the_fetch_faults, "SDM 2A CALL") {
  map(0, FRAME(0) | P | W | NX);
  TRY("mov %%rsp, %%rcx\n call *%%rbx", AT0);
  WANT_AT(PF, pf_present | pf_fetch, PAGE(0) + 8);
  EQUAL(seen.rsp, seen.rcx - 8);
}
CASE(absent_fetch_at_the_target, "SDM 3A 4.7") {
  map(0, 0);
  TRY("jmp *%%rbx", AT0);
  WANT_AT(PF, pf_fetch, PAGE(0) + 8);
}
CASE(fetch_error_bit_needs_nxe_or_smep, "SDM 3A 4.7") {
  write_msr(msr_efer, base_efer & ~efer_nxe);
  map(0, 0);
  TRY("jmp *%%rbx", AT0);
  WANT_AT(PF, 0, PAGE(0) + 8);
}
ALLOWED(read_of_a_page_without_execution, "SDM 3A 4.6.1", P | NX, READ)
CASE(nx_without_nxe_is_reserved, "SDM 3A 4.5.4") {
  write_msr(msr_efer, base_efer & ~efer_nxe);
  map(0, FRAME(0) | P | W | NX);
  TRY(READ, AT0);
  PAGE_FAULT(pf_present | pf_reserved);
}
CASE(write_protection_off, "SDM 3A 4.6.1") {
  map(0, FRAME(0) | P);
  set_cr0(base_cr0 & ~(uint64_t)cr0_wp);
  TRY(WRITE, AT0);
  WANT_DONE();
}
CASE(write_protection_holds_for_users_always, "SDM 3A 4.6.1") {
  map(0, FRAME(0) | P | U);
  set_cr0(base_cr0 & ~(uint64_t)cr0_wp);
  USER64("mov %%rax, (%%rdi)", .rdi = PAGE(0) + 8);
  PAGE_FAULT(pf_present | pf_write | pf_user);
}
CASE(user_read_of_a_supervisor_page, "SDM 3A 4.6.1") {
  USER64("mov (%%rdi), %%rax", .rdi = PAGE(0) + 8);
  PAGE_FAULT(pf_present | pf_user);
}
CASE(user_write_of_a_supervisor_page, "SDM 3A 4.6.1") {
  USER64("mov %%rax, (%%rdi)", .rdi = PAGE(0) + 8);
  PAGE_FAULT(pf_present | pf_write | pf_user);
}
CASE(user_read_of_an_absent_page, "SDM 3A 4.7") {
  map(0, 0);
  USER64("mov (%%rdi), %%rax", .rdi = PAGE(0) + 8);
  PAGE_FAULT(pf_user);
}
CASE(user_fetch_of_a_supervisor_page, "SDM 3A 4.6.1") {
  USER64("jmp *%%rdi", .rdi = PAGE(0) + 8);
  WANT_AT(PF, pf_present | pf_user | pf_fetch, PAGE(0) + 8);
}
CASE(user_fetch_without_execution, "SDM 3A 4.6.1") {
  map(0, FRAME(0) | P | U | NX);
  USER64("jmp *%%rdi", .rdi = PAGE(0) + 8);
  WANT_AT(PF, pf_present | pf_user | pf_fetch, PAGE(0) + 8);
}
CASE(user_write_of_a_user_page, "SDM 3A 4.6.1") {
  map(0, FRAME(0) | P | W | U);
  USER64("mov %%rdi, (%%rdi)", .rdi = PAGE(0) + 8);
  WANT_DONE();
  EQUAL(QUAD(PAGE(0) + 8), PAGE(0) + 8);
}
CASE(descriptor_load_by_a_user_is_a_supervisor_access, "SDM 3A 4.6") {
  // MOV to DS reads the descriptor table, which user code cannot.
  USER64("mov $0x23, %%eax\n mov %%eax, %%ds");
  WANT_DONE();
}

// --- the rights of the upper levels count as well
enum { top = 0, third = 1, second = 2, kinds = 3 };
static uint64_t* entry_at(unsigned level) {
  touch_tables();
  return level == top ? &root[0] : level == third ? &pointers[area >> 30] : &directories[area >> 21];
}
#define UPPER(name, level, change, text, error) \
  CASE(name, "SDM 3A 4.6.1") {                  \
    map(0, FRAME(0) | P | W | U);               \
    uint64_t* const entry = entry_at(level);    \
    *entry = change(*entry);                    \
    flush_translations();                       \
    TRY(text, AT0);                             \
    PAGE_FAULT(error);                          \
  }
#define NO_PRESENT(e) ((e) & ~1ull)
#define NO_WRITE(e) ((e) & ~2ull)
#define WITH_NX(e) ((e) | NX)
#define WITH_HIGH(e) ((e) | 1ull << 51)
#define WITH_SIZE(e) ((e) | PS)
UPPER(absent_directory_pointer, third, NO_PRESENT, READ, 0)
UPPER(absent_directory, second, NO_PRESENT, WRITE, pf_write)
UPPER(read_only_directory_pointer, third, NO_WRITE, WRITE, pf_present | pf_write)
UPPER(read_only_directory, second, NO_WRITE, WRITE, pf_present | pf_write)
UPPER(reserved_address_in_directory_pointer, third, WITH_HIGH, READ, pf_present | pf_reserved)
UPPER(reserved_address_in_directory, second, WITH_HIGH, WRITE, pf_present | pf_reserved | pf_write)
CASE(reserved_address_in_the_page_entry, "SDM 3A 4.5.4") {
  map(0, FRAME(0) | P | W | 1ull << 51);
  TRY(READ, AT0);
  PAGE_FAULT(pf_present | pf_reserved);
}
CASE(reserved_bit_is_told_before_a_missing_right, "SDM 3A 4.7") {
  map(0, FRAME(0) | P | 1ull << 51);
  TRY(WRITE, AT0);
  PAGE_FAULT(pf_present | pf_reserved | pf_write);
}
CASE(absent_entry_hides_reserved_bits_below, "SDM 3A 4.7") {
  map(0, FRAME(0) | P | 1ull << 51);
  *entry_at(second) &= ~1ull;
  flush_translations();
  TRY(READ, AT0);
  PAGE_FAULT(0);
}
CASE(page_size_bit_in_the_top_level_is_reserved, "SDM 3A 4.5.4") {
  // Of an entry of its own, as the first holds this code.
  touch_tables();
  root[1] = (uint64_t)pointers | P | W | PS;
  flush_translations();
  TRY(READ, "b"(1ull << 39));
  WANT(PF, pf_present | pf_reserved);
  EQUAL(seen_cr2, 1ull << 39);
}
CASE(no_execution_in_directory_pointer, "SDM 3A 4.6.1") {
  *entry_at(third) |= NX;
  flush_translations();
  TRY("jmp *%%rbx", AT0);
  WANT_AT(PF, pf_present | pf_fetch, PAGE(0) + 8);
}
CASE(no_execution_in_directory, "SDM 3A 4.6.1") {
  *entry_at(second) |= NX;
  flush_translations();
  TRY("jmp *%%rbx", AT0);
  WANT_AT(PF, pf_present | pf_fetch, PAGE(0) + 8);
}
CASE(supervisor_directory_hides_user_pages, "SDM 3A 4.6.1") {
  map(0, FRAME(0) | P | W | U);
  // The code's own pages are behind the same entry: fetching the first instruction faults.
  *entry_at(second) &= ~4ull;
  memcpy((void*)FRAME(16), "\x90\x90", 2);
  flush_translations();
  USER64("mov (%%rdi), %%rax", .rdi = PAGE(0));
  WANT(PF, pf_present | pf_user | pf_fetch);
}

// --- large pages
CASE(page_of_2_mib, "SDM 3A 4.5") {
  touch_tables()[area >> 21] = 0x800000 | P | W | PS;
  flush_translations();
  QUAD(0x800000 + 0x1ffff8) = 77;
  EQUAL(QUAD(area + 0x1ffff8), 77);
}
CASE(page_of_2_mib_has_reserved_address_bits, "SDM 3A table 4-18") {
  touch_tables()[area >> 21] = 0x800000 | P | W | PS | 1u << 13;
  flush_translations();
  TRY(READ, AT0);
  PAGE_FAULT(pf_present | pf_reserved);
}
CASE(page_of_2_mib_pat_bit_is_not_reserved, "SDM 3A table 4-18") {
  touch_tables()[area >> 21] = 0x800000 | P | W | PS | 1u << 12;
  flush_translations();
  TRY(READ, AT0);
  WANT_DONE();
}
CASE(page_of_1_gib, "SDM 3A 4.5") {
  NEEDS(HAS_PAGES_1G, "no 1-GiB pages");
  touch_tables();
  pointers[1] = 0 | P | W | PS;
  flush_translations();
  QUAD(0x812340) = 99;
  EQUAL(QUAD(area + 0x812340), 99);
}
CASE(page_of_1_gib_has_reserved_address_bits, "SDM 3A table 4-16") {
  NEEDS(HAS_PAGES_1G, "no 1-GiB pages");
  touch_tables();
  pointers[1] = 0 | P | W | PS | 1u << 20;
  flush_translations();
  TRY(READ, AT0);
  PAGE_FAULT(pf_present | pf_reserved);
}
CASE(write_to_a_read_only_page_of_1_gib, "SDM 3A 4.6.1") {
  NEEDS(HAS_PAGES_1G, "no 1-GiB pages");
  touch_tables();
  pointers[1] = 0 | P | PS;
  flush_translations();
  TRY(WRITE, AT0);
  PAGE_FAULT(pf_present | pf_write);
}
CASE(page_size_without_1_gib_pages_is_reserved, "SDM 3A 4.5.4") {
  NEEDS(!HAS_PAGES_1G, "there are 1-GiB pages");
  touch_tables();
  pointers[1] |= PS;
  flush_translations();
  TRY(READ, AT0);
  PAGE_FAULT(pf_present | pf_reserved);
}
CASE(highest_address_bit_is_not_reserved, "SDM 3A 4.5.4") {
  // Nothing is there: reads give what an empty bus gives, but no fault. Software bits are free too.
  map(0, FRAME(0) | P | W | 7u << 9 | 0x7full << 52);
  TRY(READ, AT0);
  WANT_DONE();
}

// --- accesses over a border: the fault names the page that lacks
CASE(write_across_into_an_absent_page, "SDM 3A 6.15 #PF") {
  map(1, 0);
  QUAD(PAGE(0) + 0xff8) = 0x1111111111111111;
  TRY("mov %%rax, 0xffc(%%rbx)", "b"(PAGE(0)), "a"(-1ll));
  WANT(PF, pf_write);
  EQUAL(seen_cr2, PAGE(1));
  EQUAL(QUAD(PAGE(0) + 0xff8), 0x1111111111111111);  // nothing of it was stored
}
CASE(write_across_into_a_read_only_page, "SDM 3A 6.15 #PF") {
  map(1, FRAME(1) | P);
  QUAD(PAGE(0) + 0xff8) = 0x2222222222222222;
  TRY("mov %%rax, 0xffc(%%rbx)", "b"(PAGE(0)), "a"(-1ll));
  WANT(PF, pf_present | pf_write);
  EQUAL(seen_cr2, PAGE(1));
  EQUAL(QUAD(PAGE(0) + 0xff8), 0x2222222222222222);
}
CASE(write_across_from_an_absent_page, "SDM 3A 6.15 #PF") {
  map(0, 0);
  QUAD(PAGE(1)) = 0x3333333333333333;
  TRY("mov %%rax, 0xffc(%%rbx)", "b"(PAGE(0)), "a"(-1ll));
  WANT(PF, pf_write);
  EQUAL(seen_cr2, PAGE(0) + 0xffc);
  EQUAL(QUAD(PAGE(1)), 0x3333333333333333);
}
CASE(read_across_into_an_absent_page, "SDM 3A 6.15 #PF") {
  map(1, 0);
  TRY("mov 0xffd(%%rbx), %%eax", "b"(PAGE(0)), "a"(5));
  WANT(PF, 0);
  EQUAL(seen_cr2, PAGE(1));
  EQUAL(seen.rax, 5);
}
CASE(locked_access_across_into_an_absent_page, "SDM 3A 8.1.2") {
  map(1, 0);
  LONG(PAGE(0) + 0xffc) = 7;
  TRY("lock addq %%rax, 0xffc(%%rbx)", "b"(PAGE(0)), "a"(1));
  WANT(PF, pf_write);
  EQUAL(seen_cr2, PAGE(1));
  EQUAL(LONG(PAGE(0) + 0xffc), 7);
}
CASE(instruction_across_into_an_absent_page, "SDM 3A 4.7") {
  // mov $imm32, %eax with one byte on the page that is not there.
  static const uint8_t bytes[] = {0xb8, 1, 2, 3, 4, 0xc3};
  memcpy((void*)FRAME(0) + 0xffc, bytes, 4);
  map(1, 0);
  TRY("jmp *%%rbx", "b"(PAGE(0) + 0xffc));
  WANT_AT(PF, pf_fetch, PAGE(0) + 0xffc);
  EQUAL(seen_cr2, PAGE(1));
}
CASE(frames_that_do_not_lie_side_by_side, "SDM 3A 4.3") {
  map(1, FRAME(5) | P | W);
  LONG(PAGE(0) + 0xffe) = 0x44332211;
  EQUAL(WORD(FRAME(0) + 0xffe), 0x2211);
  EQUAL(WORD(FRAME(5)), 0x4433);
  EQUAL(LONG(PAGE(0) + 0xffe), 0x44332211);
}
CASE(push_on_a_read_only_stack, "SDM 3A 6.15 #PF") {
  map(0, FRAME(0) | P);
  set_gate(PF, (idt[PF * 2] & 0xffff) | (idt[PF * 2] >> 32 & 0xffff0000),
           (struct gate){kernel_code, 1, 0x8e});
  TRY("mov %%rbx, %%rsp\n" MARK "push %%rax", "b"(PAGE(0) + 0x100));
  WANT(PF, pf_present | pf_write);
  EQUAL(seen.rsp, PAGE(0) + 0x100);
}
CASE(pop_into_an_absent_page_keeps_rsp, "SDM 2B POP") {
  map(0, 0);
  TRY("push $5\n mov %%rsp, %%rcx\n" MARK "popq (%%rbx)", AT0);
  PAGE_FAULT(pf_write);
  EQUAL(seen.rsp, seen.rcx);
}
CASE(exchange_with_an_absent_page_keeps_the_register, "SDM 2B XCHG") {
  map(0, 0);
  TRY("xchg %%rax, (%%rbx)", AT0, "a"(9));
  PAGE_FAULT(pf_write);
  EQUAL(seen.rax, 9);
}
