// Exceptions as a kernel sees them: vectors, error codes, saved state, page-fault addresses, accessed and
// dirty bits, debug registers, double fault, system calls; in kernel and in user mode.
#include <cpuid.h>

#include "guarded.h"

void on_interrupt(struct frame* frame) {
  if (!end_guarded(frame)) unexpected(frame);
}

enum {
  DE = 0,
  DB = 1,
  BP = 3,
  UD = 6,
  NM = 7,
  DF = 8,
  NP = 11,
  SS = 12,
  GP = 13,
  PF = 14,
  MF = 16,
  AC = 17,
  XM = 19
};
enum { present = 1, writes = 2, user = 4, reserved = 8, fetches = 16 };

#define WANT(vector_, error_)          \
  do {                                 \
    CHECK_EQUAL(seen.vector, vector_); \
    CHECK_EQUAL(seen.error, error_);   \
  } while (0)

static uint64_t cr2(void) {
  uint64_t value;
  __asm__ volatile("mov %%cr2, %0" : "=r"(value));
  return value;
}
static uint64_t cr0(void) {
  uint64_t value;
  __asm__ volatile("mov %%cr0, %0" : "=r"(value));
  return value;
}
static void set_cr0(uint64_t value) {
  __asm__ volatile("mov %0, %%cr0" : : "r"(value) : "memory");
}
static uint64_t cr4(void) {
  uint64_t value;
  __asm__ volatile("mov %%cr4, %0" : "=r"(value));
  return value;
}
static void set_cr4(uint64_t value) {
  __asm__ volatile("mov %0, %%cr4" : : "r"(value) : "memory");
}

static void divide(uint64_t by) {
  uint32_t a = 1, d = 0;
  __asm__ volatile("divl %k2" : "+a"(a), "+d"(d) : "r"(by));
}
static void undefined(uint64_t unused) {
  (void)unused;
  __asm__ volatile("ud2");
}
static void breakpoint(uint64_t unused) {
  (void)unused;
  __asm__ volatile("int3");
}
static void load_ds(uint64_t selector) {
  __asm__ volatile("mov %k0, %%ds" : : "r"(selector));
}
static void load_tr(uint64_t selector) {
  __asm__ volatile("ltr %w0" : : "r"(selector));
}
static void far_jump(uint64_t selector) {
  const struct {
    uint32_t offset;
    uint16_t selector;
  } __attribute__((packed)) target = {0x100000, (uint16_t)selector};
  __asm__ volatile("ljmpl *%0" : : "m"(target));
}
static void read(uint64_t address) {
  *(volatile uint64_t*)address;
}
static void write(uint64_t address) {
  *(volatile uint64_t*)address = 1;
}
static void call(uint64_t address) {
  ((void (*)(void))address)();
}
static void push_at(uint64_t stack) {
  __asm__ volatile("mov %0, %%rsp\n push %%rax" : : "r"(stack));
}
static void write_cr0(uint64_t value) {
  set_cr0(value);
}
static void write_cr3(uint64_t value) {
  __asm__ volatile("mov %0, %%cr3" : : "r"(value));
}
static void write_cr4(uint64_t value) {
  set_cr4(value);
}
static void write_efer(uint64_t value) {
  write_msr(0xc0000080, value);
}
static void write_gs_base(uint64_t value) {
  write_msr(0xc0000101, value);
}
static void read_any_msr(uint64_t msr) {
  read_msr((uint32_t)msr);
}
static void x87(uint64_t unused) {
  (void)unused;
  __asm__ volatile("fninit");
}
static void sse(uint64_t unused) {
  (void)unused;
  __asm__ volatile("xorps %xmm0, %xmm0");
}
static void iret_to(uint64_t cs) {
  __asm__ volatile("pushq $0\n pushq $0\n pushfq\n push %0\n pushq $0x100000\n iretq" : : "r"(cs));
}

static void plain(void) {
  guarded(divide, 0);
  WANT(DE, 0);
  CHECK_EQUAL(seen.rax, 1);
  guarded(undefined, 0);
  WANT(UD, 0);
  guarded(breakpoint, 0);
  WANT(BP, 0);
  CHECK_EQUAL(*(const uint8_t*)(seen.rip - 1), 0xcc);
  guarded(divide, 1);
  CHECK_EQUAL(seen.vector, none);
}

