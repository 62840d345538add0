#include "engine/conformance/kicker.hpp"

#include <sys/mman.h>

#include <atomic>
#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "host/signals.hpp"
#include "x86/instruction.hpp"
#include "x86/operation.hpp"

namespace nacre::conformance {
namespace {

constexpr int kFaults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
constexpr greg_t kTrapFlag = 0x100;
Kicker* active = nullptr;

// Of the code cache's two views. One vCPU is expected; of several, the last made.
bool find_code_cache(u64& code, u64& bytes, u8*& writable) {
  std::FILE* maps = std::fopen("/proc/self/maps", "r");
  if (maps == nullptr) return false;
  char line[512];
  while (std::fgets(line, sizeof line, maps) != nullptr) {
    u64 from = 0, to = 0;
    char rights[8] = {};
    if (std::strstr(line, "memfd:nacre-code") == nullptr) continue;
    if (std::sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s", &from, &to, rights) != 3) continue;
    if (rights[2] == 'x') {
      code = from;
      bytes = to - from;
    } else if (rights[1] == 'w') {
      writable = reinterpret_cast<u8*>(from);
    }
  }
  std::fclose(maps);
  return code != 0 && writable != nullptr;
}

void set_trap_flag(ucontext_t* context, bool set) {
  greg_t& flags = context->uc_mcontext.gregs[REG_EFL];
  flags = set ? flags | kTrapFlag : flags & ~kTrapFlag;
}
u64 rip_of(const ucontext_t* context) {
  return static_cast<u64>(context->uc_mcontext.gregs[REG_RIP]);
}

// ucontext's order of the general registers, by x86::Gpr.
constexpr int kContextRegister[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                      REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

u64 word_at(u64 address) {
  u64 value = 0;
  std::memcpy(&value, reinterpret_cast<const void*>(address), sizeof value);
  return value;
}

// What the instruction, the translator's own, reads its target from.
u64 address_of_operand(const x86::Instruction& i, const ucontext_t* context) {
  const auto value = [&](u8 gpr) {
    return gpr < 16 ? static_cast<u64>(context->uc_mcontext.gregs[kContextRegister[gpr]]) : 0;
  };
  const u64 base = i.base == x86::kRipBase ? rip_of(context) + i.length : value(i.base);
  return base + (value(i.index) << i.scale) + static_cast<u64>(i.displacement);
}

}  // namespace

Result<std::unique_ptr<Kicker>> Kicker::create(engine::Vcpu& vcpu) {
  std::unique_ptr<Kicker> kicker(new Kicker(vcpu));
  if (!find_code_cache(kicker->code_, kicker->code_bytes_, kicker->writable_)) {
    return Error("The translator's code cache is not among the process's mappings");
  }
  // Its alternate stack, as the dispatcher's handlers have it.
  struct sigaction action = {};
  action.sa_sigaction = &on_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigaddset(&action.sa_mask, host::SignalDispatcher::kick_signal());
  active = kicker.get();
  for (const int signal : kFaults) host::set_signal_action(signal, &action, &kicker->before_[signal]);
  host::set_signal_action(host::SignalDispatcher::kick_signal(), nullptr,
            &kicker->before_[host::SignalDispatcher::kick_signal()]);
  return kicker;
}

Kicker::~Kicker() {
  stop();
  for (const int signal : kFaults) host::set_signal_action(signal, &before_[signal], nullptr);
  active = nullptr;
}

void Kicker::break_at(u64 address) {
  for (unsigned i = 0; i < breakpoint_count_; ++i) {
    if (breakpoints_[i].address == address) return;
  }
  if (!is_code(address) || breakpoint_count_ == 2) return;
  u8& byte = writable_[address - code_];
  breakpoints_[breakpoint_count_++] = {address, byte};
  // The return from a signal, or the system call before it, serialises: SDM vol. 3, 8.1.3.
  byte = 0xcc;
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

void Kicker::clear_breakpoints() {
  while (breakpoint_count_ != 0) {
    const Breakpoint& last = breakpoints_[--breakpoint_count_];
    writable_[last.address - code_] = last.original;
  }
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

// Wherever translated code can be next, C++ in between left out.
void Kicker::break_behind(const ucontext_t* context) {
  const u64 rip = rip_of(context);
  x86::Instruction i;
  if (x86::decode(bytes_at(rip), 15, x86::CodeSize::Bits64, i) != x86::DecodeStatus::Ok) return;
  const u64 next = rip + i.length;
  const auto target = [&] {
    if (i.info->operands[0].kind == x86::OperandKind::Relative) return next + i.immediate;
    if (!i.is_memory) return static_cast<u64>(context->uc_mcontext.gregs[kContextRegister[i.rm]]);
    return word_at(address_of_operand(i, context));
  };
  switch (i.info->kind) {
    case x86::Class::Jump:
      return break_at(target());
    case x86::Class::JumpIf:
      break_at(next);
      return break_at(target());
    case x86::Class::Call:  // of a stub, or of C++, which comes back
      return break_at(i.info->operands[0].kind == x86::OperandKind::Relative ? target() : next);
    case x86::Class::Return: {
      const u64 to = word_at(static_cast<u64>(context->uc_mcontext.gregs[REG_RSP]));
      return break_at(is_code(to) ? to : mode_ == Mode::Again ? 0 : code_);
    }
    default:
      return break_at(next);
  }
}

void Kicker::trace(usize most) {
  stop();
  trace_.clear();
  trace_.reserve(most);
  most_ = most;
  mode_ = Mode::Trace;
  break_at(code_);  // the way in is the first of the stubs
}

void Kicker::kick_at(u64 address, u64 nth) {
  stop();
  mode_ = Mode::Break;
  wanted_ = address;
  count_ = nth;
  break_at(address);
}

void Kicker::kick_after(u64 nth) {
  stop();
  mode_ = Mode::Count;
  count_ = nth;
  break_at(code_);
}

void Kicker::kick_after_everything(u64 nth) {
  kick_after(nth);
  mode_ = Mode::CountEverything;
}

void Kicker::stop() {
  clear_breakpoints();
  mode_ = Mode::Off;
  again_after_ = kNever;
  kicks_ = 0;
}

void Kicker::on_signal(int signal, siginfo_t* info, void* context) {
  active->handle(signal, info, static_cast<ucontext_t*>(context));
}

void Kicker::forward(int signal, siginfo_t* info, ucontext_t* context) {
  before_[signal].sa_sigaction(signal, info, context);
}

// As the signal would arrive from another thread: the request first, then the handler.
void Kicker::kick(siginfo_t* info, ucontext_t* context) {
  kicks_++;
  const bool again = kicks_ == 1 && again_after_ != kNever;
  mode_ = again ? Mode::Again : Mode::Off;
  count_ = again_after_;
  vcpu_.kick();
  forward(host::SignalDispatcher::kick_signal(), info, context);
  if (again) break_at(rip_of(context));
}

// Before an instruction that had a breakpoint.
void Kicker::reached(siginfo_t* info, ucontext_t* context) {
  switch (mode_) {
    case Mode::Off:
      return;
    case Mode::Trace:
      if (trace_.size() == most_) return;
      trace_.push_back(rip_of(context));
      return break_behind(context);
    case Mode::Break:
      if (rip_of(context) != wanted_) return break_at(wanted_);
      [[fallthrough]];
    case Mode::Count:
    case Mode::Again:
      return count_-- == 0 ? kick(info, context) : break_behind(context);
    case Mode::CountEverything:
      stepping_ = true;
      return set_trap_flag(context, true);
  }
}

void Kicker::handle(int signal, siginfo_t* info, ucontext_t* context) {
  const u64 rip = rip_of(context);
  const bool stepped = signal == SIGTRAP && info->si_code == TRAP_TRACE;
  if (signal == SIGTRAP && !stepped) {
    for (unsigned i = 0; i < breakpoint_count_; ++i) {
      if (breakpoints_[i].address != rip - 1) continue;
      context->uc_mcontext.gregs[REG_RIP] = static_cast<greg_t>(rip - 1);
      clear_breakpoints();
      return reached(info, context);
    }
  }
  if (stepped && stepping_) {
    // It may have come all the way out, to stop().
    const bool over = mode_ != Mode::CountEverything;
    stepping_ = !over && count_ != 0;
    set_trap_flag(context, stepping_);
    if (!over && count_-- == 0) kick(info, context);
    return;
  }
  forward(signal, info, context);
  if (breakpoint_count_ == 0 || rip_of(context) == rip) return;
  // It goes on somewhere else.
  if (mode_ == Mode::Break && breakpoints_[0].address == wanted_) return;
  clear_breakpoints();
  break_at(mode_ == Mode::Break ? wanted_ : rip_of(context));
}

}  // namespace nacre::conformance
