// One thread writes code, others run it: what was written before it was said to be there is what runs.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"

enum { most_threads = 4, rounds = 600, page = 4096 };
static int threads;
static _Atomic uint64_t published, stop, stale, calls;
static _Atomic(uint64_t (*)(uint64_t)) function;

// mov $version, %eax; add %rdi, %rax; ret. With asks_processor: … and what CPUID leaf 40000000H has in EAX.
static const uint8_t asks[] = {0x53, 0xb8, 0, 0, 0, 0x40, 0x31, 0xc9, 0x0f, 0xa2, 0x5b};  // push; mov; xor; cpuid; pop
static void write_function(uint8_t* at, uint32_t version, int asks_processor) {
  uint8_t code[32];
  size_t n = 0;
  if (asks_processor) memcpy(code, asks, n = sizeof asks);
  code[n++] = 0xb8;
  memcpy(code + n, &version, 4), n += 4;
  memcpy(code + n, (const uint8_t[]){0x48, 0x01, 0xf8, 0xc3}, 4), n += 4;
  memcpy(at, code, n);
}

static void* caller(void* argument) {
  uint64_t* sum = argument;
  while (!stop) {
    const uint64_t least = published;
    uint64_t (*const f)(uint64_t) = function;
    const uint64_t seen = f(*sum & 0xffff) - (*sum & 0xffff);
    if (seen < least) stale++;
    calls++;
    for (int i = 0; i < 2000; i++) *sum = *sum * 6364136223846793005u + 1442695040888963407u;
  }
  return NULL;
}

// Functions are written at `to` and called at `from`, one behind the other.
static void generate(uint8_t* to, uint8_t* from, size_t bytes, int asks_processor) {
  pthread_t thread[most_threads];
  uint64_t sums[most_threads * 8] = {5, 6, 7};
  published = stale = stop = calls = 0;
  enum { slot = 64 };
  write_function(to, 0, asks_processor);
  function = (uint64_t(*)(uint64_t))from;
  for (int i = 0; i < threads; i++) pthread_create(&thread[i], NULL, caller, &sums[i * 8]);
  const size_t slots = bytes / slot;
  for (uint32_t version = 1; version <= rounds; version++) {
    // A thread that was held up before its call may come to a slot that is written again: only one byte of it changes.
    const size_t at = version % slots * slot;
    write_function(to + at, version, asks_processor);
    function = (uint64_t(*)(uint64_t))(from + at);
    published = version;
    if (version % 16 == 0) usleep(500);
  }
  stop = 1;
  for (int i = 0; i < threads; i++) pthread_join(thread[i], NULL);
  CHECK_EQUAL(stale, 0);
  CHECK_EQUAL(calls > 0, 1);
}

// The value alone changes, in one store to an aligned word, while others run the function.
static void modify(uint8_t* to, uint8_t* from) {
  pthread_t thread[most_threads];
  uint64_t sums[most_threads * 8] = {5, 6, 7};
  published = stale = stop = calls = 0;
  write_function(to + 3, 0, 0);
  function = (uint64_t(*)(uint64_t))(from + 3);
  for (int i = 0; i < threads; i++) pthread_create(&thread[i], NULL, caller, &sums[i * 8]);
  for (uint32_t version = 1; version <= rounds; version++) {
    *(volatile uint32_t*)(to + 4) = version;
    published = version;
    if (version % 4 == 0) usleep(200);
  }
  stop = 1;
  for (int i = 0; i < threads; i++) pthread_join(thread[i], NULL);
  CHECK_EQUAL(stale, 0);
  CHECK_EQUAL(calls > 0, 1);
}

int main(void) {
  enum { bytes = 4 * page };
  const long processors = sysconf(_SC_NPROCESSORS_ONLN);
  threads = processors < most_threads ? (int)processors : most_threads;
  uint8_t* both = mmap(NULL, bytes, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const int file = memfd_create("code", 0);
  CHECK_EQUAL(ftruncate(file, bytes), 0);
  uint8_t* writes = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  uint8_t* runs = mmap(NULL, bytes, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
  generate(both, both, bytes, 0);
  generate(writes, runs, bytes, 0);
  generate(writes, runs, bytes, 1);
  memset(both, 0x90, bytes), memset(writes, 0x90, bytes);
  modify(both, both);
  modify(writes, runs);
  return verdict("jit");
}
