#include "host/signals.hpp"

#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

#include "base/sanitizer.hpp"
#include "host/error.hpp"

namespace nacre::host {

// Reached from the signal handler without a call, a lock or an allocation: static TLS.
struct FaultChain {
  static constinit thread_local FaultHandler* innermost __attribute__((tls_model("initial-exec")));

  static bool ask(int signal, siginfo_t* info, ucontext_t* context) {
    for (FaultHandler* handler = innermost; handler != nullptr; handler = handler->outer_) {
      if (handler->handle(signal, info, context)) return true;
    }
    return false;
  }
  // A kick is everybody's.
  static void tell(int signal, siginfo_t* info, ucontext_t* context) {
    for (FaultHandler* handler = innermost; handler != nullptr; handler = handler->outer_) {
      static_cast<void>(handler->handle(signal, info, context));
    }
  }
};
constinit thread_local FaultHandler* FaultChain::innermost = nullptr;

namespace {

constexpr int fault_signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};

std::atomic<void (*)()> last_words[SignalDispatcher::kMaxLastWords];
std::atomic<bool> last_words_said = false;

// Linux clears DF and TF for a handler, not AC, which the interrupted code may have set and which would
// make our own unaligned accesses fault. The red zone is stepped over.
inline void clear_alignment_check() {
  __asm__ volatile(
      "lea -128(%%rsp), %%rsp\n\t"
      "pushfq\n\t"
      "andq $~0x40000, (%%rsp)\n\t"
      "popfq\n\t"
      "lea 128(%%rsp), %%rsp" ::
          : "cc", "memory");
}

void say(const char* text) {
  usize length = 0;
  while (text[length] != 0) ++length;
  [[maybe_unused]] const auto written = write(STDERR_FILENO, text, length);
}

void say_number(u64 value) {
  char digits[19] = "0x";
  for (int i = 0; i < 16; ++i) digits[2 + i] = "0123456789abcdef"[(value >> (60 - 4 * i)) & 15];
  digits[18] = 0;
  say(digits);
}

const char* name_of(int signal) {
  switch (signal) {
    case SIGSEGV:
      return "SIGSEGV";
    case SIGBUS:
      return "SIGBUS";
    case SIGFPE:
      return "SIGFPE";
    case SIGILL:
      return "SIGILL";
    default:
      return "SIGTRAP";
  }
}

// The same signal again, with its default action: the exit status tells the truth and a core is left.
[[noreturn]] void die_of(int signal) {
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  sigaction(signal, &action, nullptr);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  raise(signal);
  _exit(128 + signal);
}

// A system call that the thread's filter does not let through (host/confine.hpp).
void on_forbidden_call(int signal, siginfo_t* info, void*) {
  SignalDispatcher::run_last_words();
  say("nacre: internal error: system call ");
  say_number(static_cast<u64>(info->si_syscall));
  say(" is not one that Nacre makes while a guest runs; the guest was stopped. Please report this.\n");
  die_of(signal);
}

void on_fault(int signal, siginfo_t* info, void* context) {
  clear_alignment_check();
  auto* frame = static_cast<ucontext_t*>(context);
  if (FaultChain::ask(signal, info, frame)) return;
  SignalDispatcher::run_last_words();
  say("nacre: internal error: ");
  say(name_of(signal));
  say(" at ");
  say_number(static_cast<u64>(frame->uc_mcontext.gregs[REG_RIP]));
  say(", address ");
  say_number(reinterpret_cast<u64>(info->si_addr));
  say(". Please report this.\n");
  die_of(signal);
}

void on_kick(int signal, siginfo_t* info, void* context) {
  clear_alignment_check();
  const int saved = errno;
  FaultChain::tell(signal, info, static_cast<ucontext_t*>(context));
  errno = saved;
}

}  // namespace

#ifdef NACRE_THREAD_SANITIZER
namespace {

// As the kernel has it (x86-64).
struct KernelAction {
  u64 handler, flags, restorer, mask;
};
constexpr u64 kHasRestorer = 0x04000000;

extern "C" void nacre_return_from_signal();
__asm__(".text\nnacre_return_from_signal: mov $15, %eax\n syscall\n");

}  // namespace

