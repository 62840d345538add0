// Segment registers: which selectors and descriptors each takes in long mode, the error codes, null
// selectors, bases, LAR, LSL, VERR, LLDT and LTR. SDM vol. 3, chapters 3 and 5. Segment limits in the older
// modes: legacy.c.
#include "suite.h"
#define GROUP "segments"

static void put(uint64_t descriptor) {
  table[spare / 8] = descriptor;
}
enum {
  data_up = 0x93,
  data_ro = 0x91,
  code_rx = 0x9b,
  code_x = 0x99,
  conforming = 0x9f,
  for_users = 0x60,
  absent = 0x80
};
#define FLAT(access) SEGMENT(0, 0xfffffull, access, flag_32 | flag_pages)
// `text` loads eax = the selector of a descriptor with that access byte.
#define LOAD(name, section, access, text, vector, error) \
  CASE(name, section) {                                  \
    put(FLAT(access));                                   \
    TRY(text, "a"(spare));                               \
    WANT(vector, error);                                 \
  }
#define LOADS(name, section, access, text) \
  CASE(name, section) {                    \
    put(FLAT(access));                     \
    TRY(text, "a"(spare));                 \
    WANT_DONE();                           \
  }
LOADS(ds_takes_data, "SDM 2B MOV", data_up, "mov %%eax, %%ds")
LOADS(ds_takes_read_only_data, "SDM 2B MOV", data_ro, "mov %%eax, %%ds")
LOADS(ds_takes_readable_code, "SDM 2B MOV", code_rx, "mov %%eax, %%ds")
LOADS(ds_takes_expand_down_data, "SDM 2B MOV", data_up | 4, "mov %%eax, %%ds")
LOAD(ds_execute_only_code, "SDM 2B MOV", code_x, "mov %%eax, %%ds", GP, spare)
LOAD(ds_absent, "SDM 2B MOV", data_up & ~absent, "mov %%eax, %%ds", NP, spare)
LOAD(fs_absent, "SDM 2B MOV", data_up & ~absent, "mov %%eax, %%fs", NP, spare)
LOAD(ss_absent, "SDM 2B MOV", data_up & ~absent, "mov %%eax, %%ss", SS, spare)
LOAD(ss_read_only, "SDM 2B MOV", data_ro, "mov %%eax, %%ss", GP, spare)
LOAD(ss_code, "SDM 2B MOV", code_rx, "mov %%eax, %%ss", GP, spare)
LOAD(ss_of_lower_privilege, "SDM 2B MOV", data_up | for_users, "mov %%eax, %%ss", GP, spare)
LOAD(ds_system_descriptor, "SDM 2B MOV", 0x89, "mov %%eax, %%ds", GP, spare)
LOAD(ds_call_gate, "SDM 2B MOV", 0x8c, "mov %%eax, %%ds", GP, spare)
LOAD(ds_empty_descriptor, "SDM 2B MOV", 0, "mov %%eax, %%ds", GP, spare)
LOAD(absent_is_checked_after_the_type, "SDM 2B MOV", code_x & ~absent, "mov %%eax, %%ds", GP, spare)
LOAD(ss_type_is_checked_before_presence, "SDM 2B MOV", data_ro & ~absent, "mov %%eax, %%ss", GP, spare)
LOADS(ss_expand_down, "SDM 2B MOV", data_up | 4, "mov %%eax, %%ss")
FAULTS(selector_beyond_the_table, "SDM 3A 5.3", GP, 0xff8, "mov %%eax, %%ds", "a"(0xff8))
FAULTS(selector_beyond_the_table_with_rpl, "SDM 3A 6.13", GP, 0xff8, "mov %%eax, %%ds", "a"(0xffb))
FAULTS(selector_of_the_absent_local_table, "SDM 3A 3.5.1", GP, 0x14, "mov %%eax, %%es", "a"(0x14))
FAULTS(ss_with_rpl_that_is_not_cpl, "SDM 2B MOV", GP, kernel_data, "mov %%eax, %%ss", "a"(kernel_data | 1))
FAULTS(lss_checks_as_mov_does, "SDM 2A LDS", GP, kernel_code,
       "mov $0x800000000, %%rcx\n push %%rcx\n" MARK "lss (%%rsp), %%eax", "a"(0))
