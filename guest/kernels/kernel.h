// What every test kernel has: a serial line to print on, descriptor tables, and ways to end.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The state that an exception or interrupt interrupted; changes take effect on return.
struct frame {
  uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15;
  uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

enum {
  kernel_code = 0x08,
  kernel_data = 0x10,
  user_code_32 = 0x1b,
  user_data = 0x23,
  user_code_64 = 0x2b,
  kernel_code_32 = 0x30,
  task = 0x38,
  absent_code = 0x48
};

static inline void out8(uint16_t port, uint8_t value) {
  __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}
static inline void out16(uint16_t port, uint16_t value) {
  __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}
static inline void out32(uint16_t port, uint32_t value) {
  __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}
static inline uint8_t in8(uint16_t port) {
  uint8_t value;
  __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
static inline uint64_t read_msr(uint32_t msr) {
  uint32_t low, high;
  __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
  return low | (uint64_t)high << 32;
}
static inline void write_msr(uint32_t msr, uint64_t value) {
  __asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)) : "memory");
}
static inline uint64_t read_tsc(void) {
  uint32_t low, high;
  __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
  return low | (uint64_t)high << 32;
}

// Printing: %s, %u (decimal), %x (hexadecimal), each of a 64-bit value.
void print(const char* format, ...);

// The debug-exit port: the monitor ends with status value * 2 + 1. Without such a port it prints and halts.
_Noreturn void leave(uint32_t value);
enum { exit_pass = 0x10, exit_fail = 0x11 };

// Every kernel defines these two.
uint32_t main(uint32_t magic, uint32_t information);
void on_interrupt(struct frame* frame);

// Ends the kernel with what came and was not awaited.
_Noreturn void unexpected(const struct frame* frame);

extern uint64_t directories[2048];  // of the 2 MiB pages, in order of address
extern uint64_t idt[512];
extern char stack_top[];
static inline void flush_translations(void) {
  uint64_t root;
  __asm__ volatile("mov %%cr3, %0\n mov %0, %%cr3" : "=r"(root) : : "memory");
}

extern int failed_checks;
#define CHECK_EQUAL(got, wanted)                                                                  \
  do {                                                                                            \
    uint64_t got_ = (uint64_t)(got), wanted_ = (uint64_t)(wanted);                                \
    if (got_ != wanted_) {                                                                        \
      failed_checks++;                                                                            \
      print("%s:%u: %s is %x, not %x\n", __FILE_NAME__, (uint64_t)__LINE__, #got, got_, wanted_); \
    }                                                                                             \
  } while (0)
uint32_t verdict(const char* name);  // prints PASS or FAIL, and is main's result

void* memset(void* to, int value, size_t count);
void* memcpy(void* to, const void* from, size_t count);
bool contains(const char* text, const char* word);
uint64_t number_after(const char* text, const char* word, uint64_t otherwise);  // "word=123"
