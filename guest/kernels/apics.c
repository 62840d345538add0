// Local APIC and IOAPIC from a kernel's side: registers, software disable, error status, edge and level
// interrupts through the IOAPIC with remote IRR, and, where the processor has it, x2APIC mode with its
// faults.
// Argument: host=1 where the local APIC is a host kernel's: Linux's took other values for an x2APIC EOI and for the task
// priority until 6.4, has that in AMD-V without its lower half, and keeps its registers when IA32_APIC_BASE disables it.
#include "guarded.h"

static volatile uint32_t* const local_apic = (volatile uint32_t*)0xfee00000;
static volatile uint32_t* const ioapic = (volatile uint32_t*)0xfec00000;
enum {
  apic_version = 0x30 / 4,
  apic_priority = 0x80 / 4,
  apic_processor_priority = 0xa0 / 4,
  apic_end = 0xb0 / 4,
  apic_logical = 0xd0 / 4,
  apic_format = 0xe0 / 4,
  apic_spurious = 0xf0 / 4,
  apic_in_service = 0x100 / 4,
  apic_request = 0x200 / 4,
  apic_errors = 0x280 / 4,
  apic_command = 0x300 / 4,
  apic_command_high = 0x310 / 4,
  apic_timer = 0x320 / 4,
  apic_lint0 = 0x350 / 4,
  apic_error = 0x370 / 4
};
enum { com = 0x3f8, com_pin = 4, edge_vector = 0x61, level_vector = 0x72, other_vector = 0x83 };

static volatile uint32_t count[256];
static uint32_t of_host;
static volatile uint32_t patience;  // level interrupts that the handler leaves the cause of in place

static void end(void) {
  if (read_msr(0x1b) & 0x400)
    write_msr(0x80b, 0);
  else
    local_apic[apic_end] = 0;
}

void on_interrupt(struct frame* frame) {
  if (end_guarded(frame)) return;
  if (frame->vector < 32) unexpected(frame);
  count[frame->vector]++;
  if (frame->vector == level_vector && (patience == 0 || --patience == 0)) out8(com + 1, 0);
  end();
}

static void open_window(void) {
  __asm__ volatile("sti\n nop\n nop\n cli" : : : "memory");
}

static uint32_t ioapic_read(uint32_t index) {
  ioapic[0] = index;
  return ioapic[4];
}
static void ioapic_write(uint32_t index, uint32_t value) {
  ioapic[0] = index;
  ioapic[4] = value;
}

static void registers(void) {
  write_msr(0x1b, read_msr(0x1b) | 0x800);
  CHECK_EQUAL(local_apic[apic_version] & 0xf0, 0x10);
  CHECK_EQUAL((local_apic[apic_version] >> 16) >= 3, 1);
  local_apic[apic_spurious] = 0xff;
  local_apic[apic_timer] = 0x40;
  local_apic[apic_spurious] = 0x1ff;
  local_apic[apic_timer] = 0x10055;
  CHECK_EQUAL(local_apic[apic_timer] & 0x100ff, 0x10055);
  local_apic[apic_error] = 0x000100fe;
  CHECK_EQUAL(local_apic[apic_error] & 0x100ff, 0x100fe);
  local_apic[apic_format] = 0xffffffff;
  local_apic[apic_logical] = 0x01000000;
  CHECK_EQUAL(local_apic[apic_logical], 0x01000000);
  const uint32_t priority = of_host ? 0x30 : 0x35;
  local_apic[apic_priority] = priority;
  CHECK_EQUAL(local_apic[apic_priority], priority);
  CHECK_EQUAL(local_apic[apic_processor_priority], priority);
  local_apic[apic_priority] = 0;
  local_apic[apic_lint0] = 0x10000;
  out8(0x21, 0xff), out8(0xa1, 0xff);
}

// Fixed interrupts to oneself, by physical id, logical id and shorthand.
static void self_interrupts(void) {
  static const uint32_t commands[][2] = {
      {0, 0x4000}, {0x01000000, 0x4800}, {0, 0x44000}, {0, 0x84000}, {0xff000000, 0x4000}};
  local_apic[apic_command_high] = 0;
  const uint32_t own = local_apic[0x20 / 4];
  for (uint32_t i = 0; i < 5; i++) {
    const uint32_t before = count[other_vector];
    local_apic[apic_command_high] = i == 0 ? own : commands[i][0];
    local_apic[apic_command] = commands[i][1] | other_vector;
    CHECK_EQUAL(local_apic[apic_request + 4 * (other_vector / 32)] >> other_vector % 32 & 1, 1);
    open_window();
    CHECK_EQUAL(count[other_vector], before + 1);
    CHECK_EQUAL(local_apic[apic_request + 4 * (other_vector / 32)], 0);
    CHECK_EQUAL(local_apic[apic_in_service + 4 * (other_vector / 32)], 0);
  }
}

static void pin_registers(void) {
  CHECK_EQUAL(ioapic_read(1) >> 16 & 0xff, 23);
  for (uint32_t pin = 0; pin < 24; pin++) {
    ioapic_write(0x10 + 2 * pin, 0x10000);
    ioapic_write(0x11 + 2 * pin, 0x12000000);
    CHECK_EQUAL(ioapic_read(0x10 + 2 * pin), 0x10000);
    CHECK_EQUAL(ioapic_read(0x11 + 2 * pin) >> 24, 0x12);
    ioapic_write(0x10 + 2 * pin, 0x1a9fe);
    CHECK_EQUAL(ioapic_read(0x10 + 2 * pin) & ~0x5000u, 0x1a9fe);
    ioapic_write(0x10 + 2 * pin, 0x10000);
    ioapic_write(0x11 + 2 * pin, 0);
  }
}

