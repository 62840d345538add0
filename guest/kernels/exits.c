// How long each kind of exit takes: what leaves translated or guest code, and comes back (docs/engines.md). Prints a line a kind,
// "ROW nanoseconds what", each the median of rounds=N (default 15) of some hundred. Wants --cpus 2.
#include "guarded.h"
#include "other_processors.h"

static volatile uint32_t* const local_apic = (volatile uint32_t*)0xfee00000;
static volatile uint32_t* const ioapic = (volatile uint32_t*)0xfec00000;
enum { apic_end = 0xb0 / 4, apic_spurious = 0xf0 / 4, apic_command = 0x300 / 4, apic_command_high = 0x310 / 4, apic_timer = 0x320 / 4 };
enum {
  own_vector = 0x61,
  serial_vector = 0x62,
  timer_vector = 0x63,
  ping_vector = 0x64,
  clock_msr = 0x4b564d01,
  deadline_msr = 0x6e0,
  serial = 0x3f8,
  serial_pin = 4,
  most_rounds = 101
};

static volatile uint32_t count[256];
static volatile uint64_t handled;  // when the timer's interrupt was

void on_interrupt(struct frame* frame) {
  if (frame->vector == timer_vector) handled = read_tsc();
  if (end_guarded(frame)) return;
  if (frame->vector < 32) unexpected(frame);
  count[frame->vector]++;
  if (frame->vector == serial_vector) out8(serial + 1, 0);
  local_apic[apic_end] = 0;
}

// --- time, and the median -----------------------------------------------------------------------------

// Linux, arch/x86/include/asm/pvclock-abi.h
static volatile struct {
  uint32_t version, padding;
  uint64_t tsc, system;
  uint32_t multiplier;
  int8_t shift;
  uint8_t flags, more[2];
} guest_clock __attribute__((aligned(64)));

static uint64_t nanoseconds(uint64_t cycles) {
  cycles = guest_clock.shift < 0 ? cycles >> -guest_clock.shift : cycles << guest_clock.shift;
  return (cycles >> 16) * guest_clock.multiplier >> 16;
}

static uint32_t rounds;
static uint64_t results[most_rounds];

static void row(const char* what, uint32_t each) {
  for (uint32_t i = 1; i < rounds; i++)
    for (uint32_t k = i; k > 0 && results[k] < results[k - 1]; k--) {
      const uint64_t other = results[k];
      results[k] = results[k - 1], results[k - 1] = other;
    }
  // With 16 bits behind the point, so that little is lost by rounding.
  print("ROW %u %s\n", (nanoseconds(results[rounds / 2] * 65536 / each) + 32768) / 65536, what);
}

#define MEASURE(what, each, action)                         \
  do {                                                      \
    for (uint32_t round = 0; round < rounds; round++) {     \
      const uint64_t before = read_tsc();                   \
      for (uint32_t i = 0; i < (each); i++) action;         \
      results[round] = read_tsc() - before;                 \
    }                                                       \
    row(what, each);                                        \
  } while (0)

// --- the second processor -----------------------------------------------------------------------------

static volatile uint32_t present;

void other_main(void) {
  local_apic[apic_spurious] = 0x1ff;
  present = 1;
  // First it is busy, then it sleeps.
  __asm__ volatile("sti" : : : "memory");
  while (present == 1) __asm__ volatile("pause");
  for (;;) __asm__ volatile("sti\n hlt" : : : "memory");
}

static void command(uint32_t to, uint32_t what) {
  local_apic[apic_command_high] = to << 24;
  local_apic[apic_command] = what;
}

static void delay(uint64_t cycles) {
  for (const uint64_t until = read_tsc() + cycles; read_tsc() < until;) __asm__ volatile("pause");
}

static void start_other(void) {
  place_trampoline();
  command(1, 0x4500);
  delay(1000000);
  command(1, 0x4600 | trampoline >> 12);
  while (present == 0) __asm__ volatile("pause");
}

static void ping(void) {
  const uint32_t before = count[ping_vector];
  command(1, 0x4000 | ping_vector);
  while (count[ping_vector] == before) __asm__ volatile("pause");
}

// --- kinds of exits -----------------------------------------------------------------------------------

static void cpuid(void) {
  uint32_t leaf = 0, sub = 0;
  __asm__ volatile("cpuid" : "+a"(leaf), "+c"(sub) : : "ebx", "edx");
}

static void interrupt_oneself(void) {
  local_apic[apic_command] = 0x44000 | own_vector;
  __asm__ volatile("sti\n nop\n nop\n cli" : : : "memory");
}

static void serial_interrupt(void) {
  const uint32_t before = count[serial_vector];
  out8(serial + 1, 2);
  __asm__ volatile("sti" : : : "memory");
  while (count[serial_vector] == before) __asm__ volatile("pause");
  __asm__ volatile("cli" : : : "memory");
}

static void ioapic_write(uint32_t index, uint32_t value) {
  ioapic[0] = index;
  ioapic[4] = value;
}

