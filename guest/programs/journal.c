// journal: a program that says what is durable, for a host that kills its machine and then looks. Two ways of
// writing, each a sequence of numbered steps that can be computed again:
//
//   journal file PATH STEP SECONDS
//     records one after another in a file, fsync after each few; makes and removes other files
//   journal disk DEVICE STEP SECONDS
//     records in scattered blocks of a disk, with O_DIRECT, and discards; fdatasync after each few
//
// from STEP on. "ACK F|D STEP" on standard output: everything up to that step is durable. Whoever goes on
// gives the step behind the last one acknowledged: what was done beyond is done again, and is the same.
//
//   journal check-file PATH STEP   is everything up to STEP in the file?
//   journal check-disk IMAGE STEP  is the disk as it may be, when everything up to STEP was acknowledged?
//
// Without arguments (run with the other programs): tries its checks on a disk that has lost something.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

enum { kBlock = 4096, kWords = kBlock / 8, kGroup = 16 };  // a group of blocks is discarded at once: 64 KiB
static const uint64_t kMagic = 0x6c616e72756f6a21;
static uint64_t* block;

static uint64_t mixed(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}
static void fill(uint64_t step) {
  block[0] = kMagic;
  block[1] = step;
  for (size_t i = 2; i < kWords; ++i) block[i] = mixed(step * kWords + i);
}
// The step that the block was written by; 0: none, or only a part of it.
static uint64_t step_in(const uint64_t* words) {
  if (words[0] != kMagic || words[1] == 0) return 0;
  for (size_t i = 2; i < kWords; ++i) {
    if (words[i] != mixed(words[1] * kWords + i)) return 0;
  }
  return words[1];
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}
static void acknowledge(char letter, uint64_t step) {
  char line[64];
  const int length = snprintf(line, sizeof line, "ACK %c %llu\n", letter, (unsigned long long)step);
  if (write(1, line, (size_t)length) != length) exit(1);
}
static int fail(const char* what) {
  perror(what);
  return 1;
}

// --- a file: record after record, in a ring so that the disk does not get full ---

enum { kRing = 4096 };
static off_t place_of(uint64_t step) {
  return (off_t)((step - 1) % kRing * kBlock);
}
// Something for the file system's journal to do.
static int stir(const char* path, uint64_t step) {
  char name[256], other[256];
  snprintf(name, sizeof name, "%s.%llu", path, (unsigned long long)(step % 7));
  snprintf(other, sizeof other, "%s.moved.%llu", path, (unsigned long long)(step % 3));
  const int file = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
  if (file < 0) return fail(name);
  for (uint64_t i = 0; i < step % 40; ++i) {
    if (pwrite(file, block, kBlock, (off_t)(i * 3 * kBlock)) != kBlock) return fail(name);
  }
  close(file);
  if (step % 5 == 0 && rename(name, other) != 0) return fail(other);
  return 0;
}
static int write_file(const char* path, uint64_t step, double seconds) {
  const int file = open(path, O_RDWR | O_CREAT, 0600);
  if (file < 0) return fail(path);
  for (const double end = now() + seconds; now() < end; ++step) {
    fill(step);
    if (pwrite(file, block, kBlock, place_of(step)) != kBlock) return fail(path);
    if (mixed(step) % 3 == 0) {
      if (fsync(file) != 0) return fail("fsync");
      acknowledge('F', step);
    }
    if (mixed(step) % 8 == 1 && stir(path, mixed(step ^ 77)) != 0) return 1;
  }
  return 0;
}
static int check_file(const char* path, uint64_t acknowledged) {
  const int file = open(path, O_RDONLY);
  if (file < 0) return acknowledged == 0 && errno == ENOENT ? 0 : fail(path);
  uint64_t lost = 0;
  for (uint64_t step = acknowledged > kRing ? acknowledged - kRing + 1 : 1; step <= acknowledged; ++step) {
    const uint64_t found = pread(file, block, kBlock, place_of(step)) == kBlock ? step_in(block) : 0;
    if (found >= step && place_of(found) == place_of(step)) continue;
    ++lost;
    printf("record %llu is lost; there is %llu\n", (unsigned long long)step, (unsigned long long)found);
  }
  printf("%llu acknowledged, %llu lost\n", (unsigned long long)acknowledged, (unsigned long long)lost);
  return lost != 0;
}

// --- a disk: a step is a record in one block, or a discard of a group ---

static uint64_t blocks;
static int is_discard(uint64_t step) {
  return mixed(step ^ 0xd15c) % 32 == 0;
}
// Steps stay close together for a while, so that blocks are written again soon, and clusters more than once.
static uint64_t block_of(uint64_t step) {
  const uint64_t area = mixed(step / 400 ^ 0xa4ea) % 8;
  return (area * (blocks / 8) + mixed(step) % (blocks / 8)) % blocks;
}
static uint64_t group_of(uint64_t step) {
  return block_of(step) / kGroup;
}
static int is_block_of(uint64_t step, uint64_t number) {
  return !is_discard(step) && block_of(step) == number;
}

