// A 32-bit program: calls into a 64-bit kernel, thread-local storage through a segment, signals, 64-bit and
// floating arithmetic as 32-bit code does it.
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

_Static_assert(sizeof(void*) == 4, "this program is for -m32");

static int getpid_by_interrupt(void) {
  int result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory");
  return result;
}

static sigjmp_buf back;
static volatile uintptr_t fault_address;
static void on_fault(int number, siginfo_t* info, void* context) {
  (void)number, (void)context;
  fault_address = (uintptr_t)info->si_addr;
  siglongjmp(back, 1);
}

static _Thread_local int own = 7;
static void* in_thread(void* argument) {
  own += *(int*)argument;
  return (void*)(intptr_t)own;
}

// Instructions that exist in 32-bit mode only.
static void check_old_instructions(void) {
  unsigned ax = 0x0109;  // 16 + 9 unpacked
  __asm__("aad" : "+a"(ax) : : "cc");
  CHECK_EQUAL(ax & 0xffff, 0x0013);
  ax = 0x000b;
  __asm__("xor %%ecx, %%ecx\n aaa" : "+a"(ax) : : "ecx", "cc");
  CHECK_EQUAL(ax & 0xffff, 0x0101);
  ax = 0x9a;
  __asm__("clc\n daa" : "+a"(ax) : : "cc");
  CHECK_EQUAL(ax & 0xff, 0x00);
  unsigned carry;
  __asm__("stc\n sbb %0, %0" : "=r"(carry) : : "cc");
  CHECK_EQUAL(carry, 0xffffffffu);
  static uint32_t pushed[2];  // not on the stack, which the instructions under test move
  __asm__ volatile(
      "mov $0x11111111, %%ecx\n mov $0x22222222, %%edx\n pushal\n"
      "mov 24(%%esp), %%ecx\n mov 20(%%esp), %%edx\n"
      "mov %%ecx, %0\n mov %%edx, %1\n popal"
      : "=m"(pushed[0]), "=m"(pushed[1])
      :
      : "ecx", "edx", "memory");
  CHECK_EQUAL(pushed[0], 0x11111111);
  CHECK_EQUAL(pushed[1], 0x22222222);
}

int main(void) {
  struct utsname system;
  CHECK_EQUAL(uname(&system), 0);
  CHECK_EQUAL(getpid_by_interrupt(), getpid());

  check_old_instructions();

  volatile uint64_t a = 0x123456789abcdefull, b = 1000000007ull;
  CHECK_EQUAL(a / b, 81985528);
  CHECK_EQUAL(a % b, 642588199);
  CHECK_EQUAL(a * b, 0x79be02464af73789ull);
  volatile double x = 2;
  CHECK(fabs(sqrt(x) * sqrt(x) - 2) < 1e-15);
  CHECK(fabs(sin(x) * sin(x) + cos(x) * cos(x) - 1) < 1e-15);

  int add = 5;
  pthread_t thread;
  void* result = NULL;
  CHECK_EQUAL(pthread_create(&thread, NULL, in_thread, &add), 0);
  CHECK_EQUAL(pthread_join(thread, &result), 0);
  CHECK_EQUAL((intptr_t)result, 12);
  CHECK_EQUAL(own, 7);

  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
  sigaction(SIGSEGV, &action, NULL);
  for (volatile int i = 0; i < 100; i++)
    if (!sigsetjmp(back, 1)) {
      *(volatile int*)(0x1000 + i * 4) = 1;
      CHECK(!"a store to page 1 went through");
    } else {
      CHECK_EQUAL(fault_address, 0x1000 + i * 4);
    }

  // 32-bit addresses reach the last page below 4 GiB, and wrap.
  char* top = mmap((void*)0xffffc000u, 4096, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (top != MAP_FAILED) {
    memset(top, 0x5a, 4096);
    uint32_t value;
    __asm__("movl 0x2000(%1), %0" : "=r"(value) : "r"(0xffffa010u));
    CHECK_EQUAL(value, 0x5a5a5a5a);
  }
  char* low = mmap((void*)0x10000, 4096, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (low != MAP_FAILED) {
    *(uint32_t*)low = 0xfeedface;
    uint32_t value;
    __asm__("movl 0x20000(%1), %0" : "=r"(value) : "r"(0xffff0000u));
    CHECK_EQUAL(value, 0xfeedface);
  }

  pid_t child = fork();
  if (child == 0) _exit(42);
  int status = 0;
  CHECK_EQUAL(waitpid(child, &status, 0), child);
  CHECK_EQUAL(WEXITSTATUS(status), 42);
  return verdict("hello32");
}
