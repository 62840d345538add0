// The program of the stub process: it runs guest user code as itself. It has no C library, no data of its own and
// no fixed address; it is always in one of three places: in guest code, in its signal handler waiting for
// its vCPU, or carrying out an order of it. Every signal is a way out of guest code, sigreturn the way in. The
// signal frame is in shared memory: the vCPU reads and writes the guest's registers there.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include <cstddef>

#include "engine/direct/protocol.hpp"

namespace nacre::direct {
namespace {

using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

inline long call(long number, u64 a = 0, u64 b = 0, u64 c = 0, u64 d = 0, u64 e = 0, u64 f = 0) {
  register u64 r10 __asm__("r10") = d;
  register u64 r8 __asm__("r8") = e;
  register u64 r9 __asm__("r9") = f;
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

inline u64 block() {
  u64 start;
  __asm__("lea nacre_stub_entry(%%rip), %0" : "=r"(start));
  return start;
}
inline Mailbox& mailbox() { return *reinterpret_cast<Mailbox*>(block() + kMailbox); }

// The kernel's structure; glibc's has another layout.
struct KernelAction {
  u64 handler, flags, restorer, mask;
};

[[noreturn]] void fail() {
  for (;;) call(SYS_exit_group, 1);
}
void must(long result) {
  if (result < 0) fail();
}

// Only the stub's own code may call the kernel, and only for these. A system call from anywhere else is the
// guest's, for its own kernel: SIGSYS.
void close_the_door() {
  const u64 start = block();
  const u32 high = static_cast<u32>(start >> 32), low = static_cast<u32>(start);
  constexpr auto kLoad = static_cast<u16>(BPF_LD | BPF_W | BPF_ABS);
  constexpr auto kEqual = static_cast<u16>(BPF_JMP | BPF_JEQ | BPF_K);
  constexpr auto kAtLeast = static_cast<u16>(BPF_JMP | BPF_JGE | BPF_K);
  constexpr auto kReturn = static_cast<u16>(BPF_RET | BPF_K);
  constexpr u32 kIp = offsetof(seccomp_data, instruction_pointer);
  sock_filter program[] = {
      {kLoad, 0, 0, offsetof(seccomp_data, arch)},
      {kEqual, 0, 12, AUDIT_ARCH_X86_64},
      {kLoad, 0, 0, kIp + 4},
      {kEqual, 0, 10, high},
      {kLoad, 0, 0, kIp},
      {kAtLeast, 0, 8, low},
      {kAtLeast, 7, 0, low + static_cast<u32>(kProgramBytes)},
      {kLoad, 0, 0, offsetof(seccomp_data, nr)},
      {kEqual, 6, 0, SYS_rt_sigreturn},
      {kEqual, 5, 0, SYS_futex},
      {kEqual, 4, 0, SYS_mmap},
      {kEqual, 3, 0, SYS_munmap},
      {kEqual, 2, 0, SYS_exit_group},
      {kReturn, 0, 0, SECCOMP_RET_KILL_PROCESS},
      {kReturn, 0, 0, SECCOMP_RET_TRAP},
      {kReturn, 0, 0, SECCOMP_RET_ALLOW},
  };
  static_assert(sizeof program / sizeof program[0] == 16);
  const sock_fprog all = {sizeof program / sizeof program[0], program};
  must(call(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1));
  must(call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, reinterpret_cast<u64>(&all)));
}

u32 carry_out(const Mailbox& box) {
  const u32 count = box.orders < kMaxOrders ? box.orders : kMaxOrders;
  for (u32 i = 0; i < count; i++) {
    const Order& order = box.order[i];
    const long result = order.protection == 0
                            ? call(SYS_munmap, order.address, order.bytes)
                            : call(SYS_mmap, order.address, order.bytes, order.protection,
                                   MAP_SHARED | MAP_FIXED | MAP_POPULATE, kRamFile, order.offset);
    if (result < 0) return i + 1;
  }
  return 0;
}

// Gives the turn to the vCPU and waits to be given it back.
void wait_for_orders(Mailbox& box) {
  __atomic_store_n(&box.turn, Turn::vcpu, __ATOMIC_SEQ_CST);
  call(SYS_futex, reinterpret_cast<u64>(&box.turn), FUTEX_WAKE, 1);
  // Most answers to a fault are there within microseconds; there is no clock to look at (RDTSC traps).
  for (int i = 0; i < 300; i++) {
    if (__atomic_load_n(&box.turn, __ATOMIC_ACQUIRE) == Turn::stub) return;
    __builtin_ia32_pause();
  }
  while (__atomic_load_n(&box.turn, __ATOMIC_ACQUIRE) != Turn::stub) {
    call(SYS_futex, reinterpret_cast<u64>(&box.turn), FUTEX_WAIT, Turn::vcpu, 0);
  }
}

void on_signal(int signal, siginfo_t* info, void* context) {
  // Linux leaves the guest's AC as it was.
  __asm__ volatile("pushfq; andl $~0x40000, (%%rsp); popfq" ::: "cc", "memory");
  Mailbox& box = mailbox();
  u64 fs = 0, gs = 0;
  __asm__ volatile("rdfsbase %0; rdgsbase %1" : "=r"(fs), "=r"(gs));
  u16 ds = 0, es = 0, fs_selector = 0, gs_selector = 0;
  __asm__ volatile("mov %%ds, %0; mov %%es, %1; mov %%fs, %2; mov %%gs, %3"
                   : "=r"(ds), "=r"(es), "=r"(fs_selector), "=r"(gs_selector));
  box.fs_base = fs;
  box.gs_base = gs;
  box.selector[0] = ds;
  box.selector[1] = es;
  box.selector[2] = fs_selector;
  box.selector[3] = gs_selector;
  box.frame = reinterpret_cast<u64>(context) - block();
  box.signal = signal;
  box.code = info->si_code;
  box.address = reinterpret_cast<u64>(info->si_addr);
  box.failed = 0;
  do {
    wait_for_orders(box);
    box.failed = carry_out(box);
  } while (box.go == 0 || box.failed != 0);
  // Null selectors again; then the bases, which loading may clear. RFLAGS.ID is no part of what sigreturn restores.
  __asm__ volatile("mov %0, %%ds; mov %0, %%es; mov %0, %%fs; mov %0, %%gs" : : "r"(0));
  __asm__ volatile("wrfsbase %0; wrgsbase %1" : : "r"(box.fs_base), "r"(box.gs_base));
  const u64 id = box.id_flag != 0 ? u64{1} << 21 : 0;
  __asm__ volatile("pushfq; andl $~0x200000, (%%rsp); or %0, (%%rsp); popfq" : : "r"(id) : "cc", "memory");
}

}  // namespace

// Runs first, on the block's stack, with everything of the process that made it still mapped.
extern "C" __attribute__((used)) void nacre_stub_start() {
  const u64 start = block();
  constexpr u64 kEnd = 0x7fff'ffff'f000;
  must(call(SYS_munmap, 0, start));
  must(call(SYS_munmap, start + kBlockBytes, kEnd - (start + kBlockBytes)));
  must(call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL));
  static constexpr char name[] = "nacre-direct";
  call(SYS_prctl, PR_SET_NAME, reinterpret_cast<u64>(name));
  must(call(SYS_prctl, PR_SET_TSC, PR_TSC_SIGSEGV));
  const rlimit no_core = {0, 0};
  must(call(SYS_setrlimit, RLIMIT_CORE, reinterpret_cast<u64>(&no_core)));
  // Frames grow down from the end; what this function itself needs lies below.
  stack_t stack = {};
  stack.ss_sp = reinterpret_cast<void*>(start + kStack + 0x2000);
  stack.ss_size = kStackBytes - 0x2000;
  must(call(SYS_sigaltstack, reinterpret_cast<u64>(&stack), 0));
  u64 restorer = 0;
  __asm__("lea nacre_stub_restorer(%%rip), %0" : "=r"(restorer));
  constexpr u64 kRestorer = 0x04000000;
  const KernelAction action = {reinterpret_cast<u64>(&on_signal), SA_SIGINFO | SA_ONSTACK | kRestorer, restorer, ~u64{0}};
  u64 open = 0;
  const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS, SIGUSR1};
  for (const int signal : signals) {
    must(call(SYS_rt_sigaction, static_cast<u64>(signal), reinterpret_cast<u64>(&action), 0, 8));
    open |= u64{1} << (signal - 1);
  }
  must(call(SYS_rt_sigprocmask, SIG_UNBLOCK, reinterpret_cast<u64>(&open), 0, 8));
  close_the_door();
  // The first signal: from here on there is only the handler, and guest code.
  __builtin_trap();
}

__asm__(
    ".pushsection .text.entry, \"ax\"\n"
    ".globl nacre_stub_entry\n"
    ".hidden nacre_stub_entry\n"
    "nacre_stub_entry:\n"
    "  lea nacre_stub_entry(%rip), %rsp\n"
    "  add $0xc000 + 0x2000, %rsp\n"
    "  xor %ebp, %ebp\n"
    "  call nacre_stub_start\n"
    "  ud2\n"
    "nacre_stub_restorer:\n"
    "  mov $15, %eax\n"
    "  syscall\n"
    ".popsection\n");
static_assert(kStack == 0xc000 && SYS_rt_sigreturn == 15);

}  // namespace nacre::direct
