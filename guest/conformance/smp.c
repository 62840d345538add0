// The other processors: started by INIT and SIPI, each waits for work. Cases use start_processors() and
// run_on().
#include "../kernels/other_processors.h"
#include "suite.h"
#define GROUP "smp"

enum { most = 8 };
uint32_t processors;
static volatile uint32_t present;
static struct work {
  void (*volatile function)(void*);
  void* argument;
} work[most];

uint32_t this_processor(void) {
  const uint64_t at = (uint64_t)__builtin_frame_address(0) - (uint64_t)other_stacks;
  return at < sizeof other_stacks ? 1 : 0;
}

static uint32_t own_id(void) {
  return read_msr(msr_apic_base) & 0x400 ? (uint32_t)read_msr(0x802) : APIC(apic_id) >> 24;
}

void other_main(void) {
  APIC(apic_svr) = 0x1ff;
  const uint32_t self = own_id() % most;
  __asm__ volatile("lock incl %0" : "+m"(present));
  for (;;) {
    void (*const function)(void*) = work[self].function;
    if (function) {
      set_cr3((uint64_t)root);
      function(work[self].argument);
      __asm__ volatile("" : : : "memory");
      work[self].function = NULL;
    }
    __asm__ volatile("pause");
  }
}

static void pause_for(uint64_t ticks) {
  for (const uint64_t until = read_tsc() + ticks; read_tsc() < until;) __asm__ volatile("pause");
}

static void command(uint32_t to, uint32_t what) {
  APIC(apic_icr_high) = to << 24;
  APIC(apic_icr) = what;
}

static bool start_one(uint32_t id) {
  const uint32_t before = present;
  place_trampoline();
  work[id].function = NULL;
  command(id, 0x4500);
  pause_for(2000000);
  command(id, 0x4600 | trampoline >> 12);
  for (const uint64_t until = read_tsc() + 20000000000ull; present == before && read_tsc() < until;)
    __asm__ volatile("pause");
  return present == before + 1;
}

static bool started;
bool start_processors(void) {
  if (processors < 2 || processors > most) {
    skip("one processor only (cpus=2 on the command line)");
    return false;
  }
  for (uint32_t id = 1; !started && id < processors; id++)
    if (!start_one(id)) {
      skip("the other processors do not start");
      return false;
    }
  return started = true;
}

void run_begin(uint32_t cpu, void (*function)(void*), void* argument) {
  work[cpu].argument = argument;
  __asm__ volatile("" : : : "memory");
  work[cpu].function = function;
}

void run_finish(uint32_t cpu) {
  for (const uint64_t until = read_tsc() + 20000000000ull; work[cpu].function;) {
    __asm__ volatile("pause" : : : "memory");
    if (read_tsc() > until) {
      TRUE(!"the other processor came to no end");
      started = false;  // the next case that needs it starts it anew
      return;
    }
  }
}

void run_on(uint32_t cpu, void (*function)(void*), void* argument) {
  run_begin(cpu, function, argument);
  run_finish(cpu);
}

// --- cases

