// Many processors from a kernel's side: INIT and start-up IPIs, what each is told it is, atomic instructions
// also across cache lines and pages, what stores others may see in which order (litmus tests), interrupts
// between processors, translations taken back by interrupt, and code that one changes and another runs.
// Arguments: cpus=N (2), rounds=N (200).
#include "other_processors.h"

enum {
  most = 32,
  park_vector = 0x40,
  ping_vector = 0x41,
  shoot_vector = 0x42,
  lowest_vector = 0x43
};
static volatile uint32_t* const local_apic = (volatile uint32_t*)0xfee00000;
enum {
  apic_id = 0x20 / 4,
  apic_priority = 0x80 / 4,
  apic_end = 0xb0 / 4,
  apic_logical = 0xd0 / 4,
  apic_format = 0xe0 / 4,
  apic_spurious = 0xf0 / 4,
  apic_command = 0x300 / 4,
  apic_command_high = 0x310 / 4
};
enum {
  init = 0x4500,
  start_up = 0x4600,
  fixed = 0x4000,
  lowest = 0x4100,
  nmi = 0x4400,
  logical = 0x800,
  all_others = 0xc0000
};

static uint32_t cpus, rounds;
static volatile uint32_t present;
static volatile uint32_t counts[most][256];  // by processor and vector
static volatile uint64_t shot;               // what shoot_vector invalidates
static volatile uint32_t shot_count;

static void pause(void) {
  __asm__ volatile("pause" : : : "memory");
}
static void fence(void) {
  __asm__ volatile("mfence" : : : "memory");
}
// Not before what stands before it.
static uint64_t time_now(void) {
  __asm__ volatile("lfence" : : : "memory");
  return read_tsc();
}
static void serialize(void) {
  uint32_t a = 0, b, c = 0, d;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d) : : "memory");
}
static uint32_t add(volatile uint32_t* to, uint32_t value) {
  __asm__ volatile("lock xaddl %0, %1" : "+r"(value), "+m"(*to) : : "memory", "cc");
  return value;
}
static uint32_t own_id(void) {
  return local_apic[apic_id] >> 24;
}

void on_interrupt(struct frame* frame) {
  const uint32_t cpu = own_id();
  if (frame->vector == 2) {
    counts[cpu][2]++;
    return;
  }
  if (frame->vector < 32) unexpected(frame);
  if (frame->vector == shoot_vector) {
    __asm__ volatile("invlpg (%0)" : : "r"(shot) : "memory");
    add(&shot_count, 1);
  }
  counts[cpu][frame->vector]++;
  local_apic[apic_end] = 0;
}

// One at a time: checks print.
static volatile uint32_t printing;
#define CHECK(got, wanted)                    \
  do {                                        \
    uint64_t g_ = (got), w_ = (wanted);       \
    if (g_ != w_) {                           \
      while (add(&printing, 1) != 0) pause(); \
      CHECK_EQUAL(g_, w_);                    \
      printing = 0;                           \
    }                                         \
  } while (0)

// All meet here.
static volatile uint32_t met, meeting;
static void meet(void) {
  const uint32_t now = meeting;
  if (add(&met, 1) == cpus - 1) {
    met = 0;
    meeting = now + 1;
  } else {
    while (meeting == now) pause();
  }
}

// --- what each is told that it is
// ----------------------------------------------------------------------------

static void identity(uint32_t cpu) {
  const bool first = cpu == 0;
  CHECK(read_msr(0x1b) >> 8 & 1, first);
  uint32_t a = 1, b, c = 0, d;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  CHECK(b >> 24, cpu);
  CHECK(b >> 16 & 0xff, cpus);
  a = 0, c = 0;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  if (a >= 0xb) {
    a = 0xb, c = 1;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    CHECK(d, cpu);
    CHECK(b, cpus);
    CHECK((1u << a) >= cpus, 1);
  }
}

// The counters of all processors agree: what one has read, another that hears of it does not read less.
static volatile uint64_t told_time;
static void times(uint32_t cpu) {
  for (uint32_t i = 0; i < rounds; i++) {
    if (cpu == i % cpus) told_time = time_now();
    meet();
    CHECK(time_now() >= told_time, 1);
    meet();
  }
}

