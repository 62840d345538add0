#include "engine/direct/stub_process.hpp"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/elf.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/ptrace.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "host/error.hpp"
#include "x86/registers.hpp"

extern "C" const nacre::u8 nacre_direct_stub[], nacre_direct_stub_end[], nacre_direct_stub_popf[];

namespace nacre::direct {

namespace {

// The numbers in stub.S.
static_assert(kRunnerFilter == 0x800 && kMapperFilter == 0x900 && kOrders == 0x1000 && kBirth == 0x4000 &&
              kBlockBytes == 0x5000);
static_assert(offsetof(Orders, order) == 32 && offsetof(Order, offset) == 16 &&
              offsetof(Order, protection) == 24 && offsetof(Order, file) == 28 && kReport == 5);
static_assert(static_cast<char>(Report::done) == 'd' && static_cast<char>(Report::refused) == 'r');
static_assert((MAP_SHARED | MAP_FIXED | MAP_POPULATE) == 0x8011);
static_assert((CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
               CLONE_PARENT_SETTID) == 0x150f00);
static_assert(SYS_write == 1 && SYS_mmap == 9 && SYS_munmap == 11 && SYS_rt_sigprocmask == 14 &&
              SYS_clone == 56 && SYS_ptrace == 101 && SYS_futex == 202 && SYS_exit_group == 231 &&
              SYS_seccomp == 317);
static_assert(SECCOMP_SET_MODE_FILTER == 1 && SECCOMP_FILTER_FLAG_SPEC_ALLOW == 4 && SIG_SETMASK == 2);

// The new process has a copy of one thread of us and no C library that knows of it: system calls only.
inline long raw(long number, u64 a = 0, u64 b = 0, u64 c = 0, u64 d = 0, u64 e = 0, u64 f = 0) {
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

template <typename T>
u64 address_of(T* pointer) {
  return reinterpret_cast<u64>(pointer);
}

void must(long result) {
  if (result < 0) raw(SYS_exit_group, 1);
}

struct StubFiles {
  u64 block, ram, copy, report;
};

// Gives the stub's descriptors their numbers. First out of the way, as one may have another's number.
void number_descriptors(const StubFiles& files) {
  constexpr u64 kAside = 100;
  const u64 from[] = {files.ram, files.copy, files.report};
  for (u64 i = 0; i < 3; i++) must(raw(SYS_dup2, from[i], kAside + i));
  for (u64 i = 0; i < 3; i++) must(raw(SYS_dup2, kAside + i, kRamFile + i));
  must(raw(SYS_close_range, kReport + 1, ~0U, 0));
  for (u64 i = 0; i < kRamFile; i++) raw(SYS_close, i);
}
static_assert(kRamFile == 3 && kCopyFile == 4 && kReport == 5);

// The vCPU's thread must take the processor from guest code when a timer calls it, even where there is only
// one.
void give_way() {
  const long policy = raw(SYS_sched_getscheduler, 0);
  if (policy != SCHED_FIFO && policy != SCHED_RR) return;
  sched_param parameters = {};
  if (raw(SYS_sched_getparam, 0, address_of(&parameters)) != 0 || parameters.sched_priority <= 1) return;
  parameters.sched_priority--;
  raw(SYS_sched_setparam, 0, address_of(&parameters));
}

// … with the usual policy by a shorter slice. Linux 6.12 and later know it.
void wake_quickly() {
  struct {
    u32 size, policy;
    u64 flags;
    i32 nice;
    u32 priority;
    u64 runtime, deadline, period;
  } attributes = {};
  constexpr u64 kShortest = 100'000;  // ns
  if (raw(SYS_sched_getattr, 0, address_of(&attributes), sizeof attributes, 0) != 0) return;
  if (attributes.policy != SCHED_OTHER || attributes.runtime == 0) return;
  attributes.runtime = kShortest;
  raw(SYS_sched_setattr, 0, address_of(&attributes), 0);
}

[[noreturn]] void become_stub(u64 block, const StubFiles& files, u64 parent, bool native_tsc) {
  const auto map = [&](u64 offset, u64 bytes, u64 protection) {
    must(raw(SYS_mmap, block + offset, bytes, protection, MAP_SHARED | MAP_FIXED_NOREPLACE, files.block,
             offset));
  };
  map(kProgram, kProgramBytes, PROT_READ | PROT_EXEC);
  map(kOrders, kOrdersBytes, PROT_READ);
  map(kBirth, kBirthBytes, PROT_READ | PROT_WRITE);
  must(raw(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL));
  if (static_cast<u64>(raw(SYS_getppid)) != parent) raw(SYS_exit_group, 1);
  static constexpr char name[] = "nacre-direct";
  raw(SYS_prctl, PR_SET_NAME, address_of(name));
  if (!native_tsc) must(raw(SYS_prctl, PR_SET_TSC, PR_TSC_SIGSEGV));
  give_way();
  const rlimit no_core = {0, 0};
  must(raw(SYS_setrlimit, RLIMIT_CORE, address_of(&no_core)));
  must(raw(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1));
  // The runner's: what stops it. A signal that is meant for the terminal's processes is not for it.
  u64 blocked = ~u64{0};
  for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS, StubProcess::kInterrupt})
    blocked &= ~(u64{1} << (signal - 1));
  must(raw(SYS_rt_sigprocmask, SIG_SETMASK, address_of(&blocked), 0, 8));
  // The kernel would go on writing to the C library's restartable-sequence area.
  if (__rseq_size != 0) {
    constexpr u64 kAreaBytes = 32;
    const u64 area = address_of(static_cast<u8*>(__builtin_thread_pointer()) + __rseq_offset);
    must(raw(SYS_rseq, area, kAreaBytes, RSEQ_FLAG_UNREGISTER, RSEQ_SIG));
  }
  number_descriptors(files);
  __asm__ volatile("jmp *%0" : : "r"(block) : "memory");
  __builtin_unreachable();
}

// Where neither programs nor libraries, nor what tools like to reserve, are put. That nobody knows it keeps
// programs from coming upon it by chance; nothing else depends on it.
u64 random_place() {
  u64 random = 0;
  if (getrandom(&random, sizeof random, 0) != sizeof random) return 0;
  constexpr u64 kLow = 0x5a00'0000'0000, kPages = (0x7000'0000'0000 - kLow) / kPageSize;
  return kLow + random % kPages * kPageSize;
}

// The stub begins as a copy of this process, so the place must be free here, too (AddressSanitizer's heap
// lies near).
u64 free_place() {
  for (unsigned tries = 0; tries < 32; tries++) {
    const u64 place = random_place();
    if (place == 0) return 0;
    constexpr u64 kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
    const long got = raw(SYS_mmap, place, kBlockBytes, PROT_NONE, kFlags, ~u64{0}, 0);
    if (got < 0) continue;
    raw(SYS_munmap, static_cast<u64>(got), kBlockBytes);
    if (static_cast<u64>(got) == place) return place;
  }
  return 0;
}

Result<host::UniqueFd> memory_file(u64 bytes) {
  host::UniqueFd file(memfd_create("nacre-direct", MFD_CLOEXEC));
  if (!file || ftruncate(file.number(), static_cast<off_t>(bytes)) != 0)
    return host::errno_error("There is no memory for the stub process");
  return file;
}

}  // namespace