CASE(ss_null_in_the_kernel, "SDM 2B MOV") {
  TRY("xor %%eax, %%eax\n mov %%eax, %%ss\n mov %%ss, %%ecx\n push %%rax\n pop %%rax");
  WANT_DONE();
  EQUAL(seen.rcx, 0);
}
CASE(ss_null_with_rpl_3_in_the_kernel, "SDM 2B MOV") {
  TRY("mov $3, %%eax\n" MARK "mov %%eax, %%ss");
  WANT(GP, 0);
}
CASE(user_ss_null_with_rpl_3, "SDM 2B MOV") {
  USER64("mov $3, %%eax\n" MARK "mov %%eax, %%ss");
  WANT(GP, 0);
}
CASE(user_ss_of_the_kernel, "SDM 2B MOV") {
  USER64("mov $0x10, %%eax\n" MARK "mov %%eax, %%ss");
  WANT(GP, kernel_data);
}
CASE(user_ss_of_the_kernel_with_rpl_3, "SDM 2B MOV") {
  USER64("mov $0x13, %%eax\n" MARK "mov %%eax, %%ss");
  WANT(GP, kernel_data);
}
CASE(user_ds_of_the_kernel, "SDM 3A 5.6") {
  USER64("mov $0x10, %%eax\n" MARK "mov %%eax, %%ds");
  WANT(GP, kernel_data);
}
CASE(user_ds_with_lower_rpl, "SDM 3A 5.6") {
  USER64("mov $0x20, %%eax\n mov %%eax, %%ds\n mov %%ds, %%eax");
  WANT_DONE();
  EQUAL(seen.rax, 0x20);
}
CASE(kernel_ds_with_rpl_3_of_kernel_data, "SDM 3A 5.6") {
  TRY("mov $0x13, %%eax\n" MARK "mov %%eax, %%ds");
  WANT(GP, kernel_data);
}
CASE(ds_of_conforming_code_ignores_privilege, "SDM 3A 5.6.1") {
  put(FLAT(conforming));
  USER64("mov $0x73, %%eax\n mov %%eax, %%ds");
  WANT_DONE();
}
CASE(ds_of_kernel_code_by_users, "SDM 3A 5.6.1") {
  put(FLAT(code_rx));
  USER64("mov $0x73, %%eax\n" MARK "mov %%eax, %%ds");
  WANT(GP, spare);
}
CASE(failed_load_keeps_the_old_selector, "SDM 2B MOV") {
  TRY("mov %%ax, %%fs\n" MARK "mov %%ecx, %%fs", "a"(user_data), "c"(0xff8));
  WANT(GP, 0xff8);
  uint64_t fs;
  __asm__ volatile("mov %%fs, %0" : "=r"(fs));
  EQUAL(fs & 0xffff, user_data);
}
CASE(load_sets_the_accessed_bit, "SDM 3A 3.4.5.1") {
  put(FLAT(0x92));
  TRY("mov %%eax, %%es", "a"(spare));
  WANT_DONE();
  EQUAL(table[spare / 8] >> 40 & 1, 1);
}
CASE(failed_load_does_not_set_the_accessed_bit, "SDM 3A 3.4.5.1") {
  put(FLAT(0x92 & ~absent));
  TRY("mov %%eax, %%es", "a"(spare));
  WANT(NP, spare);
  EQUAL(table[spare / 8] >> 40 & 1, 0);
}
CASE(accessed_bit_already_set_writes_nothing, "SDM 3A 3.4.5.1") {
  // The table on a read-only page: a load that must write it faults, one that need not does not.
  const struct {
    uint16_t limit;
    uint64_t base;
  } __attribute__((packed)) pointer = {sizeof table - 1, PAGE(0)};
  put(FLAT(0x92));
  table[spare / 8 + 1] = FLAT(0x93);
  memcpy((void*)FRAME(0), table, sizeof table);
  map(0, FRAME(0) | P);
  TRY("lgdt (%%rcx)\n mov %%eax, %%es\n" MARK "mov %%edx, %%es", "c"(&pointer), "a"(spare + 8), "d"(spare));
  WANT(PF, pf_present | pf_write);
  EQUAL(seen_cr2 & ~7ull, PAGE(0) + spare);
}
CASE(mov_from_segment_to_memory_is_16_bits, "SDM 2B MOV") {
  QUAD(PAGE(0)) = -1ull;
  TRY(".byte 0x48\n mov %%ds, (%%rbx)", "b"(PAGE(0)));
  WANT_DONE();
  EQUAL(QUAD(PAGE(0)), 0xffffffffffff0010);
}
CASE(pop_fs_takes_eight_bytes, "SDM 2B POP") {
  TRY("mov %%rsp, %%rbx\n pushq $0x10\n popq %%fs\n mov %%fs, %%ecx\n sub %%rsp, %%rbx");
  WANT_DONE();
  EQUAL(seen.rcx, kernel_data);
  EQUAL(seen.rbx, 0);
}
CASE(pop_fs_that_faults_keeps_rsp, "SDM 2B POP") {
  TRY("pushq $0xff8\n mov %%rsp, %%rbx\n" MARK "popq %%fs");
  WANT(GP, 0xff8);
  EQUAL(seen.rsp, seen.rbx);
}

