// Locked instructions: results, faults, over the borders of lines and pages, CMPXCHG8B and 16B; and, with two
// processors, that nothing is lost. SDM vol. 3, 8.1.
#include "suite.h"
#define GROUP "atomics"

#define AT(address) "b"((uint64_t)(address))
CASE(xadd_returns_the_old, "SDM 2C XADD") {
  QUAD(PAGE(0)) = 40;
  TRY("lock xaddq %%rax, (%%rbx)", AT(PAGE(0)), "a"(2));
  EQUAL(seen.rax, 40);
  EQUAL(QUAD(PAGE(0)), 42);
}
CASE(cmpxchg_succeeds, "SDM 2A CMPXCHG") {
  QUAD(PAGE(0)) = 5;
  TRY("lock cmpxchgq %%rcx, (%%rbx)", AT(PAGE(0)), "a"(5), "c"(6));
  EQUAL(QUAD(PAGE(0)), 6);
  EQUAL(seen.rflags & 0x40, 0x40);
}
CASE(cmpxchg_fails, "SDM 2A CMPXCHG") {
  QUAD(PAGE(0)) = 7;
  TRY("lock cmpxchgq %%rcx, (%%rbx)", AT(PAGE(0)), "a"(5), "c"(6));
  EQUAL(QUAD(PAGE(0)), 7);
  EQUAL(seen.rax, 7);
  EQUAL(seen.rflags & 0x40, 0);
}
CASE(cmpxchg_of_32_bits_that_succeeds_keeps_rax, "SDM 2A CMPXCHG") {
  LONG(PAGE(0)) = 5;
  TRY("lock cmpxchgl %%ecx, (%%rbx)", AT(PAGE(0)), "a"(0xffffffff00000005), "c"(6));
  EQUAL(LONG(PAGE(0)), 6);
  // Intel's text writes the accumulator only on failure.
  EQUAL(seen.rax & 0xffffffff, 5);
}
CASE(cmpxchg8b, "SDM 2A CMPXCHG8B") {
  QUAD(PAGE(0)) = 0x200000001;
  TRY("mov %%rsi, %%rdi\n lock cmpxchg8b (%%rdi)", "S"(PAGE(0)), "a"(1), "d"(2), "b"(3), "c"(4));
  EQUAL(QUAD(PAGE(0)), 0x400000003);
  EQUAL(seen.rflags & 0x40, 0x40);
}
CASE(cmpxchg8b_fails, "SDM 2A CMPXCHG8B") {
  QUAD(PAGE(0)) = 0x700000006;
  TRY("lock cmpxchg8b (%%rsi)", "S"(PAGE(0)), "a"(1), "d"(2), "b"(3), "c"(4));
  EQUAL(seen.rax, 6);
  EQUAL(seen.rdx, 7);
  EQUAL(seen.rflags & 0x40, 0);
}
CASE(cmpxchg8b_unaligned, "SDM 3A 8.1.2") {
  QUAD(PAGE(0) + 61) = 0x200000001;
  TRY("lock cmpxchg8b (%%rsi)", "S"(PAGE(0) + 61), "a"(1), "d"(2), "b"(3), "c"(4));
  WANT_DONE();
  EQUAL(QUAD(PAGE(0) + 61), 0x400000003);
}
CASE(cmpxchg8b_of_a_read_only_page, "SDM 2A CMPXCHG8B") {
  map(0, FRAME(0) | P);
  TRY("cmpxchg8b (%%rsi)", "S"(PAGE(0)), "a"(1), "d"(2), "b"(3), "c"(4));
  WANT(PF, pf_present | pf_write);
}
#define HAS_CX16 HAS(1, 0, c, 13)
CASE(cmpxchg16b, "SDM 2A CMPXCHG16B") {
  NEEDS(HAS_CX16, "no CMPXCHG16B");
  QUAD(PAGE(0)) = 1, QUAD(PAGE(0) + 8) = 2;
  TRY("lock cmpxchg16b (%%rsi)", "S"(PAGE(0)), "a"(1), "d"(2), "b"(3), "c"(4));
  WANT_DONE();
  EQUAL(QUAD(PAGE(0)), 3);
  EQUAL(QUAD(PAGE(0) + 8), 4);
}
CASE(cmpxchg16b_fails, "SDM 2A CMPXCHG16B") {
  NEEDS(HAS_CX16, "no CMPXCHG16B");
  QUAD(PAGE(0)) = 1, QUAD(PAGE(0) + 8) = 9;
  TRY("lock cmpxchg16b (%%rsi)", "S"(PAGE(0)), "a"(1), "d"(2), "b"(3), "c"(4));
  EQUAL(seen.rdx, 9);
  EQUAL(seen.rflags & 0x40, 0);
  EQUAL(QUAD(PAGE(0)), 1);
}
CASE(cmpxchg16b_unaligned, "SDM 2A CMPXCHG16B") {
  NEEDS(HAS_CX16, "no CMPXCHG16B");
  TRY("cmpxchg16b (%%rsi)", "S"(PAGE(0) + 8), "a"(1), "d"(2), "b"(3), "c"(4));
  WANT(GP, 0);
}
CASE(cmpxchg16b_unaligned_before_the_page_fault, "SDM 2A CMPXCHG16B") {
  NEEDS(HAS_CX16, "no CMPXCHG16B");
  map(0, 0);
  TRY("lock cmpxchg16b (%%rsi)", "S"(PAGE(0) + 8), "a"(1), "d"(2), "b"(3), "c"(4));
  WANT(GP, 0);
}
CASE(xchg_is_locked_without_the_prefix, "SDM 2B XCHG") {
  QUAD(PAGE(0) + 4092) = 1;
  TRY("xchgq %%rax, (%%rbx)", AT(PAGE(1) - 4), "a"(0x1122334455667788));
  WANT_DONE();
  EQUAL(QUAD(PAGE(1) - 4), 0x1122334455667788);
}
// The group, over a line and over pages whose frames lie apart.
#define SPLIT(name, text, before, after)                 \
  CASE(name##_across_lines, "SDM 3A 8.1.2.2") {          \
    QUAD(PAGE(0) + 60) = before;                         \
    TRY("lock " text, AT(PAGE(0) + 60), "a"(3), "c"(3)); \
    WANT_DONE();                                         \
    EQUAL(QUAD(PAGE(0) + 60), after);                    \
  }                                                      \
  CASE(name##_across_pages, "SDM 3A 8.1.2.2") {          \
    map(1, FRAME(9) | P | W);                            \
    QUAD(PAGE(1) - 4) = before;                          \
    TRY("lock " text, AT(PAGE(1) - 4), "a"(3), "c"(3));  \
    WANT_DONE();                                         \
    EQUAL(QUAD(PAGE(1) - 4), after);                     \
    EQUAL(LONG(FRAME(9)), (uint64_t)(after) >> 32);      \
  }
