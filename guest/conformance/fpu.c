// x87, MMX, SSE and AVX: when they exist, #NM, #MF, #XM, alignment, what a fault leaves. SDM vol. 1, 8.5
// to 8.7 and 11.5; vol. 2A, 2.4 to 2.7; vol. 3, 13.
#include "suite.h"
#define GROUP "fpu"

// --- existence and #NM. SDM vol. 3, tables 2-2 and 13-1
#define UNDER(name, section, cr0_, cr4_, vector, text) \
  CASE(name, section) {                                \
    set_cr0(cr0_);                                     \
    set_cr4(cr4_);                                     \
    TRY(text);                                         \
    if ((int)(vector) == (int)done)                    \
      WANT_DONE();                                     \
    else                                               \
      WANT(vector, 0);                                 \
  }
#define WITH_TS (base_cr0 | cr0_ts)
#define WITH_EM ((base_cr0 | cr0_em) & ~(uint64_t)cr0_mp)
UNDER(x87_with_ts, "SDM 3A 2.5", WITH_TS, base_cr4, NM, "fnop")
UNDER(x87_with_em, "SDM 3A 2.5", WITH_EM, base_cr4, NM, "fnop")
UNDER(fninit_with_ts, "SDM 3A 2.5", WITH_TS, base_cr4, NM, "fninit")
UNDER(fwait_with_ts_and_mp, "SDM 3A 2.5", WITH_TS, base_cr4, NM, "fwait")
UNDER(fwait_with_ts_without_mp, "SDM 3A 2.5", WITH_TS & ~(uint64_t)cr0_mp, base_cr4, done, "fwait")
UNDER(fwait_with_em, "SDM 3A 2.5", WITH_EM, base_cr4, done, "fwait")
UNDER(mmx_with_ts, "SDM 3A 2.5", WITH_TS, base_cr4, NM, "emms")
UNDER(mmx_with_em, "SDM 3A 2.5", WITH_EM, base_cr4, UD, "emms")
UNDER(sse_with_ts, "SDM 3A 2.5", WITH_TS, base_cr4, NM, "xorps %%xmm0, %%xmm0")
UNDER(sse_with_em, "SDM 3A 2.5", WITH_EM, base_cr4, UD, "xorps %%xmm0, %%xmm0")
UNDER(sse_without_osfxsr, "SDM 3A 2.5", base_cr0, base_cr4 & ~(uint64_t)cr4_osfxsr, UD,
      "xorps %%xmm0, %%xmm0")
UNDER(sse_undefined_comes_before_ts, "SDM 2A table 2-21", WITH_TS, base_cr4 & ~(uint64_t)cr4_osfxsr, UD,
      "xorps %%xmm0, %%xmm0")