// --- atomic instructions
// ------------------------------------------------------------------------------------

static uint8_t arena[3 * 4096] __attribute__((aligned(4096)));
static volatile uint64_t guarded_by_lock;

#define ACROSS(boundary, bytes) ((void*)(arena + (boundary) - (bytes) / 2))

static void lock_at(volatile uint32_t* word) {
  uint32_t value;
  do {
    value = 1;
    __asm__ volatile("xchgl %0, %1" : "+r"(value), "+m"(*word) : : "memory");
    if (value) pause();
  } while (value);
}
static void unlock_at(volatile uint32_t* word) {
  __asm__ volatile("movl $0, %0" : "=m"(*word) : : "memory");
}

static void atomics_at(uint64_t* counter, uint32_t* word, uint32_t times_each) {
  for (uint32_t i = 0; i < times_each; i++) {
    __asm__ volatile("lock incq %0" : "+m"(*counter) : : "cc", "memory");
    uint64_t value = 2;
    __asm__ volatile("lock xaddq %0, %1" : "+r"(value), "+m"(*counter) : : "cc", "memory");
    uint64_t old = *(volatile uint64_t*)counter;
    uint8_t done;
    do {
      __asm__ volatile("lock cmpxchgq %3, %1\n setz %2"
                       : "+a"(old), "+m"(*counter), "=q"(done)
                       : "r"(old + 3)
                       : "cc", "memory");
    } while (!done);
    lock_at(word);
    guarded_by_lock = guarded_by_lock + 1;
    unlock_at(word);
  }
}

static struct { uint64_t low, high; } wide __attribute__((aligned(16)));
static uint64_t doubled;  // two halves that both count
static void wide_atomics(uint32_t times_each) {
  for (uint32_t i = 0; i < times_each; i++) {
    uint8_t done;
    uint64_t low = wide.low, high = wide.high;
    do {
      __asm__ volatile(
          "mov %%rax, %%rbx\n mov %%rdx, %%rcx\n add $1, %%rbx\n add $3, %%rcx\n lock cmpxchg16b %0\n setz %3"
          : "+m"(wide), "+a"(low), "+d"(high), "=q"(done)
          :
          : "rbx", "rcx", "cc", "memory");
    } while (!done);
    uint32_t a = (uint32_t)doubled, d = (uint32_t)(doubled >> 32);
    do {
      __asm__ volatile(
          "mov %%eax, %%ebx\n mov %%edx, %%ecx\n inc %%ebx\n inc %%ecx\n lock cmpxchg8b %0\n setz %3"
          : "+m"(doubled), "+a"(a), "+d"(d), "=q"(done)
          :
          : "rbx", "rcx", "cc", "memory");
    } while (!done);
  }
}

static void atomics(uint32_t cpu) {
  static uint64_t aligned;
  static uint32_t word;
  uint64_t* const line = ACROSS(4096 + 64, 8);
  uint64_t* const page = ACROSS(4096, 8);
  uint32_t* const page_word = (uint32_t*)(arena + 2 * 4096 - 1);
  const uint32_t many = rounds * 10;
  atomics_at(&aligned, &word, many);
  atomics_at(line, &word, many);
  meet();  // what is guarded is the same, the lock is another
  atomics_at(page, page_word, rounds);
  wide_atomics(many);
  meet();
  if (cpu != 0) return;
  CHECK(aligned, 6ull * many * cpus);
  CHECK(*line, 6ull * many * cpus);
  CHECK(*page, 6ull * rounds * cpus);
  CHECK(guarded_by_lock, (2ull * many + rounds) * cpus);
  CHECK(wide.low, 1ull * many * cpus);
  CHECK(wide.high, 3ull * many * cpus);
  CHECK(doubled, (1ull << 32 | 1) * many * cpus);
}