Result<std::unique_ptr<StubProcess>> StubProcess::create(int ram_file, bool native_tsc) {
  if (ram_file < 0) return Error{"the guest's memory is no file"};
  const host::UniqueFd block = TRY(memory_file(kBlockBytes));
  const host::UniqueFd copy = TRY(memory_file(u64{kCopies} * kPageSize));
  auto memory = TRY(host::Mapping::shared_file(block.number(), kBlockBytes, PROT_READ | PROT_WRITE));
  auto copies =
      TRY(host::Mapping::shared_file(copy.number(), u64{kCopies} * kPageSize, PROT_READ | PROT_WRITE));
  int ends[2] = {-1, -1};
  if (pipe2(ends, O_CLOEXEC) != 0) return host::errno_error("There is no pipe for the stub process");
  host::UniqueFd reports(ends[0]), report(ends[1]);
  std::unique_ptr<StubProcess> stub(
      new StubProcess(std::move(memory), std::move(copies), std::move(reports)));
  stub->block_ = free_place();
  if (stub->block_ == 0) return Error{"there is no place for the stub's memory"};
  stub->write_program();
  if (auto status = stub->start(block.number(), copy.number(), ram_file, std::move(report), native_tsc);
      !status)
    return status.error();
  return stub;
}

void StubProcess::write_program() {
  std::memcpy(memory_.data() + kProgram, nacre_direct_stub,
              static_cast<usize>(nacre_direct_stub_end - nacre_direct_stub));
  const auto put = [&](u64 at, const sock_filter* filter, unsigned short count) {
    const sock_fprog program = {count, reinterpret_cast<sock_filter*>(block_ + at + sizeof(sock_fprog))};
    std::memcpy(memory_.data() + at, &program, sizeof program);
    std::memcpy(memory_.data() + at + sizeof program, filter, count * sizeof(sock_filter));
  };
  constexpr u16 kLoad = BPF_LD | BPF_W | BPF_ABS, kEqual = BPF_JMP | BPF_JEQ | BPF_K,
                kReturn = BPF_RET | BPF_K;
  // Every system call of guest code, in whatever way and of whatever architecture, is for the guest's kernel.
  const sock_filter runner[] = {{kReturn, 0, 0, SECCOMP_RET_TRAP}};
  put(kRunnerFilter, runner, std::size(runner));
  const sock_filter mapper[] = {
      {kLoad, 0, 0, offsetof(seccomp_data, arch)},
      {kEqual, 0, 5, AUDIT_ARCH_X86_64},
      {kLoad, 0, 0, offsetof(seccomp_data, nr)},
      {kEqual, 4, 0, SYS_mmap},
      {kEqual, 3, 0, SYS_munmap},
      {kEqual, 2, 0, SYS_futex},
      {kEqual, 1, 0, SYS_write},
      {kReturn, 0, 0, SECCOMP_RET_KILL_PROCESS},
      {kReturn, 0, 0, SECCOMP_RET_ALLOW},
  };
  put(kMapperFilter, mapper, std::size(mapper));
  static_assert(kMapperFilter + sizeof(sock_fprog) + sizeof mapper <= kProgramBytes);
}

