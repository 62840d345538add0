// Code that changes: by the processor that runs it, by another, under other addresses. SDM vol. 3, 8.1.3
// and 11.6.
#include "suite.h"
#define GROUP "code"

// A page with `mov $imm32, %eax; ret` at its beginning.
static void write_function(uint64_t at, uint32_t value) {
  BYTE(at) = 0xb8;
  LONG(at + 1) = value;
  BYTE(at + 5) = 0xc3;
}
static uint32_t call_it(uint64_t at) {
  uint32_t value;
  __asm__ volatile("call *%1" : "=&a"(value) : "r"(at) : "memory");
  return value;
}
static void serialize(void) {
  cpuid(0, 0);
}

CASE(store_then_jump, "SDM 3A 8.1.3") {
  for (uint32_t i = 0; i < 50; i++) {
    write_function(PAGE(0), i);
    EQUAL(call_it(PAGE(0)), i);
  }
}
CASE(store_into_the_immediate, "SDM 3A 8.1.3") {
  write_function(PAGE(0), 0);
  for (uint32_t i = 0; i < 50; i++) {
    LONG(PAGE(0) + 1) = i * 3;
    EQUAL(call_it(PAGE(0)), i * 3);
  }
}
CASE(store_of_the_next_instruction, "SDM 3A 8.1.3") {
  // The same linear address: seen without a jump on every processor since the P6.
  static const uint8_t bytes[] = {0xc6, 0x05, 5, 0, 0, 0, 0x42, 0x31, 0xc0, 0x90, 0x90, 0xb0, 0x11, 0xc3};
  // movb $0x42, 5(%rip): the immediate of mov $0x11, %al, twelve bytes from the start.
  memcpy((void*)PAGE(0), bytes, sizeof bytes);
  TRY("call *%%rbx", "b"(PAGE(0)));
  WANT_DONE();
  EQUAL(seen.rax & 0xff, 0x42);
}
CASE(store_under_another_linear_address, "SDM 3A 11.6") {
  map(1, FRAME(0) | P | W);
  write_function(PAGE(0), 1);
  EQUAL(call_it(PAGE(0)), 1);
  LONG(PAGE(1) + 1) = 2;
  serialize();
  EQUAL(call_it(PAGE(0)), 2);
}
CASE(store_by_the_physical_address, "SDM 3A 11.6") {
  write_function(PAGE(0), 1);
  EQUAL(call_it(PAGE(0)), 1);
  LONG(FRAME(0) + 1) = 7;
  serialize();
  EQUAL(call_it(PAGE(0)), 7);
}
CASE(other_frame_under_the_same_address, "SDM 3A 4.10") {
  write_function(FRAME(0), 1);
  write_function(FRAME(1), 2);
  for (unsigned i = 0; i < 20; i++) {
    map(0, FRAME(i & 1) | P | W);
    EQUAL(call_it(PAGE(0)), 1 + (i & 1));
  }
}
CASE(same_frame_under_two_addresses, "SDM 3A 11.6") {
  map(1, FRAME(0) | P | W);
  // What the function returns is where it is: lea (%rip), %rax; ret.
  static const uint8_t bytes[] = {0x48, 0x8d, 0x05, 0, 0, 0, 0, 0xc3};
  memcpy((void*)FRAME(0), bytes, sizeof bytes);
  EQUAL(call_it(PAGE(0)), PAGE(0) + 7);
  EQUAL(call_it(PAGE(1)), PAGE(1) + 7);
}
CASE(string_store_into_code, "SDM 3A 8.1.3") {
  write_function(PAGE(0), 1);
  EQUAL(call_it(PAGE(0)), 1);
  write_function(PAGE(1), 0x55667788);
  memcpy((void*)PAGE(0), (void*)PAGE(1), 6);
  EQUAL(call_it(PAGE(0)), 0x55667788);
}
CASE(locked_store_into_code, "SDM 3A 8.1.3") {
  write_function(PAGE(0), 1);
  EQUAL(call_it(PAGE(0)), 1);
  __asm__ volatile("lock addl $4, (%0)" : : "r"(PAGE(0) + 1) : "memory", "cc");
  EQUAL(call_it(PAGE(0)), 5);
}
CASE(vector_store_into_code, "SDM 3A 8.1.3") {
  write_function(PAGE(0), 1);
  write_function(PAGE(1), 9);
  EQUAL(call_it(PAGE(0)), 1);
  __asm__ volatile("movups (%0), %%xmm0\n movups %%xmm0, (%1)" : : "r"(PAGE(1)), "r"(PAGE(0)) : "memory");
  EQUAL(call_it(PAGE(0)), 9);
}
CASE(push_into_code, "SDM 3A 8.1.3") {
  write_function(PAGE(4), 1);
  EQUAL(call_it(PAGE(4)), 1);
  // The eight bytes from the beginning, pushed.
  TRY("mov %%rbx, %%rsp\n push %%rax\n call *%%rcx", "b"(PAGE(4) + 8), "a"(0x9090c300000022b8), "c"(PAGE(4)));
  WANT_DONE();
  EQUAL(seen.rax, 0x22);
}
CASE(store_into_a_loop_that_runs, "SDM 3A 8.1.3") {
  // The loop overwrites its own increment half way: inc %eax (ff c0) becomes dec %eax (ff c8).
  static const uint8_t bytes[] = {0x31, 0xc0, 0xb9, 10,   0, 0,    0,    0xff, 0xc0, 0x83, 0xf9, 6,
                                  0x75, 4,    0xc6, 0x47, 8, 0xc8, 0xff, 0xc9, 0x75, 0xf1, 0xc3};
  memcpy((void*)PAGE(0), bytes, sizeof bytes);
  TRY("call *%%rdi", "D"(PAGE(0)));
  WANT_DONE();
  // Five up (counts 10 to 6), five down.
  EQUAL(seen.rax & 0xffffffff, 0);
}
CASE(code_across_pages_and_the_second_changes, "SDM 3A 11.6") {
  const uint64_t at = PAGE(1) - 3;  // the opcode and two bytes of the immediate on the first page
  write_function(at, 0x11111111);
  EQUAL(call_it(at), 0x11111111);
  WORD(PAGE(1)) = 0x2222;
  EQUAL(call_it(at), 0x22221111);
  map(1, FRAME(9) | P | W);
  WORD(FRAME(9)) = 0x3333, BYTE(FRAME(9) + 2) = 0xc3;
  EQUAL(call_it(at), 0x33331111);
}
CASE(page_becomes_unexecutable, "SDM 3A 4.6.1") {
  write_function(PAGE(0), 1);
  EQUAL(call_it(PAGE(0)), 1);
  map(0, FRAME(0) | P | W | NX);
  TRY("call *%%rbx", "b"(PAGE(0)));
  WANT_AT(PF, pf_present | pf_fetch, PAGE(0));
}
CASE(page_becomes_absent, "SDM 3A 4.7") {
  write_function(PAGE(0), 1);
  EQUAL(call_it(PAGE(0)), 1);
  map(0, 0);
  TRY("call *%%rbx", "b"(PAGE(0)));
  WANT_AT(PF, pf_fetch, PAGE(0));
}
CASE(absent_second_page_matters_only_when_reached, "SDM 3A 4.7") {
  write_function(PAGE(1) - 6, 4);
  map(1, 0);
  EQUAL(call_it(PAGE(1) - 6), 4);
}
CASE(jump_into_the_middle_of_an_instruction, "SDM 2A 2.1") {
  // mov $0xc3c0ff90, %eax: its immediate is nop; inc %eax; ret.
  write_function(PAGE(0), 0xc3c0ff90);
  TRY("mov $6, %%eax\n lea 1(%%rbx), %%rcx\n call *%%rcx\n mov %%eax, %%edx\n call *%%rbx", "b"(PAGE(0)));
  WANT_DONE();
  EQUAL(seen.rdx, 7);
  EQUAL(seen.rax, 0xc3c0ff90);
}
CASE(same_bytes_in_two_modes, "SDM 2A 2.2.1") {
  // 48 ff c8: dec %rax in 64-bit mode; dec %eax; dec %eax in compatibility mode.
  USER64("mov $5, %%eax\n .byte 0x48, 0xff, 0xc8");
  EQUAL(seen.rax, 4);
  USER32("mov $5, %%eax\n .byte 0x48, 0xff, 0xc8");
  EQUAL(seen.rax, 3);
}
CASE(user_code_changed_by_the_kernel, "SDM 3A 8.1.3") {
  for (unsigned i = 1; i < 20; i++) {
    USER64("mov $1, %%eax");
    EQUAL(seen.rax, 1);
    LONG(FRAME(16) + 1) = i;
    TRY("push $0x23\n push %%rcx\n push $2\n push $0x2b\n push %%rbx\n iretq", "b"(user_code),
        "c"(user_stack - 64));
    EQUAL(seen.rax, i);
  }
}

