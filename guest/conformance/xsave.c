// XSETBV and the XSAVE family; FXSAVE and FXRSTOR. SDM vol. 1, chapter 13 and 10.5; vol. 2.
#include "suite.h"
#define GROUP "xsave"

#define LEAF1 cpuid(0xd, 1).a
#define NEED() NEEDS(HAS_XSAVE, "no XSAVE")
static uint8_t* const image =
    (uint8_t*)((uint64_t)area + 0x4000);  // page 4 and, as it is large, the next ones
#define HEADER(n) QUAD(image + 512 + 8 * (n))
#define XSETBV(value) "xsetbv", "a"((uint32_t)(value)), "d"((uint32_t)((uint64_t)(value) >> 32)), "c"(0)
#define REFUSED(name, value)    \
  CASE(name, "SDM 2C XSETBV") { \
    NEED();                     \
    TRY(XSETBV(value));         \
    WANT(GP, 0);                \
  }
REFUSED(xcr0_without_x87, 0)
REFUSED(xcr0_sse_without_x87, 2)
REFUSED(xcr0_avx_without_sse, 5)
REFUSED(xcr0_upper_half, 3 | 1ull << 63)
REFUSED(xcr0_opmask_without_the_rest, 7 | 0x20)
REFUSED(xcr0_zmm_without_avx, 3 | 0xe0)
REFUSED(xcr0_unknown_component, 3 | 1ull << 40)
CASE(xcr_1_cannot_be_written, "SDM 2C XSETBV") {
  NEED();
  TRY("xsetbv", "a"(1), "d"(0), "c"(1));
  WANT(GP, 0);
}
CASE(xsetbv_without_osxsave, "SDM 2C XSETBV") {
  NEED();
  set_cr4(base_cr4 & ~(uint64_t)cr4_osxsave);
  TRY("xsetbv", "a"(3), "d"(0), "c"(0));
  WANT(UD, 0);
}
CASE(xgetbv, "SDM 2C XGETBV") {
  NEED();
  TRY("xsetbv\n mov $-1, %%rdx\n xgetbv", "a"(3), "d"(0), "c"(0));
  WANT_DONE();
  EQUAL(seen.rax, 3);
  EQUAL(seen.rdx, 0);
}
CASE(xgetbv_by_users, "SDM 2C XGETBV") {
  NEED();
  USER64("xor %%ecx, %%ecx\n xgetbv");
  WANT_DONE();
}
CASE(xgetbv_of_another_register, "SDM 2C XGETBV") {
  NEED();
  TRY("xgetbv", "c"(5));
  WANT(GP, 0);
}
CASE(xgetbv_of_what_is_in_use, "SDM 2C XGETBV") {
  NEED();
  NEEDS(LEAF1 & 4, "no XGETBV 1");
  TRY("xgetbv", "c"(1));
  WANT_DONE();
  EQUAL(seen.rax & ~(uint64_t)cpuid(0xd, 0).a, 0);
}
CASE(xgetbv_without_osxsave, "SDM 2C XGETBV") {
  NEED();
  set_cr4(base_cr4 & ~(uint64_t)cr4_osxsave);
  TRY("xgetbv", "c"(0));
  WANT(UD, 0);
}
CASE(xsetbv_before_66, "SDM 2C XSETBV") {
  NEED();
  TRY(".byte 0x66\n xsetbv", "a"(3), "d"(0), "c"(0));
  WANT(UD, 0);
}

