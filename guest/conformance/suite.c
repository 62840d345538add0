// The suite's machinery: runs the cases that the command line selects, each from the same state, and catches
// what they raise.
#include "suite.h"

extern const struct test_case* const __start_cases[];
extern const struct test_case* const __stop_cases[];
extern uint64_t gdt[];

struct frame seen;
uint64_t seen_cr2, seen_dr6, try_stack;
static const uint64_t nowhere[2];
const uint64_t* try_record = nowhere;
bool is_amd;
uint64_t base_cr0, base_cr4, base_efer, base_xcr0;
uint64_t area_table[512] __attribute__((aligned(4096)));
uint8_t frames[pages][4096] __attribute__((aligned(4096)));
uint64_t table[table_bytes / 8] __attribute__((aligned(16)));
static uint64_t pristine_table[table_bytes / 8];
static uint64_t pristine_idt[512], pristine_tables[6 * 512];
static bool tables_touched, gates_touched;
uint8_t task_state[0x68 + 8192 + 1] __attribute__((aligned(4096)));
uint8_t interrupt_stack[16384] __attribute__((aligned(16)));
static uint8_t own_stack[16384] __attribute__((aligned(16)));
void (*volatile hook[256])(struct frame*);
volatile uint32_t count[256];
volatile uint64_t last_rip;

// --- verdicts

static const struct test_case* running;
static bool failed;
static const char* skipped;

static void begin_failure(const char* file, unsigned line) {
  print(failed ? "     %s: %s:%u: " : "FAIL %s: %s:%u: ", running->name, file, (uint64_t)line);
  failed = true;
}

void skip(const char* what) {
  skipped = what;
}

void check_equal(const char* file, unsigned line, const char* text, uint64_t got, uint64_t wanted) {
  if (got == wanted) return;
  begin_failure(file, line);
  print("expected %x, got %x: %s\n", wanted, got, text);
}

void check_seen(const char* file, unsigned line, uint64_t vector, uint64_t error, uint64_t rip) {
  if (seen.vector == vector && seen.error == error && seen.rip == rip) return;
  begin_failure(file, line);
  print("expected vector %u error %x at %x, got vector %u error %x at %x, cr2 %x\n", vector, error, rip,
        seen.vector, seen.error, seen.rip, seen_cr2);
}

// --- catching

static uint64_t case_stack;
static uint64_t code_end;  // behind the INT3 that ends what run_code() runs
extern const char case_return[];
void call_case(void (*run)(void), uint64_t* stack);
__asm__(
    ".text\ncall_case:\n push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
    "mov %rsp, (%rsi)\n call *%rdi\n"
    "case_return: pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n cld\n ret\n");

__asm__(".text\n.globl stray\nstray: int $0x80\n ud2\n");

static void go_on_at(struct frame* frame, uint64_t rip, uint64_t rsp) {
  frame->rip = rip;
  frame->rsp = rsp;
  frame->cs = kernel_code;
  frame->ss = kernel_data;
  frame->rflags = 2;
}

void on_interrupt(struct frame* frame) {
  if (hook[frame->vector]) {
    hook[frame->vector](frame);
    return;
  }
  if (this_processor() != 0) {
    if (frame->vector < 32) unexpected(frame);
    APIC(apic_eoi) = 0;  // meant for a case that is over
    return;
  }
  __asm__ volatile("mov %0, %%ds\n mov %0, %%es" : : "r"((uint32_t)kernel_data));
  if (frame->vector == BP && ((frame->cs & 3) != 0 || frame->rip == code_end)) frame->vector = done;
  if (try_stack) {
    seen = *frame;
    seen_cr2 = cr2();
    seen_dr6 = dr6();
    go_on_at(frame, try_record[1], try_stack);
    try_stack = 0;
    return;
  }
  if (!running) unexpected(frame);
  begin_failure("outside", (unsigned)frame->vector);
  print("unexpected vector %u, error %x, at %x:%x, flags %x, stack %x:%x, cr2 %x\n", frame->vector,
        frame->error, frame->cs, frame->rip, frame->rflags, frame->ss, frame->rsp, cr2());
  go_on_at(frame, (uint64_t)case_return, case_stack);
}

