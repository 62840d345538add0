// A kernel that ends as its command line says: exit=N (the debug-exit port), triple-fault, reset-port,
// reset-keyboard, halt, spin, jump-mmio, jump-hole, jump-rom, execute-end-of-memory, io-storm.
#include "kernel.h"

void on_interrupt(struct frame* frame) {
  unexpected(frame);
}

static void jump(uint64_t address) {
  print("jumping to %x\n", address);
  __asm__ volatile("call *%0" : : "r"(address) : "memory");
}

uint32_t main(uint32_t magic, uint32_t information) {
  CHECK_EQUAL(magic, 0x2badb002);
  const uint32_t* info = (const uint32_t*)(uintptr_t)information;
  const char* line = info[0] & 4 ? (const char*)(uintptr_t)info[4] : "";
  print("ending: %s\n", line);
  if (contains(line, "triple-fault")) {
    const struct {
      uint16_t limit;
      uint64_t base;
    } __attribute__((packed)) none = {0, 0};
    __asm__ volatile("lidt %0\n int3" : : "m"(none));
  }
  if (contains(line, "reset-port")) out8(0xcf9, 6);
  if (contains(line, "reset-keyboard")) out8(0x64, 0xfe);
  if (contains(line, "halt"))
    for (;;) __asm__ volatile("cli\n hlt");
  if (contains(line, "spin"))
    for (;;) __asm__ volatile("cli");
  if (contains(line, "jump-mmio")) jump(0xfee00000);
  if (contains(line, "jump-hole")) jump(0xd0000000);
  if (contains(line, "jump-rom")) jump(0xffff0000);
  if (contains(line, "execute-end-of-memory")) jump(((uint64_t)info[2] + 1024) * 1024 - 1);
  if (contains(line, "io-storm"))
    for (uint32_t i = 0; i < 0x10000; i++)
      if (i != 0xf4 && i != 0x64 && i != 0xcf9 && i != 0xb004 && i != 0x604) in8((uint16_t)i);
  leave((uint32_t)number_after(line, "exit", exit_pass));
}