static void clear(void) {
  for (unsigned i = 4; i < 8; i++) memset((void*)FRAME(i), 0, 4096);
}
#define ON(text, mask) TRY(text, "b"(image), "a"(mask), "d"(0))
CASE(xsave_without_osxsave, "SDM 2C XSAVE") {
  NEED();
  set_cr4(base_cr4 & ~(uint64_t)cr4_osxsave);
  ON("xsave (%%rbx)", 3);
  WANT(UD, 0);
}
CASE(xsave_with_ts, "SDM 2C XSAVE") {
  NEED();
  set_cr0(base_cr0 | cr0_ts);
  ON("xsave (%%rbx)", 3);
  WANT(NM, 0);
}
CASE(xsave_unaligned, "SDM 2C XSAVE") {
  NEED();
  TRY("xsave (%%rbx)", "b"(image + 32), "a"(3), "d"(0));
  WANT(GP, 0);
}
CASE(xrstor_unaligned, "SDM 2C XRSTOR") {
  NEED();
  TRY("xrstor (%%rbx)", "b"(image + 8), "a"(3), "d"(0));
  WANT(GP, 0);
}
CASE(xsave_of_a_register, "SDM 2C XSAVE") {
  NEED();
  TRY(".byte 0x0f, 0xae, 0xe0");
  WANT(UD, 0);
}
CASE(xsave_writes_only_what_is_asked, "SDM 1 13.7") {
  NEED();
  clear();
  memset((void*)FRAME(4), 0xee, 1024);
  HEADER(0) = 0x8000000000000000;
  ON("fninit\n xsave (%%rbx)", 1);
  WANT_DONE();
  EQUAL(WORD(image), 0x37f);
  EQUAL(QUAD(image + 160), 0xeeeeeeeeeeeeeeee);  // XMM0
  EQUAL(HEADER(0) & ~3ull, 0x8000000000000000);  // other bits of XSTATE_BV stay
  EQUAL(HEADER(1), 0xeeeeeeeeeeeeeeee);          // and the rest of the header too
}
CASE(xsave_of_sse_writes_mxcsr, "SDM 1 13.7") {
  NEED();
  clear();
  ON("pushq $0x9f80\n ldmxcsr (%%rsp)\n xsave (%%rbx)", 2);
  EQUAL(LONG(image + 24), 0x9f80);
  EQUAL(LONG(image + 28) & 0xffbf, 0xffbf);
}
CASE(xsave_into_an_absent_page, "SDM 1 13.7") {
  NEED();
  clear();
  map(4, 0);
  ON("xsave (%%rbx)", 3);
  // It reads the header too, and either access may be the first.
  EQUAL(seen.vector, PF);
  EQUAL(seen.error & ~(uint64_t)pf_write, 0);
}
CASE(xrstor_reserved_header, "SDM 1 13.8") {
  NEED();
  clear();
  HEADER(2) = 1;
  ON("xrstor (%%rbx)", 3);
  WANT(GP, 0);
}
CASE(xrstor_of_a_component_that_is_off, "SDM 1 13.8") {
  NEED();
  clear();
  HEADER(0) = 1ull << 40;
  ON("xrstor (%%rbx)", 3);
  WANT(GP, 0);
}
CASE(xrstor_compacted_without_xsavec, "SDM 1 13.8") {
  NEED();
  NEEDS(!(LEAF1 & 2), "there is XSAVEC");
  clear();
  HEADER(1) = 1ull << 63;
  ON("xrstor (%%rbx)", 3);
  WANT(GP, 0);
}
CASE(xrstor_bad_mxcsr, "SDM 1 13.8") {
  NEED();
  clear();
  LONG(image + 24) = 0x10000;
  HEADER(0) = 2;
  ON("xrstor (%%rbx)", 3);
  WANT(GP, 0);
}
CASE(xrstor_bad_mxcsr_is_not_read_for_x87_alone, "SDM 1 13.8") {
  NEED();
  clear();
  LONG(image + 24) = 0x10000;
  WORD(image) = 0x37f;
  HEADER(0) = 1;
  ON("xrstor (%%rbx)", 1);
  WANT_DONE();
}
CASE(xrstor_brings_initial_values, "SDM 1 13.6") {
  NEED();
  clear();
  LONG(image + 24) = 0x1f80;
  ON("pcmpeqd %%xmm5, %%xmm5\n xrstor (%%rbx)\n movq %%xmm5, %%rcx", 2);
  WANT_DONE();
  EQUAL(seen.rcx, 0);
}
CASE(xrstor_leaves_what_is_not_asked, "SDM 1 13.8") {
  NEED();
  clear();
  ON("pcmpeqd %%xmm5, %%xmm5\n xrstor (%%rbx)\n movq %%xmm5, %%rcx", 1);
  WANT_DONE();
  EQUAL(seen.rcx, -1ull);
}
CASE(xsave_and_xrstor_keep_ymm, "SDM 1 13.5.3") {
  NEEDS(HAS_AVX, "no AVX");
  clear();
  static const uint64_t pattern[4] = {1, 2, 3, 4};
  TRY("vmovups (%%rcx), %%ymm9\n xsave (%%rbx)\n vzeroall\n xrstor (%%rbx)\n vmovups %%ymm9, (%%rsi)", "a"(7),
      "d"(0), "b"(image), "c"(pattern), "S"(PAGE(0)));
  WANT_DONE();
  EQUAL(QUAD(PAGE(0) + 24), 4);
  EQUAL(HEADER(0) & 4, 4);
  EQUAL(QUAD(image + 576 + 9 * 16 + 8), 4);
}
CASE(xsaveopt_writes_what_is_in_use, "SDM 2C XSAVEOPT") {
  NEEDS(HAS_XSAVE && (LEAF1 & 1), "no XSAVEOPT");
  clear();
  ON("pcmpeqd %%xmm5, %%xmm5\n xsaveopt (%%rbx)", 3);
  WANT_DONE();
  EQUAL(QUAD(image + 160 + 5 * 16), -1ull);
  EQUAL(HEADER(0) & 2, 2);
}
CASE(xsavec_is_compacted, "SDM 1 13.10") {
  NEEDS(HAS_AVX && (LEAF1 & 2), "no XSAVEC");
  clear();
  static const uint64_t pattern[4] = {1, 2, 3, 4};
  TRY("vmovups (%%rcx), %%ymm9\n xsavec (%%rbx)", "a"(7), "d"(0), "b"(image), "c"(pattern));
  WANT_DONE();
  EQUAL(HEADER(1), 1ull << 63 | 7);
  EQUAL(QUAD(image + 576 + 9 * 16 + 8), 4);
}
CASE(xsavec_of_avx_alone_still_lies_behind_the_header, "SDM 1 13.4.3") {
  NEEDS(HAS_AVX && (LEAF1 & 2), "no XSAVEC");
  clear();
  static const uint64_t pattern[4] = {1, 2, 3, 4};
  TRY("vmovups (%%rcx), %%ymm0\n xsavec (%%rbx)", "a"(4), "d"(0), "b"(image), "c"(pattern));
  EQUAL(HEADER(1), 1ull << 63 | 4);
  EQUAL(QUAD(image + 576 + 8), 4);
}
CASE(xrstor_of_a_compacted_image, "SDM 1 13.8.2") {
  NEEDS(HAS_AVX && (LEAF1 & 2), "no XSAVEC");
  clear();
  static const uint64_t pattern[4] = {1, 2, 3, 4};
  TRY("vmovups (%%rcx), %%ymm9\n xsavec (%%rbx)\n vzeroall\n xrstor (%%rbx)\n vmovups %%ymm9, (%%rsi)",
      "a"(7), "d"(0), "b"(image), "c"(pattern), "S"(PAGE(0)));
  WANT_DONE();
  EQUAL(QUAD(PAGE(0) + 24), 4);
}
CASE(xrstor_compacted_with_more_in_use_than_in_the_format, "SDM 1 13.8.2") {
  NEEDS(HAS_XSAVE && (LEAF1 & 2), "no XSAVEC");
  clear();
  HEADER(0) = 3;
  HEADER(1) = 1ull << 63 | 1;
  ON("xrstor (%%rbx)", 3);
  WANT(GP, 0);
}
CASE(xrstor_compacted_reserved_header, "SDM 1 13.8.2") {
  NEEDS(HAS_XSAVE && (LEAF1 & 2), "no XSAVEC");
  clear();
  HEADER(1) = 1ull << 63 | 3;
  HEADER(3) = 1;
  ON("xrstor (%%rbx)", 3);
  WANT(GP, 0);
}
CASE(xsaves_without_the_feature, "SDM 2C XSAVES") {
  NEEDS(HAS_XSAVE && !(LEAF1 & 8), "there is XSAVES");
  ON(".byte 0x0f, 0xc7, 0x2b", 3);
  WANT(UD, 0);
}
CASE(xsaves_by_users, "SDM 2C XSAVES") {
  NEEDS(HAS_XSAVE && (LEAF1 & 8), "no XSAVES");
  USER64("xsaves -2048(%%rsp)");
  WANT(GP, 0);
}
CASE(xss_without_xsaves, "SDM 4 table 2-2") {
  NEEDS(!(LEAF1 & 8), "there is XSAVES");
  TRY("wrmsr", "a"(0), "d"(0), "c"(0xda0));
  WANT(GP, 0);
}