Status StubProcess::start(int block_file, int copy_file, int ram_file, host::UniqueFd report,
                          bool native_tsc) {
  if (nacre_direct_stub_end - nacre_direct_stub > static_cast<long>(kRunnerFilter))
    return Error{"the stub's program is too large"};
  const StubFiles files = {static_cast<u64>(block_file), static_cast<u64>(ram_file),
                           static_cast<u64>(copy_file), static_cast<u64>(report.number())};
  const u64 parent = static_cast<u64>(getpid());
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  // No exit signal: the program may have its own idea of SIGCHLD.
  const long child = raw(SYS_clone, 0, 0, 0, 0, 0);
  if (child == 0) become_stub(block_, files, parent, native_tsc);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (child < 0) return Error{"no process can be made"};
  process_ = static_cast<pid_t>(child);
  { const host::UniqueFd closed(std::move(report)); }
  // The mapper reports for duty, and the runner stops.
  const Error denied("ptrace, seccomp or PR_SET_TSC is denied here");
  if (read_report() != Done::All) return denied;
  std::memcpy(&runner_, memory_.data() + kBirth, sizeof runner_);
  if (first_stop() != SIGILL) return denied;
  raw(SYS_ptrace, PTRACE_SETOPTIONS, static_cast<u64>(runner_), 0, PTRACE_O_EXITKILL);
  orders()[0] = {block_ + kBirth, kBirthBytes, 0, 0, 0};
  if (carry_out(1) != Done::All) return denied;
  wake_quickly();
  return {};
}

StubProcess::~StubProcess() {
  if (process_ == 0) return;
  raw(SYS_tgkill, static_cast<u64>(process_), static_cast<u64>(process_), SIGKILL);
  // A traced thread is waited for by itself.
  for (const pid_t thread : {runner_, process_}) {
    while (thread != 0) {
      int status = 0;
      const long got = raw(SYS_wait4, static_cast<u64>(thread), address_of(&status), __WALL);
      if (got != -EINTR && (got < 0 || !WIFSTOPPED(status))) break;
    }
  }
}

// --- mappings -----------------------------------------------------------------------------------------

StubProcess::Done StubProcess::read_report() {
  char report = 0;
  long got = 0;
  do {
    got = raw(SYS_read, static_cast<u64>(reports_.number()), address_of(&report), 1);
  } while (got == -EINTR);
  if (got != 1) return Done::Dead;
  return report == static_cast<char>(Report::done) ? Done::All : Done::Refused;
}

StubProcess::Done StubProcess::carry_out(u32 count) {
  auto* orders = reinterpret_cast<Orders*>(memory_.data() + kOrders);
  orders->count = count;
  __atomic_store_n(&orders->sequence, orders->sequence + 1, __ATOMIC_SEQ_CST);
  raw(SYS_futex, address_of(&orders->sequence), FUTEX_WAKE, 1);
  const Done done = read_report();
  // Where guest memory is in the file is not for guest code to read.
  std::memset(orders->order, 0, count * sizeof(Order));
  return done;
}