UNDER(fxsave_with_ts, "SDM 2A FXSAVE", WITH_TS, base_cr4, NM, "fxsave frames")
UNDER(fxsave_with_em, "SDM 2A FXSAVE", WITH_EM, base_cr4, NM, "fxsave frames")
UNDER(ldmxcsr_with_ts, "SDM 2A LDMXCSR", WITH_TS, base_cr4, NM, "ldmxcsr frames")
UNDER(prefetch_with_ts, "SDM 2B PREFETCH", WITH_TS, base_cr4, done, "prefetcht0 frames")
UNDER(mfence_with_em, "SDM 2B MFENCE", WITH_EM, base_cr4, done, "mfence\n sfence\n lfence")
UNDER(movnti_with_ts, "SDM 2B MOVNTI", WITH_TS, base_cr4, done, "movnti %%rax, frames")
UNDER(crc32_with_em, "SDM 2A CRC32", WITH_EM, base_cr4, done, "crc32b %%al, %%ecx")
UNDER(popcnt_with_ts, "SDM 2B POPCNT", WITH_TS, base_cr4, done, "popcnt %%eax, %%ecx")
CASE(clts_lets_it_run, "SDM 2A CLTS") {
  set_cr0(WITH_TS);
  TRY("clts\n fnop\n xorps %%xmm0, %%xmm0");
  WANT_DONE();
}
CASE(avx_with_ts, "SDM 2A 2.7") {
  NEEDS(HAS_AVX, "no AVX");
  set_cr0(WITH_TS);
  TRY("vxorps %%ymm0, %%ymm0, %%ymm0");
  WANT(NM, 0);
}
CASE(avx_without_osxsave, "SDM 2A 2.7") {
  NEEDS(HAS_AVX, "no AVX");
  set_cr4(base_cr4 & ~(uint64_t)cr4_osxsave);
  TRY("vxorps %%ymm0, %%ymm0, %%ymm0");
  WANT(UD, 0);
}
CASE(avx_without_its_state_enabled, "SDM 2A 2.7") {
  NEEDS(HAS_AVX, "no AVX");
  TRY("mov $3, %%eax\n xor %%edx, %%edx\n xor %%ecx, %%ecx\n xsetbv\n" MARK "vxorps %%ymm0, %%ymm0, %%ymm0");
  WANT(UD, 0);
}
CASE(avx_without_osfxsr, "SDM 2A 2.7") {
  // CR4.OSFXSR and CR0.EM do not count for VEX.
  NEEDS(HAS_AVX, "no AVX");
  set_cr4(base_cr4 & ~(uint64_t)cr4_osfxsr);
  TRY("vxorps %%ymm0, %%ymm0, %%ymm0");
  WANT_DONE();
}
CASE(avx_in_real_mode_encodings_is_les, "SDM 2A 2.3.5") {
  // VEX.vvvv must be 1111b where there is no second source.
  NEEDS(HAS_AVX, "no AVX");
  TRY(".byte 0xc5, 0xc0, 0x28, 0xc0");  // vmovaps with vvvv
  WANT(UD, 0);
}
CASE(avx_scalar_only_length, "SDM 2A 2.3.6") {
  NEEDS(HAS_AVX, "no AVX");
  TRY(".byte 0xc5, 0xfd, 0x6e, 0xc0");  // vmovd with L = 1
  WANT(UD, 0);
}
CASE(avx512_without_its_state_enabled, "SDM 2A 2.8") {
  NEEDS(HAS_AVX512, "no AVX-512");
  TRY("mov $7, %%eax\n xor %%edx, %%edx\n xor %%ecx, %%ecx\n xsetbv\n" MARK
      ".byte 0x62, 0xf1, 0x7c, 0x48, 0x28, 0xc1");
  WANT(UD, 0);
}
CASE(avx512_fault_of_a_masked_off_element, "SDM 1 15.6.1") {
  NEEDS(HAS_AVX512, "no AVX-512");
  map(1, 0);
  // Four doublewords from the end of page 0 on; the mask leaves out those of the absent page.
  TRY("mov $3, %%eax\n .byte 0xc5, 0xf8, 0x92, 0xc8\n .byte 0x62, 0xf1, 0x7c, 0xc9, 0x10, 0x03",
      "b"(PAGE(1) - 8));
  WANT_DONE();
}
CASE(avx512_fault_of_an_active_element, "SDM 1 15.6.1") {
  NEEDS(HAS_AVX512, "no AVX-512");
  map(1, 0);
  TRY("mov $7, %%eax\n .byte 0xc5, 0xf8, 0x92, 0xc8\n" MARK ".byte 0x62, 0xf1, 0x7c, 0xc9, 0x10, 0x03",
      "b"(PAGE(1) - 8));
  WANT(PF, 0);
  EQUAL(seen_cr2, PAGE(1));
}
CASE(maskmov_leaves_out_faults, "SDM 2C VMASKMOV") {
  NEEDS(HAS_AVX, "no AVX");
  map(1, 0);
  static const uint32_t mask[8] __attribute__((aligned(32))) = {0x80000000, 0x80000000};
  TRY("vmovaps (%%rcx), %%ymm1\n vmaskmovps (%%rbx), %%ymm1, %%ymm0", "b"(PAGE(1) - 8), "c"(mask));
  WANT_DONE();
}

// --- x87 exceptions: pending until the next waiting instruction
#define CONTROL(value) "pushq $" #value "\n fldcw (%%rsp)\n pop %%rax\n"
FAULTS(mf_comes_at_the_next_instruction, "SDM 1 8.7.1", MF, 0,
       "fninit\n" CONTROL(0x37b) "fld1\n fldz\n fdivrp\n" MARK "fld1")