// Aligned quadwords are read and written whole.
static volatile uint64_t whole __attribute__((aligned(8)));
static void tearing(uint32_t cpu) {
  for (uint32_t i = 0; i < rounds * 20; i++) {
    if (cpu == 0) whole = i * 0x100000001ull;
    const uint64_t seen = whole;
    CHECK(seen >> 32, seen & 0xffffffff);
  }
}

// --- litmus tests
// ------------------------------------------------------------------------------------------- Each slot is
// one run of the test; processors go through the slots at about the same time.

enum { slots = 256 };
static struct slot {
  volatile uint32_t x, y;
  volatile uint32_t seen[4];
  uint8_t rest[40];
} slot[slots] __attribute__((aligned(64)));

static void clear_slots(uint32_t cpu) {
  meet();
  if (cpu == 0) memset(slot, 0, sizeof slot);
  meet();
}

enum ordering { unordered, fenced, exchanged, serialized };
static void store_buffering(uint32_t cpu, enum ordering how) {
  uint32_t both_old = 0;
  for (uint32_t n = 0; n < rounds / 10; n++) {
    clear_slots(cpu);
    for (uint32_t i = 0; i < slots && cpu < 2; i++) {
      volatile uint32_t* const own = cpu == 0 ? &slot[i].x : &slot[i].y;
      volatile uint32_t* const other = cpu == 0 ? &slot[i].y : &slot[i].x;
      if (how == exchanged) {
        uint32_t one = 1;
        __asm__ volatile("xchgl %0, %1" : "+r"(one), "+m"(*own) : : "memory");
      } else {
        *own = 1;
      }
      if (how == fenced) fence();
      if (how == serialized) serialize();
      slot[i].seen[cpu] = *other;
    }
    meet();
    for (uint32_t i = 0; i < slots && cpu == 0; i++) both_old += !slot[i].seen[0] && !slot[i].seen[1];
  }
  if (cpu != 0) return;
  if (how == unordered)
    print("store buffering, as TSO allows: %u of %u\n", (uint64_t)both_old, (uint64_t)(rounds / 10 * slots));
  else
    CHECK(both_old, 0);
}

static void message_passing(uint32_t cpu) {
  for (uint32_t n = 0; n < rounds / 10; n++) {
    clear_slots(cpu);
    for (uint32_t i = 0; i < slots; i++) {
      if (cpu == 0) {
        slot[i].x = 1;
        slot[i].y = 1;
      } else {
        const uint32_t y = slot[i].y, x = slot[i].x;
        CHECK(y && !x, 0);
      }
    }
  }
}

// Two write, two read in opposite orders: they may not disagree about which came first.
static void independent_reads(uint32_t cpu) {
  if (cpus < 4) return;
  uint32_t disagreed = 0;
  for (uint32_t n = 0; n < rounds / 10; n++) {
    clear_slots(cpu);
    for (uint32_t i = 0; i < slots; i++) {
      if (cpu == 0) slot[i].x = 1;
      if (cpu == 1) slot[i].y = 1;
      if (cpu == 2) slot[i].seen[0] = slot[i].x, slot[i].seen[1] = slot[i].y;
      if (cpu == 3) slot[i].seen[2] = slot[i].y, slot[i].seen[3] = slot[i].x;
    }
    meet();
    for (uint32_t i = 0; i < slots && cpu == 0; i++)
      disagreed += slot[i].seen[0] && !slot[i].seen[1] && slot[i].seen[2] && !slot[i].seen[3];
  }
  if (cpu == 0) CHECK(disagreed, 0);
}

static void litmus(uint32_t cpu) {
  for (enum ordering how = unordered; how <= serialized; how++) store_buffering(cpu, how);
  message_passing(cpu);
  independent_reads(cpu);
}

// --- interrupts
// ---------------------------------------------------------------------------------------------

static void command(uint32_t to, uint32_t what) {
  local_apic[apic_command_high] = to << 24;
  local_apic[apic_command] = what;
}

static void sleep_until(volatile uint32_t* word, uint32_t value) {
  __asm__ volatile("cli");
  while (*word != value) __asm__ volatile("sti\n hlt\n cli" : : : "memory");
}

