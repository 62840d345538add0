#include "engine/direct/direct.hpp"

#include <cpuid.h>
#include <sys/mman.h>
#include <time.h>
#include <x86intrin.h>

#include <cstring>

#include "cpu/debug_status.hpp"
#include "cpu/xsave_layout.hpp"
#include "x86/instruction.hpp"

namespace nacre::direct {

namespace {

using cpu::State;
using x86::Cr0;
using x86::Cr4;
using x86::Rflags;
using Layout = cpu::XsaveLayout;

// TASK_SIZE_MAX of the host: its vsyscall page is elsewhere, and ptrace takes no segment base from here on.
constexpr u64 kUserEnd = 0x7fff'ffff'f000;
// Software has the last bytes of the legacy region; the kernel keeps its notes there.
constexpr usize kSoftwareBytes = 464;
constexpr u64 kFlagsOfUser =
    Rflags::arithmetic | Rflags::DF | Rflags::TF | Rflags::NT | Rflags::AC | Rflags::ID;
// What neither ptrace nor a signal changes.
constexpr u64 kStuckFlags = Rflags::ID | Rflags::NT;
constexpr u64 kVsyscallPage = 0xffff'ffff'ff60'0000;

// In the order of x86::Gpr.
constexpr unsigned long long user_regs_struct::*kRegister[16] = {
    &user_regs_struct::rax, &user_regs_struct::rcx, &user_regs_struct::rdx, &user_regs_struct::rbx,
    &user_regs_struct::rsp, &user_regs_struct::rbp, &user_regs_struct::rsi, &user_regs_struct::rdi,
    &user_regs_struct::r8,  &user_regs_struct::r9,  &user_regs_struct::r10, &user_regs_struct::r11,
    &user_regs_struct::r12, &user_regs_struct::r13, &user_regs_struct::r14, &user_regs_struct::r15};

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

// Of what the stub's processor time counts, so much is the host's stopping and starting it. ns
constexpr u64 kStopCost = 4'000;

// Processor time of this thread, ns.
u64 own_time() {
  timespec time = {};
  if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time) != 0) return 0;
  return static_cast<u64>(time.tv_sec) * 1'000'000'000 + static_cast<u64>(time.tv_nsec);
}

}  // namespace

