// blockverify DEVICE BLOCKS SIZE [SECONDS]: writes BLOCKS blocks of SIZE bytes each in a scattered order,
// with O_DIRECT, every 16th followed by a flush; then reads them in another order and compares. Each block
// holds its number and the round. With SECONDS: rounds of random reads until they are over, then how many a
// second there were. Without a device (run with the other programs): nothing to do.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

static uint64_t* block;
static size_t size;

static void fill(uint64_t number, uint64_t round) {
  for (size_t i = 0; i < size / 8; ++i) block[i] = number * 0x9e3779b97f4a7c15 + round + i;
}
static int is_filled(uint64_t number, uint64_t round) {
  for (size_t i = 0; i < size / 8; ++i) {
    if (block[i] != number * 0x9e3779b97f4a7c15 + round + i) return 0;
  }
  return 1;
}
// Every number below n, a power of two, once, in an order that looks like chance.
static uint64_t scattered(uint64_t i, uint64_t n, uint64_t round) {
  return (i * 2654435761u + round * 40503 + 17) & (n - 1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int main(int argc, char** argv) {
  if (argc < 4) {
    puts("PASS blockverify");
    return 0;
  }
  const uint64_t blocks = strtoull(argv[2], NULL, 10);
  size = strtoull(argv[3], NULL, 10);
  const double seconds = argc > 4 ? atof(argv[4]) : 0;
  const int file = open(argv[1], O_RDWR | O_DIRECT);
  if (file < 0 || posix_memalign((void**)&block, 4096, size) != 0) {
    perror(argv[1]);
    return 1;
  }
  for (uint64_t round = 0; round < 3; ++round) {
    double began = now();
    for (uint64_t i = 0; i < blocks; ++i) {
      const uint64_t number = scattered(i, blocks, round);
      fill(number, round);
      if (pwrite(file, block, size, (off_t)(number * size)) != (ssize_t)size) {
        perror("write");
        return 1;
      }
      if (i % 16 == 0 && fdatasync(file) != 0) {
        perror("flush");
        return 1;
      }
    }
    const double wrote = now() - began;
    began = now();
    for (uint64_t i = 0; i < blocks; ++i) {
      const uint64_t number = scattered(i, blocks, round + 7);
      memset(block, 0, size);
      if (pread(file, block, size, (off_t)(number * size)) != (ssize_t)size) {
        perror("read");
        return 1;
      }
      if (!is_filled(number, round)) {
        printf("block %llu differs in round %llu\n", (unsigned long long)number, (unsigned long long)round);
        return 1;
      }
    }
    if (round == 2)
      printf("%zu bytes: %.0f writes/s, %.0f reads/s, verified\n", size, (double)blocks / wrote,
             (double)blocks / (now() - began));
  }
  if (seconds > 0) {
    uint64_t done = 0;
    const double began = now();
    for (; now() - began < seconds; ++done) {
      if (pread(file, block, size, (off_t)(scattered(done, blocks, done / blocks) * size)) != (ssize_t)size)
        return 1;
    }
    printf("READS %.0f\n", (double)done / (now() - began));
  }
  return 0;
}
