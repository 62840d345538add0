// Runs random bytes as code: "ring=3" (64-bit and 32-bit user mode; the kernel must live on, and passes when
// all rounds came back by an exception or the timer), or "ring=0", where the bytes may do anything at all to
// this kernel, and only what the monitor makes of it is of interest. "seed=N rounds=N".
#include <cpuid.h>

#include "guarded.h"

enum { timer_vector = 0x20 };
static uint64_t state;

void on_interrupt(struct frame* frame) {
  if (frame->vector == timer_vector) out8(0x20, 0x20);
  if (!end_guarded(frame) && frame->vector != timer_vector) unexpected(frame);
}

static uint64_t next(void) {  // xorshift64*
  state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
  return state * 2685821657736338717u;
}

// Half of the bytes are the beginnings of common instructions, so that not every second one is an early #UD
// or #GP.
static void fill(uint8_t* page, size_t size) {
  static const uint8_t common[] = {0x48, 0x0f, 0x89, 0x8b, 0x01, 0x83, 0xc1, 0xf7, 0x85, 0x66, 0xf3,
                                   0xf2, 0xc5, 0xc4, 0x62, 0x8d, 0x50, 0x58, 0xff, 0x74, 0xeb, 0xe8,
                                   0xa4, 0xaa, 0xd9, 0xdc, 0x41, 0x4c, 0x88, 0x8a, 0x65, 0xf0};
  for (size_t i = 0; i < size; i++) {
    const uint64_t random = next() >> 32;
    page[i] = random & 0x100 ? common[random % sizeof common] : (uint8_t)random;
  }
}

static void start_8259(void) {
  static const uint8_t commands[][2] = {
      {0x20, 0x11}, {0xa0, 0x11}, {0x21, timer_vector}, {0xa1, timer_vector + 8}, {0x21, 4}, {0xa1, 2},
      {0x21, 1},    {0xa1, 1},    {0x21, 0xfe}};
  for (unsigned i = 0; i < sizeof commands / 2; i++) out8(commands[i][0], commands[i][1]);
}

// One interrupt in two milliseconds; what came late of the last one is taken first.
static void arm_timer(void) {
  __asm__ volatile("sti\n nop\n nop\n cli");
  out8(0x43, 0x30), out8(0x40, 0x52), out8(0x40, 0x09);
}

static void enable_vectors(void) {
  unsigned a, b, c = 0, d, save = 0;
  __get_cpuid(1, &a, &b, &c, &d);
  if (c & 1u << 26) save = 1u << 18;
  __asm__ volatile("mov %%cr4, %%rax\n or %0, %%rax\n mov %%rax, %%cr4" : : "r"(0x600ull | save) : "rax");
  if (save && (c & 1u << 28)) __asm__ volatile("xsetbv" : : "c"(0), "a"(7), "d"(0));
}

uint32_t main(uint32_t magic, uint32_t information) {
  CHECK_EQUAL(magic, 0x2badb002);
  const uint32_t* info = (const uint32_t*)(uintptr_t)information;
  const char* line = info[0] & 4 ? (const char*)(uintptr_t)info[4] : "";
  const uint64_t ring = number_after(line, "ring", 3), rounds = number_after(line, "rounds", 2000);
  state = number_after(line, "seed", 1) * 0x9e3779b97f4a7c15u | 1;
  enable_vectors();
  start_8259();
  static uint8_t bytes[4096];
  static uint64_t came[257];
  for (uint64_t round = 0; round < rounds; round++) {
    fill(bytes, sizeof bytes);
    const char *begin = (const char*)bytes, *end = begin + sizeof bytes;
    if (ring != 3) memcpy((void*)user_page, begin, sizeof bytes);
    arm_timer();
    if (ring == 3) {
      guarded_user(begin, end, round % 2 ? user_code_64 : user_code_32, 0x200 | (next() & 0x8d5),
                   next() % (2u << 20) + user_page);
    } else {
      guarded((void (*)(uint64_t))user_page, next());
    }
    came[seen.vector]++;
    __asm__ volatile("fnclex\n fninit\n cli");
  }
  out8(0x21, 0xff);
  uint64_t all = 0;
  for (unsigned vector = 0; vector <= 256; vector++) {
    all += came[vector];
    if (came[vector]) print("vector %x: %u times\n", (uint64_t)vector, came[vector]);
  }
  CHECK_EQUAL(all, rounds);
  return verdict("random");
}