static void selectors(void) {
  guarded(load_ds, 0xfff0);
  WANT(GP, 0xfff0);
  guarded(load_ds, 0xfff3);
  WANT(GP, 0xfff0);
  guarded(load_ds, 0x14);  // the local table, which is empty
  WANT(GP, 0x14);
  guarded(load_ds, 0);
  CHECK_EQUAL(seen.vector, none);
  guarded(load_ds, kernel_data);
  CHECK_EQUAL(seen.vector, none);
  guarded(load_tr, task);  // busy
  WANT(GP, task);
  guarded(far_jump, absent_code);
  WANT(NP, absent_code);
  guarded(far_jump, kernel_data);
  WANT(GP, kernel_data);
  guarded(far_jump, user_code_64);
  WANT(GP, user_code_64 & ~3u);
  guarded(iret_to, kernel_data);
  WANT(GP, kernel_data);
}

static void control_registers(void) {
  guarded(write_cr0, cr0() & ~1ull);  // paging without protection
  WANT(GP, 0);
  guarded(write_cr0, cr0() | 1ull << 40);
  WANT(GP, 0);
  guarded(write_cr4, cr4() | 1ull << 31);
  WANT(GP, 0);
  guarded(write_cr4, cr4() & ~0x20ull);  // long mode without PAE
  WANT(GP, 0);
  guarded(write_cr3, 1ull << 60);
  WANT(GP, 0);
  guarded(write_efer, read_msr(0xc0000080) | 1ull << 2);
  WANT(GP, 0);
  guarded(write_gs_base, 1ull << 60);
  WANT(GP, 0);
  guarded(read_any_msr, 0x4b564dff);
  WANT(GP, 0);
  const uint64_t old = cr0();
  set_cr0(old | 8);  // TS
  guarded(x87, 0);
  WANT(NM, 0);
  set_cr4(cr4() | 0x200);
  guarded(sse, 0);
  WANT(NM, 0);
  __asm__ volatile("clts");
  guarded(sse, 0);
  CHECK_EQUAL(seen.vector, none);
  set_cr4(cr4() & ~0x200ull);  // no OSFXSR: SSE does not exist
  guarded(sse, 0);
  WANT(UD, 0);
  set_cr0(old);
}

enum { test_page = 0xa00000 };
static void set_page(uint64_t entry) {
  directories[test_page >> 21] = entry;
  flush_translations();
}

static void paging(void) {
  const uint64_t writable = test_page | 0x83, accessed = 0x20, dirty = 0x40, no_execute = 1ull << 63;
  volatile uint64_t* entry = &directories[test_page >> 21];
  set_page(writable & ~1ull);
  guarded(read, test_page + 5);
  WANT(PF, 0);
  CHECK_EQUAL(cr2(), test_page + 5);
  guarded(write, test_page + 0x1fffff);
  WANT(PF, writes);
  CHECK_EQUAL(cr2(), test_page + 0x1fffff);
  set_page(writable & ~2ull);
  guarded(read, test_page);
  CHECK_EQUAL(seen.vector, none);
  guarded(write, test_page + 64);
  WANT(PF, present | writes);
  set_cr0(cr0() & ~0x10000ull);  // without WP the kernel may
  guarded(write, test_page + 64);
  CHECK_EQUAL(seen.vector, none);
  set_cr0(cr0() | 0x10000);
  set_page(writable | 1ull << 51);  // a physical address bit that no processor has
  guarded(read, test_page);
  WANT(PF, present | reserved);
  set_page(writable | no_execute);
  guarded(call, test_page + 8);
  WANT(PF, present | fetches);
  CHECK_EQUAL(cr2(), test_page + 8);
  CHECK_EQUAL(seen.rip, test_page + 8);

  set_page(writable);
  CHECK_EQUAL(*entry & (accessed | dirty), 0);
  read(test_page + 1000);
  CHECK_EQUAL(*entry & (accessed | dirty), accessed);
  write(test_page + 1000);
  CHECK_EQUAL(*entry & (accessed | dirty), accessed | dirty);
  set_page(writable & ~2ull);
  guarded(write, test_page);  // a store that faults leaves no dirty bit
  CHECK_EQUAL(*entry & dirty, 0);

  // A mapping changed and invalidated: the new one holds.
  set_page(writable);
  *(volatile uint64_t*)(test_page + 16) = 111;
  *(volatile uint64_t*)(test_page + 0x200000 + 16) = 222;
  for (int i = 0; i < 100; i++) {
    *entry = (i % 2 ? test_page : test_page + 0x200000) | 0x83;
    __asm__ volatile("invlpg (%0)" : : "r"((uint64_t)test_page) : "memory");
    CHECK_EQUAL(*(volatile uint64_t*)(test_page + 16), i % 2 ? 111 : 222);
  }
  set_page(writable);

  unsigned a, b = 0, c, d;
  __get_cpuid_count(7, 0, &a, &b, &c, &d);
  set_page(writable | 4);
  *(volatile uint8_t*)test_page = 0xc3;
  if (b & 1u << 7) {  // SMEP
    set_cr4(cr4() | 1u << 20);
    guarded(call, test_page);
    WANT(PF, present | fetches);
    set_cr4(cr4() & ~(1ull << 20));
    guarded(call, test_page);
    CHECK_EQUAL(seen.vector, none);
  }
  if (b & 1u << 20) {  // SMAP
    set_cr4(cr4() | 1u << 21);
    guarded(read, test_page);
    WANT(PF, present);
    guarded(write, test_page);
    WANT(PF, present | writes);
    __asm__ volatile("stac");
    read(test_page);
    __asm__ volatile("clac");
    guarded(read, test_page);
    WANT(PF, present);
    set_cr4(cr4() & ~(1ull << 21));
  }
  guarded(read, 1ull << 47);
  WANT(GP, 0);
  guarded(push_at, (1ull << 47) + 8);
  WANT(SS, 0);
}

