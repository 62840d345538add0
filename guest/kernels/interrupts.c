// Interrupt hardware from a kernel's side: 8259 and PIT, the local APIC's timer and self-interrupts, waiting
// with HLT, what STI and MOV SS hold back, priorities, and whether the clocks agree with one another.
// Argument: halts=N (1000), how often an interrupt waits for an STI before HLT.
#include "guarded.h"

enum {
  timer_vector = 0x20,
  keyboard_vector = 0x21,
  local_timer_vector = 0x50,
  low_vector = 0x60,
  high_vector = 0x90,
  spurious_vector = 0xff
};
static volatile uint32_t* const local_apic = (volatile uint32_t*)0xfee00000;
enum {
  apic_id = 0x20 / 4,
  apic_priority = 0x80 / 4,
  apic_end = 0xb0 / 4,
  apic_spurious = 0xf0 / 4,
  apic_command = 0x300 / 4,
  apic_command_high = 0x310 / 4,
  apic_timer = 0x320 / 4,
  apic_lint0 = 0x350 / 4,
  apic_initial = 0x380 / 4,
  apic_current = 0x390 / 4,
  apic_divide = 0x3e0 / 4
};

static volatile uint32_t count[256];
static volatile uint64_t last_rip, order[8];
static volatile uint32_t orders;

void on_interrupt(struct frame* frame) {
  if (frame->vector < 32) unexpected(frame);
  if (end_guarded(frame)) return;
  count[frame->vector]++;
  last_rip = frame->rip;
  if (orders < 8) order[orders++] = frame->vector;
  if (frame->vector < 0x30)
    out8(0x20, 0x20);
  else
    local_apic[apic_end] = 0;
}

static void wait(void) {
  __asm__ volatile("sti\n hlt\n cli" : : : "memory");
}

static void start_8259(void) {
  out8(0x20, 0x11), out8(0xa0, 0x11);
  out8(0x21, timer_vector), out8(0xa1, timer_vector + 8);
  out8(0x21, 4), out8(0xa1, 2);
  out8(0x21, 1), out8(0xa1, 1);
  out8(0x21, 0xff), out8(0xa1, 0xff);
}

static void start_pit(uint32_t hertz) {
  const uint32_t divisor = 1193182 / hertz;
  out8(0x43, 0x34);
  out8(0x40, (uint8_t)divisor), out8(0x40, (uint8_t)(divisor >> 8));
}

static uint64_t ticks_per_second;  // of the TSC, by the PIT

static void pit(void) {
  start_pit(1000);
  out8(0x21, 0xfe);
  while (count[timer_vector] < 2) wait();
  const uint64_t began = read_tsc();
  const uint32_t first = count[timer_vector];
  while (count[timer_vector] < first + 50) wait();
  ticks_per_second = (read_tsc() - began) * 20;
  // A masked line stays quiet; what came meanwhile is delivered once.
  out8(0x21, 0xff);
  const uint32_t before = count[timer_vector];
  for (const uint64_t until = read_tsc() + ticks_per_second / 100; read_tsc() < until;)
    __asm__ volatile("sti\n nop\n cli");
  CHECK_EQUAL(count[timer_vector], before);
  out8(0x21, 0xfe);
  __asm__ volatile("sti\n nop\n nop\n cli");
  CHECK_EQUAL(count[timer_vector] >= before + 1, 1);
  CHECK_EQUAL(count[timer_vector] <= before + 2, 1);
  out8(0x21, 0xff);
}

static void start_local_apic(void) {
  write_msr(0x1b, read_msr(0x1b) | 0x800);
  local_apic[apic_spurious] = 0x100 | spurious_vector;
  local_apic[apic_priority] = 0;
  local_apic[apic_divide] = 0xb;  // by 1
}

static void send_self(uint8_t vector) {
  local_apic[apic_command_high] = 0;
  local_apic[apic_command] = 0x40000 | vector;
  while (local_apic[apic_command] & 0x1000) {
  }
}