static int open_disk(const char* path, int flags) {
  const int file = open(path, flags);
  uint64_t bytes = 0;
  struct stat status;
  if (file < 0 || fstat(file, &status) != 0) exit(fail(path));
  if (S_ISBLK(status.st_mode) ? ioctl(file, BLKGETSIZE64, &bytes) != 0
                              : (bytes = (uint64_t)status.st_size, 0))
    exit(fail(path));
  blocks = bytes / kBlock / kGroup * kGroup;
  return file;
}
static int write_disk(const char* path, uint64_t step, double seconds) {
  const int file = open_disk(path, O_RDWR | O_DIRECT);
  for (const double end = now() + seconds; now() < end; ++step) {
    if (is_discard(step)) {
      uint64_t range[2] = {group_of(step) * kGroup * kBlock, kGroup * kBlock};
      if (ioctl(file, BLKDISCARD, range) != 0) return fail("discard");
    } else {
      fill(step);
      if (pwrite(file, block, kBlock, (off_t)(block_of(step) * kBlock)) != kBlock) return fail("write");
    }
    if (mixed(step ^ 0xf1) % 6 == 0) {
      if (fdatasync(file) != 0) return fail("fdatasync");
      acknowledge('D', step);
    }
  }
  return 0;
}
// Every block holds what a step wrote to it, or nothing (zeros); and no step that was acknowledged is
// missing, but for what a discard has made unimportant.
static int check_disk(const char* path, uint64_t acknowledged) {
  const int file = open_disk(path, O_RDONLY);
  uint64_t* written = calloc(blocks, 8);             // by the last acknowledged step that wrote to it
  uint64_t* discarded = calloc(blocks / kGroup, 8);  // by the last step at all
  for (uint64_t step = 1; step <= acknowledged; ++step) {
    if (!is_discard(step)) written[block_of(step)] = step;
  }
  // A discard that was under way may have been carried out; more than these cannot have been.
  for (uint64_t step = 1; step <= acknowledged + 200; ++step) {
    if (is_discard(step)) discarded[group_of(step)] = step;
  }
  uint64_t lost = 0, strange = 0, last = 0;
  for (uint64_t i = 0; i < blocks; ++i) {
    if (pread(file, block, kBlock, (off_t)(i * kBlock)) != kBlock) return fail("read");
    const uint64_t found = step_in(block);
    int zero = 1;
    for (size_t w = 0; w < kWords && zero; ++w) zero = block[w] == 0;
    if (found > last) last = found;
    const int may_be_gone = discarded[i / kGroup] > written[i];
    if (found == 0 ? !zero : !is_block_of(found, i)) {
      ++strange;
      printf("block %llu holds what no step wrote there (%llu)\n", (unsigned long long)i,
             (unsigned long long)found);
    } else if (found < written[i] && !may_be_gone) {
      ++lost;
      printf("block %llu has lost step %llu; it holds %llu\n", (unsigned long long)i,
             (unsigned long long)written[i], (unsigned long long)found);
    }
  }
  printf("%llu acknowledged, %llu the last on the disk, %llu lost, %llu strange\n",
         (unsigned long long)acknowledged, (unsigned long long)last, (unsigned long long)lost,
         (unsigned long long)strange);
  return lost != 0 || strange != 0;
}

// A file that has what it should; one that has lost a record; one with a block of another's.
static int try_itself(void) {
  const char* path = "/tmp/journal.disk";
  int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
  CHECK(file >= 0 && ftruncate(file, 4096 * kBlock) == 0);
  blocks = 4096;
  uint64_t victim = 0;
  for (uint64_t step = 1; step <= 300; ++step) {
    if (is_discard(step)) continue;
    fill(step);
    CHECK(pwrite(file, block, kBlock, (off_t)(block_of(step) * kBlock)) == kBlock);
    victim = step;
  }
  CHECK(check_disk(path, 300) == 0);
  memset(block, 0, kBlock);
  CHECK(pwrite(file, block, kBlock, (off_t)(block_of(victim) * kBlock)) == kBlock);
  CHECK(check_disk(path, 300) != 0);
  fill(victim);
  CHECK(pwrite(file, block, kBlock, (off_t)(((block_of(victim) + 1) % blocks) * kBlock)) == kBlock);
  CHECK(check_disk(path, 0) != 0);
  close(file);
  unlink(path);
  return verdict("journal");
}

int main(int argc, char** argv) {
  if (posix_memalign((void**)&block, kBlock, kBlock) != 0) return 1;
  if (argc < 4) return try_itself();
  const double seconds = atof(argv[argc - 1]);
  const uint64_t step = strtoull(argv[3], NULL, 10);
  if (strcmp(argv[1], "file") == 0) return write_file(argv[2], step, seconds);
  if (strcmp(argv[1], "disk") == 0) return write_disk(argv[2], step, seconds);
  if (strcmp(argv[1], "check-file") == 0) return check_file(argv[2], step);
  if (strcmp(argv[1], "check-disk") == 0) return check_disk(argv[2], step);
  return 2;
}