// --- bases
CASE(ds_base_is_ignored_in_64_bits, "SDM 3A 3.4.4") {
  put(SEGMENT(0x1000ull, 0xfffffull, data_up, flag_32 | flag_pages));
  QUAD(PAGE(0)) = 0x11;
  QUAD(PAGE(1)) = 0x22;
  TRY("mov %%eax, %%ds\n mov (%%rbx), %%rcx", "a"(spare), "b"(PAGE(0)));
  WANT_DONE();
  EQUAL(seen.rcx, 0x11);
}
CASE(fs_base_comes_from_the_descriptor, "SDM 3A 3.4.4") {
  put(SEGMENT(0x1000ull, 0, data_up, 0));
  QUAD(PAGE(1) + 8) = 0x33;
  TRY("mov %%eax, %%fs\n mov %%fs:8(%%rbx), %%rcx", "a"(spare), "b"(PAGE(0)));
  WANT_DONE();
  EQUAL(seen.rcx, 0x33);
  EQUAL(read_msr(msr_fs_base), 0x1000);
}
CASE(fs_load_clears_the_upper_half_of_the_base, "SDM 3A 3.4.4") {
  write_msr(msr_fs_base, 0x123456789000);
  TRY("mov %%eax, %%fs", "a"(kernel_data));
  EQUAL(read_msr(msr_fs_base), 0);
}
CASE(fs_null_and_its_base, "AMD APM 2 4.5.3") {
  write_msr(msr_fs_base, 0x5000);
  TRY("mov %%eax, %%fs", "a"(0));
  WANT_DONE();
  // Intel clears the base; AMD may keep it.
  const uint64_t base = read_msr(msr_fs_base);
  TRUE(base == 0 || (is_amd && base == 0x5000));
}
CASE(gs_base_of_64_bits, "SDM 3A 3.4.4") {
  write_msr(msr_gs_base, PAGE(2));
  QUAD(PAGE(2) + 24) = 0x44;
  TRY("mov %%gs:24, %%rcx");
  EQUAL(seen.rcx, 0x44);
}
CASE(fs_base_wraps_around, "SDM 3A 3.4.4") {
  write_msr(msr_fs_base, -16ull);
  QUAD(PAGE(0)) = 0x55;
  TRY("mov %%fs:16(%%rbx), %%rcx", "b"(PAGE(0)));
  WANT_DONE();
  EQUAL(seen.rcx, 0x55);
}
CASE(lea_adds_no_base, "SDM 2A LEA") {
  write_msr(msr_fs_base, 0x5000);
  TRY(".byte 0x64\n lea 8(%%rbx), %%rcx", "b"(1));
  EQUAL(seen.rcx, 9);
}
CASE(swapgs, "SDM 2B SWAPGS") {
  write_msr(msr_gs_base, 0x1000);
  write_msr(msr_kernel_gs_base, 0x2000);
  TRY("swapgs");
  EQUAL(read_msr(msr_gs_base), 0x2000);
  EQUAL(read_msr(msr_kernel_gs_base), 0x1000);
}
CASE(user_swapgs, "SDM 2B SWAPGS") {
  USER64("swapgs");
  WANT(GP, 0);
}
CASE(swapgs_outside_64_bits, "SDM 2B SWAPGS") {
  KERNEL32(".byte 0x0f, 0x01, 0xf8");
  WANT(UD, 0);
}
CASE(wrfsbase_without_the_switch, "SDM 2C WRFSBASE") {
  TRY("wrfsbase %%rax", "a"(1));
  WANT(UD, 0);
}
CASE(wrfsbase_and_rdfsbase, "SDM 2C WRFSBASE") {
  NEEDS(HAS_FSGSBASE, "no FSGSBASE");
  set_cr4(base_cr4 | cr4_fsgsbase);
  USER64("mov $0x7777777777, %%rax\n wrfsbase %%rax\n rdfsbase %%rcx\n rdfsbase %%edx");
  WANT_DONE();
  EQUAL(seen.rcx, 0x7777777777);
  EQUAL(seen.rdx, 0x77777777);
}
CASE(wrgsbase_of_a_bad_address, "SDM 2C WRGSBASE") {
  NEEDS(HAS_FSGSBASE, "no FSGSBASE");
  set_cr4(base_cr4 | cr4_fsgsbase);
  TRY("wrgsbase %%rax", "a"(1ull << 47));
  WANT(GP, 0);
}
CASE(wrfsbase_outside_64_bits, "SDM 2C WRFSBASE") {
  NEEDS(HAS_FSGSBASE, "no FSGSBASE");
  set_cr4(base_cr4 | cr4_fsgsbase);
  KERNEL32(".byte 0xf3, 0x0f, 0xae, 0xd0");
  WANT(UD, 0);
}