SPLIT(split_add, "addq %%rax, (%%rbx)", 0xfffffffe, 0x100000001)
SPLIT(split_sub, "subq %%rax, (%%rbx)", 0x100000001, 0xfffffffe)
SPLIT(split_inc, "incq (%%rbx)", 0xffffffff, 0x100000000)
SPLIT(split_neg, "negq (%%rbx)", 1, -1ull)
SPLIT(split_xor, "xorq $-1, (%%rbx)", 0x00ff00ff00ff00ff, 0xff00ff00ff00ff00)
SPLIT(split_bts, "btsq $40, (%%rbx)", 1, 0x10000000001)
SPLIT(split_btr, "btrq %%rax, (%%rbx)", 9, 1)
CASE(locked_bit_far_away, "SDM 2A BTS") {
  // A bit number in a register reaches other words, also below.
  QUAD(PAGE(1) - 8) = 0;
  TRY("lock btsq %%rax, (%%rbx)", AT(PAGE(1)), "a"(-1ll));
  WANT_DONE();
  EQUAL(QUAD(PAGE(1) - 8), 1ull << 63);
}
CASE(locked_bit_in_an_absent_page, "SDM 2A BTS") {
  map(2, 0);
  TRY("lock btsq %%rax, (%%rbx)", AT(PAGE(1)), "a"(4096 * 8));
  WANT(PF, pf_write);
  EQUAL(seen_cr2, PAGE(2));
}
CASE(locked_split_into_a_read_only_page_changes_nothing, "SDM 3A 8.1.2.2") {
  map(1, FRAME(1) | P);
  LONG(PAGE(1) - 4) = 0xfffffffe;
  TRY("lock addq %%rax, (%%rbx)", AT(PAGE(1) - 4), "a"(3));
  WANT(PF, pf_present | pf_write);
  EQUAL(LONG(PAGE(1) - 4), 0xfffffffe);
}
CASE(locked_flags, "SDM 2A ADD") {
  QUAD(PAGE(0)) = -1ull;
  TRY("lock addq %%rax, (%%rbx)", AT(PAGE(0)), "a"(1));
  EQUAL(seen.rflags & 0x8d5, 0x55);
}

