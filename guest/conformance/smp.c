// The other processors: started by INIT and SIPI, each waits for work. Cases use start_processors() and
// run_on().
#include "suite.h"
#define GROUP "smp"

enum { most = 8, trampoline = 0x8000 };
uint32_t processors;
uint8_t ap_stacks[most][16384] __attribute__((aligned(16)));
uint32_t ap_next;
static volatile uint32_t present;
static struct work {
  void (*volatile function)(void*);
  void* argument;
} work[most];

extern const char ap_begin[], ap_end[];
__asm__(
    ".pushsection .rodata\n .code16\nap_begin:\n cli\n xor %ax, %ax\n mov %ax, %ds\n"
    " lgdtl 0x8000 + ap_gdt - ap_begin\n"
    " mov %cr4, %eax\n or $0x20, %eax\n mov %eax, %cr4\n"
    " mov $root, %eax\n mov %eax, %cr3\n"
    " mov $0xc0000080, %ecx\n rdmsr\n or $0x900, %eax\n wrmsr\n"
    " mov $0x80010033, %eax\n mov %eax, %cr0\n ljmpl $8, $ap_long\n"
    "ap_gdt: .word 0xff\n .long table\nap_end:\n .popsection\n"
    ".pushsection .text\n .code64\nap_long:\n"
    " mov $0x10, %eax\n mov %eax, %ds\n mov %eax, %es\n mov %eax, %ss\n xor %eax, %eax\n mov %eax, %fs\n mov "
    "%eax, %gs\n"
    " mov $1, %eax\n lock xadd %eax, ap_next\n and $7, %eax\n inc %eax\n shl $14, %eax\n lea "
    "ap_stacks(%rax), %rsp\n"
    " xor %ebp, %ebp\n call ap_main\n1: hlt\n jmp 1b\n .popsection\n");

uint32_t this_processor(void) {
  const uint64_t at = (uint64_t)__builtin_frame_address(0) - (uint64_t)ap_stacks;
  return at < sizeof ap_stacks ? 1 : 0;
}

static uint32_t own_id(void) {
  return read_msr(msr_apic_base) & 0x400 ? (uint32_t)read_msr(0x802) : APIC(apic_id) >> 24;
}

void ap_main(void);
void ap_main(void) {
  const struct {
    uint16_t limit;
    uint64_t base;
  } __attribute__((packed)) pointer = {sizeof idt - 1, (uint64_t)idt};
  __asm__ volatile("lidt %0" : : "m"(pointer));
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
  memcpy((void*)trampoline, ap_begin, (size_t)(ap_end - ap_begin));
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