void count_interrupt(struct frame* frame) {
  last_rip = frame->rip;
  count[frame->vector]++;
  if (frame->vector < 32) return;
  if (read_msr(msr_apic_base) & 0x400)
    write_msr(0x80b, 0);
  else
    APIC(apic_eoi) = 0;
}

bool wait_for(volatile uint32_t* word, uint32_t at_least) {
  // Bounded in time, as nothing is known of how fast the machine is.
  for (const uint64_t until = read_tsc() + 4000000000ull; *word < at_least && read_tsc() < until;)
    open_window();
  return *word >= at_least;
}

// --- other code segments and privileges

void enter_code(uint64_t rip, const struct user* user);
__asm__(
    ".text\nenter_code:\n push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
    "mov %rsp, try_stack\n"
    "push 32(%rsi)\n push 40(%rsi)\n push 16(%rsi)\n push 24(%rsi)\n push %rdi\n"
    "mov $0x23, %eax\n mov %eax, %ds\n mov %eax, %es\n"
    "mov (%rsi), %rdi\n mov 8(%rsi), %rsi\n xor %eax, %eax\n xor %ebx, %ebx\n xor %ecx, %ecx\n xor %edx, "
    "%edx\n xor %r8d, %r8d\n xor %r9d, %r9d\n xor %r10d, %r10d\n mov $2, %r11d\n iretq\n"  // SYSRET makes flags of R11
    ".globl code_return\ncode_return: pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n ret\n");
extern const char code_return[];

void run_code(struct code code, struct user user) {
  static uint64_t record[2];
  const bool sixteen =
      table[user.cs / 8] == table[user_code_16 / 8] || table[user.cs / 8] == table[kernel_code_16 / 8];
  const uint64_t begin = sixteen ? 0 : user_code;
  memcpy((void*)FRAME(16), code.begin, (size_t)(code.end - code.begin));
  record[0] = begin + (uint64_t)(code.mark - code.begin);
  record[1] = (uint64_t)code_return;
  if (!user.ss) user.ss = user_data;
  if (!user.rsp) user.rsp = user_stack - 0x100;
  user.flags |= 2;
  try_record = record;
  code_end = begin + (uint64_t)(code.end - code.begin);
  enter_code(begin, &user);
  code_end = 0;
}

// --- state

void map(unsigned page, uint64_t entry) {
  area_table[page] = entry;
  invalidate(PAGE(page));
}

uint64_t* touch_tables(void) {
  tables_touched = true;
  return directories;
}

void set_system(unsigned selector, uint64_t base, uint32_t limit, uint8_t access) {
  table[selector / 8] = SEGMENT(base, limit, access, 0);
  table[selector / 8 + 1] = base >> 32;
}

static void load_idt(uint16_t limit) {
  const struct {
    uint16_t limit;
    uint64_t base;
  } __attribute__((packed)) pointer = {limit, (uint64_t)idt};
  __asm__ volatile("lidt %0" : : "m"(pointer));
}

void set_gate(unsigned vector, uint64_t address, struct gate gate) {
  gates_touched = true;
  idt[vector * 2] = (address & 0xffff) | (uint64_t)gate.selector << 16 | (uint64_t)gate.ist << 32 |
                    (uint64_t)gate.access << 40 | (address & 0xffff0000) << 32;
  idt[vector * 2 + 1] = address >> 32;
}

void set_idt_limit(uint16_t limit) {
  gates_touched = true;
  load_idt(limit);
}

void set_stack_pointer(unsigned offset, uint64_t value) {
  memcpy(task_state + offset, &value, 8);
}

