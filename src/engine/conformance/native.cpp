#include "engine/conformance/native.hpp"

#include <asm/prctl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <utility>

#include "base/copy.hpp"
#include "cpu/host_cpuid.hpp"
#include "host/error.hpp"

namespace nacre::conformance {

using cpu::XsaveLayout;

struct Native::Shared {
  Case cases[kBatch];
  Outcome outcomes[kBatch];
  usize count;
};

namespace {

// ucontext's order of the general registers, by x86::Gpr.
constexpr int kContextRegister[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                      REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
// The frame's own bookkeeping inside the legacy region. Linux, arch/x86/include/uapi/asm/sigcontext.h.
constexpr usize kSoftwareBytes = 464;
constexpr u64 kUserFlags = x86::Rflags::arithmetic | x86::Rflags::DF;  // no more of it is loaded by sigreturn

// The child is without the sanitizers' shadow memory, so it calls nothing of the C library that they
// intercept.
[[noreturn]] void leave(int status) {
  for (;;) syscall(SYS_exit_group, status);
}

// The child's. Only the signal handler and the loop that feeds it look at these.
struct Child {
  Native::Shared* shared = nullptr;
  XsaveLayout layout;
  u8* code_writable = nullptr;
  u8* data = nullptr;  // at kData, through a view that may always be written
  usize next = 0;
  bool running = false;
  u64 ticks_in_case = 0;
  greg_t saved_registers[NGREG] = {};
  alignas(64) u8 saved_fpu[8192] = {};
};
Child child;

void load_vectors(u8* frame, const u8* image) {
  copy_bytes(frame, image, XsaveLayout::kXmm + 256);
  const u64 components = child.layout.components & 0xe7;
  copy_bytes(frame + XsaveLayout::kXstateBv, &components, sizeof components);
  for (unsigned i = 2; i < 8; ++i) {
    if ((components >> i & 1) == 0) continue;
    copy_bytes(frame + child.layout.offset[i], image + child.layout.offset[i], child.layout.bytes[i]);
  }
}

void store_vectors(const u8* frame, u8* image) {
  u64 present = 0;
  copy_bytes(&present, frame + XsaveLayout::kXstateBv, sizeof present);
  copy_bytes(image, frame, XsaveLayout::kXmm + 256);
  if ((present & 2) == 0) fill_bytes(image + XsaveLayout::kXmm, 0, 256);
  if ((present & 1) == 0) {
    fill_bytes(image, 0, XsaveLayout::kMxcsr);
    image[0] = 0x7f, image[1] = 3;
    fill_bytes(image + XsaveLayout::kSt, 0, 128);
  }
  for (unsigned i = 2; i < 8; ++i) {
    if ((child.layout.components >> i & 1) == 0) continue;
    if ((present >> i & 1) != 0) {
      copy_bytes(image + child.layout.offset[i], frame + child.layout.offset[i], child.layout.bytes[i]);
    } else {
      fill_bytes(image + child.layout.offset[i], 0, child.layout.bytes[i]);
    }
  }
  copy_bytes(image + XsaveLayout::kXstateBv, &present, sizeof present);
}

void load_case(ucontext_t* context) {
  const Case& test = child.shared->cases[child.next];
  greg_t* registers = context->uc_mcontext.gregs;
  for (unsigned i = 0; i < 16; ++i) registers[kContextRegister[i]] = static_cast<greg_t>(test.before.gpr[i]);
  registers[REG_RIP] = static_cast<greg_t>(test.before.rip);
  registers[REG_EFL] = static_cast<greg_t>((test.before.rflags & kUserFlags) | 0x202);
  const u16 code = test.code_size == x86::CodeSize::Bits64 ? kUserCode : kUserCode32;
  registers[REG_CSGSFS] = (registers[REG_CSGSFS] & ~greg_t{0xffff}) | code;
  load_vectors(reinterpret_cast<u8*>(context->uc_mcontext.fpregs), test.before.xsave);
  fill_code(test, child.code_writable);
  fill_data(test, child.data);
  child.ticks_in_case = 0;
}

void store_outcome(int signal, ucontext_t* context) {
  Outcome& outcome = child.shared->outcomes[child.next];
  const greg_t* registers = context->uc_mcontext.gregs;
  for (unsigned i = 0; i < 16; ++i) outcome.after.gpr[i] = static_cast<u64>(registers[kContextRegister[i]]);
  outcome.after.rip = static_cast<u64>(registers[REG_RIP]);
  outcome.after.rflags = static_cast<u64>(registers[REG_EFL]);
  store_vectors(reinterpret_cast<const u8*>(context->uc_mcontext.fpregs), outcome.after.xsave);
  outcome.vector = signal == SIGSYS    ? Outcome::kSystemCall
                   : signal == SIGALRM ? Outcome::kHung
                                       : static_cast<u8>(registers[REG_TRAPNO]);
  outcome.error_code = static_cast<u32>(registers[REG_ERR]);
  outcome.cr2 = static_cast<u64>(registers[REG_CR2]);
  copy_bytes(outcome.data, child.data, kDataBytes);
}

usize frame_bytes(const ucontext_t* context) {
  const u8* fpu = reinterpret_cast<const u8*>(context->uc_mcontext.fpregs);
  u32 xstate_size = 0;  // fpx_sw_bytes.xstate_size
  copy_bytes(&xstate_size, fpu + kSoftwareBytes + 16, sizeof xstate_size);
  return xstate_size >= 512 && xstate_size + 4 <= sizeof child.saved_fpu ? xstate_size : 512;
}

// POPF sets flags that sigreturn leaves alone; they would be there for the next case.
void clear_sticky_flags() {
  asm volatile(
      "lea -128(%%rsp), %%rsp\n\t"
      "pushfq\n\t"
      "andq $~0x244000, (%%rsp)\n\t"  // NT, AC, ID
      "popfq\n\t"
      "lea 128(%%rsp), %%rsp"
      :
      :
      : "cc", "memory");
}

void on_signal(int signal, siginfo_t*, void* raw) {
  clear_sticky_flags();
  auto* context = static_cast<ucontext_t*>(raw);
  if (!child.running) {
    if (signal == SIGALRM) return;
    if (signal != SIGUSR1) leave(3);
    copy_bytes(child.saved_registers, context->uc_mcontext.gregs, sizeof child.saved_registers);
    copy_bytes(child.saved_fpu, context->uc_mcontext.fpregs, frame_bytes(context));
    child.running = true;
    child.next = 0;
    load_case(context);
    return;
  }
  if (signal == SIGALRM && ++child.ticks_in_case < 3) return;
  store_outcome(signal, context);
  if (++child.next < child.shared->count) {
    load_case(context);
    return;
  }
  child.running = false;
  copy_bytes(context->uc_mcontext.gregs, child.saved_registers, sizeof child.saved_registers);
  copy_bytes(context->uc_mcontext.fpregs, child.saved_fpu, frame_bytes(context));
}

bool confine() {
  const auto allow = [](u32 number, sock_filter* filter) {
    filter[0] = BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1);
    filter[1] = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  };
  sock_filter filter[16] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  unsigned length = 1;
  for (const int number : {SYS_rt_sigreturn, SYS_read, SYS_write, SYS_exit_group, SYS_tgkill}) {
    allow(static_cast<u32>(number), filter + length);
    length += 2;
  }
  filter[length++] = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
  const sock_fprog program = {static_cast<unsigned short>(length), filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

bool map_pages(int code_file, int data_file) {
  const auto map = [](u64 at, u64 bytes, int protection, int file, off_t offset) {
    const int place = at == 0 ? 0 : MAP_FIXED_NOREPLACE;
    void* got =
        mmap(reinterpret_cast<void*>(at), bytes, protection, MAP_SHARED | MAP_POPULATE | place, file, offset);
    return got == MAP_FAILED ? nullptr : static_cast<u8*>(got);
  };
  child.code_writable = map(0, kCodeBytes, PROT_READ | PROT_WRITE, code_file, 0);
  child.data = map(0, kDataBytes, PROT_READ | PROT_WRITE, data_file, 0);
  return child.code_writable != nullptr && child.data != nullptr &&
         map(kCode, kCodeBytes, PROT_READ | PROT_EXEC, code_file, 0) != nullptr &&
         map(kData, kWritableBytes, PROT_READ | PROT_WRITE, data_file, 0) != nullptr &&
         map(kData + kWritableBytes, kDataBytes - kWritableBytes, PROT_READ, data_file, kWritableBytes) !=
             nullptr;
}

[[noreturn]] void child_main(int requests, int answers) {
  static u8 stack[65536];
  const stack_t alternate = {stack, 0, sizeof stack};
  sigaltstack(&alternate, nullptr);
  struct sigaction action = {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigfillset(&action.sa_mask);
  for (const int signal : {SIGUSR1, SIGTRAP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGSYS, SIGALRM}) {
    sigaction(signal, &action, nullptr);
  }
  itimerval timer = {{1, 0}, {1, 0}};
  setitimer(ITIMER_REAL, &timer, nullptr);
  syscall(SYS_arch_prctl, ARCH_SET_GS, kGsBase);
  // 32-bit code cannot use null segments.
  asm volatile("mov %0, %%ds\n\tmov %0, %%es" : : "r"(u32{kUserData}));
  // Read-only and present: touched once, so that a fault on it is one of protection.
  for (u64 page = kData; page < kData + kDataBytes; page += kPageSize) {
    (void)*reinterpret_cast<volatile const u8*>(page);
  }
  const pid_t self = getpid();
  // Random pointers must not meet AddressSanitizer's shadow, which begins below 4 GiB. Nothing else lies
  // there.
  syscall(SYS_munmap, 0x7fff8000, 0x10007fff8000 - 0x7fff8000);
  if (!confine()) leave(4);
  for (;;) {
    char request = 0;
    const long got = syscall(SYS_read, requests, &request, 1);
    if (got < 0) continue;  // the timer
    if (got == 0) leave(0);
    syscall(SYS_tgkill, self, self, SIGUSR1);
    while (syscall(SYS_write, answers, &request, 1) != 1) {
    }
  }
}

}  // namespace

Result<Native> Native::start() {
  Native native;
  void* shared = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return host::errno_error("Cannot map memory");
  native.shared_ = static_cast<Shared*>(shared);
  const int code_file = memfd_create("code", MFD_CLOEXEC);
  const int data_file = memfd_create("data", MFD_CLOEXEC);
  int requests[2];
  int answers[2];
  if (code_file < 0 || data_file < 0 || ftruncate(code_file, kCodeBytes) != 0 ||
      ftruncate(data_file, kDataBytes) != 0 || pipe(requests) != 0 || pipe(answers) != 0) {
    return host::errno_error("Cannot make memory for the native runner");
  }
  native.child_ = fork();
  if (native.child_ < 0) return host::errno_error("Cannot start the native runner");
  if (native.child_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(requests[1]);
    close(answers[0]);
    child.shared = native.shared_;
    child.layout = cpu::xsave_layout(cpu::NativeCpuid());
    if (!map_pages(code_file, data_file)) _exit(5);
    child_main(requests[0], answers[1]);
  }
  close(code_file);
  close(data_file);
  close(requests[0]);
  close(answers[1]);
  native.to_child_ = requests[1];
  native.from_child_ = answers[0];
  return native;
}

Native::Native(Native&& other) noexcept
    : shared_(std::exchange(other.shared_, nullptr)),
      child_(std::exchange(other.child_, -1)),
      to_child_(std::exchange(other.to_child_, -1)),
      from_child_(std::exchange(other.from_child_, -1)) {}

Native::~Native() {
  if (to_child_ >= 0) close(to_child_);
  if (from_child_ >= 0) close(from_child_);
  if (child_ > 0) {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }
  if (shared_ != nullptr) munmap(shared_, sizeof(Shared));
}

Status Native::run(std::span<const Case> cases, std::span<Outcome> outcomes) {
  const usize count = cases.size() < kBatch ? cases.size() : kBatch;
  if (count == 0) return {};
  for (usize i = 0; i < count; ++i) shared_->cases[i] = cases[i];
  shared_->count = count;
  char token = 0;
  if (write(to_child_, &token, 1) != 1) return host::errno_error("Cannot reach the native runner");
  pollfd wait = {from_child_, POLLIN, 0};
  if (poll(&wait, 1, 60'000) != 1 || read(from_child_, &token, 1) != 1) {
    return Error("The native runner died or hung");
  }
  for (usize i = 0; i < count; ++i) outcomes[i] = shared_->outcomes[i];
  return {};
}

}  // namespace nacre::conformance
