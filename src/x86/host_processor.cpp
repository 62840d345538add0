#include "x86/host_processor.hpp"

#include <sys/mman.h>
#include <ucontext.h>

#include <cstdlib>
#include <cstring>

namespace nacre::x86 {
namespace {

constexpr u64 kCode = 0x10000000;
constexpr usize kCodeBytes = 4096;
constexpr usize kStackBytes = 256 * 1024;
constexpr int kSignals[] = {SIGILL, SIGSEGV, SIGTRAP, SIGFPE, SIGBUS};

sigjmp_buf escape;
Outcome outcome;

void on_signal(int signal, siginfo_t* info, void* context) {
  const auto& machine = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  static constexpr int kOrder[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                   REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  outcome.signal = signal;
  outcome.fault_address = reinterpret_cast<u64>(info->si_addr);
  for (unsigned n = 0; n < 16; ++n) outcome.after.gpr[n] = static_cast<u64>(machine[kOrder[n]]);
  outcome.after.flags = static_cast<u64>(machine[REG_EFL]);
  outcome.length = static_cast<u64>(machine[REG_RIP]) - kCode - (signal == SIGTRAP ? 1 : 0);
  siglongjmp(escape, 1);
}

void map(u64 address, usize bytes, int protection) {
  void* got = mmap(reinterpret_cast<void*>(address), bytes, protection,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (got != reinterpret_cast<void*>(address)) std::abort();
}

// x87 and SSE state: everything masked, registers with some pattern, always the same.
struct alignas(16) VectorState {
  u8 image[512];
  VectorState() {
    for (usize n = 0; n < sizeof image; ++n) image[n] = static_cast<u8>(n >= 32 && n < 416 ? n * 37 : 0);
    const u16 control = 0x37f;
    const u32 mxcsr = 0x1f80;
    std::memcpy(image, &control, sizeof control);
    std::memcpy(image + 24, &mxcsr, sizeof mxcsr);
  }
};

// Loads everything and jumps to kCode; comes back through a signal.
[[noreturn]] void enter(const Registers& before) {
  static const VectorState vectors;
  asm volatile("fxrstor64 %0" ::"m"(vectors));
  if (__builtin_cpu_supports("avx512bw")) {
    asm volatile(
        "kxnorq %%k1, %%k1, %%k1\n kmovq %%k1, %%k0\n kmovq %%k1, %%k2\n kmovq %%k1, %%k3\n kmovq %%k1, "
        "%%k4\n"
        "kmovq %%k1, %%k5\n kmovq %%k1, %%k6\n kmovq %%k1, %%k7" ::
            : "memory");
  }
  register const Registers* pointer asm("r15") = &before;
  asm volatile(
      "push 128(%%r15)\n popfq\n"
      "mov 0(%%r15), %%rax\n mov 8(%%r15), %%rcx\n mov 16(%%r15), %%rdx\n mov 24(%%r15), %%rbx\n"
      "mov 32(%%r15), %%rsp\n mov 40(%%r15), %%rbp\n mov 48(%%r15), %%rsi\n mov 56(%%r15), %%rdi\n"
      "mov 64(%%r15), %%r8\n mov 72(%%r15), %%r9\n mov 80(%%r15), %%r10\n mov 88(%%r15), %%r11\n"
      "mov 96(%%r15), %%r12\n mov 104(%%r15), %%r13\n mov 112(%%r15), %%r14\n mov 120(%%r15), %%r15\n"
      "jmp *1f(%%rip)\n 1: .quad 0x10000000" ::"r"(pointer)
      : "memory");
  __builtin_unreachable();
}

}  // namespace

HostProcessor::HostProcessor() {
  map(kCode, kCodeBytes, PROT_READ | PROT_WRITE | PROT_EXEC);
  map(kPage, kPageSize, PROT_READ | PROT_WRITE);
  map(kPage + kPageSize, 15 * kPageSize, PROT_NONE);
  map(kReadOnly, kPageSize, PROT_READ);
  stack_t stack{};
  stack.ss_size = kStackBytes;
  stack.ss_sp = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  sigaltstack(&stack, &saved_stack_);
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  for (unsigned n = 0; n < 5; ++n) sigaction(kSignals[n], &action, &saved_[n]);
}

HostProcessor::~HostProcessor() {
  for (unsigned n = 0; n < 5; ++n) sigaction(kSignals[n], &saved_[n], nullptr);
  sigaltstack(&saved_stack_, nullptr);
  munmap(reinterpret_cast<void*>(kCode), kCodeBytes);
  munmap(reinterpret_cast<void*>(kPage), 16 * kPageSize);
  munmap(reinterpret_cast<void*>(kReadOnly), kPageSize);
}

Outcome HostProcessor::run(const u8* bytes, usize length, const Registers& before) {
  auto* code = reinterpret_cast<u8*>(kCode);
  std::memset(code, 0xcc, 64);
  std::memcpy(code, bytes, length);
  if (sigsetjmp(escape, 0) == 0) enter(before);
  return outcome;
}

}  // namespace nacre::x86
