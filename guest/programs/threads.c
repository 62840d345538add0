// Threads that share memory: atomic instructions lose no update, stores are seen in order (TSO), futexes
// wake.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "check.h"

enum { threads = 4, rounds = 50000 };
static _Atomic uint64_t sum, exchanged;
static uint64_t plain;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static _Alignas(16) struct { uint64_t low, high; } pair;
static uint64_t bits[rounds / 64 + 1];

static void add_to_pair(void) {
  uint8_t done;
  uint64_t low = pair.low, high = pair.high;
  do
    __asm__ volatile(
        "mov %%rax, %%rbx\n mov %%rdx, %%rcx\n add $1, %%rbx\n adc $0, %%rcx\n add $2, %%rcx\n lock "
        "cmpxchg16b %0\n setz %3"
        : "+m"(pair), "+a"(low), "+d"(high), "=q"(done)
        :
        : "rbx", "rcx", "cc", "memory");
  while (!done);
}

static void* work(void* argument) {
  uint64_t won = 0;
  for (uint64_t i = 0; i < rounds; i++) {
    atomic_fetch_add(&sum, i);
    uint64_t old = atomic_load(&exchanged);
    while (!atomic_compare_exchange_weak(&exchanged, &old, old + 3)) {
    }
    uint8_t was;
    __asm__ volatile("lock btsq %2, %0\n setc %1" : "+m"(bits), "=q"(was) : "r"(i) : "cc");
    won += !was;
    if (i % 16 == 0) {
      pthread_mutex_lock(&mutex);
      plain++;
      pthread_mutex_unlock(&mutex);
      add_to_pair();
    }
  }
  *(uint64_t*)argument = won;
  return NULL;
}

static volatile uint64_t data, flag;
static void* reader(void* argument) {
  for (uint64_t i = 0; i < 20000; i++) {
    const uint64_t seen_flag = flag, seen_data = data;
    if (seen_data < seen_flag) return failed_checks++, argument;
  }
  return NULL;
}

int main(void) {
  pthread_t thread[threads];
  uint64_t won[threads], total = 0;
  for (int i = 0; i < threads; i++) pthread_create(&thread[i], NULL, work, &won[i]);
  for (int i = 0; i < threads; i++) pthread_join(thread[i], NULL), total += won[i];
  CHECK_EQUAL(sum, (uint64_t)threads * rounds * (rounds - 1) / 2);
  CHECK_EQUAL(exchanged, 3ull * threads * rounds);
  CHECK_EQUAL(total, rounds);  // each bit was set by one thread only
  CHECK_EQUAL(plain, threads * rounds / 16);
  CHECK_EQUAL(pair.low, threads * rounds / 16);
  CHECK_EQUAL(pair.high, 2 * threads * rounds / 16);

  pthread_create(&thread[0], NULL, reader, NULL);
  for (uint64_t i = 1; i < 20000; i++) {
    data = i;
    flag = i;
  }
  pthread_join(thread[0], NULL);
  return verdict("threads");
}