// --- by another processor
struct order {
  volatile uint32_t wanted, seen;
  uint64_t at;
};
static void run_when_told(void* what) {
  struct order* order = what;
  for (uint32_t i = 1; i <= 20; i++) {
    while (order->wanted < i) __asm__ volatile("pause" : : : "memory");
    serialize();
    order->seen = call_it(order->at) == i * 7 ? i : 1000;
    if (order->seen == 1000) return;
  }
}
#define CROSS(name, section, store)                                                                   \
  CASE(name, section) {                                                                               \
    if (!start_processors()) return;                                                                  \
    static struct order order;                                                                        \
    order.wanted = order.seen = 0;                                                                    \
    order.at = PAGE(0);                                                                               \
    write_function(PAGE(0), 0);                                                                       \
    run_begin(1, run_when_told, &order);                                                              \
    for (uint32_t i = 1; i <= 20 && order.seen != 1000; i++) {                                        \
      store;                                                                                          \
      order.wanted = i;                                                                               \
      for (const uint64_t until = read_tsc() + 20000000000ull; order.seen < i && read_tsc() < until;) \
        __asm__ volatile("pause");                                                                    \
      EQUAL(order.seen, i);                                                                           \
    }                                                                                                 \
    run_finish(1);                                                                                    \
  }
CROSS(cross_modifying, "SDM 3A 8.1.3", LONG(PAGE(0) + 1) = i * 7)
CROSS(cross_modifying_whole_instruction, "SDM 3A 8.1.3", write_function(PAGE(0), i * 7))
CROSS(cross_modifying_by_physical_address, "SDM 3A 11.6", LONG(FRAME(0) + 1) = i * 7)
CROSS(cross_modifying_by_a_string, "SDM 3A 8.1.3",
      (write_function(FRAME(5), i * 7), memcpy((void*)PAGE(0), (void*)FRAME(5), 6)))
