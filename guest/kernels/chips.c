// The PC's simple chips from a kernel's side: 8259, 8254, MC146818, 16550, keyboard controller, ACPI timer.
// What is asked here is what the data sheets say and what QEMU's devices do too.
#include "guarded.h"

static inline uint32_t in32(uint16_t port) {
  uint32_t value;
  __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}

void on_interrupt(struct frame* frame) {
  unexpected(frame);
}

// 8259A. Requests come from the PIT's counter 0 and the RTC; interrupts stay off, so they are polled.
static void start_8259(void) {
  out8(0x20, 0x11), out8(0xa0, 0x11);
  out8(0x21, 0x20), out8(0xa1, 0x28);
  out8(0x21, 4), out8(0xa1, 2);
  out8(0x21, 1), out8(0xa1, 1);
  out8(0x21, 0xff), out8(0xa1, 0xff);
}
static uint8_t requests(uint16_t base) {
  out8(base, 0x0a);
  return in8(base);
}
static uint8_t in_service(uint16_t base) {
  out8(base, 0x0b);
  return in8(base);
}
static uint8_t poll(uint16_t base) {
  out8(base, 0x0c);
  return in8(base);
}

static void pic(void) {
  start_8259();
  for (unsigned mask = 0; mask < 256; mask += 85) {
    out8(0x21, (uint8_t)mask);
    CHECK_EQUAL(in8(0x21), mask);
  }
  out8(0x21, 0xff);
  out8(0x43, 0x30);  // counter 0, mode 0: low now, high after ten ticks
  out8(0x40, 10), out8(0x40, 0);
  while (!(requests(0x20) & 1)) {
  }
  CHECK_EQUAL(poll(0x20) & 0x80, 0);  // masked
  out8(0x21, 0xfe);
  CHECK_EQUAL(poll(0x20), 0x80);
  CHECK_EQUAL(in_service(0x20), 1);
  CHECK_EQUAL(requests(0x20) & 1, 0);
  CHECK_EQUAL(poll(0x20) & 0x80, 0);
  out8(0x20, 0x20);
  CHECK_EQUAL(in_service(0x20), 0);
  out8(0x21, 0xff);
}

// 8254.
static uint8_t status_of(unsigned counter) {
  out8(0x43, (uint8_t)(0xe0 | 2u << counter));
  return in8((uint16_t)(0x40 + counter));
}
static uint16_t count_of(unsigned counter) {
  out8(0x43, (uint8_t)(counter << 6));
  const uint8_t low = in8((uint16_t)(0x40 + counter));
  return (uint16_t)(low | in8((uint16_t)(0x40 + counter)) << 8);
}
static void load_2(uint8_t mode, uint16_t count) {
  out8(0x43, (uint8_t)(0xb0 | mode << 1));
  out8(0x42, (uint8_t)count), out8(0x42, (uint8_t)(count >> 8));
}

static void pit(void) {
  out8(0x61, 0x01);  // gate of counter 2 up, speaker off
  CHECK_EQUAL(in8(0x61) & 0x0f, 1);
  for (uint8_t mode = 0; mode < 4; mode++) {
    out8(0x43, (uint8_t)(0xb0 | mode << 1));
    CHECK_EQUAL(status_of(2) & 0x3f, 0x30 | mode << 1);
  }
  // Mode 0 raises its output once, for good.
  load_2(0, 1000);
  while (!(in8(0x61) & 0x20)) {
  }
  CHECK_EQUAL(status_of(2), 0x80 | 0x30);
  // Mode 2 counts down from the count, mode 3 by two through even numbers.
  load_2(2, 0xfff0);
  const uint16_t first = count_of(2);
  CHECK_EQUAL(first <= 0xfff0 && first > 0, 1);
  while (count_of(2) == first) {
  }
  load_2(3, 0x8000);
  for (unsigned i = 0; i < 50; i++) {
    const uint16_t count = count_of(2);
    CHECK_EQUAL(count & 1, 0);
    CHECK_EQUAL(count <= 0x8000, 1);
  }
  // A latched count keeps still until it is read, and its status comes first.
  out8(0x43, 0xc8);
  const uint8_t status = in8(0x42);
  CHECK_EQUAL(status & 0x3f, 0x36);
  in8(0x42), in8(0x42);
  // One byte at a time.
  out8(0x43, 0x94);
  out8(0x42, 50);
  CHECK_EQUAL(in8(0x42) <= 50, 1);
  out8(0x61, 0);
}

