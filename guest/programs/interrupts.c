// What comes between two instructions: timer signals into a loop that uses every register, single-stepping,
// the alignment check, time that only goes forward.
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "check.h"

static volatile int ticks;
static void on_tick(int number, siginfo_t* info, void* context) {
  (void)number, (void)info, (void)context;
  ticks++;
  __asm__ volatile("std\n cld\n xor %%eax, %%eax\n mov %%rax, %%rcx\n mov %%rax, %%r8\n mov %%rax, %%r15"
                   :
                   :
                   : "rax", "rcx", "r8", "r15", "cc");
}

// Every general register holds its number times a constant, rcx counts, and carry is live over the loop's end
// (dec leaves it). Returns how many registers, the carry among them, were not as they had been.
static uint64_t loop_with_all_registers(uint64_t rounds) {
  uint64_t wrong;
  static uint64_t saved_stack;
  __asm__ volatile(
      "push %%rbp\n push %%rbx\n mov %%rsp, %[stack]\n"
      "mov $0x1111111111111111, %%rax\n mov $0x3333333333333333, %%rdx\n mov $0x4444444444444444, %%rbx\n"
      "mov $0x5555555555555555, %%rbp\n mov $0x6666666666666666, %%rsi\n mov $0x7777777777777777, %%rdi\n"
      "mov $0x0808080808080808, %%r8\n mov $0x0909090909090909, %%r9\n mov $0x0a0a0a0a0a0a0a0a, %%r10\n"
      "mov $0x0b0b0b0b0b0b0b0b, %%r11\n mov $0x0c0c0c0c0c0c0c0c, %%r12\n mov $0x0d0d0d0d0d0d0d0d, %%r13\n"
      "mov $0x0e0e0e0e0e0e0e0e, %%r14\n mov $0x0f0f0f0f0f0f0f0f, %%r15\n"
      "stc\n"
      "1: dec %%rcx\n jnz 1b\n"
      "sbb $0, %%rcx\n"  // 0 - carry
#define SAME(number, reg) \
  "mov $" number ", %%rsp\n xor %%rsp, %%" reg "\n neg %%" reg "\n sbb %%rsp, %%rsp\n sub %%rsp, %%rcx\n"
      SAME("0x1111111111111111", "rax") SAME("0x3333333333333333", "rdx") SAME("0x4444444444444444", "rbx")
          SAME("0x5555555555555555", "rbp") SAME("0x6666666666666666", "rsi")
              SAME("0x7777777777777777", "rdi") SAME("0x0808080808080808", "r8")
                  SAME("0x0909090909090909", "r9") SAME("0x0a0a0a0a0a0a0a0a", "r10")
                      SAME("0x0b0b0b0b0b0b0b0b", "r11") SAME("0x0c0c0c0c0c0c0c0c", "r12")
                          SAME("0x0d0d0d0d0d0d0d0d", "r13") SAME("0x0e0e0e0e0e0e0e0e", "r14") SAME(
                              "0x0f0f0f0f0f0f0f0f", "r15") "mov %[stack], %%rsp\n pop %%rbx\n pop %%rbp\n"
      : "=c"(wrong), [stack] "+m"(saved_stack)
      : "0"(rounds)
      : "rax", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "cc", "memory");
  return wrong + 1;  // the carry, if kept, made rcx -1
}

