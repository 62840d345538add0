// Signals of a vCPU thread: faults that running guest code raises on the host, and the kick that
// interrupts it. One process-wide handler per signal asks the interrupted thread's own chain of
// FaultHandlers, innermost first.
//
//   SignalDispatcher::install();                    once, early in main
//   auto stack = TRY(SignalStack::enter());         once per vCPU thread: the alternate stack
//   FaultScope scope(handler);                      while `handler` wants to be asked
//
// What a FaultHandler may rely on: it runs on the alternate stack (the interrupted RSP may be any
// value), FS is the host's, RFLAGS.DF/TF/AC are clear, x87/MXCSR/vector state is the host's initial
// one; GS is as the interrupted code left it. The kick signal is blocked while it runs. To go on
// elsewhere it changes the context (RIP, RSP, registers) and returns true; it must not longjmp.
// Only async-signal-safe calls. A fault inside a handler asks the chain again, so a handler checks first
// that the interrupted RIP is its own.
#pragma once

#include <pthread.h>
#include <signal.h>
#include <ucontext.h>

#include "base/result.hpp"
#include "host/mapping.hpp"

namespace nacre::host {

class FaultHandler {
 public:
  // True: dealt with, return to `context` as it is now. False: not mine, ask the next one. The kick signal is
  // told to the whole chain whatever is returned.
  virtual bool handle(int signal, siginfo_t* info, ucontext_t* context) = 0;

 protected:
  ~FaultHandler() = default;

 private:
  friend class FaultScope;
  friend struct FaultChain;
  FaultHandler* outer_ = nullptr;
};

// sigaction() for handlers that must see the context as it is when the signal comes, in every build.
int set_signal_action(int signal, const struct sigaction* action, struct sigaction* before);

class SignalDispatcher {
 public:
  // Takes over SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP and the kick signal for the process. A second
  // call changes nothing. A fault that nobody deals with runs the last-words hooks, then ends the
  // process by the same signal with its default action.
  static Status install();

  // The realtime signal that kicks a vCPU thread. Without a FaultHandler that wants it, it does nothing
  // but interrupt system calls (no SA_RESTART).
  static int kick_signal();

  // Called, async-signal-safe, before the process dies of a signal or a failed check (the terminal is put
  // back there). Up to kMaxLastWords; they stay for good.
  static constexpr usize kMaxLastWords = 4;
  static void on_death(void (*last_words)());
  static void run_last_words();
};

// The alternate signal stack of the calling thread, with a guard page below it. Put back what was there
// before when destroyed, which must happen on the same thread.
class SignalStack {
 public:
  static Result<SignalStack> enter();
  SignalStack(SignalStack&& other) noexcept;
  SignalStack(const SignalStack&) = delete;
  SignalStack& operator=(const SignalStack&) = delete;
  SignalStack& operator=(SignalStack&&) = delete;
  ~SignalStack();

 private:
  SignalStack(Mapping mapping, stack_t before) : mapping_(std::move(mapping)), before_(before) {}

  Mapping mapping_;
  stack_t before_;
};

// While it lives, `handler` is the innermost of the calling thread's chain. Scopes nest.
class FaultScope {
 public:
  explicit FaultScope(FaultHandler& handler);
  FaultScope(const FaultScope&) = delete;
  FaultScope& operator=(const FaultScope&) = delete;
  ~FaultScope();

 private:
  FaultHandler& handler_;
};

// A thread that can be kicked from any other and from signal handlers.
class KickableThread {
 public:
  // The calling thread.
  static KickableThread current();
  // Sends the kick signal. Async-signal-safe. False, and nothing happens, once the thread is gone, or when the user has
  // as many signals under way as the host allows.
  bool kick() const;
  [[nodiscard]] pid_t id() const { return thread_; }

 private:
  pid_t process_ = 0;
  pid_t thread_ = 0;
};

}  // namespace nacre::host