FAULTS(mf_comes_at_fwait, "SDM 1 8.7.1", MF, 0,
       "fninit\n" CONTROL(0x37b) "fld1\n fldz\n fdivrp\n" MARK "fwait")
FAULTS(mf_comes_at_mmx, "SDM 1 9.6.4", MF, 0,
       "fninit\n" CONTROL(0x37b) "fld1\n fldz\n fdivrp\n" MARK "movd %%eax, %%mm0")
FAULTS(mf_of_an_unmasked_later, "SDM 2A FLDCW", MF, 0,
       "fninit\n fld1\n fldz\n fdivrp\n" CONTROL(0x37b) MARK "fld1")
CASE(masked_division_gives_infinity, "SDM 1 8.5.3") {
  TRY("fninit\n fld1\n fldz\n fdivrp\n fnstsw %%ax\n fwait");
  WANT_DONE();
  EQUAL(seen.rax & 0x84, 4);
}
CASE(fnclex_takes_it_back, "SDM 2A FCLEX") {
  TRY("fninit\n" CONTROL(0x37b) "fld1\n fldz\n fdivrp\n fnclex\n fwait\n fninit");
  WANT_DONE();
}
CASE(fnstsw_does_not_wait, "SDM 2A FSTSW") {
  TRY("fninit\n" CONTROL(0x37b) "fld1\n fldz\n fdivrp\n fnstsw %%ax\n fninit");
  WANT_DONE();
  EQUAL(seen.rax & 0x8084, 0x8084);
}
CASE(fxsave_does_not_wait, "SDM 2A FXSAVE") {
  TRY("fninit\n" CONTROL(0x37b) "fld1\n fldz\n fdivrp\n fxsave frames\n fninit");
  WANT_DONE();
  EQUAL(WORD(frames) /* FCW */, 0x37b);
}
CASE(integer_instructions_do_not_wait, "SDM 1 8.7.1") {
  TRY("fninit\n" CONTROL(0x37b) "fld1\n fldz\n fdivrp\n mov $1, %%ecx\n div %%ecx\n fninit", "d"(0));
  WANT_DONE();
}
CASE(sse_does_not_wait_for_x87, "SDM 1 11.6.5") {
  TRY("fninit\n" CONTROL(0x37b) "fld1\n fldz\n fdivrp\n xorps %%xmm0, %%xmm0\n fninit");
  WANT_DONE();
}
CASE(stack_overflow_is_invalid, "SDM 1 8.5.1.1") {
  TRY("fninit\n" CONTROL(
      0x37e) "fld1\n fld1\n fld1\n fld1\n fld1\n fld1\n fld1\n fld1\n fld1\n fnstsw %%ax\n" MARK "fwait");
  WANT(MF, 0);
  EQUAL(seen.rax & 0x241, 0x241);  // IE, SF, C1
}
CASE(stack_underflow_is_invalid, "SDM 1 8.5.1.1") {
  TRY("fninit\n" CONTROL(0x37e) "fstp %%st(0)\n fnstsw %%ax\n" MARK "fwait");
  WANT(MF, 0);
  EQUAL(seen.rax & 0x241, 0x41);
}
CASE(load_fault_before_the_stack_changes, "SDM 2A FLD") {
  map(0, 0);
  TRY("fninit\n fld1\n" MARK "fldl (%%rbx)", "b"(PAGE(0)));
  WANT(PF, 0);
  uint16_t status;
  __asm__ volatile("fnstsw %0" : "=a"(status));
  EQUAL(status >> 11 & 7, 7);
}
CASE(pending_exception_before_the_operands_fault, "SDM 3A table 6-2") {
  map(0, 0);
  TRY("fninit\n" CONTROL(0x37b) "fld1\n fldz\n fdivrp\n" MARK "fldl (%%rbx)", "b"(PAGE(0)));
  WANT(MF, 0);
}
CASE(fnsave_resets, "SDM 2A FSAVE") {
  TRY("fninit\n fld1\n fnsave frames\n fnstsw %%ax\n fnstcw 200 + frames\n movzwl 200 + frames, %%ecx");
  WANT_DONE();
  EQUAL(seen.rax & 0xffff, 0);
  EQUAL(seen.rcx, 0x37f);
}
CASE(mmx_sets_all_tags, "SDM 1 9.5.1") {
  TRY("fninit\n movd %%eax, %%mm3\n fnstenv frames\n emms");
  WANT_DONE();
  EQUAL(WORD(frames[0] + 8) == 0xffff, 0);
  EQUAL(WORD(frames[0] + 4) >> 11 & 7, 0);
}
CASE(x87_environment_names_the_instruction, "SDM 1 8.1.8") {
  TRY("fninit\n" CONTROL(0x37b) "fld1\n fldz\n 1: fdivrp\n fnstenv frames\n mov $1b, %%ecx\n fninit");
  WANT_DONE();
  // A translator, whose instructions are elsewhere, may leave the pointer out.
  TRUE(LONG(frames[0] + 12) == seen.rcx || LONG(frames[0] + 12) == 0);
}