// --- compatibility mode keeps bases and limits
CASE(ds_limit_in_compatibility_mode, "SDM 3A 5.3.1") {
  put(SEGMENT((uint64_t)user_stack - 0x1000, 0xff, data_up | for_users, flag_32));
  USER32("mov $0x73, %%eax\n mov %%eax, %%ds\n mov 0xfc, %%ecx\n" MARK "mov 0xfd, %%ecx");
  WANT(GP, 0);
}
CASE(ds_base_in_compatibility_mode, "SDM 3A 3.4.4") {
  put(SEGMENT((uint64_t)user_stack - 0x1000, 0xff, data_up | for_users, flag_32));
  LONG(FRAME(17) + 0x20) = 0x66;
  USER32("mov $0x73, %%eax\n mov %%eax, %%ds\n mov 0x20, %%ecx");
  WANT_DONE();
  EQUAL(seen.rcx, 0x66);
}
CASE(expand_down_in_compatibility_mode, "SDM 3A 5.3") {
  put(SEGMENT(0, 0xfffffull, 0xf7, flag_32 | flag_pages));
  USER32("mov $0x73, %%eax\n mov %%eax, %%ds\n" MARK "mov 0x40010000, %%ecx");
  WANT(GP, 0);
}
CASE(stack_limit_in_compatibility_mode, "SDM 3A 6.15 #SS") {
  put(SEGMENT((uint64_t)user_stack - 0x1000, 0xff, data_up | for_users, flag_32));
  USER32("mov $0x73, %%eax\n mov %%eax, %%ss\n mov $0x102, %%esp\n" MARK "push %%eax");
  WANT(SS, 0);
  EQUAL(seen.rsp, 0x102);
}
CASE(null_ds_in_compatibility_mode, "SDM 3A 5.4.1") {
  USER32("xor %%eax, %%eax\n mov %%eax, %%ds\n" MARK "mov 0x40010000, %%ecx");
  WANT(GP, 0);
}
CASE(write_to_read_only_data_in_compatibility_mode, "SDM 3A 5.5") {
  put(FLAT(0xf1));
  USER32("mov $0x73, %%eax\n mov %%eax, %%ds\n mov 0x40011000, %%ecx\n" MARK "mov %%ecx, 0x40011000");
  WANT(GP, 0);
}
CASE(write_through_cs_in_compatibility_mode, "SDM 3A 5.5") {
  USER32("mov %%cs:0x40011000, %%ecx\n" MARK "mov %%ecx, %%cs:0x40011000");
  WANT(GP, 0);
}
CASE(addresses_wrap_at_4_gib_in_compatibility_mode, "SDM 3A 3.3") {
  LONG(FRAME(17) + 0x10) = 0x88;
  USER32("mov $0xf0000000, %%eax\n mov 0x50011010(%%eax), %%ecx");
  WANT_DONE();
  EQUAL(seen.rcx, 0x88);
}