// --- two processors
enum { rounds = 2000 };
struct work {
  uint64_t at;
  void (*once)(uint64_t);
};
static void repeat(void* what) {
  const struct work* work = what;
  for (unsigned i = 0; i < rounds; i++) work->once(work->at);
}
static void both(uint64_t at, void (*once)(uint64_t)) {
  struct work work = {at, once};
  run_begin(1, repeat, &work);
  repeat(&work);
  run_finish(1);
}
static void increment(uint64_t at) {
  __asm__ volatile("lock incq (%0)" : : "r"(at) : "memory", "cc");
}
static void exchange_add(uint64_t at) {
  __asm__ volatile("lock xaddq %1, (%0)" : : "r"(at), "r"(1ull) : "memory", "cc");
}
static void compare_add(uint64_t at) {
  uint64_t old = QUAD(at);
  uint8_t ok;
  do
    __asm__ volatile("lock cmpxchgq %3, (%2)\n setz %1"
                     : "+a"(old), "=q"(ok)
                     : "r"(at), "r"(old + 1)
                     : "memory", "cc");
  while (!ok);
}
static void compare_add_8(uint64_t at) {
  uint32_t low = LONG(at), high = LONG(at + 4);
  uint8_t ok;
  do {
    const uint64_t next = (low | (uint64_t)high << 32) + 1;
    __asm__ volatile("lock cmpxchg8b (%3)\n setz %2"
                     : "+a"(low), "+d"(high), "=q"(ok)
                     : "r"(at), "b"((uint32_t)next), "c"((uint32_t)(next >> 32))
                     : "memory", "cc");
  } while (!ok);
}
static void compare_add_16(uint64_t at) {
  uint64_t low = QUAD(at), high = QUAD(at + 8);
  uint8_t ok;
  do
    __asm__ volatile("lock cmpxchg16b (%3)\n setz %2"
                     : "+a"(low), "+d"(high), "=q"(ok)
                     : "r"(at), "b"(low + 1), "c"(high + 1)
                     : "memory", "cc");
  while (!ok);
}
static void toggle(uint64_t at) {
  // A lock of one bit around a plain addition.
  uint8_t taken;
  do {
    __asm__ volatile("lock btsl $0, (%1)\n setc %0" : "=q"(taken) : "r"(at + 64) : "memory", "cc");
    if (taken) __asm__ volatile("pause");
  } while (taken);
  QUAD(at) = QUAD(at) + 1;
  __asm__ volatile("lock btrl $0, (%0)" : : "r"(at + 64) : "memory", "cc");
}
static void exchange_lock(uint64_t at) {
  uint32_t taken = 1;
  for (;;) {
    __asm__ volatile("xchgl %0, (%1)" : "+r"(taken) : "r"(at + 64) : "memory");
    if (!taken) break;
    __asm__ volatile("pause");
  }
  QUAD(at) = QUAD(at) + 1;
  __asm__ volatile("movl $0, (%0)" : : "r"(at + 64) : "memory");
}
#define NOTHING_LOST(name, section, at, once) \
  CASE(name, section) {                       \
    if (!start_processors()) return;          \
    QUAD(at) = 0;                             \
    both(at, once);                           \
    EQUAL(QUAD(at), 2 * rounds);              \
  }
#define LINE (PAGE(0) + 60)
#define BORDER (PAGE(1) - 3)
NOTHING_LOST(inc_by_two, "SDM 3A 8.1.2", PAGE(0), increment)
NOTHING_LOST(inc_by_two_across_lines, "SDM 3A 8.1.2.2", LINE, increment)
NOTHING_LOST(inc_by_two_across_pages, "SDM 3A 8.1.2.2", BORDER, increment)
NOTHING_LOST(xadd_by_two, "SDM 3A 8.1.2", PAGE(0), exchange_add)
NOTHING_LOST(xadd_by_two_across_lines, "SDM 3A 8.1.2.2", LINE, exchange_add)
NOTHING_LOST(cmpxchg_by_two, "SDM 3A 8.1.2", PAGE(0), compare_add)
NOTHING_LOST(cmpxchg_by_two_across_pages, "SDM 3A 8.1.2.2", BORDER, compare_add)
NOTHING_LOST(cmpxchg8b_by_two, "SDM 3A 8.1.2", PAGE(0), compare_add_8)
NOTHING_LOST(cmpxchg8b_by_two_across_lines, "SDM 3A 8.1.2.2", LINE, compare_add_8)
NOTHING_LOST(bit_lock_by_two, "SDM 3A 8.1.2", PAGE(0), toggle)
NOTHING_LOST(xchg_lock_by_two, "SDM 3A 8.1.2", PAGE(0), exchange_lock)
CASE(cmpxchg16b_by_two, "SDM 3A 8.1.2") {
  NEEDS(HAS_CX16, "no CMPXCHG16B");
  if (!start_processors()) return;
  QUAD(PAGE(0)) = QUAD(PAGE(0) + 8) = 0;
  both(PAGE(0), compare_add_16);
  EQUAL(QUAD(PAGE(0)), 2 * rounds);
  EQUAL(QUAD(PAGE(0) + 8), 2 * rounds);
}
