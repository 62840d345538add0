// RDMSR, WRMSR and CPUID: which registers exist, which values they take, what CPUID must say. SDM vol. 4,
// chapter 2; vol. 2A, CPUID.
#include "suite.h"
#define GROUP "msr"

#define WRITES(msr, value) "wrmsr", "c"(msr), "a"((uint32_t)(value)), "d"((uint32_t)((uint64_t)(value) >> 32))
#define REFUSES(name, section, msr, value) FAULTS(name, section, GP, 0, WRITES(msr, value))
FAULTS(rdmsr_unknown, "SDM 2B RDMSR", GP, 0, "rdmsr", "c"(0x4b5640ff))
FAULTS(wrmsr_unknown, "SDM 2C WRMSR", GP, 0, "wrmsr", "c"(0x4b5640ff), "a"(0), "d"(0))
REFUSES(efer_reserved_bit, "SDM 3A 2.2.1", msr_efer, base_efer | 1 << 2)
REFUSES(efer_lme_cannot_change_under_paging, "SDM 3A 9.8.5", msr_efer, base_efer & ~(uint64_t)efer_lme)
CASE(efer_lma_is_not_written, "SDM 3A 2.2.1") {
  TRY(WRITES(msr_efer, base_efer & ~(uint64_t)efer_lma));
  // Intel ignores the bit; AMD faults on a wrong value.
  TRUE(seen.vector == done || (is_amd && seen.vector == GP));
  EQUAL(read_msr(msr_efer), base_efer);
}
REFUSES(efer_upper_half, "SDM 3A 2.2.1", msr_efer, base_efer | 1ull << 32)
REFUSES(fs_base_not_canonical, "SDM 2C WRMSR", msr_fs_base, 1ull << 47)
REFUSES(gs_base_not_canonical, "SDM 2C WRMSR", msr_gs_base, 1ull << 63)
REFUSES(kernel_gs_base_not_canonical, "SDM 2C WRMSR", msr_kernel_gs_base, 1ull << 47)
REFUSES(pat_reserved_type, "SDM 3A 11.12.2", msr_pat, 0x0007040600070402)
REFUSES(pat_reserved_type_3, "SDM 3A 11.12.2", msr_pat, 0x0003)
REFUSES(pat_reserved_bit, "SDM 3A 11.12.2", msr_pat, 0x0807)
CASE(pat_holds_what_is_written, "SDM 3A 11.12.2") {
  const uint64_t before = read_msr(msr_pat);
  write_msr(msr_pat, 0x0007040100070406);
  EQUAL(read_msr(msr_pat), 0x0007040100070406);
  write_msr(msr_pat, before);
}
REFUSES(apic_base_reserved_bits, "SDM 3A 10.4.4", msr_apic_base, 0xfee00900 | 1)
REFUSES(apic_base_address_too_wide, "SDM 3A 10.4.4", msr_apic_base, 0xfee00900 | 1ull << 60)
REFUSES(apic_x2_without_enable, "SDM 3A 10.12.1", msr_apic_base, 0xfee00500)
CASE(rdmsr_clears_the_upper_halves, "SDM 2B RDMSR") {
  TRY("mov $-1, %%rax\n mov $-1, %%rdx\n rdmsr", "c"(msr_efer));
  WANT_DONE();
  EQUAL(seen.rax, base_efer);
  EQUAL(seen.rdx, 0);
}
CASE(rdmsr_takes_ecx_only, "SDM 2B RDMSR") {
  TRY("rdmsr", "c"(0xffffffff00000000 | msr_efer));
  WANT_DONE();
  EQUAL(seen.rax, base_efer);
}
CASE(refused_wrmsr_changes_nothing, "SDM 2C WRMSR") {
  write_msr(msr_kernel_gs_base, 0x1000);
  TRY(WRITES(msr_kernel_gs_base, 1ull << 47));
  WANT(GP, 0);
  EQUAL(read_msr(msr_kernel_gs_base), 0x1000);
}
CASE(tsc_counts_on, "SDM 3B 17.17") {
  const uint64_t first = read_tsc();
  uint64_t second = first;
  for (unsigned i = 0; i < 1000 && second == first; i++) second = read_tsc();
  TRUE(second > first);
}
CASE(tsc_msr_is_the_counter, "SDM 3B 17.17.3") {
  const uint64_t before = read_tsc(), msr = read_msr(0x10), after = read_tsc();
  TRUE(before <= msr && msr <= after);
}
CASE(tsc_write_moves_the_counter, "SDM 3B 17.17.3") {
  const uint64_t before = read_tsc();
  write_msr(0x10, before + (1ull << 40));
  const uint64_t after = read_tsc();
  write_msr(0x10, read_tsc() - (1ull << 40));
  TRUE(after - before >= 1ull << 40);
  TRUE(after - before < 1ull << 41);
}
CASE(tsc_adjust_moves_the_counter, "SDM 3B 17.17.3") {
  NEEDS(HAS(7, 0, b, 1), "no TSC_ADJUST");
  const uint64_t adjust = read_msr(msr_tsc_adjust), before = read_tsc();
  write_msr(msr_tsc_adjust, adjust + (1ull << 40));
  const uint64_t after = read_tsc();
  write_msr(msr_tsc_adjust, adjust);
  TRUE(after - before >= 1ull << 40);
}
CASE(tsc_write_shows_in_the_adjustment, "SDM 3B 17.17.3") {
  NEEDS(HAS(7, 0, b, 1), "no TSC_ADJUST");
  const uint64_t adjust = read_msr(msr_tsc_adjust);
  write_msr(0x10, read_tsc() + (1ull << 40));
  const uint64_t moved = read_msr(msr_tsc_adjust) - adjust;
  write_msr(msr_tsc_adjust, adjust);
  TRUE(moved > (1ull << 40) - (1ull << 36) && moved < (1ull << 40) + (1ull << 36));
}
CASE(mtrr_capabilities_cannot_be_written, "SDM 3A 11.11.1") {
  NEEDS(HAS(1, 0, d, 12), "no MTRRs");
  TRY(WRITES(0xfe, 0x508));
  WANT(GP, 0);
}
CASE(mtrr_reserved_type, "SDM 3A 11.11.2.3") {
  NEEDS(HAS(1, 0, d, 12), "no MTRRs");
  TRY(WRITES(0x200, 2));
  WANT(GP, 0);
}
CASE(mtrr_default_type_reserved_bits, "SDM 3A 11.11.2.1") {
  NEEDS(HAS(1, 0, d, 12), "no MTRRs");
  TRY(WRITES(0x2ff, 0xc02));
  WANT(GP, 0);
}
CASE(mtrr_holds_what_is_written, "SDM 3A 11.11.2.3") {
  NEEDS(HAS(1, 0, d, 12), "no MTRRs");
  const uint64_t base = read_msr(0x20e), mask = read_msr(0x20f);
  write_msr(0x20e, 0x80000006);
  write_msr(0x20f, 0xff80000000 & (highest_physical_bit() * 2 - 1));
  EQUAL(read_msr(0x20e), 0x80000006);
  write_msr(0x20e, base);
  write_msr(0x20f, mask);
}
CASE(deadline_needs_its_mode, "SDM 3A 10.5.4.1") {
  NEEDS(HAS(1, 0, c, 24), "no TSC deadline");
  write_msr(msr_deadline, 1ull << 62);
  EQUAL(read_msr(msr_deadline), 0);
}
CASE(tsc_aux_upper_half, "SDM 4 table 2-2") {
  NEEDS(HAS_RDTSCP, "no RDTSCP");
  TRY(WRITES(msr_tsc_aux, 1ull << 32));
  // AMD ignores the upper half.
  TRUE(seen.vector == GP || (is_amd && seen.vector == done && read_msr(msr_tsc_aux) == 0));
}
CASE(sysenter_cs_upper_half_is_ignored, "SDM 4 table 2-2") {
  write_msr(msr_sysenter_cs, 0x8);
  EQUAL(read_msr(msr_sysenter_cs), 8);
}

