// A 64-bit program that goes where few go: far transfers into 32-bit code and back, the same bytes run in
// both modes, segments of its own with a base and a limit, FS and GS bases, x87 state across modes.
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <asm/prctl.h>
#include <elf.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "check.h"

enum { user_code_32 = 0x23, user_data = 0x2b, user_code_64 = 0x33 };  // Linux's selectors

static uint8_t low_stack[65536]
    __attribute__((aligned(16)));  // a static, not relocated program lies below 4 GiB
uint64_t modes_saved_stack;
uint32_t modes_far_pointer[2];

// eax = what the far routine at (selector:offset), run on a low stack, leaves; ecx = argument. It ends with
// the far jump of `modes_home`, an address below 4 GiB.
uint32_t far_run(uint32_t selector, uint32_t offset, uint32_t argument, void* stack_top);
extern char modes_home[];
__asm__(
    ".text\n.globl far_run\nfar_run:\n"
    "push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
    "mov %rsp, modes_saved_stack(%rip)\n"
    "mov %esi, modes_far_pointer(%rip)\n mov %edi, 4+modes_far_pointer(%rip)\n"
    "mov %rcx, %rsp\n mov %edx, %ecx\n"
    "ljmpl *modes_far_pointer(%rip)\n"
    ".globl modes_home\nmodes_home:\n"  // back in 64-bit mode
    "mov modes_saved_stack(%rip), %rsp\n"
    "pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n"
    "mov %eax, %eax\n ret\n"

    // 32-bit: 0x48 is `dec %eax` here and a REX prefix there; a system call; push and pop of four bytes.
    ".code32\n"
    ".globl modes_code_32\nmodes_code_32:\n"
    "mov %ecx, %ebx\n mov $20, %eax\n int $0x80\n"  // getpid
    "push %eax\n add %ebx, (%esp)\n pop %eax\n"
    "ljmp $0x33, $modes_home\n"
    ".globl modes_call_both\nmodes_call_both:\n"
    "mov %ecx, %eax\n call modes_both\n ljmp $0x33, $modes_home\n"
    ".globl modes_load_32\nmodes_load_32:\n"
    "mov %ecx, %ds\n"
    ".globl modes_fault_32\nmodes_fault_32:\n"
    "movl $1, 0x10\n ljmp $0x33, $modes_home\n"
    ".code64\n"
    ".globl modes_both\nmodes_both:\n"
    ".byte 0x48, 0xff, 0xc0\n"  // 64: inc %rax; 32: dec %eax, inc %eax
    "ret\n");
extern char modes_code_32[], modes_call_both[], modes_load_32[], modes_fault_32[], modes_both[];
uint64_t modes_both_64(uint64_t value);
__asm__(".globl modes_both_64\nmodes_both_64: mov %rdi, %rax\n jmp modes_both");

static uint32_t run_32(const char* code, uint32_t argument) {
  return far_run(user_code_32, (uint32_t)(uintptr_t)code, argument, low_stack + sizeof low_stack - 64);
}

static volatile int faults;
static volatile uint64_t fault_cs, fault_rip, fault_address, fault_error, fault_vector;
static void on_fault(int number, siginfo_t* info, void* context) {
  (void)number;
  greg_t* registers = ((ucontext_t*)context)->uc_mcontext.gregs;
  faults++;
  fault_cs = (uint64_t)registers[REG_CSGSFS] & 0xffff;
  fault_rip = (uint64_t)registers[REG_RIP];
  fault_error = (uint64_t)registers[REG_ERR];
  fault_vector = (uint64_t)registers[REG_TRAPNO];
  fault_address = (uintptr_t)info->si_addr;
  registers[REG_RAX] = 0x600d;
  registers[REG_RIP] = (greg_t)modes_home;
  registers[REG_CSGSFS] = (registers[REG_CSGSFS] & ~0xffffll) | user_code_64;
}

static void far_transfers(void) {
  for (uint32_t i = 0; i < 2000; i++) CHECK_EQUAL(run_32(modes_code_32, i), (uint32_t)getpid() + i);
  for (uint32_t i = 0; i < 2000; i++) {
    if (run_32(modes_call_both, i) != i)
      return (void)(failed_checks++, printf("32-bit code ran as 64-bit\n"));
    if (modes_both_64(i) != i + 1) return (void)(failed_checks++, printf("64-bit code ran as 32-bit\n"));
  }
  // Where 64-bit mode ignores DS, 32-bit mode does not: through a null selector nothing is reached.
  const struct {
    uint32_t selector;
    uint64_t vector, address;
  } stores[] = {{0, 13, 0}, {user_data, 14, 0x10}, {3, 13, 0}};
  for (unsigned i = 0; i < 3; i++) {
    faults = 0;
    CHECK_EQUAL(run_32(modes_load_32, stores[i].selector), 0x600d);
    CHECK_EQUAL(faults, 1);
    CHECK_EQUAL(fault_vector, stores[i].vector);
    CHECK_EQUAL(fault_address, stores[i].address);
    CHECK_EQUAL(fault_cs, user_code_32);
    CHECK_EQUAL(fault_rip, (uintptr_t)modes_fault_32);
  }
}

static uint16_t make_segment(unsigned entry, uint32_t base, uint32_t limit, unsigned contents, int is_32) {
  struct user_desc segment = {.entry_number = entry,
                              .base_addr = base,
                              .limit = limit,
                              .seg_32bit = is_32 != 0,
                              .contents = contents,
                              .useable = 1};
  if (syscall(SYS_modify_ldt, 1, &segment, sizeof segment) != 0) return 0;
  return (uint16_t)(entry << 3 | 7);
}

