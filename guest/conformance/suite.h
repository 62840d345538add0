// The conformance suite: small cases with the manual's expectations, the same on every engine and every other
// machine. docs/conformance.md tells how it is made and run. A case is
//
//   CASE(name, "SDM 3A 6.15") { TRY("ud2"); WANT(UD, 0); }
//
// in a file that defines GROUP. It starts in the state that reset_state() makes, and may leave any behind.
#pragma once
#include "../kernels/kernel.h"

struct test_case {
  const char *group, *name, *section;
  void (*run)(void);
};
#define CASE(name_, section_)                                                                   \
  static void name_(void);                                                                      \
  static const struct test_case case_##name_ = {GROUP, #name_, section_, name_};                \
  static const struct test_case* const listed_##name_ __attribute__((used, section("cases"))) = \
      &case_##name_;                                                                            \
  static void name_(void)
// The rest of the case is left out when the processor does not claim what it needs.
#define NEEDS(has, what) \
  do {                   \
    if (!(has)) {        \
      skip(what);        \
      return;            \
    }                    \
  } while (0)
void skip(const char* what);

void check_equal(const char* file, unsigned line, const char* text, uint64_t got, uint64_t wanted);
#define EQUAL(got, wanted) check_equal(__FILE_NAME__, __LINE__, #got, (uint64_t)(got), (uint64_t)(wanted))
#define TRUE(condition) check_equal(__FILE_NAME__, __LINE__, #condition, (condition) ? 1 : 0, 1)

// SDM vol. 3, table 6-1.
enum { DE, DB, NMI, BP, OF, BR, UD, NM, DF, TS = 10, NP, SS, GP, PF, MF = 16, AC, MC, XM };
enum {
  done = 0x80
};  // the vector that guarded code ends with if nothing else came; of users, INT3 stands for it, as
    // not every emulating KVM lets users do INT n
enum { pf_present = 1, pf_write = 2, pf_user = 4, pf_reserved = 8, pf_fetch = 16, pf_key = 32 };
enum {
  CF = 1,
  TF = 0x100,
  IF = 0x200,
  DF_flag = 0x400,
  NT = 0x4000,
  RF = 0x10000,
  VM = 0x20000,
  AC_flag = 0x40000,
  ID = 0x200000
};

// --- running code that may fault: what came, and all registers at that moment
extern struct frame seen;
extern uint64_t seen_cr2, seen_dr6;
extern uint64_t try_stack;          // RSP when guarded code begins
extern const uint64_t* try_record;  // where it should fault; where to go on
#define EXPECTED_RIP try_record[0]

// `MARK` in the text is where the fault's saved RIP is expected; without it that is the text's beginning.
#define MARK "\n75:\n"
#define SAVE                                                                                             \
  "push %%rax; push %%rbx; push %%rcx; push %%rdx; push %%rsi; push %%rdi; push %%rbp; push %%r8; push " \
  "%%r9; push %%r10; push %%r11; push %%r12; push %%r13; push %%r14; push %%r15\n"
#define RESTORE                                                                                           \
  "pop %%r15; pop %%r14; pop %%r13; pop %%r12; pop %%r11; pop %%r10; pop %%r9; pop %%r8; pop %%rbp; pop " \
  "%%rdi; pop %%rsi; pop %%rdx; pop %%rcx; pop %%rbx; pop %%rax\n"
// Runs instructions in kernel mode; inputs as those of asm. Registers in the text are written %%rax.
#define TRY(...) TRY_AS(__VA_ARGS__)
#define TRY_AS(text, ...)                                                                \
  __asm__ volatile(SAVE                                                                  \
                   "movq $74f, try_record\n mov %%rsp, try_stack\n"                      \
                   "75:\n" text "\n int $0x80\n 73:\n" RESTORE                           \
                   ".pushsection .rodata\n .balign 8\n 74: .quad 75b, 73b\n .popsection" \
                   :                                                                     \
                   : __VA_ARGS__                                                         \
                   : "memory", "cc")
