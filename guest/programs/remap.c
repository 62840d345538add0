// Threads that compute while another one changes what is mapped under them: once a system call that changed a mapping
// has returned, no thread sees the memory that was there before, nor writes to it.
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"

enum { most_threads = 4, rounds = 200, page = 4096, versions = 64 };
static int threads, file;
static _Atomic uint64_t published, begun, stop, stale, mixed, reads;
static volatile uint64_t* window;  // two pages
static uint8_t* spare;

// Every word of page v of the file is v + 1.
static void make_file(void) {
  static uint64_t words[page / 8];
  file = memfd_create("versions", 0);
  for (uint64_t v = 0; v < versions; v++) {
    for (int i = 0; i < page / 8; i++) words[i] = v + 1;
    if (write(file, words, page) != page) failed_checks++;
  }
}

static void compute(uint64_t* sum) {
  for (int i = 0; i < 3000; i++) *sum = *sum * 6364136223846793005u + 1442695040888963407u;
}

// The window shows version `published` or a later one; its first page never a later one than its second, as that is changed
// first.
static void* reader(void* argument) {
  uint64_t* sum = argument;
  while (!stop) {
    const uint64_t first = begun, least = published;
    const uint64_t value = window[least % 512], next = window[512 + least % 511];
    if (begun == first) {
      stale += value < least;
      mixed += next < value;
      reads++;
    }
    compute(sum);
  }
  return NULL;
}

static void run_threads(void* (*body)(void*), pthread_t* thread, uint64_t* argument) {
  stop = 0;
  for (int i = 0; i < threads; i++) pthread_create(&thread[i], NULL, body, &argument[i * 8]);
}
static void join_threads(pthread_t* thread) {
  stop = 1;
  for (int i = 0; i < threads; i++) pthread_join(thread[i], NULL);
}

static void show(int at, uint64_t version) {
  if (mmap((void*)(window + at * 512), page, PROT_READ, MAP_SHARED | MAP_FIXED, file, (version - 1) * page) == MAP_FAILED)
    failed_checks++;
}

static void remaps(void) {
  pthread_t thread[most_threads];
  uint64_t sums[most_threads * 8] = {1, 2, 3};
  show(1, 1), show(0, 1);
  published = 1;
  run_threads(reader, thread, sums);
  for (int round = 0; round < rounds / versions; round++) {
    for (uint64_t v = 2; v <= versions; v++) {
      show(1, v), show(0, v);
      published = v;
      usleep(200);
    }
    begun++;
    published = 0;
    show(0, 1), show(1, 1);
    published = 1;
    begun++;
  }
  join_threads(thread);
  CHECK_EQUAL(stale, 0);
  CHECK_EQUAL(mixed, 0);
  CHECK_EQUAL(reads > 0, 1);
}

// Stores to a page that is read-only now and then; each such store waits in the handler.
static _Atomic uint64_t waited;
static volatile uint64_t* counters;
static _Atomic int writable;
static void wait_until_writable(int number) {
  (void)number;
  waited++;
  while (!writable) sched_yield();
}

static void* storer(void* argument) {
  volatile uint64_t* own = counters + ((uint64_t*)argument - (uint64_t*)spare) / 8;
  while (!stop) {
    ++*own;
    for (int i = 0; i < 20; i++) __asm__ volatile("");
  }
  return NULL;
}

static void protects(void) {
  pthread_t thread[most_threads];
  counters = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  struct sigaction action = {.sa_handler = wait_until_writable};
  sigaction(SIGSEGV, &action, NULL);
  writable = 1;
  run_threads(storer, thread, (uint64_t*)spare);
  uint64_t moved = 0, before = 0;
  for (int round = 0; round < rounds; round++) {
    writable = 0;
    mprotect((void*)counters, page, PROT_READ);
    uint64_t now = 0, later = 0;
    for (int i = 0; i < threads; i++) now += counters[i];
    usleep(round % 4 == 0 ? 300 : 10);
    for (int i = 0; i < threads; i++) later += counters[i];
    CHECK_EQUAL(later, now);
    mprotect((void*)counters, page, PROT_READ | PROT_WRITE);
    writable = 1;
    usleep(300);
    moved += now != before;
    before = now;
  }
  join_threads(thread);
  CHECK_EQUAL(moved > rounds / 20, 1);
  CHECK_EQUAL(waited > 0, 1);
  signal(SIGSEGV, SIG_DFL);
}

// Memory that is given back and taken anew is zero, whoever wrote to it last.
static void* dirtier(void* argument) {
  volatile uint8_t* own = argument;
  while (!stop) {
    for (int i = 0; i < 16; i++) own[i * page / 16] = 0xee;
  }
  return NULL;
}

static void gives_back(void) {
  pthread_t thread;
  enum { pages = 16 };
  uint8_t* other = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  stop = 0;
  pthread_create(&thread, NULL, dirtier, other);
  uint64_t not_zero = 0;
  for (int round = 0; round < rounds; round++) {
    // What the other thread writes to is taken away from it: it may well come to a new page, but never to these.
    madvise(other, page, MADV_DONTNEED);
    uint8_t* fresh = mmap(NULL, pages * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    usleep(50);
    for (int i = 0; i < pages * page; i += 64) not_zero += fresh[i] != 0;
    munmap(fresh, pages * page);
  }
  stop = 1;
  pthread_join(thread, NULL);
  CHECK_EQUAL(not_zero, 0);
}

int main(void) {
  const long processors = sysconf(_SC_NPROCESSORS_ONLN);
  threads = processors < most_threads ? (int)processors : most_threads;
  window = mmap(NULL, 2 * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  spare = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  make_file();
  remaps();
  protects();
  gives_back();
  return verdict("remap");
}
