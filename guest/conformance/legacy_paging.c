// 32-bit paging and PAE paging, and changing between formats. SDM vol. 3, 4.3 and 4.4.
#include "legacy.h"
#define GROUP "paging"

#define READ_AREA MARK "mov 0x40000008, %%eax"
#define WRITE_AREA MARK "mov %%eax, 0x40000008"
#define SAW(error)                    \
  do {                                \
    SEEN(PF, error);                  \
    EQUAL(legacy_seen.cr2, area + 8); \
  } while (0)
#define DIRECTORY directory_32[area >> 22]
#define P32(name, section, prepare, error, text, ...) \
  CASE(name, section) {                               \
    prepare_legacy();                                 \
    prepare;                                          \
    LEGACY(32, text, PAGED_32, ##__VA_ARGS__);        \
    SAW(error);                                       \
  }
CASE(p32_translates, "SDM 3A 4.3") {
  prepare_legacy();
  LONG(FRAME(0) + 8) = 0x1234;
  LEGACY(32, "mov 0x40000008, %%eax\n movl $0x77, 0x40001000", PAGED_32);
  SEEN_DONE();
  EQUAL(legacy_seen.eax, 0x1234);
  EQUAL(LONG(FRAME(1)), 0x77);
}
P32(p32_absent_page, "SDM 3A 4.7", table_32[0] = 0, 0, READ_AREA)
P32(p32_absent_table, "SDM 3A 4.7", DIRECTORY = 0, pf_write, WRITE_AREA)
P32(p32_read_only_page, "SDM 3A 4.6", table_32[0] &= ~2u, pf_present | pf_write, WRITE_AREA)
P32(p32_read_only_table, "SDM 3A 4.6", DIRECTORY &= ~2u, pf_present | pf_write, WRITE_AREA)
P32(p32_user_read_of_the_kernels, "SDM 3A 4.6", (void)0, pf_present | pf_user, READ_AREA, .cs = user_code_32)
P32(p32_user_of_a_kernel_table, "SDM 3A 4.6", (table_32[0] |= U, DIRECTORY &= ~4u), pf_present | pf_user,
    READ_AREA, .cs = user_code_32)
P32(p32_user_write_of_read_only, "SDM 3A 4.6", table_32[0] = (table_32[0] | U) & ~2u,
    pf_present | pf_user | pf_write, WRITE_AREA, .cs = user_code_32)
CASE(p32_no_fetch_bit_in_the_error, "SDM 3A 4.7") {
  // Neither NX nor SMEP: a fetch is told as a read.
  prepare_legacy();
  table_32[0] = 0;
  LEGACY(32, "mov $0x40000008, %%eax\n jmp *%%eax", PAGED_32);
  EQUAL(legacy_seen.vector, PF);
  EQUAL(legacy_seen.error, 0);
  EQUAL(legacy_seen.eip, area + 8);
}
CASE(p32_write_protection_off, "SDM 3A 4.6") {
  prepare_legacy();
  table_32[0] &= ~2u;
  LEGACY(32, "mov %%eax, 0x40000008", .cr0 = cr0_pe | 0x30 | (uint32_t)cr0_pg,
         .cr3 = (uint32_t)(uint64_t)directory_32);
  SEEN_DONE();
}
CASE(p32_accessed_and_dirty, "SDM 3A 4.8") {
  prepare_legacy();
  LEGACY(32, "mov 0x40000008, %%eax\n mov %%eax, 0x40001008", PAGED_32);
  SEEN_DONE();
  EQUAL(table_32[0] & (A | D), A);
  EQUAL(table_32[1] & (A | D), A | D);
  EQUAL(DIRECTORY & (A | D), A);
}
CASE(p32_size_bit_without_pse, "SDM 3A 4.3") {
  // The bit is ignored: the entry still names a table.
  prepare_legacy();
  DIRECTORY |= PS;
  LONG(FRAME(0) + 8) = 0x4321;
  LEGACY(32, "mov 0x40000008, %%eax", PAGED_32);
  SEEN_DONE();
  EQUAL(legacy_seen.eax, 0x4321);
}
CASE(p32_page_of_4_mib, "SDM 3A 4.3") {
  prepare_legacy();
  DIRECTORY = 0x800000 | P | W | PS;
  LONG(0x800008ull) = 0x1111;
  LONG(0xbffff0ull) = 0x2222;
  LEGACY(32, "mov 0x40000008, %%eax\n mov 0x403ffff0, %%ebx", PAGED_32, .cr4 = cr4_pse);
  SEEN_DONE();
  EQUAL(legacy_seen.eax, 0x1111);
  EQUAL(legacy_seen.ebx, 0x2222);
}
P32(p32_page_of_4_mib_reserved_bit, "SDM 3A table 4-4", DIRECTORY = 0x800000 | P | W | PS | 1u << 21,
    pf_present | pf_reserved, READ_AREA, .cr4 = cr4_pse)
P32(p32_page_of_4_mib_read_only, "SDM 3A 4.6", DIRECTORY = 0x800000 | P | PS, pf_present | pf_write,
    WRITE_AREA, .cr4 = cr4_pse)
CASE(p32_page_of_4_mib_dirty, "SDM 3A 4.8") {
  prepare_legacy();
  DIRECTORY = 0x800000 | P | W | PS;
  LEGACY(32, "mov %%eax, 0x40000008", PAGED_32, .cr4 = cr4_pse);
  SEEN_DONE();
  EQUAL(DIRECTORY & (A | D), A | D);
}
CASE(p32_smep, "SDM 3A 4.6") {
  NEEDS(HAS_SMEP, "no SMEP");
  prepare_legacy();
  uint32_t* const low = (uint32_t*)(uint64_t)(directory_32[0] & ~0xfffu);
  for (unsigned i = 0; i < 1024; i++) low[i] &= ~4u;
  table_32[0] |= U;
  LEGACY(32, "mov $0x40000008, %%eax\n jmp *%%eax", PAGED_32, .cr4 = cr4_smep);
  EQUAL(legacy_seen.vector, PF);
  EQUAL(legacy_seen.error, pf_present | pf_fetch);
}
CASE(p32_smap, "SDM 3A 4.6") {
  NEEDS(HAS_SMAP, "no SMAP");
  prepare_legacy();
  uint32_t* const low = (uint32_t*)(uint64_t)(directory_32[0] & ~0xfffu);
  for (unsigned i = 0; i < 1024; i++) low[i] &= ~4u;
  table_32[0] |= U;
  LEGACY(32, READ_AREA, PAGED_32, .cr4 = cr4_smap);
  SAW(pf_present);
}
CASE(p32_addresses_wrap, "SDM 3A 3.3.5") {
  prepare_legacy();
  LONG(FRAME(0) + 8) = 0x5151;
  LEGACY(32, "mov $0x80000000, %%ebx\n mov 0xc0000008(%%ebx), %%eax", PAGED_32);
  SEEN_DONE();
  EQUAL(legacy_seen.eax, 0x5151);
}
CASE(p32_mov_cr3_forgets, "SDM 3A 4.10.4.1") {
  prepare_legacy();
  LONG(FRAME(0) + 8) = 1;
  LONG(FRAME(5) + 8) = 2;
  LEGACY(32,
         "mov 0x40000008, %%eax\n mov %%ebx, (%%ecx)\n mov %%cr3, %%edx\n mov %%edx, %%cr3\n mov 0x40000008, "
         "%%edx",
         PAGED_32, .ebx = (uint32_t)FRAME(5) | P | W, .ecx = (uint32_t)(uint64_t)table_32);
  SEEN_DONE();
  EQUAL(legacy_seen.eax, 1);
  EQUAL(legacy_seen.edx, 2);
}
CASE(paging_off_shows_physical_memory, "SDM 3A 4.1") {
  prepare_legacy();
  table_32[0] = (uint32_t)FRAME(7) | P | W;
  LONG(FRAME(7)) = 0x99;
  LEGACY(32,
         "mov 0x40000000, %%ebx\n mov %%cr0, %%eax\n and $0x7fffffff, %%eax\n mov %%eax, %%cr0\n mov "
         "(%%ecx), %%edx",
         PAGED_32, .ecx = (uint32_t)FRAME(7));
  SEEN_DONE();
  EQUAL(legacy_seen.ebx, 0x99);
  EQUAL(legacy_seen.edx, 0x99);
}

// --- PAE
#define PAE(name, section, prepare, error, text, ...) \
  CASE(name, section) {                               \
    prepare_legacy();                                 \
    touch_tables();                                   \
    prepare;                                          \
    LEGACY(32, text, PAGED_PAE, ##__VA_ARGS__);       \
    SAW(error);                                       \
  }
#define PAE_DIRECTORY directories[area >> 21]
CASE(pae_translates, "SDM 3A 4.4") {
  prepare_legacy();
  LONG(FRAME(0) + 8) = 0x1234;
  LEGACY(32, "mov 0x40000008, %%eax", PAGED_PAE);
  SEEN_DONE();
  EQUAL(legacy_seen.eax, 0x1234);
}
PAE(pae_absent_page, "SDM 3A 4.7", area_table[0] = 0, 0, READ_AREA)
PAE(pae_read_only_page, "SDM 3A 4.6", area_table[0] &= ~2ull, pf_present | pf_write, WRITE_AREA)
PAE(pae_absent_directory, "SDM 3A 4.7", PAE_DIRECTORY = 0, 0, READ_AREA)
PAE(pae_absent_pointer, "SDM 3A 4.4.1", pointers_pae[1] = 0, 0, READ_AREA)
PAE(pae_reserved_bit, "SDM 3A 4.4.2", area_table[0] |= 1ull << 60, pf_present | pf_reserved, READ_AREA)
PAE(pae_nx_without_nxe, "SDM 3A 4.4.2",
    (area_table[0] |= NX, write_msr(msr_efer, read_msr(msr_efer) & ~(uint64_t)efer_nxe)),
    pf_present | pf_reserved, READ_AREA)
CASE(pae_no_execution, "SDM 3A 4.6") {
  prepare_legacy();
  area_table[0] |= NX;
  LEGACY(32, "mov $0x40000008, %%eax\n jmp *%%eax", PAGED_PAE);
  EQUAL(legacy_seen.vector, PF);
  EQUAL(legacy_seen.error, pf_present | pf_fetch);
}
CASE(pae_page_of_2_mib, "SDM 3A 4.4") {
  prepare_legacy();
  touch_tables();
  PAE_DIRECTORY = 0x800000 | P | W | PS;
  LONG(0x9ffff0ull) = 0x3434;
  LEGACY(32, "mov 0x401ffff0, %%eax\n mov %%eax, 0x40000000", PAGED_PAE);
  SEEN_DONE();
  EQUAL(legacy_seen.eax, 0x3434);
  EQUAL(PAE_DIRECTORY & (A | D), A | D);
}
CASE(pae_pointer_with_a_reserved_bit, "SDM 3A 4.4.1") {
  // Checked when CR3 is loaded: #GP(0).
  prepare_legacy();
  LEGACY(32, "orl $2, (%%ebx)\n mov %%cr3, %%eax\n" MARK "mov %%eax, %%cr3", PAGED_PAE,
         .ebx = (uint32_t)(uint64_t)&pointers_pae[3]);
  SEEN(GP, 0);
}
CASE(pae_absent_pointer_is_not_checked, "SDM 3A 4.4.1") {
  prepare_legacy();
  pointers_pae[3] = 0xfffffffffffffffe;
  LEGACY(32, "mov %%cr3, %%eax\n mov %%eax, %%cr3", PAGED_PAE);
  SEEN_DONE();
}
CASE(pae_pointers_are_registers, "SDM 3A 4.4.1") {
  // A change in memory is not seen before CR3 is loaded again, INVLPG or not.
  prepare_legacy();
  LONG(FRAME(0) + 8) = 0x66;
  LEGACY(32,
         "movl $0, (%%ebx)\n invlpg 0x40000008\n mov 0x40000008, %%ecx\n mov %%cr3, %%eax\n mov %%eax, "
         "%%cr3\n" READ_AREA,
         PAGED_PAE, .ebx = (uint32_t)(uint64_t)&pointers_pae[1]);
  // AMD's walk may read them from memory each time. APM vol. 2, 5.2.4
  if (!is_amd) EQUAL(legacy_seen.ecx, 0x66);
  SAW(0);
}
CASE(pae_user_rights_are_not_in_the_pointers, "SDM 3A 4.6.1") {
  prepare_legacy();
  area_table[0] |= U;
  touch_tables();
  for (unsigned i = 0; i < 4; i++) directories[i] |= U;
  LEGACY(32, "mov 0x40000008, %%eax", PAGED_PAE, .cs = user_code_32);
  SEEN_DONE();
}
CASE(pae_cannot_be_left_in_long_mode_and_can_without_paging, "SDM 3A 4.1.2") {
  prepare_legacy();
  LEGACY(32,
         "mov %%cr0, %%eax\n and $0x7fffffff, %%eax\n mov %%eax, %%cr0\n mov %%cr4, %%eax\n and $~0x20, "
         "%%eax\n mov %%eax, %%cr4",
         PAGED_PAE);
  SEEN_DONE();
}
CASE(lme_without_pae_cannot_page, "SDM 3A 9.8.5") {
  prepare_legacy();
  LEGACY(32,
         "mov $0xc0000080, %%ecx\n rdmsr\n or $0x100, %%eax\n wrmsr\n mov %%cr0, %%eax\n or $0x80000000, "
         "%%eax\n" MARK "mov %%eax, %%cr0",
         .cr3 = (uint32_t)(uint64_t)directory_32);
  SEEN(GP, 0);
}