static volatile uint32_t told[8];
static void tell_identity(void* unused) {
  (void)unused;
  told[0] = APIC(apic_id) >> 24;
  told[1] = cpuid(1, 0).b >> 24;
  told[2] = (uint32_t)read_msr(msr_apic_base) >> 8 & 1;
  told[3] = (uint32_t)(read_msr(msr_apic_base) >> 11) & 1;
}
CASE(starts_by_init_and_start_up, "SDM 3A 8.4.3") {
  if (!start_processors()) return;
  run_on(1, tell_identity, NULL);
  EQUAL(told[0], 1);
  EQUAL(told[1], 1);
}
CASE(only_the_first_is_the_bootstrap_processor, "SDM 3A 8.4.1") {
  EQUAL(read_msr(msr_apic_base) >> 8 & 1, 1);
  if (!start_processors()) return;
  run_on(1, tell_identity, NULL);
  EQUAL(told[2], 0);
  EQUAL(told[3], 1);
}
CASE(second_start_up_is_ignored, "SDM 3A 8.4.4.1") {
  if (!start_processors()) return;
  const uint32_t before = present;
  command(1, 0x4600 | trampoline >> 12);
  pause_for(2000000);
  EQUAL(present, before);
  run_on(1, tell_identity, NULL);
}
CASE(init_takes_it_out_of_a_loop, "SDM 3A 9.1") {
  if (!start_processors()) return;
  static volatile uint32_t looping;
  void loop(void* unused) {
    (void)unused;
    looping = 1;
    for (;;) __asm__ volatile("pause");
  }
  looping = 0;
  run_begin(1, loop, NULL);
  for (const uint64_t until = read_tsc() + 20000000000ull; !looping && read_tsc() < until;)
    __asm__ volatile("pause");
  EQUAL(looping, 1);
  TRUE(start_one(1));
  run_on(1, tell_identity, NULL);
}
CASE(init_takes_it_out_of_hlt, "SDM 3A 9.1") {
  if (!start_processors()) return;
  void halt(void* unused) {
    (void)unused;
    for (;;) __asm__ volatile("cli\n hlt");
  }
  run_begin(1, halt, NULL);
  pause_for(2000000);
  TRUE(start_one(1));
  run_on(1, tell_identity, NULL);
}
CASE(init_keeps_the_apic_enabled_and_the_id, "SDM 3A 10.4.7.3") {
  if (!start_processors() || !start_one(1)) return;
  run_on(1, tell_identity, NULL);
  EQUAL(told[0], 1);
  EQUAL(told[3], 1);
}
CASE(init_keeps_the_cache_bits_and_clears_cr4, "SDM 3A table 9-1") {
  // The trampoline sets what it needs from zero: PAE alone is on afterwards.
  if (!start_processors() || !start_one(1)) return;
  void tell(void* unused) {
    (void)unused;
    told[0] = (uint32_t)cr4();
    told[1] = (uint32_t)dr7();
    told[2] = (uint32_t)read_msr(msr_efer);
  }
  run_on(1, tell, NULL);
  EQUAL(told[0], cr4_pae);
  EQUAL(told[1], 0x400);
  EQUAL(told[2], efer_lme | efer_lma | efer_nxe);
}
CASE(init_keeps_the_time_stamp, "SDM 3A table 9-1") {
  if (!start_processors()) return;
  const uint64_t before = read_tsc();
  if (!start_one(1)) return;
  static volatile uint64_t there;
  void tell(void* unused) {
    (void)unused, there = read_tsc();
  }
  run_on(1, tell, NULL);
  TRUE(there > before);
}

// --- interrupts between processors
enum { ping = 0x63 };
static volatile uint32_t arrived, arrived_at;
static void note_arrival(struct frame* frame) {
  arrived_at = this_processor();
  __asm__ volatile("lock incl %0" : "+m"(arrived));
  if (frame->vector >= 32) APIC(apic_eoi) = 0;
}
static volatile bool listening, enough;
static void listen(void* unused) {
  (void)unused;
  APIC(apic_svr) = 0x1ff;
  listening = true;
  while (!enough) open_window();
  listening = false;
}
static bool open_ears(uint32_t vector) {
  if (!start_processors()) return false;
  arrived = 0;
  arrived_at = 99;
  enough = listening = false;
  hook[vector] = note_arrival;
  run_begin(1, listen, NULL);
  for (const uint64_t until = read_tsc() + 20000000000ull; !listening && read_tsc() < until;)
    __asm__ volatile("pause");
  return listening;
}
static void close_ears(uint32_t wanted) {
  for (const uint64_t until = read_tsc() + 5000000000ull; arrived < wanted && read_tsc() < until;)
    open_window();
  enough = true;
  run_finish(1);
  open_window();
}
#define IPI(name, section, prepare, high, low, wanted, where) \
  CASE(name, section) {                                       \
    if (!open_ears(ping)) return;                             \
    prepare;                                                  \
    APIC(apic_icr_high) = high;                               \
    APIC(apic_icr) = low;                                     \
    close_ears(wanted);                                       \
    EQUAL(arrived, wanted);                                   \
    if ((where) < 2) EQUAL(arrived_at, where);                \
  }
