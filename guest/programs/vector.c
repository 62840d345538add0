// x87, SSE, AVX, AVX2 and AVX-512 as far as the processor shows them: results against plain C, rounding and
// flags, and whether registers survive switches to other processes, system calls and signals.
#define _GNU_SOURCE
#include <cpuid.h>
#include <immintrin.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static void x87(void) {
  volatile long double third = 1.0L / 3;
  uint64_t mantissa;
  memcpy(&mantissa, (const void*)&third, 8);
  CHECK_EQUAL(mantissa, 0xaaaaaaaaaaaaaaab);
  volatile long double x = 0.75L;
  CHECK(fabsl(sinl(x) * sinl(x) + cosl(x) * cosl(x) - 1) < 1e-18L);
  long double pi, tangent, log2e;
  __asm__("fldpi" : "=t"(pi));
  CHECK(pi == 3.14159265358979323851L);
  __asm__("fptan\n fstp %%st(0)" : "=t"(tangent) : "0"(0.5L));
  CHECK(fabsl(tangent - 0.546302489843790513255L) < 1e-18L);
  __asm__("fyl2x" : "=t"(log2e) : "0"(2.71828182845904523536L), "u"(1.0L) : "st(1)");
  CHECK(fabsl(log2e - 1.44269504088896340736L) < 1e-18L);

  // Rounding control, and precision control to 53 bits.
  uint16_t control = 0x0f7f;  // truncate, extended
  int32_t truncated;
  double minus = -2.7;
  __asm__ volatile("fldcw %1\n fldl %2\n fistpl %0\n fninit" : "=m"(truncated) : "m"(control), "m"(minus));
  CHECK_EQUAL((uint32_t)truncated, (uint32_t)-2);
  control = 0x027f;
  long double narrow;
  __asm__ volatile("fldcw %1\n fld1\n fidivs %2\n fstpt %0\n fninit"
                   : "=m"(narrow)
                   : "m"(control), "m"((int16_t){3}));
  CHECK(narrow == (long double)(1.0 / 3));
  CHECK(narrow != third);

  // Binary coded decimal, and the status after an invalid operation.
  uint8_t decimal[10];
  __asm__ volatile("fildll %1\n fbstp %0" : "=m"(decimal) : "m"((int64_t){-1234567890123456}));
  CHECK_EQUAL(decimal[0], 0x56);
  CHECK_EQUAL(decimal[7], 0x12);
  CHECK_EQUAL(decimal[9], 0x80);
  uint16_t status;
  __asm__ volatile("fninit\n fldz\n fldz\n fdivrp\n fnstsw %0\n fninit" : "=a"(status));
  CHECK_EQUAL(status & 0x3f, 1);
}

static void sse(void) {
  __m128i a = _mm_set_epi32(4, 3, 2, 1), b = _mm_set_epi32(40, 30, 20, 10);
  CHECK_EQUAL(_mm_cvtsi128_si32(_mm_shuffle_epi32(_mm_add_epi32(a, b), 0xff)), 44);
  CHECK_EQUAL(_mm_movemask_epi8(_mm_cmpgt_epi8(
                  _mm_set1_epi8(3), _mm_setr_epi8(1, 5, 1, 5, 1, 5, 1, 5, 1, 5, 1, 5, 1, 5, 1, 5))),
              0x5555);
  // Rounding modes through MXCSR, and the inexact flag.
  const unsigned saved = _mm_getcsr();
  const int wanted[4] = {2, 2, 3, 2};  // 2.5 to even, down, up, to zero
  volatile float two_and_a_half = 2.5f;
  for (unsigned mode = 0; mode < 4; mode++) {
    _mm_setcsr(0x1f80 | mode << 13);
    CHECK_EQUAL(_mm_cvtss_si32(_mm_set_ss(two_and_a_half)), wanted[mode]);
    CHECK_EQUAL(_mm_getcsr() & 0x20, 0x20);
  }
  // Denormals, kept and flushed.
  volatile float tiny = 1e-38f, tenth = 0.1f;
  _mm_setcsr(0x1f80);
  CHECK(tiny * tenth != 0);
  _mm_setcsr(0x9f80);
  CHECK(tiny * tenth == 0);
  _mm_setcsr(saved);
}