// --- the runner ---------------------------------------------------------------------------------------

int StubProcess::wait() {
  for (;;) {
    int status = 0;
    const long got = raw(SYS_wait4, static_cast<u64>(runner_), address_of(&status), __WALL);
    if (got == -EINTR) continue;
    if (got < 0 || !WIFSTOPPED(status)) return 0;
    return WSTOPSIG(status);
  }
}

// It is no business of ours before it has asked to be traced.
int StubProcess::first_stop() {
  for (;;) {
    int status = 0;
    const long got = raw(SYS_wait4, static_cast<u64>(runner_), address_of(&status), __WALL);
    if (got > 0) return WIFSTOPPED(status) ? WSTOPSIG(status) : 0;
    if (got == -ECHILD) {
      const long ended = raw(SYS_wait4, static_cast<u64>(process_), 0, __WALL | WNOHANG);
      if (ended != 0) {
        process_ = 0;
        return 0;
      }
      const timespec moment = {0, 20'000};
      raw(SYS_nanosleep, address_of(&moment), 0);
    } else if (got != -EINTR) {
      return 0;
    }
  }
}

u64 StubProcess::processor_time() const {
  // The number of a process's CPU clock, as clock_getcpuclockid() makes it: that would be one more system
  // call.
  constexpr u64 kScheduled = 2;
  const u64 clock = ~static_cast<u64>(process_) << 3 | kScheduled;
  timespec time = {};
  if (raw(SYS_clock_gettime, clock, address_of(&time)) != 0) return 0;
  return static_cast<u64>(time.tv_sec) * 1'000'000'000 + static_cast<u64>(time.tv_nsec);
}

int StubProcess::go() {
  if (raw(SYS_ptrace, PTRACE_CONT, static_cast<u64>(runner_), 0, 0) < 0) return 0;
  return wait();
}

void StubProcess::interrupt() {
  if (runner_ > 0) raw(SYS_tgkill, static_cast<u64>(process_), static_cast<u64>(runner_), kInterrupt);
}

bool StubProcess::registers(user_regs_struct& registers) {
  return raw(SYS_ptrace, PTRACE_GETREGS, static_cast<u64>(runner_), 0, address_of(&registers)) == 0;
}

bool StubProcess::set_registers(const user_regs_struct& registers) {
  return raw(SYS_ptrace, PTRACE_SETREGS, static_cast<u64>(runner_), 0, address_of(&registers)) == 0;
}

bool StubProcess::vector_state(u8* xsave, usize bytes) {
  const iovec area = {xsave, bytes};
  return raw(SYS_ptrace, PTRACE_GETREGSET, static_cast<u64>(runner_), NT_X86_XSTATE, address_of(&area)) == 0;
}

bool StubProcess::set_vector_state(const u8* xsave, usize bytes) {
  const iovec area = {const_cast<u8*>(xsave), bytes};
  return raw(SYS_ptrace, PTRACE_SETREGSET, static_cast<u64>(runner_), NT_X86_XSTATE, address_of(&area)) == 0;
}

bool StubProcess::signal_info(siginfo_t& info) {
  return raw(SYS_ptrace, PTRACE_GETSIGINFO, static_cast<u64>(runner_), 0, address_of(&info)) == 0;
}

bool StubProcess::pop_flags(u64 flags) {
  user_regs_struct now = {};
  if (!registers(now)) return false;
  // What guest code may have loaded itself, but ptrace would refuse.
  now.fs_base = now.gs_base = 0;
  now.ds = now.es = now.fs = now.gs = 0;
  auto* orders = reinterpret_cast<Orders*>(memory_.data() + kOrders);
  orders->unused[0] = flags;
  now.rip = block_ + static_cast<u64>(nacre_direct_stub_popf - nacre_direct_stub);
  now.rsp = block_ + kOrders + offsetof(Orders, unused);
  now.eflags = x86::Rflags::fixed | x86::Rflags::IF;
  now.cs = kUserCs;
  now.ss = kUserSs;
  now.orig_rax = ~u64{0};
  for (;;) {
    if (!set_registers(now)) return false;
    const int signal = go();
    if (signal == SIGILL) return true;
    if (signal != kInterrupt) return false;  // a late one: once more, as it may have come before
  }
}

}  // namespace nacre::direct