// --- LAR, LSL, VERR, VERW
CASE(lar_of_data, "SDM 2A LAR") {
  put(FLAT(data_up));
  TRY("lar %%ecx, %%eax", "c"(spare));
  EQUAL(seen.rax & 0xf0ff00, 0xc09300);  // bits 16 to 19 are undefined
  EQUAL(seen.rflags >> 6 & 1, 1);
}
CASE(lar_of_an_interrupt_gate, "SDM 2A LAR") {
  put(FLAT(0x8e));
  TRY("lar %%ecx, %%eax", "c"(spare), "a"(5));
  EQUAL(seen.rflags >> 6 & 1, 0);
  EQUAL(seen.rax, 5);
}
CASE(lar_of_a_call_gate_in_long_mode, "SDM 2A LAR") {
  put(FLAT(0x8c));
  table[spare / 8 + 1] = 0;
  TRY("lar %%ecx, %%eax", "c"(spare));
  EQUAL(seen.rflags >> 6 & 1, 1);
}
CASE(lar_of_a_16_bit_task_in_long_mode, "SDM 2A LAR") {
  put(FLAT(0x81));
  TRY("lar %%ecx, %%eax", "c"(spare));
  EQUAL(seen.rflags >> 6 & 1, 0);
}
CASE(lar_of_null, "SDM 2A LAR") {
  TRY("lar %%ecx, %%eax", "c"(0));
  EQUAL(seen.rflags >> 6 & 1, 0);
}
CASE(lar_of_what_users_may_not_see, "SDM 2A LAR") {
  USER64("mov $0x10, %%ecx\n lar %%ecx, %%eax");
  EQUAL(seen.rflags >> 6 & 1, 0);
}
CASE(lsl_of_pages, "SDM 2A LSL") {
  put(SEGMENT(0, 0x12345ull, data_up, flag_32 | flag_pages));
  TRY("lsl %%ecx, %%eax", "c"(spare));
  EQUAL(seen.rax, 0x12345fff);
}
CASE(lsl_of_bytes, "SDM 2A LSL") {
  put(SEGMENT(0, 0x12345ull, data_up, flag_32));
  TRY("lsl %%ecx, %%eax", "c"(spare));
  EQUAL(seen.rax, 0x12345);
}
CASE(lsl_of_a_call_gate, "SDM 2A LSL") {
  put(FLAT(0x8c));
  TRY("lsl %%ecx, %%eax", "c"(spare));
  EQUAL(seen.rflags >> 6 & 1, 0);
}
#define VERIFY(name, access, text, wanted) \
  CASE(name, "SDM 2C VERR") {              \
    put(FLAT(access));                     \
    TRY(text, "a"(spare));                 \
    WANT_DONE();                           \
    EQUAL(seen.rflags >> 6 & 1, wanted);   \
  }