// There and back between the first two, both asleep in between; then to all others.
static void interrupts(uint32_t cpu) {
  local_apic[apic_format] = 0xffffffff;
  local_apic[apic_logical] = 1u << (cpu & 7) << 24;
  meet();
  // By number and by logical destination in turn.
  for (uint32_t i = 1; i <= rounds && cpu < 2; i++) {
    const uint32_t other = 1 - cpu;
    if (cpu == 0) command(i & 1 ? other : 1u << other, (i & 1 ? 0 : logical) | fixed | ping_vector);
    sleep_until(&counts[cpu][ping_vector], i);
    if (cpu == 1) command(i & 1 ? other : 1u << other, (i & 1 ? 0 : logical) | fixed | ping_vector);
  }
  meet();
  if (cpu == 0) {
    command(0, all_others | fixed | park_vector);
  } else {
    sleep_until(&counts[cpu][park_vector], 1);
  }
  meet();
  CHECK(counts[cpu][park_vector], cpu != 0);
  meet();
  // Lowest priority: who has the lowest task priority, and only one.
  local_apic[apic_priority] = cpu == cpus - 1 ? 0 : 0x70;
  meet();
  if (cpu == 0 && cpus <= 8) command(0xff, logical | lowest | lowest_vector);
  if (cpu == cpus - 1 && cpus <= 8) sleep_until(&counts[cpu][lowest_vector], 1);
  meet();
  local_apic[apic_priority] = 0;
  __asm__ volatile("sti\n nop\n nop\n cli" : : : "memory");
  if (cpus <= 8) CHECK(counts[cpu][lowest_vector], cpu == cpus - 1);
  meet();
  // NMI comes with interrupts off.
  if (cpu == 0)
    command(0, all_others | nmi);
  else
    while (!counts[cpu][2]) pause();
  meet();
  CHECK(counts[cpu][2], cpu != 0);
}

// --- translations taken back
// --------------------------------------------------------------------------------

enum { window = 0x60000000, first_frame = 0x2000000 };
static void shoot_down(uint32_t cpu) {
  volatile uint64_t* const seen = (volatile uint64_t*)window;
  if (cpu == 0) {
    for (uint64_t i = 0; i < 4; i++) *(volatile uint64_t*)(first_frame + i * 0x200000) = i;
    shot = window;
    directories[window / 0x200000] = first_frame | 0x83;
    flush_translations();
  }
  meet();
  if (cpu != 0) flush_translations();
  meet();
  for (uint32_t i = 0; i < rounds; i++) {
    CHECK(*seen, i % 4);
    meet();
    if (cpu == 0) {
      directories[window / 0x200000] = (first_frame + (i + 1) % 4 * 0x200000) | 0x83;
      __asm__ volatile("invlpg (%0)" : : "r"(shot) : "memory");
      const uint32_t before = shot_count;
      command(0, all_others | fixed | shoot_vector);
      while (shot_count != before + cpus - 1) pause();
    } else {
      // Others are busy reading, with interrupts on.
      const uint32_t before = counts[cpu][shoot_vector];
      __asm__ volatile("sti" : : : "memory");
      while (counts[cpu][shoot_vector] == before) (void)*seen;
      __asm__ volatile("cli" : : : "memory");
    }
    CHECK(*seen, (i + 1) % 4);
    meet();
  }
}

// Accessed and dirty bits set by several at once: none is lost, and nothing else of the entry.
static void dirty_bits(uint32_t cpu) {
  volatile uint64_t* const entry = &directories[window / 0x200000];
  for (uint32_t i = 0; i < rounds; i++) {
    if (cpu == 0) *entry = first_frame | 0x83;
    meet();
    flush_translations();
    meet();
    if (cpu % 2 == 0)
      (void)*(volatile uint64_t*)window;
    else
      *(volatile uint64_t*)(uintptr_t)(window + 64 * cpu) = i;
    meet();
    CHECK(*entry, first_frame | 0xe3);
    meet();
  }
}

// --- code that another changes
// ------------------------------------------------------------------------------

