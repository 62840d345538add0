// Every width of signed and unsigned division whose quotient does not fit, or whose divisor is zero: SIGFPE
// at that instruction, with the registers as they were. A translator that divides on the host must not die of
// it.
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "check.h"

static volatile struct {
  int count, number, code;
  uintptr_t address, rip, rax, rdx;
} seen;

// Steps over the division: its label's address plus the length that the test knows.
static volatile uintptr_t resume;
static void on_signal(int number, siginfo_t* info, void* context) {
  greg_t* registers = ((ucontext_t*)context)->uc_mcontext.gregs;
  seen.count++;
  seen.number = number;
  seen.code = info->si_code;
  seen.address = (uintptr_t)info->si_addr;
  seen.rip = (uintptr_t)registers[REG_RIP];
  seen.rax = (uintptr_t)registers[REG_RAX];
  seen.rdx = (uintptr_t)registers[REG_RDX];
  registers[REG_RIP] = (greg_t)resume;
}

#define DIVIDE(instruction, high, low, divisor, traps)                \
  do {                                                                \
    seen.count = 0;                                                   \
    uintptr_t rax_ = (uintptr_t)(low), rdx_ = (uintptr_t)(high), at_; \
    __asm__ volatile(                                                 \
        "lea 1f(%%rip), %2\n mov %2, %3\n lea 0f(%%rip), %2\n"        \
        "0: " instruction "\n1:"                                      \
        : "+a"(rax_), "+d"(rdx_), "=&r"(at_), "=m"(resume)            \
        : "c"((uintptr_t)(divisor))                                   \
        : "cc", "memory");                                            \
    CHECK_EQUAL(seen.count, traps);                                   \
    if (traps) {                                                      \
      CHECK_EQUAL(seen.number, SIGFPE);                               \
      CHECK_EQUAL(seen.code, FPE_INTDIV);                             \
      CHECK_EQUAL(seen.address, at_);                                 \
      CHECK_EQUAL(seen.rip, at_);                                     \
      CHECK_EQUAL(seen.rax, (uintptr_t)(low));                        \
      CHECK_EQUAL(seen.rdx, (uintptr_t)(high));                       \
    }                                                                 \
  } while (0)

int main(void) {
  struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
  sigaction(SIGFPE, &action, NULL);
  for (int i = 0; i < 100; i++) {
    DIVIDE("idivq %%rcx", -1, INT64_MIN, -1, 1);
    DIVIDE("idivl %%ecx", 0xffffffff, 0x80000000, 0xffffffff, 1);
    // The smallest double-width number by -1: an emulator that widens once divides INT64_MIN (or INT32_MIN) itself.
    DIVIDE("idivl %%ecx", 0x80000000, 0, 0xffffffff, 1);
    DIVIDE("idivw %%cx", 0x8000, 0, 0xffff, 1);
    DIVIDE("idivq %%rcx", INT64_MIN, 0, -1, 1);
    DIVIDE("idivw %%cx", 0xffff, 0x8000, 0xffff, 1);
    DIVIDE("idivb %%cl", 0, 0x8000, 0xff, 1);
    DIVIDE("idivq %%rcx", 0, 1, 0, 1);
    DIVIDE("divq %%rcx", 0, 1, 0, 1);
    DIVIDE("divl %%ecx", 0, 1, 0, 1);
    DIVIDE("divw %%cx", 0, 1, 0, 1);
    DIVIDE("divb %%cl", 0, 1, 0, 1);
    DIVIDE("divq %%rcx", 5, 0, 5, 1);  // quotient 2^64
    DIVIDE("divl %%ecx", 5, 0, 5, 1);
    DIVIDE("divb %%cl", 0, 0xff00, 1, 1);
    DIVIDE("divq %%rcx", 4, ~0ull, 5, 0);  // the largest that fits
    DIVIDE("idivq %%rcx", -1, INT64_MIN, 1, 0);
    DIVIDE("idivb %%cl", 0, 0xff80, 1, 0);
  }
  volatile int64_t smallest = INT64_MIN, minus_one = -1;
  pid_t self = getpid();
  volatile int64_t wrapped = (int64_t)((uint64_t)smallest * (uint64_t)minus_one);
  CHECK_EQUAL(wrapped, INT64_MIN);
  CHECK_EQUAL(getpid(), self);
  return verdict("divide");
}