VERIFY(verr_of_data, data_up, "verr %%ax", 1)
VERIFY(verr_of_execute_only_code, code_x, "verr %%ax", 0)
VERIFY(verr_of_a_system_descriptor, 0x89, "verr %%ax", 0)
VERIFY(verw_of_read_only_data, data_ro, "verw %%ax", 0)
VERIFY(verw_of_code, code_rx, "verw %%ax", 0)
VERIFY(verw_of_data, data_up, "verw %%ax", 1)

// --- LDTR and TR
CASE(lldt_null, "SDM 2A LLDT") {
  TRY("lldt %%ax\n" MARK "mov %%ecx, %%ds", "a"(0), "c"(4));
  WANT(GP, 4);
}
CASE(lldt_and_a_selector_in_it, "SDM 2A LLDT") {
  QUAD(PAGE(0) + 8) = FLAT(data_up);
  set_system(spare, PAGE(0), 15, 0x82);
  TRY("lldt %%ax\n mov %%ecx, %%fs\n" MARK "mov %%edx, %%fs", "a"(spare), "c"(0xc), "d"(0x14));
  WANT(GP, 0x14);
}
CASE(lldt_of_another_type, "SDM 2A LLDT") {
  set_system(spare, PAGE(0), 15, 0x89);
  TRY("lldt %%ax", "a"(spare));
  WANT(GP, spare);
}
CASE(lldt_absent, "SDM 2A LLDT") {
  set_system(spare, PAGE(0), 15, 0x02);
  TRY("lldt %%ax", "a"(spare));
  WANT(NP, spare);
}
CASE(lldt_of_a_local_selector, "SDM 2A LLDT") {
  TRY("lldt %%ax", "a"(spare | 4));
  WANT(GP, spare | 4);
}
CASE(lldt_half_beyond_the_table, "SDM 2A LLDT") {
  table[table_bytes / 8 - 1] = SEGMENT(PAGE(0), 15, 0x82, 0);
  TRY("lldt %%ax", "a"(table_bytes - 8));
  WANT(GP, table_bytes - 8);
}
CASE(lldt_of_a_bad_base, "SDM 2A LLDT") {
  set_system(spare, 1ull << 47, 15, 0x82);
  TRY("lldt %%ax", "a"(spare));
  WANT(GP, spare);
}
CASE(user_lldt, "SDM 2A LLDT") {
  USER64("xor %%eax, %%eax\n" MARK "lldt %%ax");
  WANT(GP, 0);
}
CASE(ltr_makes_busy, "SDM 2B LTR") {
  set_system(spare, (uint64_t)task_state, 0x68 + 32, 0x89);
  TRY("ltr %%ax", "a"(spare));
  WANT_DONE();
  EQUAL(table[spare / 8] >> 40 & 0xff, 0x8b);
}
CASE(ltr_busy, "SDM 2B LTR") {
  set_system(spare, (uint64_t)task_state, 0x68 + 32, 0x8b);
  TRY("ltr %%ax", "a"(spare));
  WANT(GP, spare);
}
CASE(ltr_absent, "SDM 2B LTR") {
  set_system(spare, (uint64_t)task_state, 0x68 + 32, 0x09);
  TRY("ltr %%ax", "a"(spare));
  WANT(NP, spare);
  EQUAL(table[spare / 8] >> 40 & 0xff, 0x09);
}
CASE(ltr_null, "SDM 2B LTR") {
  TRY("ltr %%ax", "a"(0));
  WANT(GP, 0);
}
CASE(ltr_of_a_16_bit_task_in_long_mode, "SDM 2B LTR") {
  set_system(spare, (uint64_t)task_state, 0x68 + 32, 0x81);
  TRY("ltr %%ax", "a"(spare));
  WANT(GP, spare);
}
CASE(ltr_with_a_type_in_the_upper_half, "SDM 3A 7.2.3") {
  set_system(spare, (uint64_t)task_state, 0x68 + 32, 0x89);
  table[spare / 8 + 1] |= 1ull << 40;
  TRY("ltr %%ax", "a"(spare));
  // AMD does not look at these bits.
  if (!is_amd) WANT(GP, spare);
  TRUE(seen.vector == GP || is_amd);
}