IPI(ipi_to_the_other, "SDM 3A 10.6.2.1", (void)0, 1u << 24, 0x4000 | ping, 1, 1)
IPI(ipi_to_all_others, "SDM 3A 10.6.1", (void)0, 0, 0xc4000 | ping, processors - 1, 1)
IPI(ipi_to_everybody, "SDM 3A 10.6.1", (void)0, 0, 0x84000 | ping, 2, 2)
IPI(ipi_lowest_priority, "SDM 3A 10.6.2.4", (void)0, 1u << 24, 0x4100 | ping, 1, 1)
CASE(nmi_to_the_other, "SDM 3A 10.6.1") {
  if (!open_ears(NMI)) return;
  APIC(apic_icr_high) = 1u << 24;
  APIC(apic_icr) = 0x4400;
  close_ears(1);
  EQUAL(arrived, 1);
  EQUAL(arrived_at, 1);
}
CASE(ipi_wakes_hlt, "SDM 2A HLT") {
  if (!start_processors()) return;
  arrived = 0;
  hook[ping] = note_arrival;
  void sleep(void* unused) {
    (void)unused;
    APIC(apic_svr) = 0x1ff;
    while (!arrived)
      __asm__ volatile("cli\n cmpl $0, %0\n jne 1f\n sti\n hlt\n 1: cli" : : "m"(arrived) : "memory", "cc");
  }
  run_begin(1, sleep, NULL);
  pause_for(1000000);
  command(1, 0x4000 | ping);
  run_finish(1);
  EQUAL(arrived, 1);
}
CASE(ipi_to_a_processor_that_is_not_there, "SDM 3A 10.6.1") {
  command(0x77, 0x4000 | ping);
  EQUAL(APIC(apic_icr) & 0x1000, 0);
}

// --- memory
static uint64_t shot_page;
static void shoot(struct frame* frame) {
  (void)frame;
  invalidate(shot_page);
  __asm__ volatile("lock incl %0" : "+m"(arrived));
  APIC(apic_eoi) = 0;
}
CASE(shoot_down_by_interrupt, "SDM 3A 4.10.5") {
  if (!open_ears(ping)) return;
  hook[ping] = shoot;
  shot_page = PAGE(0);
  enough = true;
  run_finish(1);
  static volatile uint32_t step;
  static volatile uint64_t first, second;
  step = 0;
  void reader(void* unused) {
    (void)unused;
    first = QUAD(PAGE(0));
    step = 1;
    while (step == 1) open_window();
    second = QUAD(PAGE(0));
  }
  QUAD(FRAME(0)) = 100, QUAD(FRAME(5)) = 200;
  arrived = 0;
  run_begin(1, reader, NULL);
  for (const uint64_t until = read_tsc() + 20000000000ull; step == 0 && read_tsc() < until;)
    __asm__ volatile("pause");
  area_table[0] = FRAME(5) | P | W;
  command(1, 0x4000 | ping);
  for (const uint64_t until = read_tsc() + 20000000000ull; arrived == 0 && read_tsc() < until;)
    __asm__ volatile("pause");
  step = 2;
  run_finish(1);
  EQUAL(first, 100);
  EQUAL(second, 200);
}
CASE(dirty_bits_of_two_processors, "SDM 3A 4.8") {
  if (!start_processors()) return;
  void touch(void* unused) {
    (void)unused;
    for (unsigned i = 0; i < 8; i++) QUAD(PAGE(i)) = i;
  }
  for (unsigned i = 0; i < 8; i++) map(i, FRAME(i) | P | W);
  run_begin(1, touch, NULL);
  touch(NULL);
  run_finish(1);
  for (unsigned i = 0; i < 8; i++) EQUAL(area_table[i] & (A | D), A | D);
}
CASE(stores_are_seen_in_order, "SDM 3A 8.2.3.2") {
  if (!start_processors()) return;
  static volatile uint32_t x[256], y[256], wrong;
  for (unsigned i = 0; i < 256; i++) x[i] = y[i] = 0;
  wrong = 0;
  void writer(void* unused) {
    (void)unused;
    for (unsigned i = 0; i < 256; i++) x[i] = 1, y[i] = 1;
  }
  run_begin(1, writer, NULL);
  for (unsigned i = 0; i < 256; i++) {
    const uint32_t seen_y = y[i], seen_x = x[i];
    if (seen_y && !seen_x) wrong++;
  }
  run_finish(1);
  EQUAL(wrong, 0);
}