static uint8_t code[4096] __attribute__((aligned(4096)));  // mov $n, %eax; ret
static volatile uint32_t written;

static uint32_t call_code(uint32_t at) {
  uint32_t result;
  __asm__ volatile("call *%1" : "=a"(result) : "r"(code + at) : "memory", "cc");
  return result;
}
// The number is aligned: it is written in one piece.
static void write_code(uint32_t at, uint32_t value) {
  code[at + 3] = 0xb8;
  *(volatile uint32_t*)(code + at + 4) = value;
  code[at + 8] = 0xc3;
}

static void changed_code(uint32_t cpu) {
  if (cpu == 0) {
    memset(code, 0x90, sizeof code);
    write_code(0, 0);
    write_code(64, 0);
    written = 0;
  }
  meet();
  CHECK(call_code(0), 0);
  meet();
  // Said by a flag, with and (what this monitor promises, and compilers at run time count on) without
  // a serializing instruction.
  for (uint32_t i = 1; i <= rounds; i++) {
    if (cpu == i % cpus) {
      write_code(0, i);
      written = i;
    } else {
      while (written < i) pause();
      if (i & 1) serialize();
    }
    CHECK(call_code(0), i);
    meet();
  }
  // Run by others all the while: always one of the numbers written, never an older one again.
  if (cpu == 0) {
    for (uint32_t i = 1; i <= rounds * 10; i++) {
      *(volatile uint32_t*)(code + 64 + 4) = i;
      if (i % 16 == 0) (void)call_code(64);
    }
  } else {
    uint32_t last = 0;
    do {
      const uint32_t now = call_code(64);
      CHECK(now >= last && now <= rounds * 10, 1);
      last = now;
    } while (last != rounds * 10);
  }
  meet();
}

// --- starting
// -----------------------------------------------------------------------------------------------

static volatile uint32_t restarted;
static void run(uint32_t cpu) {
  meet();
  static const struct {
    const char* name;
    void (*run)(uint32_t cpu);
  } tests[] = {{"identity", identity},     {"times", times},           {"atomics", atomics},
               {"tearing", tearing},       {"litmus", litmus},         {"interrupts", interrupts},
               {"shoot_down", shoot_down}, {"dirty_bits", dirty_bits}, {"changed_code", changed_code}};
  for (unsigned i = 0; i < sizeof tests / sizeof *tests; i++) {
    const uint64_t before = read_tsc();
    tests[i].run(cpu);
    meet();
    if (cpu == 0) print("%s: %u million cycles\n", tests[i].name, (read_tsc() - before) / 1000000);
    meet();
  }
}

void other_main(void) {
  local_apic[apic_spurious] = 0x1ff;
  // The first life of each but one ends in an endless loop, out of which INIT takes it.
  if (restarted == 0) {
    add(&present, 1);
    for (;;) pause();
  }
  add(&present, 1);
  run(own_id());
  for (;;) __asm__ volatile("cli\n hlt");
}

static void delay(uint64_t cycles) {
  const uint64_t until = read_tsc() + cycles;
  while (read_tsc() < until) pause();
}

static void start_all(void) {
  present = 0;
  for (uint32_t i = 1; i < cpus; i++) {
    command(i, init);
    delay(100000);
    command(i, start_up | trampoline >> 12);
    delay(100000);
    command(i, start_up | trampoline >> 12);  // the second finds it running, and does nothing
  }
  while (present != cpus - 1) pause();
}

uint32_t main(uint32_t magic, uint32_t information) {
  (void)magic;
  const uint32_t* info = (const uint32_t*)(uintptr_t)information;
  const char* line = info[0] & 4 ? (const char*)(uintptr_t)info[4] : "";
  cpus = (uint32_t)number_after(line, "cpus", 2);
  rounds = (uint32_t)number_after(line, "rounds", 200);
  place_trampoline();
  write_msr(0x1b, read_msr(0x1b) | 0x800);
  local_apic[apic_spurious] = 0x1ff;
  start_all();
  restarted = 1;
  start_all();
  run(0);
  return verdict("processors");
}