static void pci_write(uint32_t address, uint32_t value) {
  out32(0xcf8, 0x80000000 | address);
  out32(0xcfc, value);
}
static uint32_t pci_read(uint32_t address) {
  uint32_t value;
  out32(0xcf8, 0x80000000 | address);
  __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"((uint16_t)0xcfc));
  return value;
}

// The doorbells of the random generator, a virtio device, whose queues are not set up: its thread looks, and finds nothing. Null: there is none.
static volatile uint16_t* doorbell(void) {
  for (uint32_t slot = 0; slot < 32; slot++) {
    const uint32_t function = slot << 11;
    if (pci_read(function) != 0x10441af4) continue;
    const uint64_t region = (pci_read(function + 0x10) & ~15u) | (uint64_t)pci_read(function + 0x14) << 32;
    pci_write(function + 4, pci_read(function + 4) | 2);
    for (uint32_t at = pci_read(function + 0x34) & 0xfc; at != 0; at = pci_read(function + at) >> 8 & 0xfc) {
      const uint32_t head = pci_read(function + at);
      if ((head & 0xff) == 9 && head >> 24 == 2)  // virtio 1.2, 4.1.4: VIRTIO_PCI_CAP_NOTIFY_CFG
        return (volatile uint16_t*)(region + pci_read(function + at + 8));
    }
  }
  return 0;
}

static void timers(void) {
  local_apic[apic_timer] = 0x40000 | timer_vector;
  MEASURE("timer armed (TSC deadline)", 500, write_msr(deadline_msr, read_tsc() + 100000000000));
  write_msr(deadline_msr, 0);
  for (uint32_t round = 0; round < rounds; round++) {
    const uint64_t due = read_tsc() + 20000000;  // it is asleep by then, in an emulated machine too
    write_msr(deadline_msr, due);
    handled = 0;
    while (handled == 0) __asm__ volatile("sti\n hlt\n cli" : : : "memory");
    results[round] = handled - due;
  }
  row("HLT to the handler of the timer that ends it, too late by", 1);
}

static void first_touch(void) {
  enum { pages = 256 };
  volatile uint8_t* memory = (volatile uint8_t*)0x2000000;  // above the kernel and what the monitor has put there
  for (uint32_t round = 0; round < rounds; round++) {
    const uint64_t before = read_tsc();
    for (uint32_t i = 0; i < pages; i++) memory[i * 4096] = 1;
    results[round] = read_tsc() - before;
    memory += pages * 4096;
  }
  row("first touch of a page of RAM", pages);
}

static void touch(uint64_t address) {
  *(volatile uint8_t*)address = 1;
}

static void pings_to_a_sleeper(void) {
  enum { each = 20 };
  for (uint32_t round = 0; round < rounds; round++) {
    results[round] = 0;
    for (uint32_t i = 0; i < each; i++) {
      delay(200000);
      const uint64_t before = read_tsc();
      ping();
      results[round] += read_tsc() - before;
    }
  }
  row("interrupt to another processor that sleeps", each);
}

uint32_t main(uint32_t magic, uint32_t information) {
  (void)magic;
  const uint32_t* info = (const uint32_t*)(uintptr_t)information;
  const char* line = info[0] & 4 ? (const char*)(uintptr_t)info[4] : "";
  rounds = (uint32_t)number_after(line, "rounds", 15);
  if (rounds == 0 || rounds > most_rounds) rounds = most_rounds;
  write_msr(clock_msr, (uint64_t)&guest_clock | 1);
  write_msr(0x1b, read_msr(0x1b) | 0x800);
  local_apic[apic_spurious] = 0x1ff;
  ioapic_write(0x11 + 2 * serial_pin, 0);
  ioapic_write(0x10 + 2 * serial_pin, serial_vector);
  out8(serial + 4, 0x0b);

  MEASURE("RDTSC", 500, read_tsc());
  MEASURE("CPUID", 500, cpuid());
  MEASURE("MSR read of the board's (paravirtual clock)", 500, read_msr(clock_msr));
  MEASURE("port write to a device (serial scratch)", 500, out8(serial + 7, 1));
  MEASURE("port read from a device (serial scratch)", 500, in8(serial + 7));
  MEASURE("MMIO read from a device (I/O APIC)", 500, ioapic[4]);
  MEASURE("MMIO read from the local APIC", 500, local_apic[apic_spurious]);
  volatile uint16_t* const bell = doorbell();
  CHECK_EQUAL(bell != 0, 1);
  if (bell != 0) MEASURE("MMIO write to a doorbell (virtio)", 500, *bell = 0);
  timers();
  MEASURE("interrupt to oneself, there and back", 200, interrupt_oneself());
  MEASURE("interrupt of a device, there and back", 200, serial_interrupt());
  MEASURE("page fault to the guest's handler and back", 200, guarded(touch, 0x100000000000));
  first_touch();
  start_other();
  // Few: where the host runs both on one processor of its own, each takes milliseconds.
  MEASURE("interrupt to another processor that runs", 20, ping());
  present = 2;
  ping();
  pings_to_a_sleeper();
  return verdict("exits");
}