// --- CPUID
CASE(cpuid_clears_the_upper_halves, "SDM 2A CPUID") {
  TRY("mov $-1, %%rbx\n mov $-1, %%rdx\n xor %%ecx, %%ecx\n xor %%eax, %%eax\n cpuid");
  EQUAL(seen.rax >> 32, 0);
  EQUAL(seen.rbx >> 32, 0);
  EQUAL(seen.rcx >> 32, 0);
  EQUAL(seen.rdx >> 32, 0);
}
CASE(cpuid_from_users, "SDM 2A CPUID") {
  USER64("mov $0x80000000, %%eax\n cpuid");
  WANT_DONE();
  TRUE(seen.rax >= 0x80000008);
}
CASE(cpuid_osxsave_follows_cr4, "SDM 2A CPUID") {
  NEEDS(HAS_XSAVE, "no XSAVE");
  set_cr4(base_cr4 & ~(uint64_t)cr4_osxsave);
  EQUAL(HAS(1, 0, c, 27), 0);
  set_cr4(base_cr4 | cr4_osxsave);
  EQUAL(HAS(1, 0, c, 27), 1);
}
CASE(cpuid_apic_bit_follows_the_base_register, "SDM 3A 10.4.3") {
  EQUAL(HAS(1, 0, d, 9), 1);
  write_msr(msr_apic_base, read_msr(msr_apic_base) & ~0x800ull);
  const uint32_t off = HAS(1, 0, d, 9);
  write_msr(msr_apic_base, read_msr(msr_apic_base) | 0x800);
  EQUAL(off, 0);
}
CASE(cpuid_pku_bit_follows_cr4, "SDM 2A CPUID") {
  NEEDS(HAS_PKU, "no protection keys");
  set_cr4(base_cr4 | cr4_pke);
  EQUAL(HAS(7, 0, c, 4), 1);
}
CASE(cpuid_beyond_the_highest_leaf, "SDM 2A CPUID") {
  const uint32_t highest = cpuid(0, 0).a;
  const struct cpuid beyond = cpuid(highest + 1, 0), last = cpuid(highest, 0);
  // Intel gives the last leaf's data, AMD zeroes.
  TRUE((beyond.a | beyond.b | beyond.c | beyond.d) == 0 ||
       (!is_amd && beyond.a == last.a && beyond.c == last.c));
}
CASE(cpuid_highest_extended_leaf, "SDM 2A CPUID") {
  TRUE(cpuid(0x80000000, 0).a >= 0x80000008);
  TRUE(cpuid(0x80000000, 0).a < 0x80001000);
}
CASE(cpuid_address_widths, "SDM 2A CPUID") {
  const uint32_t widths = cpuid(0x80000008, 0).a;
  TRUE((widths & 0xff) >= 36 && (widths & 0xff) <= 52);
  TRUE((widths >> 8 & 0xff) == 48 || (widths >> 8 & 0xff) == 57);
}
CASE(cpuid_xsave_sizes, "SDM 2A CPUID") {
  NEEDS(HAS_XSAVE, "no XSAVE");
  const struct cpuid all = cpuid(0xd, 0);
  TRUE(all.c >= all.b && all.b >= 576);
  if (all.a & 4) {
    const struct cpuid avx = cpuid(0xd, 2);
    EQUAL(avx.a, 256);
    EQUAL(avx.b, 576);
  }
}
CASE(cpuid_xsave_size_follows_xcr0, "SDM 2A CPUID") {
  NEEDS(HAS_AVX, "no AVX");
  __asm__ volatile("xsetbv" : : "a"(1), "d"(0), "c"(0));
  EQUAL(cpuid(0xd, 0).b, 576);
  __asm__ volatile("xsetbv" : : "a"(7), "d"(0), "c"(0));
  EQUAL(cpuid(0xd, 0).b, 832);
}
CASE(cpuid_brand_is_text, "SDM 2A CPUID") {
  const uint32_t first = cpuid(0x80000002, 0).a & 0xff;
  TRUE(first == 0 || (first >= ' ' && first < 127));
}
CASE(cpuid_hypervisor_leaves, "AMD APM 3 E.3.9") {
  NEEDS(HAS(1, 0, c, 31), "no hypervisor bit");
  const uint32_t highest = cpuid(0x40000000, 0).a;
  TRUE(highest == 0 || (highest >= 0x40000000 && highest < 0x40010000));
}
CASE(cpuid_long_mode_features_together, "SDM 2A CPUID") {
  EQUAL(HAS(0x80000001, 0, d, 29), 1);
  EQUAL(HAS(1, 0, d, 6), 1);   // PAE
  EQUAL(HAS(1, 0, d, 24), 1);  // FXSR
  EQUAL(HAS(1, 0, d, 26), 1);  // SSE2
}
CASE(cpuid_is_serializing_of_code, "SDM 3A 8.1.3") {
  // The byte written before it is the instruction after it.
  uint8_t* const code = (uint8_t*)PAGE(0);
  static const uint8_t bytes[] = {0xc6, 0x47, 12,   0x90, 0x31, 0xc0, 0x31,
                                  0xc9, 0x0f, 0xa2, 0x90, 0x90, 0xcc, 0xc3};
  memcpy(code, bytes, sizeof bytes);
  TRY("call *%%rdi", "D"(code));
  WANT_DONE();
}

