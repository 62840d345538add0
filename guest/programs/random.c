// Random bytes as user code, in 64-bit and in 32-bit mode: whatever becomes of the process that runs them,
// this one and the kernel live on. System calls are the one thing kept from it (all but read, write, exit).
#define _GNU_SOURCE
#include <linux/seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { size = 16384, rounds = 400 };

static uint64_t state;
static uint64_t next(void) {  // xorshift64*
  state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
  return state * 2685821657736338717u;
}

static _Noreturn void run(uint8_t* code, int in_32) {
  const struct itimerval soon = {{0, 0}, {0, 3000}};
  setitimer(ITIMER_REAL, &soon, NULL);  // SIGALRM ends what loops
  close(0), close(1), close(2);
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT)) _exit(99);
  uint64_t r[4] = {next(), next(), next(), next()};
  if (in_32)
    __asm__ volatile("mov %0, %%rsp\n pushq $0x23\n push %1\n lretq"
                     :
                     : "r"(code + size - 4096), "r"(code), "a"(r[0]), "b"(code + 8192), "c"(r[1] & 0xff),
                       "d"(r[2]), "S"(code + 9000), "D"(code + 10000));
  __asm__ volatile("mov %0, %%rsp\n jmp *%1"
                   :
                   : "r"(code + size - 4096), "r"(code), "a"(r[0]), "b"(code + 8192), "c"(r[1] & 0xff),
                     "d"(r[2]), "S"(code + 9000), "D"(r[3]));
  __builtin_unreachable();
}

int main(int argc, char** argv) {
  const uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
  state = seed * 0x9e3779b97f4a7c15u | 1;
  const struct rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  uint8_t* code =
      mmap(NULL, size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  CHECK(code != MAP_FAILED);
  int by_signal[65] = {0}, exited = 0;
  for (int i = 0; i < rounds; i++) {
    for (int k = 0; k < size; k += 8) {
      const uint64_t random = next();
      memcpy(code + k, &random, 8);
    }
    const pid_t child = fork();
    if (child == 0) run(code, i % 2);
    int status = 0;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status)) {
      by_signal[WTERMSIG(status)]++;
    } else {
      exited++;
      CHECK(WEXITSTATUS(status) != 99);
    }
  }
  printf(
      "random: seed %llu: illegal %d, segment %d, bus %d, float %d, trap %d, killed %d, time %d, exit %d\n",
      (unsigned long long)seed, by_signal[SIGILL], by_signal[SIGSEGV], by_signal[SIGBUS], by_signal[SIGFPE],
      by_signal[SIGTRAP], by_signal[SIGKILL], by_signal[SIGALRM], exited);
  CHECK(by_signal[SIGSEGV] > rounds / 4);
  return verdict("random");
}