USER_CODE(user_read, "mov (%rdi), %rax\n int $0x80");
USER_CODE(user_write, "mov %rax, (%rdi)\n int $0x80");
USER_CODE(user_jump, "jmp *%rdi");
USER_CODE(user_interrupt, "int $0x81");
USER_CODE(user_halt, "hlt");
USER_CODE(user_cli, "cli\n int $0x80");
USER_CODE(user_port, "mov $0x3f8, %dx\n in %dx, %al\n int $0x80");
USER_CODE(user_flags, "pushq $0x3202\n popfq\n pushfq\n pop %rax\n int $0x80");
USER_CODE(user_unaligned, "mov 1(%rsp), %rax\n int $0x80");
USER_CODE(user_call, "mov %rdi, %rbx\n syscall\n int $0x80");
USER_CODE(user_32,
          ".code32\n .byte 0x48, 0x40\n mov $0x12345678, %ecx\n push %ecx\n pop %edx\n int $0x80\n .code64");

static void user_mode(void) {
  guarded_user(user_read, user_read_end, user_code_64, 0, 0x100000);
  WANT(PF, present | user);
  CHECK_EQUAL(seen.cs, user_code_64);
  CHECK_EQUAL(seen.ss, user_data);
  CHECK_EQUAL(seen.rsp, user_stack);
  CHECK_EQUAL(seen.rip, user_page);
  guarded_user(user_write, user_write_end, user_code_64, 0, 0x100000);
  WANT(PF, present | user | writes);
  guarded_user(user_write, user_write_end, user_code_64, 0, user_stack - 8);
  WANT(0x80, 0);
  guarded_user(user_jump, user_jump_end, user_code_64, 0, 0x100000);
  WANT(PF, present | user | fetches);
  guarded_user(user_interrupt, user_interrupt_end, user_code_64, 0, 0);
  WANT(GP, 0x81 * 8 + 2);
  guarded_user(user_halt, user_halt_end, user_code_64, 0, 0);
  WANT(GP, 0);
  guarded_user(user_cli, user_cli_end, user_code_64, 0, 0);
  WANT(GP, 0);
  guarded_user(user_cli, user_cli_end, user_code_64, 0x3200, 0);  // IOPL 3, IF
  WANT(0x80, 0);
  CHECK_EQUAL(seen.rflags & 0x200, 0);
  guarded_user(user_port, user_port_end, user_code_64, 0, 0);
  WANT(GP, 0);
  guarded_user(user_port, user_port_end, user_code_64, 0x3000, 0);
  WANT(0x80, 0);
  guarded_user(user_flags, user_flags_end, user_code_64, 0, 0);
  CHECK_EQUAL(seen.rax, 2);   // neither IOPL nor IF can be raised
  set_cr0(cr0() | 1u << 18);  // AM
  guarded_user(user_unaligned, user_unaligned_end, user_code_64, 1u << 18, 0);
  WANT(AC, 0);
  guarded_user(user_unaligned, user_unaligned_end, user_code_64, 0, 0);
  WANT(0x80, 0);
  guarded_user(user_32, user_32_end, user_code_32, 0, 0);
  WANT(0x80, 0);
  CHECK_EQUAL(seen.rdx, 0x12345678);
  CHECK_EQUAL(seen.cs, user_code_32);
  CHECK_EQUAL(seen.rsp, user_stack);
}