static void reset_task(void) {
  memset(task_state, 0, 0x68);
  memset(task_state + 0x68, 0xff, 256 / 8);  // ports that cases try; none may be used
  set_stack_pointer(0x04, (uint64_t)interrupt_stack + sizeof interrupt_stack);
  set_stack_pointer(0x24, (uint64_t)own_stack + sizeof own_stack);
  WORD(task_state + 0x66) = 0x68;
  table[task / 8] &= ~(1ull << 41);
  __asm__ volatile("ltr %w0" : : "r"(task));
}

void reset_segments(void);
void reset_segments(void) {
  const struct {
    uint16_t limit;
    uint64_t base;
  } __attribute__((packed)) pointer = {sizeof table - 1, (uint64_t)table};
  memcpy(table, pristine_table, sizeof table);
  __asm__ volatile(
      "lgdt %0\n lldt %w1\n mov %2, %%ds\n mov %2, %%es\n mov %2, %%ss\n mov %1, %%fs\n mov %1, %%gs"
      :
      : "m"(pointer), "r"(0), "r"((uint32_t)kernel_data));
  write_msr(msr_fs_base, 0);
  write_msr(msr_gs_base, 0);
  write_msr(msr_kernel_gs_base, 0);
  write_msr(msr_sysenter_cs, 0);
  reset_task();
}

static void reset_memory(void) {
  if (tables_touched) memcpy(root, pristine_tables, sizeof pristine_tables);
  tables_touched = false;
  for (unsigned i = 0; i < pages; i++) area_table[i] = FRAME(i) | P | W;
  for (unsigned i = 16; i < 20; i++) area_table[i] |= U;
  set_cr4(base_cr4);
  set_cr3((uint64_t)root);
}

static void set_xcr0(uint64_t value) {
  __asm__ volatile("xsetbv" : : "a"((uint32_t)value), "d"(0), "c"(0));
}

// A local APIC may give its spurious vector for an interrupt that the task priority has meanwhile closed out.
// SDM vol. 3, 10.9.
static void ignore(struct frame* frame) {
  (void)frame;
}

static void reset_interrupts(void) {
  for (unsigned i = 0; i < 256; i++) hook[i] = NULL;
  hook[0xff] = ignore;
  memset((void*)count, 0, sizeof count);
  write_msr(msr_apic_base, (read_msr(msr_apic_base) & ~0x400ull) | 0x800);
  APIC(apic_svr) = 0x1ff;
  APIC(apic_lvt_timer) = 0x10000;
  APIC(apic_initial) = 0;
  APIC(apic_lvt_lint0) = APIC(apic_lvt_lint1) = APIC(apic_lvt_error) = 0x10000;
  APIC(apic_tpr) = 0;
  APIC(apic_dfr) = 0xffffffff;
  APIC(apic_ldr) = 0;
  for (unsigned i = 0; i < 8; i++)
    for (unsigned n = 0; n < 32 && APIC(apic_isr + 16 * i); n++) APIC(apic_eoi) = 0;
}

static void reset_state(void) {
  __asm__ volatile("pushq $2\n popfq" : : : "cc");
  try_stack = 0;
  set_dr7(0x400);
  set_dr6(0xffff0ff0);
  write_msr(msr_efer, base_efer);
  set_cr0(base_cr0);
  reset_memory();
  if (gates_touched) memcpy(idt, pristine_idt, sizeof idt);
  gates_touched = false;
  load_idt(sizeof idt - 1);
  reset_segments();
  reset_interrupts();
}

// For the groups that it matters to: a machine that emulates the kernel's code may not know these
// instructions.
static void reset_vectors(void) {
  if (HAS_XSAVE) set_xcr0(base_xcr0);
  const uint32_t mxcsr = 0x1f80;
  __asm__ volatile("fninit\n ldmxcsr %0" : : "m"(mxcsr));
}
static bool is_vector_group(const char* group) {
  return contains(group, "fpu") || contains(group, "xsave") || contains(group, "msr");
}