__attribute__((target("sse4.2,popcnt,aes,pclmul"))) static void sse4(void) {
  CHECK_EQUAL(_mm_crc32_u32(0, 0x12345678), 0xfa745634);
  CHECK_EQUAL(_mm_crc32_u64(~0u, 0x6867666564636261), 0xf56bde48);
  CHECK_EQUAL(_mm_extract_epi32(_mm_mullo_epi32(_mm_set1_epi32(100003), _mm_set1_epi32(99991)), 2),
              100003u * 99991u);
  CHECK_EQUAL(_mm_cmpistri(_mm_loadu_si128((const __m128i*)"xyz\0............"),
                           _mm_loadu_si128((const __m128i*)"0123456789z....."), _SIDD_CMP_EQUAL_ANY),
              10);
}

// One round of a sum in each width, against plain C.
enum { N = 64 };
__attribute__((target("avx2,fma"))) static void avx2(void) {
  float x[N], y[N];
  int32_t table[N], index[8] = {63, 0, 17, 5, 42, 8, 31, 1}, gathered[8];
  for (int i = 0; i < N; i++) x[i] = (float)i * 0.5f, y[i] = (float)(N - i), table[i] = i * i;
  __m256 sum = _mm256_setzero_ps();
  for (int i = 0; i < N; i += 8) sum = _mm256_fmadd_ps(_mm256_loadu_ps(x + i), _mm256_loadu_ps(y + i), sum);
  float lanes[8], total = 0, plain = 0;
  _mm256_storeu_ps(lanes, sum);
  for (int i = 0; i < 8; i++) total += lanes[i];
  for (int i = 0; i < N; i++) plain += x[i] * y[i];
  CHECK(total == plain);  // every partial sum is exact
  _mm256_storeu_si256((__m256i*)gathered,
                      _mm256_i32gather_epi32(table, _mm256_loadu_si256((const __m256i*)index), 4));
  for (int i = 0; i < 8; i++) CHECK_EQUAL(gathered[i], index[i] * index[i]);
  _mm256_storeu_si256((__m256i*)gathered,
                      _mm256_permutevar8x32_epi32(_mm256_loadu_si256((const __m256i*)table),
                                                  _mm256_set_epi32(0, 1, 2, 3, 4, 5, 6, 7)));
  CHECK_EQUAL(gathered[0], 49);
  // A store under a mask touches only what the mask names.
  int32_t target[8] = {9, 9, 9, 9, 9, 9, 9, 9};
  _mm256_maskstore_epi32(target, _mm256_set_epi32(0, 0, 0, -1, 0, 0, 0, -1), _mm256_set1_epi32(1));
  CHECK_EQUAL(target[0] + target[4], 2);
  CHECK_EQUAL(target[1] + target[7], 18);
}

__attribute__((target("avx512f"))) static void avx512(void) {
  int64_t value[8];
  const __m512i counting = _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0);
  _mm512_storeu_si512(value, _mm512_mask_add_epi64(counting, 0x55, counting, _mm512_set1_epi64(100)));
  for (int i = 0; i < 8; i++) CHECK_EQUAL(value[i], i % 2 ? i : 100 + i);
  _mm512_storeu_si512(value, _mm512_maskz_compress_epi64(0xf0, counting));
  CHECK_EQUAL(value[0], 4);
  CHECK_EQUAL(value[4], 0);
}

