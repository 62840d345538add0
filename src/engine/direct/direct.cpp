#include "engine/direct/direct.hpp"

#include <cpuid.h>
#include <signal.h>
#include <x86intrin.h>

#include <cstring>

#include "cpu/xsave_layout.hpp"

namespace nacre::direct {

namespace {

using cpu::State;
using x86::Cr0;
using x86::Cr4;
using x86::Rflags;
using Layout = cpu::XsaveLayout;

// What Linux gives every 64-bit program, and so what is in the stub's registers.
constexpr u16 kUserCs = 0x33, kUserSs = 0x2b;
constexpr u64 kUserEnd = 0x7fff'ffff'f000;
// Software has the last bytes of the legacy region; the kernel keeps its notes there.
constexpr usize kSoftwareBytes = 464;
constexpr u64 kFlagsOfUser = Rflags::arithmetic | Rflags::DF | Rflags::TF | Rflags::NT | Rflags::AC | Rflags::ID;
constexpr u64 kVsyscallPage = 0xffff'ffff'ff60'0000;

// In the order of x86::Gpr.
constexpr int kRegister[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                               REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

u64 host_xcr0() {
  u32 low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return u64{high} << 32 | low;
}

usize bytes_of(u64 components) {
  usize end = Layout::kHeaderEnd;
  for (u32 i = 2; i < 63; i++) {
    if ((components >> i & 1) == 0) continue;
    u32 size = 0, offset = 0, c = 0, d = 0;
    __cpuid_count(0xd, i, size, offset, c, d);
    if (usize{offset} + size > end) end = usize{offset} + size;
  }
  return end;
}

u64 load64(const u8* from) {
  u64 value = 0;
  std::memcpy(&value, from, sizeof value);
  return value;
}

}  // namespace

Direct::Direct(memory::AddressSpace& memory, int ram_file, cpu::TranslationObserver& observer, CodeGuard& guard,
               u64 vector_components, u64 tsc_hz)
    : memory_(memory),
      ram_file_(ram_file),
      observer_(observer),
      vector_components_(vector_components),
      host_xcr0_(host_xcr0()),
      xsave_bytes_(bytes_of(vector_components)),
      mappings_(memory, observer, guard),
      policy_(tsc_hz != 0 ? tsc_hz : 2'000'000'000) {
  if (ram_file < 0 || xsave_bytes_ > cpu::kXsaveBytes) {
    given_up_ = true;
    reason_ = Error("the guest's memory is no file");
  }
}

// Everything that guest code could see of the processor must be as the stub has it.
bool Direct::possible(const State& s) const {
  constexpr u64 kNotHere = Rflags::TF | Rflags::RF | Rflags::NT | Rflags::AC | Rflags::VM | Rflags::IOPL;
  constexpr u64 kCr4 = Cr4::FSGSBASE | Cr4::OSFXSR | Cr4::OSXMMEXCPT | Cr4::OSXSAVE;
  return s.cpl() == 3 && s.in_64bit_code() && (s.rflags & kNotHere) == 0 && (s.rflags & Rflags::IF) != 0 &&
         (s.dr7 & 0xff) == 0 && (s.cr0 & (Cr0::EM | Cr0::TS)) == 0 && (s.cr0 & Cr0::PG) != 0 &&
         (s.cr4 & kCr4) == kCr4 && s.xcr0 == host_xcr0_ && s.rip < kUserEnd && s.segment[x86::CS].selector == kUserCs &&
         s.segment[x86::SS].selector == kUserSs && s.segment[x86::DS].selector == 0 && s.segment[x86::ES].selector == 0 &&
         s.segment[x86::FS].selector == 0 && s.segment[x86::GS].selector == 0 &&
         s.pending.kind == cpu::Event::Kind::None && !s.interrupt_shadow && s.activity == cpu::Activity::Running;
}

void Direct::user_interrupted(const State& state) {
  if (!given_up_ && possible(state)) policy_.interrupted(state.cr3, __rdtsc());
}

void Direct::refuse(const State& state) {
  policy_.refuse(state.cr3, __rdtsc());
}

// If the guest had memory where the stub is, its accesses would not fault.
bool Direct::guest_is_in_the_way(const State& state) {
  for (u64 at = stub_->block(); at < stub_->block() + kBlockBytes; at += kPageSize) {
    if (cpu::walk(state, memory_, &observer_, GuestLinear(at), cpu::AccessType::Read, cpu::Privilege::User)) return true;
  }
  return false;
}

bool Direct::prepare(const State& state) {
  const bool fresh = mappings_.all_forgotten();
  if (stub_ != nullptr && fresh && guest_is_in_the_way(state)) stub_.reset();
  if (stub_ != nullptr) return true;
  auto made = StubProcess::create(ram_file_);
  if (!made) {
    given_up_ = true;
    reason_ = made.error();
    return false;
  }
  stub_ = made.take();
  mappings_.reset();
  mappings_.set_forbidden(stub_->block(), kBlockBytes);
  return !guest_is_in_the_way(state);
}

Outcome Direct::run(State& state, const volatile u32& exit_request) {
  const u64 cr3 = state.cr3;
  const bool from_nothing = mappings_.all_forgotten() || stub_ == nullptr;
  if (!prepare(state)) {
    policy_.refuse(cr3, __rdtsc());
    statistics_.declined++;
    return Outcome::Declined;
  }
  StubProcess::Frame frame = stub_->frame(xsave_bytes_);
  if (frame.registers == nullptr) return Outcome::Failed;
  give(state, frame);
  statistics_.runs++;
  Mailbox& box = stub_->mailbox();
  u64 native = 0, faults = 0;
  u32 orders = 0;
  bool foreign = false;
  for (;;) {
    // What was forgotten goes last: it may concern what was asked for a moment ago.
    orders += mappings_.catch_up(box.order + orders);
    box.orders = orders;
    box.go = 1;
    statistics_.orders += orders;
    // In this order, so that a kick is either seen here or reaches the stub.
    running_.store(true);
    bool answered = true;
    const u64 before = __rdtsc();
    if (exit_request != 0) {
      box.go = 0;
      if (orders != 0) answered = stub_->exchange();
      running_.store(false);
      take(state, frame);
      if (!answered) return Outcome::Failed;
      return Outcome::Returned;
    }
    answered = stub_->exchange();
    running_.store(false);
    const u64 after = __rdtsc();
    native += after - before;
    if (!answered) return Outcome::Failed;
    frame = stub_->frame(xsave_bytes_);
    if (frame.registers == nullptr) return Outcome::Failed;
    if (box.failed != 0) {
      // The host has no more room for mappings. The registers are as they were given.
      take(state, frame);
      mappings_.reset();
      stub_.reset();
      policy_.refuse(cr3, after);
      return Outcome::Returned;
    }
    // Each value is read once; the stub could change it at any time.
    const i32 signal = __atomic_load_n(&box.signal, __ATOMIC_RELAXED);
    const i32 code = __atomic_load_n(&box.code, __ATOMIC_RELAXED);
    const u64 address = __atomic_load_n(&box.address, __ATOMIC_RELAXED);
    const u64 trap = static_cast<u64>(frame.registers[REG_TRAPNO]);
    if (signal == SIGSEGV && trap == 14) {
      const u64 error = static_cast<u64>(frame.registers[REG_ERR]);
      const u64 linear = static_cast<u64>(frame.registers[REG_CR2]);
      const auto type = (error & 16) != 0  ? cpu::AccessType::Execute
                        : (error & 2) != 0 ? cpu::AccessType::Write
                                           : cpu::AccessType::Read;
      statistics_.faults++;
      faults++;
      orders = mappings_.serve(state, linear, type, box.order, kMaxOrders - Mappings::kMaxForgotten);
      if (orders != 0) continue;
      foreign = type == cpu::AccessType::Execute;
    }
    take(state, frame);
    const bool kicked = signal == SIGUSR1;
    statistics_.kicks += kicked ? 1 : 0;
    statistics_.native_ticks += native;
    policy_.came_back(cr3, after, native, faults, kicked, from_nothing);
    return foreign ? Outcome::Foreign : explain(state, signal, code, address, trap);
  }
}

// --- registers ----------------------------------------------------------------------------------------

void Direct::give(const State& state, const StubProcess::Frame& frame) {
  Mailbox& box = stub_->mailbox();
  greg_t* const to = frame.registers;
  for (unsigned i = 0; i < 16; i++) to[kRegister[i]] = static_cast<greg_t>(state.gpr[i]);
  to[REG_RIP] = static_cast<greg_t>(state.rip);
  to[REG_EFL] = static_cast<greg_t>((state.rflags & kFlagsOfUser) | Rflags::IF | Rflags::fixed);
  to[REG_CSGSFS] = static_cast<greg_t>(u64{kUserSs} << 48 | kUserCs);
  box.id_flag = (state.rflags & Rflags::ID) != 0 ? 1 : 0;
  box.fs_base = state.segment[x86::FS].base;
  box.gs_base = state.segment[x86::GS].base;

  u8* const image = frame.xsave;
  std::memcpy(image, state.xsave, kSoftwareBytes);
  std::memcpy(image + Layout::kHeaderEnd, state.xsave + Layout::kHeaderEnd, xsave_bytes_ - Layout::kHeaderEnd);
  const u64 kept = load64(image + Layout::kXstateBv) & ~vector_components_;
  const u64 valid = kept | (load64(state.xsave + Layout::kXstateBv) & vector_components_);
  std::memcpy(image + Layout::kXstateBv, &valid, sizeof valid);
}

void Direct::take(State& state, const StubProcess::Frame& frame) {
  const Mailbox& box = stub_->mailbox();
  const greg_t* const from = frame.registers;
  for (unsigned i = 0; i < 16; i++) state.gpr[i] = static_cast<u64>(from[kRegister[i]]);
  state.rip = static_cast<u64>(from[REG_RIP]);
  state.rflags = (state.rflags & ~kFlagsOfUser) | (static_cast<u64>(from[REG_EFL]) & kFlagsOfUser);
  const auto canonical = [](u64 base) { return static_cast<u64>(static_cast<i64>(base << 16) >> 16); };
  state.segment[x86::FS].base = canonical(__atomic_load_n(&box.fs_base, __ATOMIC_RELAXED));
  state.segment[x86::GS].base = canonical(__atomic_load_n(&box.gs_base, __ATOMIC_RELAXED));

  const u64 segments = static_cast<u64>(from[REG_CSGSFS]);
  if (static_cast<u16>(segments) != kUserCs) load_segment(state, x86::CS, static_cast<u16>(segments));
  if (static_cast<u16>(segments >> 48) != kUserSs) load_segment(state, x86::SS, static_cast<u16>(segments >> 48));
  constexpr x86::SegmentIndex kOrder[4] = {x86::DS, x86::ES, x86::FS, x86::GS};
  for (unsigned i = 0; i < 4; i++) {
    const u16 selector = __atomic_load_n(&box.selector[i], __ATOMIC_RELAXED);
    if (selector != 0) load_segment(state, kOrder[i], selector);
  }

  u8* const image = state.xsave;
  std::memcpy(image, frame.xsave, kSoftwareBytes);
  std::memset(image + kSoftwareBytes, 0, Layout::kHeaderEnd - kSoftwareBytes);
  std::memcpy(image + Layout::kHeaderEnd, frame.xsave + Layout::kHeaderEnd, xsave_bytes_ - Layout::kHeaderEnd);
  // XRSTOR faults on what does not exist, and it is we who would run it.
  const u64 valid = load64(frame.xsave + Layout::kXstateBv) & vector_components_;
  std::memcpy(image + Layout::kXstateBv, &valid, sizeof valid);
  u32 mxcsr = 0;
  std::memcpy(&mxcsr, image + Layout::kMxcsr, sizeof mxcsr);
  mxcsr &= 0xffff;
  std::memcpy(image + Layout::kMxcsr, &mxcsr, sizeof mxcsr);
}

// Guest code has loaded a segment register: natively, with what the host has under that selector. A Linux guest has
// the same. Never gives more privilege than ring 3, whatever the stub says.
void Direct::load_segment(State& state, unsigned segment, u16 selector) {
  const u64 at = state.gdtr.base + (selector & 0xfff8U);
  if ((selector & 4) != 0 || (selector & 0xfff8U) + 7U > state.gdtr.limit) return;
  const auto walked = cpu::walk(state, memory_, &observer_, GuestLinear(at), cpu::AccessType::Read, cpu::Privilege::Implicit);
  u64 descriptor = 0;
  if (!walked || at % 8 != 0 || !memory_.read(walked.value().address, &descriptor, sizeof descriptor)) return;
  cpu::Segment loaded;
  loaded.selector = selector;
  loaded.attributes = static_cast<u16>(descriptor >> 40 & 0xf0ff);
  loaded.limit = static_cast<u32>((descriptor & 0xffff) | (descriptor >> 32 & 0xf0000));
  if ((loaded.attributes & cpu::SegmentAttributes::G) != 0) loaded.limit = loaded.limit << 12 | 0xfff;
  loaded.base = (descriptor >> 16 & 0xffffff) | (descriptor >> 32 & 0xff000000);
  const bool code = (loaded.attributes & 8) != 0;
  const bool usable = loaded.present() && (loaded.attributes & cpu::SegmentAttributes::S) != 0 && loaded.dpl() == 3 &&
                      (selector & 3) == 3 && code == (segment == x86::CS);
  if (!usable) return;
  if (segment == x86::FS || segment == x86::GS) loaded.base = state.segment[segment].base;
  state.segment[segment] = loaded;
}

// What the guest's processor would have done next. The instruction at RIP mostly says it by itself; the exceptions
// are those after which the host had already moved on.
Outcome Direct::explain(State& state, i32 signal, i32 code, u64 address, u64 trap) {
  const auto byte_before = [&] {
    u8 byte = 0;
    const auto walked = cpu::walk(state, memory_, &observer_, GuestLinear(state.rip - 1), cpu::AccessType::Read,
                                  cpu::Privilege::User);
    return walked && memory_.read(walked.value().address, &byte, 1) ? byte : u8{0};
  };
  switch (signal) {
    case SIGUSR1:
      return Outcome::Returned;
    case SIGSYS:
      if ((address & ~u64{0xfff}) == kVsyscallPage) {
        // The host's kernel has returned from its own vsyscall page already.
        state.rip = address;
        state.gpr[x86::RSP] -= 8;
      } else {
        state.rip -= 2;  // SYSCALL or INT 80H
      }
      return Outcome::Interpret;
    case SIGTRAP:
      if (trap == 1 && code == TRAP_TRACE) {
        // popf had set TF; the step is done.
        state.dr6 |= u64{1} << 14;
        state.pending = {};
        state.pending.kind = cpu::Event::Kind::Exception;
        state.pending.vector = 1;
        return Outcome::Returned;
      }
      if (trap == 1) {
        state.rip -= 1;  // INT1
      } else if (trap == 3) {
        state.rip -= byte_before() == 0xcc ? 1 : 2;  // INT3, or INT 3
      }
      return Outcome::Interpret;
    case SIGSEGV:
      if (trap == 4) state.rip -= 2;  // INT 4
      return Outcome::Interpret;
    default:
      return Outcome::Interpret;
  }
}

}  // namespace nacre::direct