extern const char system_entry[];
uint64_t entry_rcx, entry_r11, entry_flags, entry_stack;
__asm__(
    ".text\nsystem_entry:\n mov %rcx, entry_rcx\n mov %r11, entry_r11\n mov %rsp, entry_stack\n"
    "mov $stack_top - 4096, %rsp\n pushfq\n popq entry_flags\n mov entry_stack, %rsp\n lea 100(%rbx), %rax\n "
    "sysretq\n");

static void system_calls(void) {
  write_msr(0xc0000080, read_msr(0xc0000080) | 1);  // SCE
  write_msr(0xc0000081,
            (uint64_t)kernel_code << 32 | (uint64_t)user_code_32 << 48);  // STAR: sysret to +16, +8
  write_msr(0xc0000082, (uint64_t)system_entry);
  write_msr(0xc0000084, 0x401);  // clear direction and carry
  guarded_user(user_call, user_call_end, user_code_64, 0x401, 11);
  WANT(0x80, 0);
  CHECK_EQUAL(seen.rax, 111);
  CHECK_EQUAL(entry_rcx, user_page + 5);
  CHECK_EQUAL(entry_r11, 0x403);
  CHECK_EQUAL(entry_flags, 2);
  CHECK_EQUAL(entry_stack, user_stack);
  CHECK_EQUAL(seen.rflags & 0x401, 0x401);
  CHECK_EQUAL(seen.cs, user_code_64);
  CHECK_EQUAL(seen.ss, user_data);
  write_msr(0xc0000080, read_msr(0xc0000080) & ~1ull);
  guarded_user(user_call, user_call_end, user_code_64, 0, 11);
  WANT(UD, 0);
}

static uint64_t dr6(void) {
  uint64_t value;
  __asm__ volatile("mov %%dr6, %0" : "=r"(value));
  return value;
}
static void set_breakpoint(uint64_t address, uint64_t control) {
  __asm__ volatile("mov %0, %%dr6\n mov %1, %%dr0\n mov %2, %%dr7"
                   :
                   : "r"(0xffff0ff0ull), "r"(address), "r"(control));
}
static void step(uint64_t unused) {
  (void)unused;
  __asm__ volatile("pushfq\n orl $0x100, (%rsp)\n popfq\n step_here: nop\n step_next: nop");
}
extern const char step_next[];
static uint64_t watched;

static void debug(void) {
  set_breakpoint(0, 0x400);
  guarded(step, 0);
  WANT(DB, 0);
  CHECK_EQUAL(seen.rip, (uint64_t)step_next);
  CHECK_EQUAL(dr6() & 0xe00f, 0x4000);

  set_breakpoint((uint64_t)undefined, 0x401 | 1);  // execution: a fault, before the instruction
  guarded(undefined, 0);
  WANT(DB, 0);
  CHECK_EQUAL(seen.rip, (uint64_t)undefined);
  CHECK_EQUAL(dr6() & 0xe00f, 1);

  watched = 0;
  set_breakpoint((uint64_t)&watched, 0x401 | 1u << 16 | 2u << 18);  // eight bytes, writes: a trap, after it
  guarded(read, (uint64_t)&watched);
  CHECK_EQUAL(seen.vector, none);
  guarded(write, (uint64_t)&watched);
  WANT(DB, 0);
  CHECK_EQUAL(watched, 1);
  CHECK_EQUAL(dr6() & 0xe00f, 1);
  set_breakpoint((uint64_t)&watched, 0x401 | 3u << 16 | 2u << 18);  // reads and writes
  guarded(read, (uint64_t)&watched);
  WANT(DB, 0);
  set_breakpoint(0, 0x400);
}

static void double_fault(void) {
  const uint64_t gate = idt[GP * 2];
  idt[GP * 2] = gate & ~(1ull << 47);  // not present: #GP becomes #NP while it is delivered
  guarded(load_ds, 0xfff0);
  WANT(DF, 0);
  idt[GP * 2] = gate;
  guarded(load_ds, 0xfff0);
  WANT(GP, 0xfff0);
}

uint32_t main(uint32_t magic, uint32_t information) {
  (void)magic, (void)information;
  plain();
  selectors();
  control_registers();
  paging();
  user_mode();
  system_calls();
  debug();
  double_fault();
  return verdict("exceptions");
}