static void local_timer(void) {
  local_apic[apic_timer] = local_timer_vector;  // one shot
  local_apic[apic_initial] = 0xffffffff;
  const uint64_t began = read_tsc();
  while (read_tsc() < began + ticks_per_second / 100) {
  }
  const uint32_t per_10_ms = 0xffffffff - local_apic[apic_current];
  CHECK_EQUAL(per_10_ms > 1000, 1);
  CHECK_EQUAL(count[local_timer_vector], 0);
  for (uint32_t i = 1; i <= 10; i++) {
    const uint64_t start = read_tsc();
    local_apic[apic_initial] = per_10_ms / 10;
    wait();
    CHECK_EQUAL(count[local_timer_vector], i);
    CHECK_EQUAL(read_tsc() - start >= ticks_per_second / 1000 * 9 / 10, 1);  // not early
    CHECK_EQUAL(local_apic[apic_current], 0);
  }
  local_apic[apic_timer] = 0x20000 | local_timer_vector;  // periodic
  local_apic[apic_initial] = per_10_ms / 10;
  while (count[local_timer_vector] < 20) wait();
  local_apic[apic_timer] = 0x10000 | local_timer_vector;  // masked
  const uint32_t stopped = count[local_timer_vector];
  const uint64_t until = read_tsc() + ticks_per_second / 200;
  __asm__ volatile("sti");
  while (read_tsc() < until) {
  }
  __asm__ volatile("cli");
  CHECK_EQUAL(count[local_timer_vector] <= stopped + 1, 1);
}

static void priorities(void) {
  orders = 0;
  send_self(low_vector);
  send_self(high_vector);
  CHECK_EQUAL(orders, 0);
  __asm__ volatile("sti\n nop\n nop\n cli");
  CHECK_EQUAL(orders, 2);
  CHECK_EQUAL(order[0], high_vector);
  CHECK_EQUAL(order[1], low_vector);
  // The task priority, by CR8, holds its class and what is below back.
  __asm__ volatile("mov %0, %%cr8" : : "r"((uint64_t)low_vector >> 4));
  CHECK_EQUAL(local_apic[apic_priority], low_vector);
  orders = 0;
  send_self(low_vector);
  send_self(high_vector);
  __asm__ volatile("sti\n nop\n nop\n cli");
  CHECK_EQUAL(orders, 1);
  CHECK_EQUAL(order[0], high_vector);
  __asm__ volatile("sti\n mov %0, %%cr8\n nop\n cli" : : "r"(0ull));
  CHECK_EQUAL(orders, 2);
}

static uint32_t halts;
extern const char after_sti[], after_ss[], after_popf[];
static void shadows(void) {
  send_self(low_vector);
  __asm__ volatile("sti\n nop\n after_sti: nop\n cli");  // not before the instruction behind STI has run
  CHECK_EQUAL(last_rip, (uint64_t)after_sti);
  send_self(low_vector);
  last_rip = 0;
  __asm__ volatile("sti\n cli\n nop");  // no instruction in between that could be interrupted
  CHECK_EQUAL(last_rip, 0);
  __asm__ volatile("mov %%ss, %%eax\n pushfq\n orl $0x200, (%%rsp)\n popfq\n after_popf: nop\n cli"
                   :
                   :
                   : "eax", "cc");
  CHECK_EQUAL(last_rip, (uint64_t)after_popf);  // POPF has no shadow

  // HLT with an interrupt already there goes on at once.
  for (uint32_t i = 0; i < halts; i++) {
    const uint32_t before = count[low_vector];
    send_self(low_vector);
    wait();
    CHECK_EQUAL(count[low_vector], before + 1);
  }
}

// Interrupts into a loop of arithmetic: its result is what it is without them.
static uint64_t arithmetic(uint64_t rounds) {
  uint64_t x = 1;
  while (rounds--) x = x * 6364136223846793005u + (x >> 33), x ^= x << 7;
  return x;
}

static void preempted(void) {
  const uint64_t alone = arithmetic(20000000);
  start_pit(2000);
  out8(0x21, 0xfe);
  const uint32_t before = count[timer_vector];
  __asm__ volatile("sti");
  const uint64_t together = arithmetic(20000000);
  __asm__ volatile("cli");
  out8(0x21, 0xff);
  CHECK_EQUAL(together, alone);
  CHECK_EQUAL(count[timer_vector] > before + 5, 1);
}

USER_CODE(spin, "1: jmp 1b");

uint32_t main(uint32_t magic, uint32_t information) {
  (void)magic;
  const uint32_t* info = (const uint32_t*)(uintptr_t)information;
  halts = (uint32_t)number_after(info[0] & 4 ? (const char*)(uintptr_t)info[4] : "", "halts", 1000);
  start_8259();
  start_local_apic();
  local_apic[apic_lint0] = 0x700;  // the 8259 by way of the local APIC
  pit();
  local_timer();
  priorities();
  shadows();
  preempted();
  // A user program in a loop of one instruction is interrupted too.
  start_pit(100);
  out8(0x21, 0xfe);
  guarded_user(spin, spin_end, user_code_64, 0x200, 0);
  out8(0x20, 0x20);
  CHECK_EQUAL(seen.vector, timer_vector);
  CHECK_EQUAL(seen.rip, user_page);
  return verdict("interrupts");
}
