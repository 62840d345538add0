// edgebench: what a page's edge costs. Runs natively and in a guest, as guestbench does, and prints the same lines.
// edge_frame is a small hash whose stack frame is moved through a page in steps of 32 bytes: its mean and its worst
// place, over the time at its best one (so 1.00 is perfect, natively too). The others are single accesses.
#define _GNU_SOURCE
#include <alloca.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}
static volatile uint64_t sink;

__attribute__((noinline)) static void hash(long n) {
  uint32_t h[8] = {1, 2, 3, 4, 5, 6, 7, 8}, w[64];
#define R(x, k) ((x) >> (k) | (x) << (32 - (k)))
  while (n--) {
    for (int i = 0; i < 16; i++) w[i] = h[i & 7] + i;
    for (int i = 16; i < 64; i++) {
      uint32_t a = w[i - 15], b = w[i - 2];
      w[i] = w[i - 16] + (R(a, 7) ^ R(a, 18) ^ a >> 3) + w[i - 7] + (R(b, 17) ^ R(b, 19) ^ b >> 10);
    }
    uint32_t v[8];
    memcpy(v, h, 32);
    for (int i = 0; i < 64; i++) {
      uint32_t t1 = v[7] + (R(v[4], 6) ^ R(v[4], 11)) + ((v[4] & v[5]) ^ (~v[4] & v[6])) + w[i];
      uint32_t t2 = (R(v[0], 2) ^ R(v[0], 13)) + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
      memmove(v + 1, v, 28);
      v[4] += t1;
      v[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++) h[i] += v[i];
  }
  sink = h[0];
}
// The caller's stack pointer ends up `below` bytes under a page boundary.
__attribute__((noinline)) static double hash_at(long below, long n) {
  const uintptr_t here = (uintptr_t)__builtin_frame_address(0);
  volatile char *pad = alloca(((here - 8192 - below) & 4095) + 4096);
  pad[0] = 0;
  double best = 1e9;
  for (int r = 0; r < 3; r++) {
    const double t = now();
    hash(n);
    const double took = now() - t;
    if (took < best) best = took;
  }
  return best / n * 1e9;
}
static void frames(void) {
  double low = 1e18, high = 0, sum = 0;
  int count = 0;
  for (long below = 0; below < 4096; below += 32, count++) {
    const double t = hash_at(below, 400);
    sum += t;
    if (t < low) low = t;
    if (t > high) high = t;
  }
  printf("BENCH edge_frame %.3f ns\nBENCH edge_frame_mean %.3f x\nBENCH edge_frame_worst %.3f x\n", low, sum / count / low, high / low);
}

static char *edge;  // between two pages
static void loads(long n) {
  uint64_t s = 0;
  for (volatile uint64_t *p = (uint64_t *)(edge - 4); n--;) s += *p;
  sink = s;
}
static void stores(long n) { for (volatile uint64_t *p = (uint64_t *)(edge - 4); n--;) *p = n; }
static void updates(long n) { for (volatile uint64_t *p = (uint64_t *)(edge - 4); n--;) *p += n; }
static void pushes(long n) {  // a push and a pop across the edge
  while (n--) {
    __asm__ volatile("mov %%rsp, %%rbx\n\tlea 4(%0), %%rsp\n\tpush %%rbx\n\tpop %%rcx\n\tmov %%rbx, %%rsp" : : "r"(edge) : "rbx", "rcx", "memory");
  }
}
static void time_row(const char *name, void (*f)(long), long n) {
  double best = 1e9;
  f(n / 16);
  for (int r = 0; r < 3; r++) {
    const double t = now();
    f(n);
    const double took = now() - t;
    if (took < best) best = took;
  }
  printf("BENCH %s %.3f ns\n", name, best / n * 1e9);
  fflush(stdout);
}

int main(void) {
  char *pages = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memset(pages, 1, 8192);
  edge = pages + 4096;
  frames();
  time_row("edge_load", loads, 100000);
  time_row("edge_store", stores, 100000);
  time_row("edge_update", updates, 100000);
  time_row("edge_push", pushes, 100000);
  return 0;
}
