// The test kernels' common part; see kernel.h. Printing polls the first serial port (16550, at 0x3f8).
#include "kernel.h"

#include <stdarg.h>

int failed_checks;
uint64_t idt[512];
extern const uint64_t stubs[256];
extern uint64_t gdt[];
static uint32_t task_state[26];  // SDM vol. 3, figure 8-11

void* memset(void* to, int value, size_t count) {
  void* result = to;
  __asm__ volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(value) : "memory");
  return result;
}

void* memcpy(void* to, const void* from, size_t count) {
  void* result = to;
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
  return result;
}

static void put(char c) {
  while (!(in8(0x3f8 + 5) & 0x20)) {
  }
  out8(0x3f8, (uint8_t)c);
}

static void put_number(uint64_t value, unsigned base) {
  char digits[20];
  unsigned count = 0;
  do digits[count++] = "0123456789abcdef"[value % base];
  while ((value /= base) != 0);
  while (count) put(digits[--count]);
}

void print(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  for (; *format; format++) {
    if (*format != '%') {
      if (*format == '\n') put('\r');
      put(*format);
      continue;
    }
    switch (*++format) {
      case 's':
        for (const char* text = va_arg(arguments, const char*); *text; text++) put(*text);
        break;
      case 'u':
        put_number(va_arg(arguments, uint64_t), 10);
        break;
      case 'x':
        put_number(va_arg(arguments, uint64_t), 16);
        break;
      default:
        put(*format);
    }
  }
  va_end(arguments);
}

_Noreturn void leave(uint32_t value) {
  out32(0xf4, value);
  print("no debug-exit port: halted\n");
  for (;;) __asm__ volatile("cli\n hlt");
}

_Noreturn void unexpected(const struct frame* frame) {
  uint64_t cr2;
  __asm__("mov %%cr2, %0" : "=r"(cr2));
  print("unexpected vector %u, error %x, at %x:%x, flags %x, stack %x:%x, cr2 %x\n", frame->vector,
        frame->error, frame->cs, frame->rip, frame->rflags, frame->ss, frame->rsp, cr2);
  leave(exit_fail);
}

uint32_t verdict(const char* name) {
  print("%s %s\n", failed_checks ? "FAIL" : "PASS", name);
  return failed_checks ? exit_fail : exit_pass;
}

static size_t length(const char* text) {
  size_t count = 0;
  while (text[count]) count++;
  return count;
}

static const char* find(const char* text, const char* word) {
  for (const size_t count = length(word); *text; text++) {
    size_t i = 0;
    while (i < count && text[i] == word[i]) i++;
    if (i == count) return text;
  }
  return NULL;
}

bool contains(const char* text, const char* word) {
  return find(text, word) != NULL;
}

uint64_t number_after(const char* text, const char* word, uint64_t otherwise) {
  const char* at = find(text, word);
  if (!at || at[length(word)] != '=') return otherwise;
  uint64_t value = 0;
  for (at += length(word) + 1; *at >= '0' && *at <= '9'; at++) value = value * 10 + (uint64_t)(*at - '0');
  return value;
}

// Called by start.S, before main.
void install_tables(void);
void install_tables(void) {
  for (unsigned vector = 0; vector < 256; vector++) {
    const uint64_t address = stubs[vector];
    // An interrupt gate; 3 and 0x80 may be called by user code.
    const uint64_t gate = vector == 3 || vector == 0x80 ? 0xee00 : 0x8e00;
    const uint64_t stack =
        vector == 8 || vector == 12;  // those that a bad stack raises come on one of their own
    idt[vector * 2] =
        (address & 0xffff) | kernel_code << 16 | stack << 32 | gate << 32 | (address & 0xffff0000) << 32;
    idt[vector * 2 + 1] = address >> 32;
  }
  const struct {
    uint16_t limit;
    uint64_t base;
  } __attribute__((packed)) pointer = {sizeof idt - 1, (uint64_t)idt};
  __asm__ volatile("lidt %0" : : "m"(pointer));

  static uint8_t stacks[2][16384] __attribute__((aligned(16)));
  const uint64_t from_user = (uint64_t)stacks[1], own = (uint64_t)stacks[2], base = (uint64_t)task_state;
  memcpy(&task_state[1], &from_user, 8);     // RSP0
  memcpy(&task_state[9], &own, 8);           // IST1
  task_state[25] = sizeof task_state << 16;  // no port bitmap
  gdt[task / 8] =
      (sizeof task_state - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 | (base & 0xff000000) << 32;
  gdt[task / 8 + 1] = base >> 32;
  __asm__ volatile("ltr %w0" : : "r"(task));
  out8(0x3fb, 3);    // serial line: eight bits, no parity
  out8(0x21, 0xff);  // both 8259 masked
  out8(0xa1, 0xff);
}