static void timer_signals(void) {
  static uint8_t stack[65536];  // signals come while rsp holds no address
  const stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
  sigaltstack(&other, NULL);
  struct sigaction action = {.sa_sigaction = on_tick, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  sigaction(SIGALRM, &action, NULL);
  const struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
  setitimer(ITIMER_REAL, &often, NULL);
  for (int i = 0; i < 2000 || (ticks < 20 && i < 200000); i++) {
    const uint64_t wrong = loop_with_all_registers(20000);
    if (wrong)
      return (void)(failed_checks++, printf("timer signals: %lld registers changed\n", (long long)wrong));
  }
  setitimer(ITIMER_REAL, &never, NULL);
  CHECK(ticks >= 20);
}

// Single-stepping: a trap after each instruction, taken jumps, a repeated string instruction (a trap per
// repetition) and one that loads the stack segment (no trap behind it).
static volatile int steps;
static volatile uintptr_t trail[64];
static void on_step(int number, siginfo_t* info, void* context) {
  (void)number;
  if (info->si_code != TRAP_TRACE && info->si_code != TRAP_BRKPT) failed_checks++;
  if (steps < 64) trail[steps] = (uintptr_t)((ucontext_t*)context)->uc_mcontext.gregs[REG_RIP];
  steps++;
}

extern char step_start[], step_jump[], step_target[], step_string[], step_stack[], step_end[];
static void single_step(void) {
  struct sigaction action = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};
  sigaction(SIGTRAP, &action, NULL);
  static uint8_t from[8], to[8];
  __asm__ volatile(
      "pushfq\n orq $0x100, (%%rsp)\n popfq\n"
      "step_start: nop\n"
      "step_jump: jmp step_target\n ud2\n"
      "step_target: mov $3, %%ecx\n"
      "step_string: rep movsb\n"
      "mov %%ss, %%eax\n"
      "step_stack: mov %%eax, %%ss\n nop\n"
      "pushfq\n andq $~0x100, (%%rsp)\n popfq\n"
      "step_end: nop\n"
      :
      : "S"(from), "D"(to)
      : "rax", "rcx", "cc", "memory");
  // popfq itself does not trap; the first trap is behind the first nop.
  const uintptr_t expected[] = {(uintptr_t)step_jump, (uintptr_t)step_target, (uintptr_t)step_string,
                                (uintptr_t)step_string, (uintptr_t)step_string};
  for (unsigned i = 0; i < sizeof expected / sizeof *expected; i++) CHECK_EQUAL(trail[i], expected[i]);
  CHECK_EQUAL(trail[6], (uintptr_t)step_stack);
  CHECK_EQUAL(trail[7], (uintptr_t)step_stack + 3);  // behind the nop: mov %ss held the trap back
  CHECK_EQUAL(steps, 11);  // pushfq, andq, and popfq, which clears the flag but had begun with it
}

static sigjmp_buf back;
static volatile int bus_code;
static void on_bus(int number, siginfo_t* info, void* context) {
  (void)number;
  bus_code = info->si_code;
  ((ucontext_t*)context)->uc_mcontext.gregs[REG_EFL] &= ~0x40000;
  siglongjmp(back, 1);
}

static void alignment_check(void) {
  struct sigaction action = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};
  sigaction(SIGBUS, &action, NULL);
  static uint64_t words[2];
  bus_code = 0;
  if (!sigsetjmp(back, 1)) {
    __asm__ volatile("pushfq\n orl $0x40000, (%%rsp)\n popfq\n mov 1(%0), %%eax\n"
                     :
                     : "r"(words)
                     : "rax", "cc", "memory");
    __asm__ volatile("pushfq\n andl $~0x40000, (%%rsp)\n popfq" : : : "cc", "memory");
  }
  __asm__ volatile("pushfq\n andl $~0x40000, (%%rsp)\n popfq" : : : "cc", "memory");
  CHECK_EQUAL(bus_code, BUS_ADRALN);
}

static int64_t nanoseconds(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static void time_goes_forward(void) {
  int64_t last = nanoseconds(CLOCK_MONOTONIC);
  uint64_t last_tsc = __builtin_ia32_rdtsc();
  for (int i = 0; i < 100000; i++) {
    const uint64_t tsc = __builtin_ia32_rdtsc();
    const int64_t now = nanoseconds(CLOCK_MONOTONIC);
    if (now < last || tsc < last_tsc)
      return (void)(failed_checks++, printf("time went back by %lld ns, %lld ticks\n",
                                            (long long)(last - now), (long long)(last_tsc - tsc)));
    last = now, last_tsc = tsc;
  }
  const int64_t before = nanoseconds(CLOCK_MONOTONIC);
  usleep(50000);
  const int64_t slept = nanoseconds(CLOCK_MONOTONIC) - before;
  CHECK(slept >= 50000000);
  CHECK(slept < 1000000000);
}

int main(int argc, char** argv) {
  // An emulator without the alignment check is no reason to skip the rest: `interrupts no-alignment`.
  const int alignment = !(argc > 1 && !strcmp(argv[1], "no-alignment"));
  timer_signals();
  single_step();
  if (alignment) alignment_check();
  time_goes_forward();
  return verdict("interrupts");
}
