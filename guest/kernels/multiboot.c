// What the boot loader handed over: prints it line by line, and checks what must hold of it.
#include "kernel.h"

void on_interrupt(struct frame* frame) {
  unexpected(frame);
}

struct information {
  uint32_t flags, lower, upper, boot_device, command_line, module_count, modules, symbols[4], map_length, map;
};
struct module {
  uint32_t start, end, text, zero;
};
struct range {
  uint32_t size;
  uint64_t base, length;
  uint32_t type;
} __attribute__((packed));

uint32_t main(uint32_t magic, uint32_t address) {
  const struct information* info = (const struct information*)(uintptr_t)address;
  CHECK_EQUAL(magic, 0x2badb002);
  CHECK_EQUAL(info->flags & 0x45, 0x45);
  print("lower %u KiB, upper %u KiB\n", (uint64_t)info->lower, (uint64_t)info->upper);
  print("command line: %s\n", (const char*)(uintptr_t)info->command_line);

  uint64_t megabyte_range_end = 0;
  for (uint32_t at = info->map; at < info->map + info->map_length;) {
    const struct range* range = (const struct range*)(uintptr_t)at;
    print("range %x + %x type %u\n", range->base, range->length, (uint64_t)range->type);
    if (range->base == 0x100000 && range->type == 1) megabyte_range_end = range->base + range->length;
    at += range->size + 4;
  }
  CHECK_EQUAL(megabyte_range_end / 1024, (uint64_t)info->upper + 1024);

  const uint32_t count = info->flags & 8 ? info->module_count : 0;
  const struct module* modules = (const struct module*)(uintptr_t)info->modules;
  for (uint32_t i = 0; i < count; i++) {
    uint64_t sum = 0;
    for (uint32_t at = modules[i].start; at < modules[i].end; at++)
      sum = sum * 31 + *(const uint8_t*)(uintptr_t)at;
    print("module %u: %u bytes, sum %x, text: %s\n", (uint64_t)i,
          (uint64_t)(modules[i].end - modules[i].start), sum, (const char*)(uintptr_t)modules[i].text);
    CHECK_EQUAL(modules[i].start % 4096, 0);
    CHECK_EQUAL(modules[i].start >= 0x100000, 1);
  }
  return verdict("multiboot");
}
