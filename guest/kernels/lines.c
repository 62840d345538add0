// Interrupt lines driven by software, which wants Nacre's --test-device: what is asserted comes at once, through the 8259 pair and
// the IOAPIC; edges, levels, masks, remote IRR. (82093AA; SDM vol. 3, chapter 11.)
#include "guarded.h"

static volatile uint32_t* const local_apic = (volatile uint32_t*)0xfee00000;
static volatile uint32_t* const ioapic = (volatile uint32_t*)0xfec00000;
enum { lines = 0x2000, vector_a = 0x61, vector_b = 0x72, legacy_vector = 0x2e };
enum { level = 0x8000, masked = 0x10000, remote_irr = 0x4000 };

static volatile uint32_t count[256], lowers_after[24], order[4], taken;

static void set_line(uint16_t line, uint8_t on) {
  out8((uint16_t)(lines + line), on);
}
static uint32_t entry(uint32_t pin) {
  ioapic[0] = 0x10 + 2 * pin;
  return ioapic[4];
}
static void set_entry(uint32_t pin, uint32_t low) {
  ioapic[0] = 0x11 + 2 * pin;
  ioapic[4] = 0;
  ioapic[0] = 0x10 + 2 * pin;
  ioapic[4] = low;
}

// Lines 14 and 20: each goes down after so many interrupts as its handler was told.
void on_interrupt(struct frame* frame) {
  if (end_guarded(frame)) return;
  if (frame->vector < 32) unexpected(frame);
  count[frame->vector]++;
  if (taken < 4) order[taken++] = (uint32_t)frame->vector;
  if (frame->vector == legacy_vector) {
    out8(0xa0, 0x20), out8(0x20, 0x20);
    return;
  }
  const uint16_t line = frame->vector == vector_b ? 20 : 14;
  if (lowers_after[line] != 0 && --lowers_after[line] == 0) set_line(line, 0);
  local_apic[0xb0 / 4] = 0;
}

// The count before and after, with nothing but the instruction and the one behind it in between.
#define COMES(vector, times, instructions) \
  do {                                     \
    const uint32_t before = count[vector]; \
    instructions;                          \
    __asm__ volatile("nop");               \
    CHECK_EQUAL(count[vector] - before, times); \
  } while (0)

static void edges(void) {
  set_entry(14, vector_a);
  COMES(vector_a, 1, set_line(14, 1));
  COMES(vector_a, 0, set_line(14, 1));  // it is up
  COMES(vector_a, 0, set_line(14, 0));
  set_entry(14, vector_a | masked);
  COMES(vector_a, 0, (set_line(14, 1), set_line(14, 0)));
  COMES(vector_a, 0, set_entry(14, vector_a));  // what came while it was masked is lost
  COMES(vector_a, 2, (set_line(14, 1), set_line(14, 0), set_line(14, 1), set_line(14, 0)));
}

static void levels(void) {
  lowers_after[14] = 1;
  set_entry(14, vector_a | level);
  COMES(vector_a, 1, set_line(14, 1));
  CHECK_EQUAL(entry(14) & remote_irr, 0);
  lowers_after[14] = 3;
  COMES(vector_a, 3, set_line(14, 1));  // again with each EOI while it is up
  set_entry(14, vector_a | level | masked);
  COMES(vector_a, 0, set_line(14, 1));
  lowers_after[14] = 1;
  COMES(vector_a, 1, set_entry(14, vector_a | level));
  __asm__ volatile("cli");
  lowers_after[14] = 1;
  COMES(vector_a, 0, set_line(14, 1));
  CHECK_EQUAL(entry(14) & remote_irr, remote_irr);
  COMES(vector_a, 1, __asm__ volatile("sti"));
  CHECK_EQUAL(entry(14) & remote_irr, 0);
}

// The higher vector goes first, however the lines came up; the pins above the ISA ones are the IOAPIC's alone.
static void priorities(void) {
  set_entry(14, vector_a);
  set_entry(20, vector_b);
  lowers_after[14] = lowers_after[20] = 1;
  __asm__ volatile("cli");
  taken = 0;
  set_line(14, 1);
  set_line(20, 1);
  __asm__ volatile("sti\n nop\n nop");
  CHECK_EQUAL(taken, 2);
  CHECK_EQUAL(order[0], vector_b);
  CHECK_EQUAL(order[1], vector_a);
}

static void legacy(void) {
  set_entry(14, masked);
  out8(0x20, 0x11), out8(0xa0, 0x11);
  out8(0x21, 0x20), out8(0xa1, 0x28);
  out8(0x21, 4), out8(0xa1, 2);
  out8(0x21, 1), out8(0xa1, 1);
  out8(0x21, 0xfb), out8(0xa1, 0xbf);
  local_apic[0x350 / 4] = 0x700;  // LINT0: ExtINT
  COMES(legacy_vector, 1, set_line(14, 1));
  COMES(legacy_vector, 0, set_line(14, 0));
  out8(0x21, 0xff), out8(0xa1, 0xff);
  local_apic[0x350 / 4] = masked;
}

static void others(void) {
  out32(0xe0, 0x12345678);
  out8(0xe1, 0xff);
  uint32_t value;
  __asm__ volatile("inl $0xe0, %0" : "=a"(value));
  CHECK_EQUAL(value, 0x1234ff78);
  out32(0xe4, 0x1000);  // "flush": nothing is seen of it
  volatile uint64_t* const window = (volatile uint64_t*)0xff000000;
  window[0] = 0x1122334455667788;
  window[0x10000 / 8 - 1] = 42;
  CHECK_EQUAL(*(volatile uint32_t*)0xff000002, 0x33445566);
  CHECK_EQUAL(window[0x10000 / 8 - 1], 42);
  __asm__ volatile("lock incq %0" : "+m"(window[1]));
  CHECK_EQUAL(window[1], 1);
  memset((void*)(uintptr_t)(0xff000000 + 4090), 0x5a, 12);  // over a page's end
  CHECK_EQUAL(*(volatile uint64_t*)(0xff000000 + 4092), 0x5a5a5a5a5a5a5a5a);
}

uint32_t main(uint32_t magic, uint32_t information) {
  (void)magic, (void)information;
  out8(0x21, 0xff), out8(0xa1, 0xff);
  write_msr(0x1b, read_msr(0x1b) | 0x800);
  local_apic[0xf0 / 4] = 0x1ff;
  __asm__ volatile("sti");
  edges();
  levels();
  priorities();
  legacy();
  __asm__ volatile("cli");
  others();
  return verdict("lines");
}