// MC146818.
static uint8_t cmos(uint8_t index) {
  out8(0x70, index);
  return in8(0x71);
}
static void set_cmos(uint8_t index, uint8_t value) {
  out8(0x70, index);
  out8(0x71, value);
}

static void rtc(void) {
  CHECK_EQUAL(cmos(0x0d), 0x80);
  CHECK_EQUAL(cmos(0x0a) & 0x70, 0x20);
  for (uint8_t i = 0x50; i < 0x58; i++) set_cmos(i, i ^ 0xa5);
  for (uint8_t i = 0x50; i < 0x58; i++) CHECK_EQUAL(cmos(i), i ^ 0xa5);

  set_cmos(0x0b, 0x82);  // SET, BCD, 24 hours
  static const uint8_t date[][2] = {{0, 0x58}, {2, 0x59}, {4, 0x23}, {7, 0x28}, {8, 0x02}, {9, 0x24}};
  for (unsigned i = 0; i < 6; i++) set_cmos(date[i][0], date[i][1]);
  set_cmos(0x32, 0x20);
  set_cmos(0x0b, 0x02);
  cmos(0x0c);
  for (unsigned seconds = 0; seconds < 2; seconds++) {
    while (!(cmos(0x0c) & 0x10)) {
    }
  }
  while (cmos(0) == 0x59) {
  }
  CHECK_EQUAL(cmos(0) < 0x10, 1);
  CHECK_EQUAL(cmos(2), 0);
  CHECK_EQUAL(cmos(4), 0);
  CHECK_EQUAL(cmos(7), 0x29);
  CHECK_EQUAL(cmos(8), 0x02);
  set_cmos(0x0b, 0x06);  // binary
  CHECK_EQUAL(cmos(7), 29);
  CHECK_EQUAL(cmos(9), 24);
  set_cmos(0x0b, 0x00);  // 12 hours
  CHECK_EQUAL(cmos(4), 0x12);

  out8(0xa1, 0xfe), out8(0x21, 0xfb);
  set_cmos(0x0a, 0x26);  // 1024 Hz
  cmos(0x0c);
  set_cmos(0x0b, 0x42);
  while (!(requests(0xa0) & 1)) {
  }
  CHECK_EQUAL(poll(0x20), 0x82);
  CHECK_EQUAL(poll(0xa0), 0x80);
  CHECK_EQUAL(in_service(0x20), 4);
  CHECK_EQUAL(cmos(0x0c) & 0xc0, 0xc0);
  set_cmos(0x0b, 0x02);
  cmos(0x0c);
  CHECK_EQUAL(cmos(0x0c) & 0x80, 0);
  out8(0xa0, 0x20), out8(0x20, 0x20);
  CHECK_EQUAL(in_service(0x20) | in_service(0xa0), 0);
  out8(0xa1, 0xff), out8(0x21, 0xff);
}

// 16550A, the one that prints: nothing may be printed while it loops back.
enum { com = 0x3f8 };