// Code of our own segment, with a base: offsets are the segment's, addresses base + offset.
static void own_segments(void) {
  uint8_t* code =
      mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  const uint32_t base = (uint32_t)(uintptr_t)code;
  const uint16_t data = make_segment(1, base, 0xff, MODIFY_LDT_CONTENTS_DATA, 1);
  const uint16_t code_32 = make_segment(2, base, 0xfff, MODIFY_LDT_CONTENTS_CODE, 1);
  const uint16_t code_16 = make_segment(3, base, 0xfff, MODIFY_LDT_CONTENTS_CODE, 0);
  if (!data) return (void)printf("modes: this kernel has no LDT; segments are not tested\n");
  CHECK(code_32 != 0);

  // mov $data, %ax; mov %ax, %gs; mov %gs:(%ecx), %eax; ljmp home
  uint8_t text[] = {0x66, 0xb8, (uint8_t)data, 0, 0x8e, 0xe8, 0x65, 0x8b, 0x01, 0xea, 0, 0,
                    0,    0,    user_code_64,  0};
  const uint32_t home = (uint32_t)(uintptr_t)modes_home;
  memcpy(text + 10, &home, 4);
  memcpy(code + 0x200, text, sizeof text);
  *(uint32_t*)(code + 0x10) = 0xc0ffee;
  *(uint32_t*)(code + 0xfc) = 0xbeef;
  CHECK_EQUAL(far_run(code_32, 0x200, 0x10, low_stack + sizeof low_stack - 64), 0xc0ffee);
  CHECK_EQUAL(far_run(code_32, 0x200, 0xfc, low_stack + sizeof low_stack - 64), 0xbeef);
  faults = 0;
  CHECK_EQUAL(far_run(code_32, 0x200, 0xfd, low_stack + sizeof low_stack - 64),
              0x600d);  // one byte over the limit
  CHECK_EQUAL(faults, 1);
  CHECK_EQUAL(fault_vector, 13);
  CHECK_EQUAL(fault_cs, code_32);
  CHECK_EQUAL(fault_rip, 0x206);
  CHECK_EQUAL(fault_error, 0);

  // The same in a 16-bit code segment: mov $data, %ax; mov %ax, %gs; mov %gs:(%bx), %ax with bx = cx; ljmpl
  // home
  if (code_16) {
    uint8_t text_16[] = {0xb8, (uint8_t)data, 0,    0x8e, 0xe8, 0x89, 0xcb, 0x66, 0x31,         0xc0, 0x65,
                         0x8b, 0x07,          0x66, 0xea, 0,    0,    0,    0,    user_code_64, 0};
    memcpy(text_16 + 15, &home, 4);
    memcpy(code + 0x300, text_16, sizeof text_16);
    CHECK_EQUAL(far_run(code_16, 0x300, 0xabcd0010, low_stack + sizeof low_stack - 64), 0xffee);
  }

  // In 64-bit mode a selector loaded into GS brings its base; the limit means nothing there.
  uint32_t value;
  __asm__ volatile("mov %1, %%gs\n mov %%gs:0x10, %0" : "=r"(value) : "r"((uint32_t)data));
  CHECK_EQUAL(value, 0xc0ffee);
  *(uint32_t*)(code + 0x1000) = 77;
  __asm__ volatile("mov %%gs:0x1000, %0" : "=r"(value));
  CHECK_EQUAL(value, 77);
  uint32_t limit = 0;
  __asm__ volatile("lsl %1, %0" : "+r"(limit) : "r"((uint32_t)data) : "cc");
  CHECK_EQUAL(limit, 0xff);
  uint8_t readable, writable;
  __asm__ volatile("verr %w2\n setz %0\n verw %w3\n setz %1"
                   : "=&q"(readable), "=&q"(writable)
                   : "r"((uint32_t)data), "r"((uint32_t)code_32)
                   : "cc");
  CHECK_EQUAL(readable, 1);
  CHECK_EQUAL(writable, 0);
  __asm__ volatile("mov %0, %%gs" : : "r"(0));
}

static void bases(void) {
  static uint64_t here[4] = {11, 22, 33, 44};
  uint64_t value, base = 0;
  CHECK_EQUAL(syscall(SYS_arch_prctl, ARCH_SET_GS, (uintptr_t)here), 0);
  __asm__ volatile("mov %%gs:8, %0" : "=r"(value));
  CHECK_EQUAL(value, 22);
  __asm__ volatile("mov %%gs:(%1), %0" : "=r"(value) : "r"(24ull));
  CHECK_EQUAL(value, 44);
  __asm__ volatile("addr32 mov %%gs:(%k1), %0" : "=r"(value) : "r"(0xffffffff00000010ull));
  CHECK_EQUAL(value, 33);
  if (getauxval(AT_HWCAP2) & 2) {  // the kernel lets programs use WRGSBASE
    __asm__ volatile("wrgsbase %1\n rdgsbase %0" : "=r"(base) : "r"((uintptr_t)(here + 1)));
    CHECK_EQUAL(base, (uintptr_t)(here + 1));
    for (int i = 0; i < 100; i++) {
      getppid();
      __asm__ volatile("mov %%gs:8, %0" : "=r"(value));
      CHECK_EQUAL(value, 33);
    }
    CHECK_EQUAL(syscall(SYS_arch_prctl, ARCH_GET_GS, &base), 0);
    CHECK_EQUAL(base, (uintptr_t)(here + 1));
  }
}

int main(void) {
  static uint8_t stack[65536];
  const stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
  sigaltstack(&other, NULL);
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  sigaction(SIGSEGV, &action, NULL);
  far_transfers();
  bases();
  own_segments();
  return verdict("modes");
}
