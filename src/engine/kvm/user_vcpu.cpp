#include "engine/kvm/user_vcpu.hpp"

#include <cstring>

#include "cpu/debug_status.hpp"
#include "cpu/model.hpp"
#include "x86/registers.hpp"

namespace nacre::kvm {

using cpu::Activity;
using cpu::Event;
using cpu::State;
using engine::Exit;
using engine::ExitReason;
using interp::StepResult;
using x86::Cr4;
using x86::Rflags;

namespace {

// Instructions between two looks at kicks, interrupts and whether user code has been come to.
constexpr unsigned kBatch = 64;

// So many of them in user code, one after the other, and it is worth the way to KVM and back, which takes the
// interpreter as long as some thousand instructions.
constexpr unsigned kPatience = 100;

constexpr u64 kSingleStep = u64{1} << 14;      // DR6.BS
constexpr u16 kUserCs = 0x33, kUserSs = 0x2b;  // Linux, arch/x86/include/asm/segment.h
constexpr u64 kNowhere =
    ~u64{kPageSize - 1};  // the last page; Linux keeps it free, for pointers that are errors

u64 xstate_bv(const State& state) {
  u64 value = 0;
  std::memcpy(&value, state.xsave + cpu::XsaveLayout::kXstateBv, sizeof value);
  return value;
}

void keep_components(State& state, u64 components) {
  const u64 value = xstate_bv(state) & components;
  std::memcpy(state.xsave + cpu::XsaveLayout::kXstateBv, &value, sizeof value);
}

}  // namespace

Result<std::unique_ptr<UserVcpu>> UserVcpu::create(const engine::EngineContext& context) {
  auto vector = TRY(engine::HostedVectorUnit::create());
  std::unique_ptr<UserVcpu> made(new UserVcpu(context, std::move(vector)));
  engine::EngineContext inner{context.memory, made->board_, context.model};
  inner.group = context.group;
  inner.number = context.number;
  made->kvm_ = TRY(KvmVcpu::create(inner));
  const auto cpuid = TRY(Cpuid::of(made->group().system()));
  constexpr u32 kXsave = 1 << 26, kFsgsbase = 1, kUmip = 1 << 2;
  made->cr4_ = Cr4::PAE | Cr4::PGE | Cr4::OSFXSR | Cr4::OSXMMEXCPT;
  made->xcr0_ = cpu::Xcr0::x87 | cpu::Xcr0::SSE;
  if ((cpuid.leaf(1, 0).ecx & kXsave) != 0) {
    made->cr4_ |= Cr4::OSXSAVE;
    made->xcr0_ |= cpuid.xcr0() & context.model.xcr0_mask();
  }
  if ((cpuid.leaf(7, 0).ebx & kFsgsbase) != 0) made->cr4_ |= Cr4::FSGSBASE;
  if ((cpuid.leaf(7, 0).ecx & kUmip) != 0) made->cr4_ |= Cr4::UMIP;
  return made;
}

UserVcpu::UserVcpu(const engine::EngineContext& context, std::unique_ptr<engine::HostedVectorUnit> vector)
    : context_(context),
      board_(context.platform),
      vector_(std::move(vector)),
      interpreter_(context.memory, context.platform, context.model, vector_->unit(), this) {
  cpu::reset(state_, false);
}

void UserVcpu::kick() {
  kicked_.store(true, std::memory_order_release);
  kvm_->kick();
}

Exit UserVcpu::run() {
  const host::FaultScope vector_scope(*vector_);
  for (;;) {
    if (kicked_.load(std::memory_order_relaxed) && kicked_.exchange(false)) return {};
    user_batches_ = is_for_kvm() ? user_batches_ + 1 : 0;
    if (user_batches_ > kPatience || (user_batches_ != 0 && context_.direct == engine::DirectMode::Always)) {
      if (auto exit = run_user_code()) return *exit;
      // Whatever it stopped at is the interpreter's now, so that each turn gets on.
    }
    const StepResult result =
        interpreter_.run(state_, context_.direct == engine::DirectMode::Always ? 1 : kBatch);
    if (result == StepResult::Halted) return {ExitReason::Halted, Error{}};
    if (result == StepResult::Shutdown) return {ExitReason::Shutdown, Error{}};
  }
}

// 64-bit user code, of which nothing is to be told but by an exception, and which sees nothing of the host
// where it looks. It runs with the host's selectors, IF set, RDTSC allowed and without protection keys: so
// only code whose own are the same, as every Linux program's are.
bool UserVcpu::is_for_kvm() const {
  const State& s = state_;
  if (s.activity != Activity::Running || !s.in_64bit_code() || s.cpl() != 3) return false;
  if ((s.rflags & (Rflags::TF | Rflags::RF | Rflags::IOPL)) != 0 || (s.dr7 & 0xff) != 0) return false;
  if ((s.rflags & Rflags::IF) == 0 || (s.cr4 & (Cr4::TSD | Cr4::PKE)) != 0) return false;
  if (s.segment[x86::CS].selector != kUserCs || s.segment[x86::SS].selector != kUserSs) return false;
  for (const auto i : {x86::DS, x86::ES, x86::FS, x86::GS}) {
    if (s.segment[i].selector != 0) return false;
  }
  if (s.interrupt_shadow || s.nmi_pending != 0 || s.pending.kind != Event::Kind::None) return false;
  return !context_.platform.interrupt_pending();
}

// Of what KVM was not given, nothing has changed.
void UserVcpu::take_vector_registers(const State& after) {
  using Layout = cpu::XsaveLayout;
  const Layout& layout = context_.model.xsave();
  std::memcpy(state_.xsave, after.xsave, Layout::kLegacyBytes);
  u64 in_use = xstate_bv(state_) & ~xcr0_;
  in_use |= xstate_bv(after) & xcr0_;
  std::memcpy(state_.xsave + Layout::kXstateBv, &in_use, sizeof in_use);
  for (usize i = Layout::kYmmHigh; i < Layout::kComponents; ++i) {
    if ((xcr0_ >> i & 1) == 0 || layout.bytes[i] == 0) continue;
    std::memcpy(state_.xsave + layout.offset[i], after.xsave + layout.offset[i], layout.bytes[i]);
  }
}

// A byte of user code; 0 where there is none.
u8 UserVcpu::code_byte(u64 linear) const {
  // It has just been executed, which marks it as accessed, whoever has cleared that meanwhile.
  const auto at = cpu::walk(state_, context_.memory, nullptr, GuestLinear(linear), cpu::AccessType::Execute,
                            cpu::Privilege::User);
  if (!at) return 0;
  const u8* page = context_.memory.host(at.value().address.page(), false);
  return page == nullptr ? u8{0} : page[linear & (kPageSize - 1)];
}

// Exceptions of the kind that comes behind an instruction: RIP is past it already.
void UserVcpu::take_back_trap(u64 dr6) {
  constexpr u8 kInt = 0xcd, kInt1 = 0xf1, kInt3 = 0xcc;
  const u8 vector = kvm_->last_exception();
  if (vector == static_cast<u8>(x86::Vector::BP)) {
    const u8 last = code_byte(state_.rip - 1);
    if (last == kInt3) state_.rip -= 1;
    if (last == vector && code_byte(state_.rip - 2) == kInt) state_.rip -= 2;
  } else if (vector == static_cast<u8>(x86::Vector::DB)) {
    if ((dr6 & kSingleStep) != 0) {
      // POPF has set TF, and the instruction behind it is done.
      cpu::tell_debug_causes(state_, kSingleStep);
      state_.pending = {.kind = Event::Kind::Exception, .vector = vector};
    } else if (code_byte(state_.rip - 1) == kInt1) {
      state_.rip -= 1;
    }
  }
}

std::optional<Exit> UserVcpu::run_user_code() {
  if (stale_) {
    if (auto status = group().forget_translations(); !status) return Exit{ExitReason::Failed, status.error()};
    stale_ = false;
  }
  State& inner = kvm_->state();
  inner = state_;
  // No exception can be delivered, and a system call leads nowhere: KVM comes back with a triple fault, and
  // with the registers as they were before the instruction, which the interpreter then executes by the
  // guest's own tables.
  inner.idtr = {};
  inner.lstar = kNowhere;
  inner.fmask = 0;
  inner.sysenter_cs = 0;
  // What KVM has none of is undefined to it, and so the interpreter's as well.
  if ((state_.cr4 & Cr4::PCIDE) != 0) inner.cr3 &= ~u64{0xfff};
  inner.cr4 &= cr4_;
  inner.xcr0 &= xcr0_;
  keep_components(inner, xcr0_);
  inner.tr.limit = 0x67;  // no I/O permission bitmap
  inner.dr6 &= ~kSingleStep;
  // As KVM would look at it: without SMEP, which it is not given.
  if (cpu::walk(inner, context_.memory, nullptr, GuestLinear(kNowhere), cpu::AccessType::Execute,
                cpu::Privilege::Supervisor)) {
    return std::nullopt;
  }
  kvm_->state_changed();
  Exit exit = kvm_->run();
  if (exit.reason == ExitReason::Failed) return exit;
  const State& after = kvm_->state();
  std::memcpy(state_.gpr, after.gpr, sizeof state_.gpr);
  // SYSCALL is done again, with the same registers but the two that it overwrites.
  constexpr u64 kSyscallBytes = 2;
  const u64 behind = after.gpr[x86::RCX];
  if (after.rip == kNowhere && code_byte(behind - 2) == 0x0f && code_byte(behind - 1) == 0x05) {
    state_.rip = behind - kSyscallBytes;
    state_.rflags = after.gpr[x86::R11] & ~Rflags::RF;
    take_vector_registers(after);
    return std::nullopt;
  }
  state_.rip = after.rip;
  state_.rflags = after.rflags & ~Rflags::RF;  // it was clear, and a fault sets it in what it pushes only
  for (usize i = 0; i < 6; ++i) state_.segment[i] = after.segment[i];
  take_vector_registers(after);
  // A kick may have come before the delivery that failed, or would have.
  if (exit.reason == ExitReason::Shutdown || after.pending.kind == Event::Kind::Exception)
    take_back_trap(after.dr6);
  return std::nullopt;
}

}  // namespace nacre::kvm