static void prepare(void) {
  const struct cpuid vendor = cpuid(0, 0);
  is_amd = vendor.c == 0x444d4163;  // AuthenticAMD's last four
  memcpy(pristine_table, gdt, 0x50);
  pristine_table[user_code_16 / 8] = SEGMENT(user_code, 0xffff, 0xfb, 0);
  pristine_table[kernel_code_16 / 8] = SEGMENT(user_code, 0xffff, 0x9b, 0);
  pristine_table[user_data_16 / 8] = SEGMENT(user_code, 0xffff, 0xf3, 0);
  const uint64_t state = (uint64_t)task_state;
  pristine_table[task / 8] = SEGMENT(state, 0x68 + 256 / 8, 0x89, 0);
  pristine_table[task / 8 + 1] = state >> 32;
  root[0] |= U;
  for (unsigned i = 0; i < 4; i++) pointers[i] |= U;
  directories[area >> 21] = (uint64_t)area_table | P | W | U;
  memcpy(pristine_tables, root, sizeof pristine_tables);
  memcpy(pristine_idt, idt, sizeof idt);
  base_cr0 = cr0_pe | cr0_mp | 0x10 | cr0_ne | cr0_wp | cr0_pg;
  base_cr4 = cr4_pae | cr4_osfxsr | cr4_osxmmexcpt | (HAS_XSAVE ? cr4_osxsave : 0);
  base_efer = efer_lme | efer_lma | efer_nxe;
  base_xcr0 = 1 | (HAS_XSAVE ? cpuid(0xd, 0).a & 0xe7 : 0);
}

// --- selection

static char command_line[2048];
static bool is_word(const char* key, const char* word) {
  for (const char* at = command_line; *at; at++) {
    const char *a = at, *k = key, *w = word;
    while (*k && *a == *k) a++, k++;
    if (*k) continue;
    while (*w && *a == *w) a++, w++;
    if (!*w && (*a == 0 || *a == ' ')) return true;
  }
  return false;
}

static bool is_selected(const struct test_case* which) {
  if (is_word("except=", which->name)) return false;
  if (contains(command_line, "group=") && !is_word("group=", which->group)) return false;
  return !contains(command_line, "case=") || is_word("case=", which->name);
}

uint32_t main(uint32_t magic, uint32_t information) {
  (void)magic;
  const char* given = (const char*)(uint64_t)LONG(information + 16ull);
  for (unsigned i = 0; given && given[i] && i < sizeof command_line - 1; i++) command_line[i] = given[i];
  processors = (uint32_t)number_after(command_line, "cpus", 1);
  prepare();
  uint64_t ok = 0, bad = 0, left_out = 0;
  for (const struct test_case* const* at = __start_cases; at < __stop_cases; at++) {
    if (!is_selected(*at)) continue;
    if (contains(command_line, "list")) {
      print("%s %s | %s\n", (*at)->group, (*at)->name, (*at)->section);
      continue;
    }
    if (contains(command_line, "verbose")) print("run %s\n", (*at)->name);
    running = *at;
    failed = false;
    skipped = NULL;
    reset_state();
    if (is_vector_group((*at)->group)) reset_vectors();
    call_case((*at)->run, &case_stack);
    running = NULL;
    try_stack = 0;
    if (failed)
      bad++, print("     %s is wrong by %s\n", (*at)->name, (*at)->section);
    else if (skipped)
      left_out++, print("skip %s: %s\n", (*at)->name, skipped);
    else
      ok++, print("ok %s | %s\n", (*at)->name, (*at)->section);
  }
  reset_state();
  print("%s conformance: %u ok, %u failed, %u skipped\n", bad ? "FAIL" : "PASS", ok, bad, left_out);
  // What a slow line still holds would be lost with the machine.
  while (!(in8(0x3fd) & 0x40)) {
  }
  return bad ? exit_fail : exit_pass;
}