// `vector` with this error code came, at the marked place. WANT_DONE: the code ran to its end.
#define WANT(vector, error_) check_seen(__FILE_NAME__, __LINE__, vector, error_, EXPECTED_RIP)
#define WANT_AT(vector, error_, rip) check_seen(__FILE_NAME__, __LINE__, vector, error_, rip)
#define WANT_DONE() check_seen(__FILE_NAME__, __LINE__, done, 0, seen.rip)
void check_seen(const char* file, unsigned line, uint64_t vector, uint64_t error, uint64_t rip);
// Most cases are one instruction and what it does.
#define FAULTS(name, section, vector, error, text, ...) \
  CASE(name, section) {                                 \
    TRY(text, ##__VA_ARGS__);                           \
    WANT(vector, error);                                \
  }

// Code for other modes and privileges: bytes in .rodata, to be copied. `mark` is an offset in it.
struct code {
  const char *begin, *end, *mark;
};
#define CODE(bits, text, ending)                                                   \
  ({                                                                               \
    struct code code_;                                                             \
    __asm__(".pushsection .rodata\n .code" #bits "\n 71:\n75:\n" text "\n " ending \
            "\n 72:\n.code64\n .popsection\n"                                      \
            "mov $71b, %k0\n mov $72b, %k1\n mov $75b, %k2"                        \
            : "=r"(code_.begin), "=r"(code_.end), "=r"(code_.mark));               \
    code_;                                                                         \
  })
// Long mode's other code segments. RIP is then relative to `user_code`; rdi and rsi hold arguments.
struct user {
  uint64_t rdi, rsi, flags, cs, ss, rsp;
};
void run_code(struct code code, struct user user);
#define USER64(text, ...) run_code(CODE(64, text, "int3"), (struct user){.cs = user_code_64, ##__VA_ARGS__})
#define USER32(text, ...) run_code(CODE(32, text, "int3"), (struct user){.cs = user_code_32, ##__VA_ARGS__})
#define USER16(text, ...)          \
  run_code(CODE(16, text, "int3"), \
           (struct user){.cs = user_code_16, .rsp = 0x1f00, .ss = user_data_16, ##__VA_ARGS__})
#define KERNEL32(text, ...) \
  run_code(CODE(32, text, "int3"), (struct user){.cs = kernel_code_32, .ss = kernel_data, ##__VA_ARGS__})

// --- memory for cases: pages of 4 KiB, each with its own frame; the tables above let everything through
enum { area = 0x40000000, pages = 32, user_code = area + 0x10000, user_stack = area + 0x12000 };
extern uint64_t area_table[512];
extern uint8_t frames[pages][4096];
#define PAGE(n) ((uint64_t)area + (n)*4096ull)
#define FRAME(n) ((uint64_t)frames[n])
void map(unsigned page, uint64_t entry);  // sets the entry and invalidates
#define BYTE(address) (*(volatile uint8_t*)(address))
#define WORD(address) (*(volatile uint16_t*)(address))
#define LONG(address) (*(volatile uint32_t*)(address))
#define QUAD(address) (*(volatile uint64_t*)(address))
enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80, G = 0x100 };
#define NX (1ull << 63)
extern uint64_t root[512], pointers[512];
uint64_t* touch_tables(void);  // to be called before root, pointers or directories change; they are put back

// --- descriptors
enum {
  user_code_16 = 0x53,
  kernel_code_16 = 0x58,
  user_data_16 = 0x63,
  legacy_task = 0x68,
  spare = 0x70,  // to 0xf8: free for cases, zero at first
  table_bytes = 0x100
};
extern uint64_t table[table_bytes / 8];
void set_system(unsigned selector, uint64_t base, uint32_t limit, uint8_t access);  // 16 bytes
#define SEGMENT(base, limit, access, flags)                                      \
  (((limit)&0xffffull) | ((base)&0xffffffull) << 16 | (uint64_t)(access) << 40 | \
   ((uint64_t)(limit) >> 16 & 0xf) << 48 | (uint64_t)(flags) << 52 | (uint64_t)((base) >> 24 & 0xff) << 56)
enum { flag_long = 2, flag_32 = 4, flag_pages = 8 };
extern const char stray[];  // where transfers aim that must not happen: ends the guarded code at a place that
                            // is not awaited
#define STRAY ((uint64_t)stray)
struct gate {
  uint16_t selector;
  uint8_t ist, access;
};
void set_gate(unsigned vector, uint64_t address, struct gate gate);  // put back after the case
void set_idt_limit(uint16_t limit);
extern uint8_t task_state[0x68 + 8192 + 1];
void set_stack_pointer(unsigned offset, uint64_t value);  // of the task state: RSP0 at 4, IST1 at 0x24
extern uint8_t interrupt_stack[16384];

// --- registers
#define READ_REGISTER(name)                                         \
  static inline uint64_t name(void) {                               \
    uint64_t value;                                                 \
    __asm__ volatile("mov %%" #name ", %0" : "=r"(value));          \
    return value;                                                   \
  }                                                                 \
  static inline void set_##name(uint64_t value) {                   \
    __asm__ volatile("mov %0, %%" #name : : "r"(value) : "memory"); \
  }
READ_REGISTER(cr0)
READ_REGISTER(cr2)
READ_REGISTER(cr3)
READ_REGISTER(cr4)
READ_REGISTER(cr8)
READ_REGISTER(dr0)
READ_REGISTER(dr1)
READ_REGISTER(dr2)
READ_REGISTER(dr3)
READ_REGISTER(dr6)
READ_REGISTER(dr7)
static inline void invalidate(uint64_t address) {
  __asm__ volatile("invlpg (%0)" : : "r"(address) : "memory");
}
enum { cr0_pe = 1, cr0_mp = 2, cr0_em = 4, cr0_ts = 8, cr0_ne = 0x20, cr0_wp = 0x10000, cr0_am = 0x40000 };
#define cr0_nw (1ull << 29)
#define cr0_cd (1ull << 30)
#define cr0_pg (1ull << 31)
enum {
  cr4_vme = 1,
  cr4_pvi = 2,
  cr4_tsd = 4,
  cr4_de = 8,
  cr4_pse = 0x10,
  cr4_pae = 0x20,
  cr4_pge = 0x80,
  cr4_pce = 0x100,
  cr4_osfxsr = 0x200,
  cr4_osxmmexcpt = 0x400,
  cr4_umip = 0x800,
  cr4_la57 = 0x1000,
  cr4_fsgsbase = 0x10000,
  cr4_pcide = 0x20000,
  cr4_osxsave = 0x40000,
  cr4_smep = 0x100000,
  cr4_smap = 0x200000,
  cr4_pke = 0x400000
};
enum {
  msr_apic_base = 0x1b,
  msr_tsc_adjust = 0x3b,
  msr_sysenter_cs = 0x174,
  msr_sysenter_esp,
  msr_sysenter_eip,
  msr_pat = 0x277,
  msr_deadline = 0x6e0,
  msr_efer = 0xc0000080,
  msr_star,
  msr_lstar,
  msr_cstar,
  msr_fmask,
  msr_fs_base = 0xc0000100,
  msr_gs_base,
  msr_kernel_gs_base,
  msr_tsc_aux
};
enum { efer_sce = 1, efer_lme = 0x100, efer_lma = 0x400, efer_nxe = 0x800 };
struct cpuid {
  uint32_t a, b, c, d;
};
static inline struct cpuid cpuid(uint32_t leaf, uint32_t subleaf) {
  struct cpuid r;
  __asm__ volatile("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d) : "a"(leaf), "c"(subleaf));
  return r;
}
#define HAS(leaf, subleaf, reg, bit) (cpuid(leaf, subleaf).reg >> (bit)&1)
#define HAS_SMEP HAS(7, 0, b, 7)
#define HAS_SMAP HAS(7, 0, b, 20)
#define HAS_UMIP HAS(7, 0, c, 2)
#define HAS_FSGSBASE HAS(7, 0, b, 0)
#define HAS_PCID HAS(1, 0, c, 17)
#define HAS_INVPCID HAS(7, 0, b, 10)
#define HAS_XSAVE HAS(1, 0, c, 26)
#define HAS_AVX HAS(1, 0, c, 28)
#define HAS_AVX512 HAS(7, 0, b, 16)
#define HAS_PKU HAS(7, 0, c, 3)
#define HAS_PAGES_1G HAS(0x80000001, 0, d, 26)
#define HAS_RDTSCP HAS(0x80000001, 0, d, 27)
extern bool is_amd;  // AMD's manual decides where the two differ
extern uint64_t base_cr0, base_cr4, base_efer;
bool is_physical_width(unsigned bits);  // whether physical addresses have fewer bits
static inline uint64_t highest_physical_bit(void) {
  return 1ull << ((cpuid(0x80000008, 0).a & 0xff) - 1);
}

// --- interrupts
extern void (*volatile hook[256])(
    struct frame*);  // handles that vector; a hook of the local APIC's ends it itself
enum {
  apic_id = 0x20,
  apic_version = 0x30,
  apic_tpr = 0x80,
  apic_ppr = 0xa0,
  apic_eoi = 0xb0,
  apic_ldr = 0xd0,
  apic_dfr = 0xe0,
  apic_svr = 0xf0,
  apic_isr = 0x100,
  apic_tmr = 0x180,
  apic_irr = 0x200,
  apic_esr = 0x280,
  apic_icr = 0x300,
  apic_icr_high = 0x310,
  apic_lvt_timer = 0x320,
  apic_lvt_lint0 = 0x350,
  apic_lvt_lint1 = 0x360,
  apic_lvt_error = 0x370,
  apic_initial = 0x380,
  apic_current = 0x390,
  apic_divide = 0x3e0
};
#define APIC(reg) LONG(0xfee00000ull + (reg))
extern volatile uint32_t count[256];  // interrupts that count_interrupt saw
extern volatile uint64_t last_rip;
void count_interrupt(struct frame* frame);  // a hook: counts, and writes EOI
static inline void open_window(void) {
  __asm__ volatile("sti\n nop\n nop\n cli" : : : "memory");
}
bool wait_for(volatile uint32_t* word,
              uint32_t at_least);  // with interrupts open; false: not within a second or so

// --- other processors (smp.c): runs the function there, and comes back when it did
extern uint32_t processors;
bool start_processors(void);
void run_on(uint32_t cpu, void (*function)(void*), void* argument);
void run_begin(uint32_t cpu, void (*function)(void*), void* argument);
void run_finish(uint32_t cpu);
uint32_t this_processor(void);

uint32_t main(uint32_t magic, uint32_t information);
