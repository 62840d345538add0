// Faults of every kind a user program can cause: the signal, its code and address, the vector and error code,
// and the instruction pointer must be those of the processor, and nothing of the faulting instruction may
// have happened.
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "check.h"

enum { page = 4096 };
enum vector { DE = 0, DB = 1, BP = 3, UD = 6, SS = 12, GP = 13, PF = 14, MF = 16, AC = 17, XM = 19 };

static sigjmp_buf back;
static volatile struct {
  int number, code;
  uintptr_t address;
  gregset_t registers;
} seen;

static void on_signal(int number, siginfo_t* info, void* context) {
  seen.number = number;
  seen.code = info->si_code;
  seen.address = (uintptr_t)info->si_addr;
  memcpy((void*)seen.registers, ((ucontext_t*)context)->uc_mcontext.gregs, sizeof seen.registers);
  siglongjmp(back, 1);
}

// Each case is a function of two arguments (rdi, rsi); NAME_at marks the instruction that faults.
#define CASE(name, text)           \
  void name(uintptr_t, uintptr_t); \
  extern char name##_at[];         \
  __asm__(".pushsection .text\n.globl " #name "\n" #name ":\n" text "\n.popsection")
#define AT(name) "\n.globl " #name "_at\n" #name "_at: "

CASE(load, AT(load) "movl (%rdi), %eax\n ret");
CASE(store, AT(store) "movl $1, (%rdi)\n ret");
CASE(add_to, "mov $5, %eax\n stc" AT(add_to) "adcl %eax, (%rdi)\n ret");
CASE(compare_exchange, "xor %eax, %eax" AT(compare_exchange) "lock cmpxchgl %esi, (%rdi)\n ret");
CASE(jump_there, "mov %rsp, %rsi\n jmp *%rdi" AT(jump_there) "ret");
CASE(call_there, "call *%rdi" AT(call_there) "ret");
CASE(push_there, "mov %rdi, %rsp" AT(push_there) "push %rsi\n hlt");
CASE(load_vector, AT(load_vector) "movaps (%rdi), %xmm0\n ret");
CASE(copy_bytes, "mov $4096, %ecx\n mov %rdi, %rax\n mov %rsi, %rdi\n mov %rax, %rsi\n cld" AT(
                     copy_bytes) "rep movsb\n ret");
CASE(undefined, AT(undefined) "ud2\n ret");
CASE(breakpoint, "int3" AT(breakpoint) "ret");
CASE(halt, AT(halt) "hlt\n ret");
CASE(mask_interrupts, AT(mask_interrupts) "cli\n ret");
CASE(read_port, "mov $0x60, %dx" AT(read_port) "inb %dx, %al\n ret");
CASE(write_port, "mov $0xf4, %dx" AT(write_port) "outl %eax, %dx\n ret");
CASE(read_cr0, AT(read_cr0) "mov %cr0, %rax\n ret");
CASE(write_cr3, AT(write_cr3) "mov %rax, %cr3\n ret");
CASE(read_msr, "mov $0xc0000080, %ecx" AT(read_msr) "rdmsr\n ret");
CASE(write_msr, "mov $0xc0000080, %ecx" AT(write_msr) "wrmsr\n ret");
CASE(load_idt, AT(load_idt) "lidt (%rdi)\n ret");
CASE(invalidate, AT(invalidate) "invlpg (%rdi)\n ret");
CASE(invalidate_caches, AT(invalidate_caches) "wbinvd\n ret");
CASE(clear_ts, AT(clear_ts) "clts\n ret");
CASE(return_from_interrupt_to_kernel,
     "mov %rsp, %rax\n pushq $0x18\n push %rax\n pushfq\n pushq $0x10\n lea 1f(%rip), %rax\n push %rax" AT(
         return_from_interrupt_to_kernel) "iretq\n 1: ret");
CASE(swap_gs, AT(swap_gs) "swapgs\n ret");
CASE(system_return, AT(system_return) "sysretq\n ret");
CASE(wrong_gate, AT(wrong_gate) "int $0x40\n ret");
CASE(wrong_selector, "mov $0xfff0, %eax" AT(wrong_selector) "mov %eax, %ds\n ret");
CASE(lock_on_register, AT(lock_on_register) ".byte 0xf0, 0x01, 0xc0\n ret");  // lock add %eax, %eax
CASE(too_long, AT(too_long) ".fill 15, 1, 0x66\n nop\n ret");
CASE(divide_by_zero, "xor %ecx, %ecx" AT(divide_by_zero) "div %ecx\n ret");
CASE(float_divide_by_zero, "fninit\n movw $0x37b, -2(%rsp)\n fldcw -2(%rsp)\n fld1\n fldz\n fdivrp" AT(
                               float_divide_by_zero) "fwait\n ret");
CASE(
    vector_divide_by_zero,
    "movl $0x1d80, -4(%rsp)\n ldmxcsr -4(%rsp)\n xorps %xmm1, %xmm1\n mov $1, %eax\n cvtsi2ss %eax, %xmm0" AT(
        vector_divide_by_zero) "divss %xmm1, %xmm0\n ret");

enum { any = -1 };
struct expectation {
  const char* name;
  void (*run)(uintptr_t, uintptr_t);
  const char* at;
  int number, code;
  enum vector vector;
  long error;  // `any` where processors differ
};
#define WANT(name, ...) ((struct expectation){#name, name, name##_at, __VA_ARGS__})

// Runs one case; false if it did not fault. Its address is checked against `address` unless that is `any`.
static void expect(struct expectation want, uintptr_t first, uintptr_t second, uintptr_t address) {
  if (!sigsetjmp(back, 1)) {
    want.run(first, second);
    failed_checks++;
    printf("%s: did not fault\n", want.name);
    return;
  }
  __asm__ volatile("fninit");
  const unsigned mxcsr = 0x1f80;
  __asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
  const int right = seen.number == want.number && seen.code == want.code && seen.address == address &&
                    seen.registers[REG_TRAPNO] == want.vector &&
                    (want.error == any || seen.registers[REG_ERR] == want.error) &&
                    seen.registers[REG_RIP] == (greg_t)want.at;
  if (right) return;
  failed_checks++;
  printf(
      "%s: signal %d code %#x address %#lx vector %lld error %#llx at +%lld, wanted signal %d code %#x "
      "address %#lx vector %d error %#lx at +0\n",
      want.name, seen.number, seen.code, seen.address, seen.registers[REG_TRAPNO], seen.registers[REG_ERR],
      seen.registers[REG_RIP] - (greg_t)want.at, want.number, want.code, address, want.vector, want.error);
}

#define HERE(name) ((uintptr_t)name##_at)
enum { kernel_says = SI_KERNEL, not_mapped = SEGV_MAPERR, not_allowed = SEGV_ACCERR };
enum { present = 1, write_access = 2, user = 4, fetch = 16 };

static uint8_t* memory;  // [0] read-write, [1] read-only, [2] not mapped, [3] read-write, not executable

static void page_faults(void) {
  const uintptr_t writable = (uintptr_t)memory, read_only = writable + page, unmapped = writable + 2 * page;
  const uintptr_t non_canonical = 0x800000000000;
  expect(WANT(load, SIGSEGV, not_mapped, PF, user), 8, 0, 8);
  expect(WANT(store, SIGSEGV, not_mapped, PF, user | write_access), 16, 0, 16);
  expect(WANT(load, SIGSEGV, not_mapped, PF, user), unmapped + 12, 0, unmapped + 12);
  expect(WANT(store, SIGSEGV, not_allowed, PF, user | write_access | present), read_only + 4, 0,
         read_only + 4);
  expect(WANT(load, SIGSEGV, kernel_says, GP, 0), non_canonical, 0, 0);
  expect(WANT(store, SIGSEGV, kernel_says, GP, 0), ~non_canonical, 0, 0);
  // In the kernel's half Linux always adds "present", so that a program does not learn which pages are there.
  expect(WANT(load, SIGSEGV, not_mapped, PF, user | present), 0xffff888000000000, 0, 0xffff888000000000);

  expect(WANT(add_to, SIGSEGV, not_allowed, PF, user | write_access | present), read_only, 0, read_only);
  CHECK_EQUAL(seen.registers[REG_EFL] & 1, 1);  // the carry that went in
  CHECK_EQUAL(seen.registers[REG_RAX], 5);
  expect(WANT(compare_exchange, SIGSEGV, not_allowed, PF, user | write_access | present), read_only, 9,
         read_only);

  // Over a page's end: the address is the first byte that cannot be reached, and the reachable part is
  // untouched.
  const uintptr_t edge = unmapped + page - 2;  // page 2 is not there, page 3 is
  expect(WANT(load, SIGSEGV, not_mapped, PF, user), edge, 0, edge);
  const uintptr_t second_edge = writable + page - 2;  // page 0 takes stores, page 1 does not
  memset(memory + page - 4, 0x77, 4);
  expect(WANT(store, SIGSEGV, not_allowed, PF, user | write_access | present), second_edge, 0, read_only);
  CHECK_EQUAL(memory[page - 2], 0x77);
  CHECK_EQUAL(memory[page - 1], 0x77);
  expect(WANT(add_to, SIGSEGV, not_allowed, PF, user | write_access | present), second_edge, 0, read_only);
  CHECK_EQUAL(memory[page - 1], 0x77);

  // A string instruction stops in the middle, with its registers at the element that failed.
  expect(WANT(copy_bytes, SIGSEGV, not_allowed, PF, user | write_access | present), writable,
         writable + page - 100, read_only);
  CHECK_EQUAL(seen.registers[REG_RCX], 4096 - 100);
  CHECK_EQUAL(seen.registers[REG_RDI], read_only);
  CHECK_EQUAL(seen.registers[REG_RSI], writable + 100);

  expect(WANT(push_there, SIGSEGV, not_mapped, PF, user | write_access), unmapped + 64, 1, unmapped + 56);
  CHECK_EQUAL(seen.registers[REG_RSP], unmapped + 64);
  expect(WANT(push_there, SIGBUS, kernel_says, SS, 0), non_canonical + 8, 1, 0);
  CHECK_EQUAL(seen.registers[REG_RSP], non_canonical + 8);
}

static void fetch_faults(void) {
  const uintptr_t data = (uintptr_t)memory + 3 * page, unmapped = (uintptr_t)memory + 2 * page;
  memset((void*)data, 0xc3, 64);
  struct expectation want = {"jump to data", jump_there, (const char*)data,     SIGSEGV,
                             not_allowed,    PF,         user | present | fetch};
  expect(want, data, 0, data);
  CHECK_EQUAL(seen.registers[REG_RSI], seen.registers[REG_RSP]);
  want = (struct expectation){"jump nowhere", jump_there, (const char*)unmapped + 3, SIGSEGV, not_mapped, PF,
                              user | fetch};
  expect(want, unmapped + 3, 0, unmapped + 3);
  want = (struct expectation){"call nowhere", call_there, (const char*)unmapped + 9, SIGSEGV, not_mapped, PF,
                              user | fetch};
  expect(want, unmapped + 9, 0, unmapped + 9);

  // An instruction that begins on the last bytes of a page whose successor is not there.
  uint8_t* code =
      mmap(NULL, 2 * page, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  munmap(code + page, page);
  memcpy(code + page - 2, "\xb8\x01", 2);  // mov $…, %eax, cut short
  want = (struct expectation){
      "fetch over the edge", jump_there, (char*)code + page - 2, SIGSEGV, not_mapped, PF, user | fetch};
  expect(want, (uintptr_t)code + page - 2, 0, (uintptr_t)code + page);
  munmap(code, page);
}

static void other_faults(void) {
  expect(WANT(load_vector, SIGSEGV, kernel_says, GP, 0), (uintptr_t)memory + 8, 0, 0);
  expect(WANT(undefined, SIGILL, ILL_ILLOPN, UD, 0), 0, 0, HERE(undefined));
  expect(WANT(lock_on_register, SIGILL, ILL_ILLOPN, UD, 0), 0, 0, HERE(lock_on_register));
  expect(WANT(too_long, SIGSEGV, kernel_says, GP, 0), 0, 0, 0);
  expect(WANT(breakpoint, SIGTRAP, kernel_says, BP, 0), 0, 0, 0);
  expect(WANT(divide_by_zero, SIGFPE, FPE_INTDIV, DE, 0), 0, 0, HERE(divide_by_zero));
  expect(WANT(float_divide_by_zero, SIGFPE, FPE_FLTDIV, MF, 0), 0, 0, HERE(float_divide_by_zero));
  expect(WANT(vector_divide_by_zero, SIGFPE, FPE_FLTDIV, XM, 0), 0, 0, HERE(vector_divide_by_zero));
  expect(WANT(wrong_gate, SIGSEGV, kernel_says, GP, 0x40 * 8 + 2), 0, 0, 0);
  expect(WANT(wrong_selector, SIGSEGV, kernel_says, GP, 0xfff0), 0, 0, 0);
}

static void privileged(void) {
  const struct expectation all[] = {
      WANT(halt, SIGSEGV, kernel_says, GP, 0),
      WANT(mask_interrupts, SIGSEGV, kernel_says, GP, 0),
      WANT(read_port, SIGSEGV, kernel_says, GP, 0),
      WANT(write_port, SIGSEGV, kernel_says, GP, 0),
      WANT(read_cr0, SIGSEGV, kernel_says, GP, 0),
      WANT(write_cr3, SIGSEGV, kernel_says, GP, 0),
      WANT(read_msr, SIGSEGV, kernel_says, GP, 0),
      WANT(write_msr, SIGSEGV, kernel_says, GP, 0),
      WANT(load_idt, SIGSEGV, kernel_says, GP, 0),
      WANT(invalidate, SIGSEGV, kernel_says, GP, 0),
      WANT(clear_ts, SIGSEGV, kernel_says, GP, 0),
      WANT(invalidate_caches, SIGSEGV, kernel_says, GP, 0),
      WANT(swap_gs, SIGSEGV, kernel_says, GP, 0),
      WANT(system_return, SIGSEGV, kernel_says, GP, 0),
      WANT(return_from_interrupt_to_kernel, SIGSEGV, kernel_says, GP, 0x10),
  };
  for (unsigned i = 0; i < sizeof all / sizeof *all; i++) expect(all[i], (uintptr_t)memory, 0, 0);
}

static void beyond_end_of_file(void) {
  int file = memfd_create("short", 0);
  CHECK_EQUAL(ftruncate(file, 1), 0);
  uint8_t* map = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  expect(WANT(load, SIGBUS, BUS_ADRERR, PF, any), (uintptr_t)map + page, 0, (uintptr_t)map + page);
  munmap(map, 2 * page), close(file);
}

static void many(void) {
  for (volatile int i = 0; i < 3000; i++)
    expect(WANT(store, SIGSEGV, not_mapped, PF, user | write_access), 0x1000 + (uintptr_t)i, 0,
           0x1000 + (uintptr_t)i);
}

int main(void) {
  static uint8_t stack[65536];
  const stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
  sigaltstack(&other, NULL);
  struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
  for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++) sigaction(signals[i], &action, NULL);
  memory = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memset(memory, 1, 4 * page);
  mprotect(memory + page, page, PROT_READ);
  munmap(memory + 2 * page, page);

  page_faults();
  fetch_faults();
  other_faults();
  privileged();
  beyond_end_of_file();
  many();
  return verdict("faults");
}