// --- SSE
#define MX(value) "pushq $" #value "\n ldmxcsr (%%rsp)\n pop %%rax\n"
#define LOADED "mov $0x3f800000, %%eax\n movd %%eax, %%xmm0\n xorps %%xmm1, %%xmm1\n"
FAULTS(xm_divide_by_zero, "SDM 1 11.5.2.3", XM, 0, LOADED MX(0x1d80) MARK "divss %%xmm1, %%xmm0")
FAULTS(xm_invalid, "SDM 1 11.5.2.1", XM, 0, LOADED MX(0x1f00) MARK "divss %%xmm1, %%xmm1")
FAULTS(xm_precision, "SDM 1 11.5.2.6", XM, 0,
       "mov $3, %%eax\n" MX(
           0x0f80) "mov $3, %%eax\n cvtsi2ss %%eax, %%xmm1\n mov $1, %%eax\n cvtsi2ss %%eax, %%xmm0\n" MARK
                   "divss %%xmm1, %%xmm0")
FAULTS(xm_denormal_operand, "SDM 1 11.5.2.2", XM, 0,
       "mov $1, %%eax\n movd %%eax, %%xmm1\n" MX(0x1e80) MARK "addss %%xmm1, %%xmm1")
CASE(xm_without_osxmmexcpt_is_undefined, "SDM 1 11.5.1") {
  set_cr4(base_cr4 & ~(uint64_t)cr4_osxmmexcpt);
  TRY(LOADED MX(0x1d80) MARK "divss %%xmm1, %%xmm0");
  WANT(UD, 0);
}
CASE(xm_keeps_the_destination_and_sets_the_flag, "SDM 1 11.5.3") {
  TRY(LOADED MX(0x1d80) MARK "divss %%xmm1, %%xmm0");
  WANT(XM, 0);
  uint32_t mxcsr, low;
  __asm__ volatile("stmxcsr %0\n movd %%xmm0, %1" : "=m"(mxcsr), "=r"(low));
  EQUAL(mxcsr & 0x3f, 4);
  EQUAL(low, 0x3f800000);
}
CASE(masked_sse_exception_sets_the_flag, "SDM 1 11.5.3") {
  TRY(LOADED MX(0x1f80) "divss %%xmm1, %%xmm0\n stmxcsr frames");
  WANT_DONE();
  EQUAL(LONG(frames) & 0x3f, 4);
}
CASE(sticky_flags_of_before_do_not_fault, "SDM 1 10.2.3.1") {
  // An unmasked flag that is set already raises nothing by itself.
  TRY(MX(0x1d84) "xorps %%xmm1, %%xmm1\n addss %%xmm1, %%xmm1");
  WANT_DONE();
}
CASE(mxcsr_reserved_bits, "SDM 1 10.2.3") {
  TRY("pushq $0x10000\n" MARK "ldmxcsr (%%rsp)");
  WANT(GP, 0);
}
CASE(mxcsr_refused_is_kept, "SDM 1 10.2.3") {
  TRY("pushq $0x7fff0000\n" MARK "ldmxcsr (%%rsp)");
  WANT(GP, 0);
  uint32_t mxcsr;
  __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
  EQUAL(mxcsr, 0x1f80);
}
#define AT8 "b"(PAGE(0) + 8)
FAULTS(movaps_unaligned, "SDM 2B MOVAPS", GP, 0, "movaps (%%rbx), %%xmm0", AT8)
FAULTS(movaps_unaligned_store, "SDM 2B MOVAPS", GP, 0, "movaps %%xmm0, (%%rbx)", AT8)
FAULTS(movntps_unaligned, "SDM 2B MOVNTPS", GP, 0, "movntps %%xmm0, (%%rbx)", AT8)
FAULTS(addps_unaligned, "SDM 2A ADDPS", GP, 0, "addps (%%rbx), %%xmm0", AT8)
CASE(sse_alignment_before_the_page_fault, "SDM 3A 6.9") {
  map(0, 0);
  TRY("movaps (%%rbx), %%xmm0", AT8);
  WANT(GP, 0);
}
CASE(scalar_needs_no_alignment, "SDM 2A ADDSS") {
  TRY("addss (%%rbx), %%xmm0\n addsd 5(%%rbx), %%xmm0", "b"(PAGE(0) + 1));
  WANT_DONE();
}
CASE(vaddps_needs_no_alignment, "SDM 1 14.9") {
  NEEDS(HAS_AVX, "no AVX");
  TRY("vaddps (%%rbx), %%xmm0, %%xmm0", AT8);
  WANT_DONE();
}
CASE(vmovaps_unaligned, "SDM 1 14.9") {
  NEEDS(HAS_AVX, "no AVX");
  TRY("vmovaps (%%rbx), %%ymm0", "b"(PAGE(0) + 16));
  WANT(GP, 0);
}
CASE(movups_across_into_an_absent_page, "SDM 3A 6.15 #PF") {
  map(1, 0);
  QUAD(PAGE(0) + 0xff8) = 7;
  TRY("movups %%xmm0, (%%rbx)", "b"(PAGE(1) - 8));
  WANT(PF, pf_write);
  EQUAL(seen_cr2, PAGE(1));
  EQUAL(QUAD(PAGE(0) + 0xff8), 7);
}
CASE(sse_writes_keep_the_upper_half_of_ymm, "SDM 1 14.1.3") {
  NEEDS(HAS_AVX, "no AVX");
  static const uint64_t ones[4] = {-1ull, -1ull, -1ull, -1ull};
  TRY("vmovups (%%rcx), %%ymm2\n xorps %%xmm2, %%xmm2\n vmovups %%ymm2, (%%rbx)", "b"(PAGE(0)), "c"(ones));
  EQUAL(QUAD(PAGE(0)), 0);
  EQUAL(QUAD(PAGE(0) + 16), -1ull);
}
CASE(vex_writes_clear_the_upper_half_of_ymm, "SDM 1 14.1.3") {
  NEEDS(HAS_AVX, "no AVX");
  static const uint64_t ones[4] = {-1ull, -1ull, -1ull, -1ull};
  TRY("vmovups (%%rcx), %%ymm2\n vxorps %%xmm2, %%xmm2, %%xmm2\n vmovups %%ymm2, (%%rbx)", "b"(PAGE(0)),
      "c"(ones));
  EQUAL(QUAD(PAGE(0) + 16), 0);
}
CASE(gather_faults_keep_what_was_done, "SDM 2C VPGATHERDD") {
  NEEDS(HAS(7, 0, b, 5), "no AVX2");
  map(1, 0);
  static const uint32_t indices[4] __attribute__((aligned(16))) = {0, 1, 1024, 2},
                                   ones[4] __attribute__((aligned(16))) = {-1u, -1u, -1u, -1u};
  LONG(FRAME(0)) = 0xa, LONG(FRAME(0) + 4) = 0xb;
  TRY("vmovaps (%%rcx), %%xmm1\n vmovaps (%%rdx), %%xmm2\n vxorps %%xmm0, %%xmm0, %%xmm0\n" MARK
      "vpgatherdd %%xmm2, (%%rbx,%%xmm1,4), %%xmm0",
      "b"(PAGE(0)), "c"(indices), "d"(ones));
  WANT(PF, 0);
  EQUAL(seen_cr2, PAGE(1));
  uint32_t done_[4], mask[4];
  __asm__ volatile("vmovups %%xmm0, %0\n vmovups %%xmm2, %1" : "=m"(done_), "=m"(mask));
  // Elements to the right of the fault are complete, and their mask is cleared.
  EQUAL(done_[0], 0xa);
  EQUAL(done_[1], 0xb);
  EQUAL(mask[0] | mask[1], 0);
  EQUAL(mask[2], -1u);
}