// Fills registers with a pattern, waits while others run and signals come, looks again: 1 if a register
// changed. The wait is inside the assembly, so that no compiler-made code touches the registers.
#define KEEPS(name, target_, width, fill_all, compare_all)                                             \
  __attribute__((target(target_), noinline)) static int name(const void* pattern, uint8_t* after) {    \
    __asm__ volatile(fill_all                                                                          \
                     "mov $20000, %%r12d\n"                                                            \
                     "1: mov $24, %%eax\n syscall\n" /* sched_yield */                                 \
                     "mov $200, %%ecx\n 2: dec %%ecx\n jnz 2b\n dec %%r12d\n jnz 1b\n" compare_all     \
                     :                                                                                 \
                     : "r"(pattern), "r"(after)                                                        \
                     : "rax", "rcx", "r11", "r12", "memory", "xmm0", "xmm1", "xmm7", "xmm8", "xmm15"); \
    return memcmp(after, pattern, width * 4) != 0;                                                     \
  }
KEEPS(keeps_xmm, "sse2", 16,
      "movups (%0), %%xmm0\n movups 16(%0), %%xmm7\n movups 32(%0), %%xmm8\n movups 48(%0), %%xmm15\n",
      "movups %%xmm0, (%1)\n movups %%xmm7, 16(%1)\n movups %%xmm8, 32(%1)\n movups %%xmm15, 48(%1)\n")
KEEPS(keeps_ymm, "avx", 32,
      "vmovups (%0), %%ymm0\n vmovups 32(%0), %%ymm7\n vmovups 64(%0), %%ymm8\n vmovups 96(%0), %%ymm15\n",
      "vmovups %%ymm0, (%1)\n vmovups %%ymm7, 32(%1)\n vmovups %%ymm8, 64(%1)\n vmovups %%ymm15, 96(%1)\n "
      "vzeroupper\n")
KEEPS(keeps_zmm, "avx512f", 64,
      "vmovups (%0), %%zmm0\n vmovups 64(%0), %%zmm7\n vmovups 128(%0), %%zmm24\n vmovups 192(%0), %%zmm31\n",
      "vmovups %%zmm0, (%1)\n vmovups %%zmm7, 64(%1)\n vmovups %%zmm24, 128(%1)\n vmovups %%zmm31, 192(%1)\n "
      "vzeroupper\n")

static volatile int signals;
static void on_tick(int number) {
  (void)number;
  volatile double dirty = signals++;
  __asm__ volatile("pxor %%xmm0, %%xmm0\n pcmpeqd %%xmm8, %%xmm8\n" : : : "xmm0", "xmm8");
  dirty = dirty * 1.5 + 1;
}

static int survive(int seed) {
  uint8_t pattern[256], after[256];
  for (unsigned i = 0; i < sizeof pattern; i++) pattern[i] = (uint8_t)(i * 7 + (unsigned)seed * 31 + 1);
  signal(SIGALRM, on_tick);
  const struct itimerval often = {{0, 2000}, {0, 2000}}, never = {{0, 0}, {0, 0}};
  setitimer(ITIMER_REAL, &often, NULL);
  int changed = keeps_xmm(pattern, after);
  if (__builtin_cpu_supports("avx")) changed |= keeps_ymm(pattern, after) << 1;
  if (__builtin_cpu_supports("avx512f")) changed |= keeps_zmm(pattern, after) << 2;
  setitimer(ITIMER_REAL, &never, NULL);
  return changed;
}

int main(void) {
  x87();
  sse();
  if (__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul")) sse4();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) avx2();
  if (__builtin_cpu_supports("avx512f")) avx512();
  printf("vector: sse4.2 %d avx %d avx2 %d avx512f %d\n", !!__builtin_cpu_supports("sse4.2"),
         !!__builtin_cpu_supports("avx"), !!__builtin_cpu_supports("avx2"),
         !!__builtin_cpu_supports("avx512f"));
  fflush(stdout);

  enum { processes = 3 };
  for (int i = 0; i < processes; i++)
    if (fork() == 0) _exit(survive(i));
  for (int i = 0; i < processes; i++) {
    int status = -1;
    wait(&status);
    CHECK_EQUAL(status, 0);
  }
  CHECK_EQUAL(survive(processes), 0);
  CHECK(signals > 0);
  return verdict("vector");
}