// The serial port's transmitter interrupt, which its enable register raises and lowers, on pin 4.
static void edges(void) {
  out8(com + 4, 0x0b);
  ioapic_write(0x11 + 2 * com_pin, local_apic[0x20 / 4]);
  ioapic_write(0x10 + 2 * com_pin, edge_vector);
  for (uint32_t i = 0; i < 3; i++) {
    out8(com + 1, 2);
    open_window();
    CHECK_EQUAL(count[edge_vector], i + 1);
    open_window();
    CHECK_EQUAL(count[edge_vector], i + 1);  // still up: no second edge
    out8(com + 1, 0);
  }
  ioapic_write(0x10 + 2 * com_pin, 0x10000 | edge_vector);
  out8(com + 1, 2);
  open_window();
  CHECK_EQUAL(count[edge_vector], 3);
  out8(com + 1, 0);
}

static void levels(void) {
  ioapic_write(0x10 + 2 * com_pin, 0x8000 | level_vector);
  out8(com + 1, 2);
  CHECK_EQUAL(ioapic_read(0x10 + 2 * com_pin) & 0x4000, 0x4000);  // remote IRR: accepted, not ended
  open_window();
  CHECK_EQUAL(count[level_vector], 1);
  CHECK_EQUAL(ioapic_read(0x10 + 2 * com_pin) & 0x4000, 0);
  // With the line still up at its end it comes again, until something lowers it.
  patience = 3;
  out8(com + 1, 2);
  for (uint32_t i = 0; i < 3; i++) open_window();
  CHECK_EQUAL(count[level_vector], 4);
  const uint32_t before = count[level_vector];
  open_window();
  CHECK_EQUAL(count[level_vector], before);
  // Masked, it waits; unmasked, it is delivered, because it is a level.
  ioapic_write(0x10 + 2 * com_pin, 0x18000 | level_vector);
  out8(com + 1, 2);
  open_window();
  CHECK_EQUAL(count[level_vector], before);
  ioapic_write(0x10 + 2 * com_pin, 0x8000 | level_vector);
  open_window();
  CHECK_EQUAL(count[level_vector], before + 1);
  ioapic_write(0x10 + 2 * com_pin, 0x10000);
}

// x2APIC mode. SDM vol. 3, 11.12.
static uint64_t written;
static void do_read(uint64_t msr) {
  read_msr((uint32_t)msr);
}
static void do_write(uint64_t msr) {
  write_msr((uint32_t)msr, written);
}
static uint64_t read_fault(uint32_t msr) {
  guarded(do_read, msr);
  return seen.vector;
}
static uint64_t write_fault(uint32_t msr, uint64_t value) {
  written = value;
  guarded(do_write, msr);
  return seen.vector;
}
enum { general_protection = 13 };

static void wide_mode(void) {
  uint32_t a = 1, b, c = 0, d;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  if (!(c >> 21 & 1)) {
    print("no x2APIC here\n");
    return;
  }
  const uint64_t base = read_msr(0x1b);
  CHECK_EQUAL(read_fault(0x802), general_protection);
  CHECK_EQUAL(write_fault(0x1b, (base & ~0x800ull) | 0x400), general_protection);
  write_msr(0x1b, base | 0x400);
  CHECK_EQUAL(write_fault(0x1b, base), general_protection);
  static const uint16_t unreadable[] = {0x800, 0x80b, 0x80e, 0x831, 0x83f, 0x840};
  static const uint16_t unwritable[] = {0x802, 0x803, 0x80a, 0x80d, 0x810, 0x820, 0x831, 0x839};
  for (unsigned i = 0; i < 6; i++) CHECK_EQUAL(read_fault(unreadable[i]), general_protection);
  for (unsigned i = 0; i < 8; i++) CHECK_EQUAL(write_fault(unwritable[i], 0), general_protection);
  if (!of_host) {
    CHECK_EQUAL(write_fault(0x80b, 1), general_protection);
    CHECK_EQUAL(write_fault(0x808, 0x100), general_protection);
  }
  CHECK_EQUAL(write_fault(0x828, 1), general_protection);
  CHECK_EQUAL(write_fault(0x808, 0x10), none);
  CHECK_EQUAL(read_msr(0x808), 0x10);
  write_msr(0x808, 0);
  CHECK_EQUAL(read_msr(0x80d) & 0xffff, 1ull << (read_msr(0x802) & 15));
  const uint32_t before = count[other_vector];
  write_msr(0x83f, other_vector);
  open_window();
  CHECK_EQUAL(count[other_vector], before + 1);
  write_msr(0x830, read_msr(0x802) << 32 | 0x4000 | other_vector);
  open_window();
  CHECK_EQUAL(count[other_vector], before + 2);
  // Out of it by way of disabled, which resets.
  write_msr(0x808, 0x20);
  write_msr(0x1b, base & ~0x800ull);
  CHECK_EQUAL(write_fault(0x1b, base | 0x400), general_protection);
  write_msr(0x1b, base);
  if (!of_host) {
    CHECK_EQUAL(local_apic[apic_priority], 0);
    CHECK_EQUAL(local_apic[apic_spurious], 0xff);
  }
}

uint32_t main(uint32_t magic, uint32_t information) {
  (void)magic;
  const uint32_t* info = (const uint32_t*)(uintptr_t)information;
  of_host = (uint32_t)number_after(info[0] & 4 ? (const char*)(uintptr_t)info[4] : "", "host", 0);
  registers();
  self_interrupts();
  pin_registers();
  edges();
  levels();
  wide_mode();
  return verdict("apics");
}