// --- x2APIC registers exist in its mode only. SDM vol. 3, 10.12
CASE(x2apic_registers_without_its_mode, "SDM 3A 10.12.1") {
  TRY("rdmsr", "c"(0x802));
  WANT(GP, 0);
}
static bool enter_x2apic(void) {
  if (!HAS(1, 0, c, 21)) {
    skip("no x2APIC");
    return false;
  }
  write_msr(msr_apic_base, read_msr(msr_apic_base) | 0xc00);
  return true;
}
static void leave_x2apic(void) {
  const uint64_t base = read_msr(msr_apic_base) & ~0xc00ull;
  write_msr(msr_apic_base, base);
  write_msr(msr_apic_base, base | 0x800);
}
#define X2(name, section, text, vector_, ...) \
  CASE(name, section) {                       \
    if (!enter_x2apic()) return;              \
    TRY(text, __VA_ARGS__);                   \
    leave_x2apic();                           \
    if ((int)vector_ == (int)done)            \
      WANT_DONE();                            \
    else                                      \
      WANT(vector_, 0);                       \
  }
X2(x2apic_id, "SDM 3A 10.12.1.2", "rdmsr", done, "c"(0x802))
X2(x2apic_id_is_read_only, "SDM 3A 10.12.1.2", "wrmsr", GP, "c"(0x802), "a"(0), "d"(0))
X2(x2apic_version_is_read_only, "SDM 3A 10.12.1.2", "wrmsr", GP, "c"(0x803), "a"(0), "d"(0))
X2(x2apic_eoi_takes_zero, "SDM 3A 10.12.1.2", "wrmsr", done, "c"(0x80b), "a"(0), "d"(0))
X2(x2apic_eoi_of_another_value, "SDM 3A 10.12.1.2", "wrmsr", GP, "c"(0x80b), "a"(1), "d"(0))
X2(x2apic_eoi_is_write_only, "SDM 3A 10.12.1.2", "rdmsr", GP, "c"(0x80b))
X2(x2apic_tpr_above_8_bits, "SDM 3A 10.12.1.3", "wrmsr", GP, "c"(0x808), "a"(0x100), "d"(0))
X2(x2apic_error_status_of_a_value, "SDM 3A 10.12.1.2", "wrmsr", GP, "c"(0x828), "a"(1), "d"(0))
X2(x2apic_logical_id_is_read_only, "SDM 3A 10.12.1.2", "wrmsr", GP, "c"(0x80d), "a"(0), "d"(0))
X2(x2apic_format_does_not_exist, "SDM 3A 10.12.1.2", "rdmsr", GP, "c"(0x80e))
X2(x2apic_high_command_does_not_exist, "SDM 3A 10.12.1.2", "rdmsr", GP, "c"(0x831))
X2(x2apic_upper_half_of_a_32_bit_register, "SDM 3A 10.12.1.3", "wrmsr", GP, "c"(0x80f), "a"(0x1ff), "d"(1))
X2(x2apic_self_ipi_is_write_only, "SDM 3A 10.12.11", "rdmsr", GP, "c"(0x83f))
X2(x2apic_back_to_xapic_directly, "SDM 3A 10.12.5", "wrmsr", GP, "c"(msr_apic_base), "a"(0xfee00900), "d"(0))
CASE(x2apic_logical_id_follows_the_id, "SDM 3A 10.12.10.2") {
  if (!enter_x2apic()) return;
  const uint64_t id = read_msr(0x802), logical = read_msr(0x80d);
  leave_x2apic();
  EQUAL(logical, (id >> 4) << 16 | 1u << (id & 15));
}