// The runtime would put a handler off and show it a context of before.
int set_signal_action(int signal, const struct sigaction* action, struct sigaction* before) {
  KernelAction wanted = {}, old = {};
  if (action != nullptr) {
    wanted = {reinterpret_cast<u64>(action->sa_sigaction), static_cast<u64>(action->sa_flags) | kHasRestorer,
              reinterpret_cast<u64>(&nacre_return_from_signal), 0};
    for (int i = 1; i < 65; ++i) wanted.mask |= sigismember(&action->sa_mask, i) == 1 ? u64{1} << (i - 1) : 0;
  }
  if (syscall(SYS_rt_sigaction, signal, action == nullptr ? nullptr : &wanted, &old, sizeof wanted.mask) != 0) return -1;
  if (before != nullptr) {
    *before = {};
    before->sa_sigaction = reinterpret_cast<void (*)(int, siginfo_t*, void*)>(old.handler);
    before->sa_flags = static_cast<int>(old.flags & ~kHasRestorer);
    for (int i = 1; i < 65; ++i) {
      if ((old.mask >> (i - 1) & 1) != 0) sigaddset(&before->sa_mask, i);
    }
  }
  return 0;
}
#else
int set_signal_action(int signal, const struct sigaction* action, struct sigaction* before) {
  return sigaction(signal, action, before);
}
#endif

int SignalDispatcher::kick_signal() {
  return SIGRTMIN;
}

Status SignalDispatcher::install() {
  struct sigaction action = {};
  sigemptyset(&action.sa_mask);
  sigaddset(&action.sa_mask, kick_signal());
  // SA_NODEFER: a fault inside a handler is reported, not turned into a silent death.
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  action.sa_sigaction = on_fault;
  for (const int signal : fault_signals) {
    if (set_signal_action(signal, &action, nullptr) != 0) return errno_error("Cannot install a signal handler");
  }
  action.sa_sigaction = on_forbidden_call;
  if (set_signal_action(SIGSYS, &action, nullptr) != 0) return errno_error("Cannot install a signal handler");
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  action.sa_sigaction = on_kick;
  if (set_signal_action(kick_signal(), &action, nullptr) != 0) return errno_error("Cannot install a signal handler");
  return {};
}

void SignalDispatcher::on_death(void (*hook)()) {
  for (auto& slot : last_words) {
    void (*expected)() = nullptr;
    if (slot.load() == hook || slot.compare_exchange_strong(expected, hook)) return;
  }
}

void SignalDispatcher::run_last_words() {
  if (last_words_said.exchange(true)) return;
  for (auto& slot : last_words) {
    if (auto* hook = slot.load()) hook();
  }
}

Result<SignalStack> SignalStack::enter() {
  // The frame alone is 3 KiB with AVX-512 and 11 KiB with AMX.
  const usize bytes = getauxval(AT_MINSIGSTKSZ) + 64 * kKiB;
  Mapping mapping = TRY(Mapping::anonymous(bytes, Mapping::Guard::Below));
  stack_t stack = {};
  stack.ss_sp = mapping.data();
  stack.ss_size = mapping.size();
  stack_t before = {};
  if (sigaltstack(&stack, &before) != 0) return errno_error("Cannot set a signal stack");
  return SignalStack(std::move(mapping), before);
}

SignalStack::SignalStack(SignalStack&& other) noexcept
    : mapping_(std::move(other.mapping_)), before_(other.before_) {}

SignalStack::~SignalStack() {
  if (mapping_.data() != nullptr) sigaltstack(&before_, nullptr);
}

FaultScope::FaultScope(FaultHandler& handler) : handler_(handler) {
  handler.outer_ = FaultChain::innermost;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  FaultChain::innermost = &handler;
}

FaultScope::~FaultScope() {
  FaultChain::innermost = handler_.outer_;
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

KickableThread KickableThread::current() {
  KickableThread thread;
  thread.process_ = getpid();
  thread.thread_ = gettid();
  return thread;
}

bool KickableThread::kick() const {
  const int saved = errno;
  const bool sent = syscall(SYS_tgkill, process_, thread_, SignalDispatcher::kick_signal()) == 0;
  errno = saved;
  return sent;
}

}  // namespace nacre::host