static void uart(void) {
  static uint8_t modem[16], looped[4];
  uint8_t statuses[3], causes[3];
  out8(com + 3, 0x83);
  out8(com, 0x34), out8(com + 1, 0x12);
  CHECK_EQUAL(in8(com) | in8(com + 1) << 8, 0x1234);
  out8(com, 1), out8(com + 1, 0);
  out8(com + 3, 0x03);
  CHECK_EQUAL(in8(com + 3), 0x03);
  out8(com + 1, 0xff);
  CHECK_EQUAL(in8(com + 1), 0x0f);
  out8(com + 1, 0);
  out8(com + 7, 0x5a);
  CHECK_EQUAL(in8(com + 7), 0x5a);
  out8(com + 2, 0);
  CHECK_EQUAL(in8(com + 2) & 0xc0, 0);
  out8(com + 2, 0x07);
  CHECK_EQUAL(in8(com + 2), 0xc1);
  CHECK_EQUAL(in8(com + 5) & 0x60, 0x60);

  for (uint8_t i = 0; i < 16; i++) {
    out8(com + 4, 0x10 | i);
    modem[i] = in8(com + 6) & 0xf0;
  }
  statuses[0] = in8(com + 5) & 1;
  for (uint8_t i = 0; i < 4; i++) {
    out8(com, 0x40 + i);
    while (!(in8(com + 5) & 0x40)) {
    }
  }
  statuses[1] = in8(com + 5) & 1;
  out8(com + 1, 1);
  causes[0] = in8(com + 2) & 0x37;  // data or time-out: 4 or 12
  out8(com + 1, 0);
  for (unsigned i = 0; i < 4; i++) looped[i] = in8(com);
  statuses[2] = in8(com + 5) & 1;
  out8(com + 1, 2);
  causes[1] = in8(com + 2);
  causes[2] = in8(com + 2);
  out8(com + 1, 0);
  out8(com + 4, 0x0b);

  for (unsigned i = 0; i < 16; i++) {
    const unsigned wanted = (i & 2) << 3 | (i & 1) << 5 | (i & 4) << 4 | (i & 8) << 4;
    CHECK_EQUAL(modem[i], wanted);
  }
  for (unsigned i = 0; i < 4; i++) CHECK_EQUAL(looped[i], 0x40 + i);
  CHECK_EQUAL(statuses[0], 0);
  CHECK_EQUAL(statuses[1], 1);
  CHECK_EQUAL(statuses[2], 0);
  CHECK_EQUAL(causes[0], 4);
  CHECK_EQUAL(causes[1], 0xc2);
  CHECK_EQUAL(causes[2], 0xc1);

  // The transmitter's interrupt arrives at input 4.
  out8(0x21, 0xef);
  out8(com + 1, 2);
  CHECK_EQUAL(poll(0x20), 0x84);
  CHECK_EQUAL(in8(com + 2), 0xc2);
  out8(com + 1, 0);
  out8(0x20, 0x20);
  out8(0x21, 0xff);
}

static uint8_t ask_8042(uint8_t command) {
  out8(0x64, command);
  while (!(in8(0x64) & 1)) {
  }
  return in8(0x60);
}

static void keyboard_controller(void) {
  out8(0x64, 0xad), out8(0x64, 0xa7);
  while (in8(0x64) & 1) in8(0x60);
  CHECK_EQUAL(ask_8042(0xaa), 0x55);
  CHECK_EQUAL(ask_8042(0xab), 0x00);
  CHECK_EQUAL(in8(0x64) & 0x07, 0x04);
  out8(0x64, 0x60), out8(0x60, 0x30);
  CHECK_EQUAL(ask_8042(0x20), 0x30);
  out8(0x64, 0x60), out8(0x60, 0x75);
  CHECK_EQUAL(ask_8042(0x20), 0x75);
  out8(0x64, 0xd2), out8(0x60, 0xa7);
  CHECK_EQUAL(in8(0x64) & 0x21, 0x01);
  CHECK_EQUAL(in8(0x60), 0xa7);
  CHECK_EQUAL(ask_8042(0xd0) & 0x03, 0x03);
}

// 3.579545 MHz against 1.193182 MHz: ten milliseconds of the one by the other, never less.
static void power_timer(void) {
  out8(0x61, 1);
  const uint32_t began = in32(0x608);
  load_2(0, 11932);
  while (!(in8(0x61) & 0x20)) {
  }
  const uint32_t passed = (in32(0x608) - began) & 0xffffff;
  CHECK_EQUAL(passed >= 35790, 1);
  CHECK_EQUAL(passed < 3579545, 1);
  out8(0x61, 0);
}

uint32_t main(uint32_t magic, uint32_t information) {
  (void)magic, (void)information;
  pic();
  pit();
  rtc();
  uart();
  keyboard_controller();
  power_timer();
  return verdict("chips");
}
