// Code that changes: patched where it stands, through another mapping, in the block that runs, across a page
// border, by a system call, and moved under the same address by mmap. After each change the new code must
// run.
#define _GNU_SOURCE
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"

enum { page = 4096 };
typedef uint32_t (*function)(void);

static const uint8_t return_value[] = {0xb8, 0, 0, 0, 0, 0xc3};  // mov $0, %eax; ret

static void write_function(uint8_t* at, uint32_t value) {
  memcpy(at, return_value, sizeof return_value);
  memcpy(at + 1, &value, 4);
}

static uint32_t call(const uint8_t* at) {
  function f;
  memcpy(&f, &at, sizeof f);
  return f();
}

static uint8_t* executable(size_t bytes) {
  void* memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? NULL : memory;
}

static void in_place(uint8_t* code) {
  write_function(code, 0);
  for (uint32_t i = 0; i < 20000; i++) {
    memcpy(code + 1, &i, 4);
    if (call(code) != i) return (void)(failed_checks++, printf("in place: round %u ran old code\n", i));
  }
}

// One byte of the immediate at a time, with the function straddling a page border.
static void across_pages(uint8_t* code) {
  uint8_t* at = code + page - 3;
  write_function(at, 0);
  for (uint32_t i = 0; i < 5000; i++) {
    at[1] = (uint8_t)i;         // first page
    at[4] = (uint8_t)(i >> 8);  // second page
    if (call(at) != ((i & 0xff) | (i >> 8 & 0xff) << 24))
      return (void)(failed_checks++, printf("across pages: round %u\n", i));
  }
}

static void through_another_mapping(void) {
  int file = memfd_create("code", 0);
  CHECK_EQUAL(ftruncate(file, page), 0);
  uint8_t* write = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  uint8_t* run = mmap(NULL, page, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
  CHECK(write != MAP_FAILED && run != MAP_FAILED);
  for (uint32_t i = 0; i < 5000; i++) {
    write_function(write, i);
    if (call(run) != i) return (void)(failed_checks++, printf("another mapping: round %u\n", i));
  }
  for (uint32_t i = 0; i < 500; i++) {  // the kernel writes
    uint8_t text[sizeof return_value];
    write_function(text, i ^ 0x55555555);
    CHECK_EQUAL(pwrite(file, text, sizeof text, 0), sizeof text);
    if (call(run) != (i ^ 0x55555555)) return (void)(failed_checks++, printf("by pwrite: round %u\n", i));
  }
  munmap(write, page), munmap(run, page), close(file);
}

// A store changes the instruction right behind it: architecturally seen at once on x86.
static void next_instruction(uint8_t* code) {
  static const uint8_t text[] = {0x89, 0x3d, 1, 0, 0, 0,  // mov %edi, 1(%rip): the immediate below
                                 0xb8, 0,    0, 0, 0,     // mov $0, %eax
                                 0xc3};
  memcpy(code, text, sizeof text);
  uint32_t (*f)(uint32_t);
  memcpy(&f, &code, sizeof f);
  for (uint32_t i = 1; i < 5000; i++)
    if (f(i) != i) return (void)(failed_checks++, printf("next instruction: round %u ran old code\n", i));
}

// A loop that counts down and, in its body, rewrites how much it adds.
static void in_running_loop(uint8_t* code) {
  static const uint8_t text[] = {0x31, 0xc0,                 // xor %eax, %eax
                                 0x05, 1,    0,    0,    0,  // loop: add $1, %eax
                                 0xfe, 0x05, 0xf6, 0xff, 0xff,
                                 0xff,        // incb -10(%rip): the immediate's low byte
                                 0xff, 0xcf,  // dec %edi
                                 0x75, 0xf1,  // jnz loop
                                 0xc3};
  memcpy(code, text, sizeof text);
  uint32_t (*f)(uint32_t);
  memcpy(&f, &code, sizeof f);
  CHECK_EQUAL(f(100), 100 * 101 / 2);
}

static void remapped(void) {
  uint8_t* address = executable(page);
  for (uint32_t i = 0; i < 500; i++) {
    void* again = mmap(address, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK(again == address);
    write_function(address, i);
    CHECK_EQUAL(mprotect(address, page, PROT_READ | PROT_EXEC), 0);
    if (call(address) != i) return (void)(failed_checks++, printf("remapped: round %u\n", i));
  }
  munmap(address, page);
}

// Data beside code in one page: right, and not needing the same time as a patch each (a runaway shows as a
// timeout).
static void data_beside_code(uint8_t* code) {
  write_function(code, 9);
  volatile uint64_t* counter = (volatile uint64_t*)(code + 2048);
  for (int i = 0; i < 20000; i++) *counter += call(code);
  CHECK_EQUAL(*counter, 9 * 20000);
}

int main(void) {
  uint8_t* code = executable(2 * page);
  CHECK(code != NULL);
  if (!code) return verdict("selfmodify");
  in_place(code);
  across_pages(code);
  through_another_mapping();
  next_instruction(code);
  in_running_loop(code);
  remapped();
  memset(code, 0, 2 * page);
  data_beside_code(code);
  return verdict("selfmodify");
}
