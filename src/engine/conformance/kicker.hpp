// Delivers a kick to a `soft` vCPU before a chosen host instruction of its translated code: what arrives by
// chance once in a million times is tried at every place in turn. Takes over the process's fault signals
// while it lives and looks at the code cache from outside: it steps by breakpoints written through the
// cache's writable view, because a step by TF costs tens of microseconds in a virtual machine (the kernel's
// handler reads a debug register), and because the engine uses TF itself. Hosted; tests only; one thread, one
// vCPU of its kind.
#pragma once

#include <signal.h>
#include <ucontext.h>

#include <memory>
#include <vector>

#include "base/result.hpp"
#include "engine/engine.hpp"

namespace nacre::conformance {

class Kicker {
 public:
  // After the vCPU was made, and SignalDispatcher::install().
  static Result<std::unique_ptr<Kicker>> create(engine::Vcpu& vcpu);
  ~Kicker();
  Kicker(const Kicker&) = delete;
  Kicker& operator=(const Kicker&) = delete;

  // Each of these holds until stop(); between them the vCPU runs.
  // Notes every host instruction in the code cache that runs, up to `most`.
  void trace(usize most);
  // Kicks before the instruction at `address` when it is about to run for the nth time (from 0).
  void kick_at(u64 address, u64 nth);
  // Kicks before the nth (from 0) host instruction in the code cache; the other: C++ counts too, by TF.
  void kick_after(u64 nth);
  void kick_after_everything(u64 nth);
  // After the kick, another one this many host instructions later, if translated code runs so long.
  void kick_again_after(u64 instructions) { again_after_ = instructions; }
  void stop();

  [[nodiscard]] bool kicked() const { return kicks_ != 0; }
  [[nodiscard]] const std::vector<u64>& traced() const { return trace_; }
  [[nodiscard]] bool is_code(u64 address) const { return address - code_ < code_bytes_; }
  // The bytes at an address of the code cache.
  [[nodiscard]] const u8* bytes_at(u64 address) const { return writable_ + (address - code_); }
  [[nodiscard]] u64 end() const { return code_ + code_bytes_; }

 private:
  explicit Kicker(engine::Vcpu& vcpu) : vcpu_(vcpu) {}

  static constexpr u64 kNever = ~u64{0};
  enum class Mode : u8 { Off, Trace, Break, Count, CountEverything, Again };
  struct Breakpoint {
    u64 address;
    u8 original;
  };

  static void on_signal(int signal, siginfo_t* info, void* context);
  void handle(int signal, siginfo_t* info, ucontext_t* context);
  void reached(siginfo_t* info, ucontext_t* context);
  void kick(siginfo_t* info, ucontext_t* context);
  void forward(int signal, siginfo_t* info, ucontext_t* context);
  void break_behind(const ucontext_t* context);
  void break_at(u64 address);
  void clear_breakpoints();

  engine::Vcpu& vcpu_;
  u64 code_ = 0, code_bytes_ = 0;
  u8* writable_ = nullptr;
  struct sigaction before_[65] = {};
  Mode mode_ = Mode::Off;
  Breakpoint breakpoints_[2] = {};
  unsigned breakpoint_count_ = 0;
  u64 wanted_ = 0;  // of Mode::Break
  u64 count_ = 0;
  u64 again_after_ = kNever;
  unsigned kicks_ = 0;
  bool stepping_ = false;  // the trap flag is ours
  usize most_ = 0;
  std::vector<u64> trace_;
};

}  // namespace nacre::conformance