Direct::Direct(memory::AddressSpace& memory, cpu::TranslationObserver& observer, PageClaims& claims,
               const DirectOptions& options)
    : memory_(memory),
      observer_(observer),
      options_(options),
      host_xcr0_(host_xcr0()),
      xsave_bytes_(bytes_of(options.vector_components)),
      mappings_(memory, observer, claims),
      policy_(options.tsc_hz != 0 ? options.tsc_hz : 2'000'000'000),
      always_(options.always) {}

Status Direct::start() {
  if (options_.vector_components != host_xcr0_ || xsave_bytes_ > cpu::kXsaveBytes)
    return Error{"this processor has more vector state than guests are shown"};
  stub_ = TRY(StubProcess::create(options_.ram_file, options_.native_tsc));
  mappings_.reset();
  mappings_.set_forbidden(stub_->block(), kBlockBytes);
  mappings_.set_copies(stub_->copy(0));
  return {};
}

// Everything that guest code could see of the processor must be as the stub has it.
bool Direct::possible(const State& s) const {
  constexpr u64 kNotHere = Rflags::TF | Rflags::RF | Rflags::NT | Rflags::AC | Rflags::VM | Rflags::IOPL;
  constexpr u64 kCr4 = Cr4::FSGSBASE | Cr4::OSFXSR | Cr4::OSXMMEXCPT | Cr4::OSXSAVE;
  return s.cpl() == 3 && s.in_64bit_code() && (s.rflags & kNotHere) == 0 && (s.rflags & Rflags::IF) != 0 &&
         (s.dr7 & 0xff) == 0 && (s.cr0 & (Cr0::EM | Cr0::TS)) == 0 && (s.cr0 & Cr0::PG) != 0 &&
         (s.cr4 & (kCr4 | Cr4::TSD | Cr4::PKE | Cr4::LA57)) == kCr4 && s.xcr0 == host_xcr0_ &&
         (!options_.native_tsc || s.tsc_offset == 0) && s.rip < kUserEnd &&
         s.segment[x86::CS].selector == kUserCs && s.segment[x86::SS].selector == kUserSs &&
         s.segment[x86::DS].selector == 0 && s.segment[x86::ES].selector == 0 &&
         s.segment[x86::FS].selector == 0 && s.segment[x86::GS].selector == 0 &&
         s.segment[x86::FS].base < kUserEnd && s.segment[x86::GS].base < kUserEnd &&
         s.pending.kind == cpu::Event::Kind::None && !s.interrupt_shadow &&
         s.activity == cpu::Activity::Running;
}

void Direct::user_interrupted(const State& state) {
  if (stub_ != nullptr && possible(state)) policy_.interrupted(state.cr3, __rdtsc());
}

void Direct::flushed() {
  mappings_.forget_all();
  policy_.switched(__rdtsc());
}

void Direct::refuse(const State& state) {
  policy_.refuse(state.cr3, __rdtsc());
}

// If the guest has memory where the stub is, its accesses would not fault. Mostly one entry says that there
// is none.
bool Direct::guest_is_in_the_way(const State& state) {
  u64 entry = 0;
  const GuestPhysical top((state.cr3 & 0x000f'ffff'ffff'f000) + (stub_->block() >> 39 & 511) * 8);
  if (memory_.read(top, &entry, sizeof entry) && (entry & 1) == 0) return false;
  for (u64 at = stub_->block(); at < stub_->block() + kBlockBytes; at += kPageSize) {
    if (cpu::walk(state, memory_, &observer_, GuestLinear(at), cpu::AccessType::Read, cpu::Privilege::User))
      return true;
  }
  return false;
}

// Without an error code: what the page fault was about. Code runs from pages mapped for it; and a page that
// is mapped for reading was to be written.
cpu::AccessType Direct::kind_of_access(const State& state, u64 rip, u64 address) {
  constexpr u64 kPageMask = ~u64{kPageSize - 1};
  if ((mappings_.protection(rip) & PROT_EXEC) == 0 || address == rip) return cpu::AccessType::Execute;
  // Or an instruction goes on in the next page.
  const u64 next = (rip & kPageMask) + kPageSize;
  if (address == next && next - rip < x86::kMaxInstructionLength &&
      (mappings_.protection(next) & PROT_EXEC) == 0) {
    u8 bytes[x86::kMaxInstructionLength] = {};
    for (u64 i = 0; i < next - rip; i++) bytes[i] = byte_at(state, rip + i);
    x86::Instruction instruction;
    if (x86::decode(bytes, next - rip, x86::CodeSize::Bits64, instruction) ==
        x86::DecodeStatus::NeedMoreBytes)
      return cpu::AccessType::Execute;
  }
  return mappings_.protection(address) != 0 ? cpu::AccessType::Write : cpu::AccessType::Read;
}

Outcome Direct::run(State& state, const std::atomic<u32>& exit_request, u32& inside) {
  const u64 cr3 = state.cr3;
  if (guest_is_in_the_way(state)) {
    policy_.refuse(cr3, __rdtsc());
    statistics_.declined++;
    return Outcome::Declined;
  }
  if (!give(state)) return Outcome::Failed;
  statistics_.runs++;
  Stay stay;
  const u64 began = own_time() + stub_->processor_time();
  const auto so_far = [&] {
    stay.spent = own_time() + stub_->processor_time() - began;
    return stay;
  };
  u32 orders = 0;
  bool foreign = false;
  for (;;) {
    // What was forgotten goes last: it may concern what was asked for a moment ago.
    orders += mappings_.catch_up(stub_->orders() + orders);
    if (orders != 0) {
      statistics_.orders += orders;
      const StubProcess::Done done = stub_->carry_out(orders);
      orders = 0;
      if (done == StubProcess::Done::Dead) return Outcome::Failed;
      if (done == StubProcess::Done::Refused) {
        // The host has no more room for mappings. The registers are as they were given, or at a page fault.
        mappings_.forget_all();
        policy_.refuse(cr3, __rdtsc());
        user_regs_struct now = {};
        return stub_->registers(now) && take(state, now) ? Outcome::Returned : Outcome::Failed;
      }
    }
    const u64 before = stub_->processor_time();
    // In this order, so that a kick is either seen here or reaches the stub.
    __atomic_store_n(&inside, kInside, __ATOMIC_RELAXED);
    running_.store(true);
    int signal = StubProcess::kInterrupt;
    // A late one, for what has been seen to already, is not heeded.
    while (exit_request.load() == 0) {
      signal = stub_->go();
      if (signal != StubProcess::kInterrupt) break;
    }
    running_.store(false);
    __atomic_store_n(&inside, 0u, __ATOMIC_RELEASE);
    const u64 in_stub = stub_->processor_time() - before;
    stay.native += in_stub > kStopCost ? in_stub - kStopCost : 0;
    stay.wakes++;
    user_regs_struct now = {};
    siginfo_t info = {};
    if (signal == 0 || !stub_->registers(now)) return Outcome::Failed;
    if (signal != StubProcess::kInterrupt && !stub_->signal_info(info)) return Outcome::Failed;
    if (signal == SIGSEGV && (info.si_code == SEGV_MAPERR || info.si_code == SEGV_ACCERR)) {
      const u64 linear = reinterpret_cast<u64>(info.si_addr);
      const auto type = kind_of_access(state, now.rip, linear);
      statistics_.faults++;
      if (!always_ && policy_.used_up(cr3, so_far())) {
        // What it wants, the translator can do as well.
        policy_.came_back(cr3, stay);
        statistics_.native_ns += stay.native;
        return take(state, now) ? Outcome::Returned : Outcome::Failed;
      }
      stay.wakes++;
      orders = mappings_.serve(state, linear, type, stub_->orders(), kMaxOrders - Mappings::kMaxForgotten);
      if (orders != 0) continue;
      foreign = type == cpu::AccessType::Execute;
    }
    if (!take(state, now)) return Outcome::Failed;
    const bool kicked = signal == StubProcess::kInterrupt;
    statistics_.kicks += kicked ? 1 : 0;
    statistics_.native_ns += stay.native;
    policy_.came_back(cr3, so_far());
    if (foreign) return Outcome::Foreign;
    return kicked ? Outcome::Returned : explain(state, info);
  }
}

// --- registers ----------------------------------------------------------------------------------------

bool Direct::give(const State& state) {
  const u64 flags = (state.rflags & kFlagsOfUser) | Rflags::IF | Rflags::fixed;
  if ((flags & kStuckFlags) != stuck_flags_) {
    if (!stub_->pop_flags(flags)) return false;
    stuck_flags_ = flags & kStuckFlags;
  }
  user_regs_struct to = {};
  for (unsigned i = 0; i < 16; i++) to.*kRegister[i] = state.gpr[i];
  to.rip = state.rip;
  to.eflags = flags;
  to.cs = kUserCs;
  to.ss = kUserSs;
  to.fs_base = state.segment[x86::FS].base;
  to.gs_base = state.segment[x86::GS].base;
  to.orig_rax = ~u64{0};  // no system call to restart
  return stub_->set_registers(to) && stub_->set_vector_state(state.xsave, xsave_bytes_);
}

bool Direct::take(State& state, const user_regs_struct& from) {
  for (unsigned i = 0; i < 16; i++) state.gpr[i] = from.*kRegister[i];
  state.rip = from.rip;
  state.rflags = (state.rflags & ~kFlagsOfUser) | (from.eflags & kFlagsOfUser);
  stuck_flags_ = from.eflags & kStuckFlags;
  state.segment[x86::FS].base = from.fs_base;
  state.segment[x86::GS].base = from.gs_base;
  const auto loaded = [&](x86::SegmentIndex segment, u64 selector, u16 usual) {
    if (selector != usual) load_segment(state, segment, static_cast<u16>(selector));
  };
  loaded(x86::CS, from.cs, kUserCs);
  loaded(x86::SS, from.ss, kUserSs);
  loaded(x86::DS, from.ds, 0);
  loaded(x86::ES, from.es, 0);
  loaded(x86::FS, from.fs, 0);
  loaded(x86::GS, from.gs, 0);
  if (!stub_->vector_state(state.xsave, xsave_bytes_)) return false;
  std::memset(state.xsave + kSoftwareBytes, 0, Layout::kLegacyBytes - kSoftwareBytes);
  return true;
}

// Guest code has loaded a segment register: natively, with what the host has under that selector. A Linux
// guest has the same. Never gives more privilege than ring 3, whatever the stub says.
void Direct::load_segment(State& state, unsigned segment, u16 selector) {
  const u64 at = state.gdtr.base + (selector & 0xfff8U);
  if ((selector & 4) != 0 || (selector & 0xfff8U) + 7U > state.gdtr.limit) return;
  const auto walked =
      cpu::walk(state, memory_, &observer_, GuestLinear(at), cpu::AccessType::Read, cpu::Privilege::Implicit);
  u64 descriptor = 0;
  if (!walked || at % 8 != 0 || !memory_.read(walked.value().address, &descriptor, sizeof descriptor)) return;
  cpu::Segment loaded;
  loaded.selector = selector;
  loaded.attributes = static_cast<u16>(descriptor >> 40 & 0xf0ff);
  loaded.limit = static_cast<u32>((descriptor & 0xffff) | (descriptor >> 32 & 0xf0000));
  if ((loaded.attributes & cpu::SegmentAttributes::G) != 0) loaded.limit = loaded.limit << 12 | 0xfff;
  loaded.base = (descriptor >> 16 & 0xffffff) | (descriptor >> 32 & 0xff000000);
  const bool code = (loaded.attributes & 8) != 0;
  const bool usable = loaded.present() && (loaded.attributes & cpu::SegmentAttributes::S) != 0 &&
                      loaded.dpl() == 3 && (selector & 3) == 3 && code == (segment == x86::CS);
  if (!usable) return;
  if (segment == x86::FS || segment == x86::GS) loaded.base = state.segment[segment].base;
  state.segment[segment] = loaded;
}

u8 Direct::byte_at(const State& state, u64 linear) {
  u8 byte = 0;
  const auto walked =
      cpu::walk(state, memory_, &observer_, GuestLinear(linear), cpu::AccessType::Read, cpu::Privilege::User);
  return walked && memory_.read(walked.value().address, &byte, 1) ? byte : u8{0};
}

// What the guest's processor would have done next. The instruction at RIP mostly says it by itself; the
// exceptions are those after which the host had already moved on.
Outcome Direct::explain(State& state, const siginfo_t& info) {
  switch (info.si_signo) {
    case SIGSYS: {
      const u64 address = reinterpret_cast<u64>(info.si_call_addr);
      if ((address & ~u64{kPageSize - 1}) == kVsyscallPage) {
        // The host's kernel has returned from its own vsyscall page already.
        state.rip = address;
        state.gpr[x86::RSP] -= 8;
      } else {
        state.rip -= 2;  // SYSCALL or INT 80H
      }
      return Outcome::Interpret;
    }
    case SIGTRAP:
      if (info.si_code == TRAP_TRACE) {
        // popf had set TF; the step is done.
        cpu::tell_debug_causes(state, u64{1} << 14);  // BS
        state.pending = {};
        state.pending.kind = cpu::Event::Kind::Exception;
        state.pending.vector = 1;
        return Outcome::Returned;
      }
      if (info.si_code == SI_KERNEL) {
        state.rip -= byte_at(state, state.rip - 1) == 0xcc ? 1 : 2;  // INT3, or INT 3
      } else {
        state.rip -= 1;  // INT1
      }
      return Outcome::Interpret;
    case SIGSEGV:
      // INT 4 is like a #GP here, but for where RIP is.
      if (info.si_code == SI_KERNEL && byte_at(state, state.rip - 2) == 0xcd &&
          byte_at(state, state.rip - 1) == 4)
        state.rip -= 2;
      return Outcome::Interpret;
    case SIGILL:
    case SIGBUS:
    case SIGFPE:
      return Outcome::Interpret;
    default:
      return Outcome::Returned;
  }
}

}  // namespace nacre::direct