// --- FXSAVE
FAULTS(fxsave_unaligned, "SDM 2A FXSAVE", GP, 0, "fxsave (%%rbx)", "b"(PAGE(4) + 8))
FAULTS(fxrstor_unaligned, "SDM 2A FXRSTOR", GP, 0, "fxrstor (%%rbx)", "b"(PAGE(4) + 8))
CASE(fxsave_writes_mask_and_registers, "SDM 2A FXSAVE") {
  clear();
  ON("fninit\n pcmpeqd %%xmm15, %%xmm15\n rex.w fxsave (%%rbx)", 0);
  WANT_DONE();
  EQUAL(WORD(image), 0x37f);
  EQUAL(LONG(image + 28) & 0xffbf, 0xffbf);
  EQUAL(QUAD(image + 160 + 15 * 16), -1ull);
}
CASE(fxsave_abridged_tags, "SDM 2A FXSAVE") {
  clear();
  ON("fninit\n fld1\n fld1\n fxsave (%%rbx)\n fninit", 0);
  EQUAL(BYTE(image + 4), 0xc0);
  EQUAL(WORD(image + 2) >> 11 & 7, 6);
}
CASE(fxsave_leaves_the_last_bytes, "SDM 2A FXSAVE") {
  clear();
  QUAD(image + 464) = 0x1122;
  ON("fxsave (%%rbx)", 0);
  EQUAL(QUAD(image + 464), 0x1122);
}
CASE(fxrstor_bad_mxcsr, "SDM 2A FXRSTOR") {
  clear();
  LONG(image + 24) = 0x80000000;
  ON("fxrstor (%%rbx)", 0);
  WANT(GP, 0);
}
CASE(fxrstor_loads_and_keeps_exceptions_pending, "SDM 2A FXRSTOR") {
  clear();
  WORD(image) = 0x37b;
  WORD(image + 2) = 4;
  LONG(image + 24) = 0x1f80;
  TRY("fxrstor (%%rbx)\n" MARK "fwait", "b"(image));
  WANT(MF, 0);
}
CASE(fxsave_across_into_an_absent_page, "SDM 2A FXSAVE") {
  map(5, 0);
  TRY("fxsave (%%rbx)", "b"(PAGE(5) - 256));
  WANT(PF, pf_write);
  EQUAL(seen_cr2, PAGE(5));
}
