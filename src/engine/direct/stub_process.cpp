#include "engine/direct/stub_process.hpp"

#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/random.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "host/error.hpp"
#include "host/fd.hpp"

extern "C" const nacre::u8 nacre_direct_stub_image[], nacre_direct_stub_image_end[];

namespace nacre::direct {

namespace {

constexpr int kInterrupt = SIGUSR1;
constexpr u64 kFsgsbaseForUsers = 2;  // HWCAP2_FSGSBASE

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

void must(long result) {
  if (result < 0) raw(SYS_exit_group, 1);
}

[[noreturn]] void become_stub(u64 block, u64 block_file, u64 ram_file) {
  const auto map = [&](u64 offset, u64 bytes, u64 protection) {
    must(raw(SYS_mmap, block + offset, bytes, protection, MAP_SHARED | MAP_FIXED_NOREPLACE, block_file, offset));
  };
  map(0, kProgramBytes, PROT_READ | PROT_EXEC);
  map(kMailbox, kMailboxBytes, PROT_READ | PROT_WRITE);
  map(kStack, kStackBytes, PROT_READ | PROT_WRITE);
  // The kernel would go on writing to the C library's restartable-sequence area.
  if (__rseq_size != 0) {
    constexpr u64 kAreaBytes = 32;
    const u64 area = reinterpret_cast<u64>(__builtin_thread_pointer()) + static_cast<u64>(__rseq_offset);
    must(raw(SYS_rseq, area, kAreaBytes, RSEQ_FLAG_UNREGISTER, RSEQ_SIG));
  }
  if (ram_file != kRamFile) must(raw(SYS_dup2, ram_file, kRamFile));
  must(raw(SYS_close_range, kRamFile + 1, ~0U, 0));
  for (u64 i = 0; i < kRamFile; i++) raw(SYS_close, i);
  __asm__ volatile("jmp *%0" : : "r"(block) : "memory");
  __builtin_unreachable();
}

// Somewhere in the middle of user space, where neither programs nor libraries are put. The stub's only protection
// from guest code is that nobody can tell where it is.
u64 random_place() {
  u64 random = 0;
  if (getrandom(&random, sizeof random, 0) != sizeof random) return 0;
  constexpr u64 kLow = 0x1000'0000'0000, kPages = (0x5000'0000'0000 - kLow) >> kPageShift;
  const u64 place = kLow + (random % kPages << kPageShift);
  // The filter compares the halves of an address one by one.
  constexpr u64 kWindow = u64{1} << 32;
  if ((place & (kWindow - 1)) + kBlockBytes > kWindow) return place - kBlockBytes;
  return place;
}

u64 now_ns() {
  timespec time = {};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<u64>(time.tv_sec) * 1'000'000'000 + static_cast<u64>(time.tv_nsec);
}

}  // namespace

Result<std::unique_ptr<StubProcess>> StubProcess::create(int ram_file) {
  if (ram_file < 0) return Error{"the guest's memory is no file"};
  if ((getauxval(AT_HWCAP2) & kFsgsbaseForUsers) == 0) return Error{"programs may not use WRFSBASE here"};
  const host::UniqueFd file(memfd_create("nacre-direct", MFD_CLOEXEC));
  if (!file) return host::errno_error("no memory for the stub");
  if (ftruncate(file.number(), kBlockBytes) != 0) return host::errno_error("no memory for the stub");
  auto memory = TRY(host::Mapping::shared_file(file.number(), kBlockBytes, PROT_READ | PROT_WRITE));
  const auto bytes = static_cast<usize>(nacre_direct_stub_image_end - nacre_direct_stub_image);
  if (bytes > kProgramBytes) return Error{"the stub's program is too large"};
  std::memcpy(memory.data(), nacre_direct_stub_image, bytes);
  std::unique_ptr<StubProcess> stub(new StubProcess(std::move(memory)));
  stub->block_ = random_place();
  if (stub->block_ == 0 || !stub->start(file.number(), ram_file)) {
    return Error{"the stub process does not start (is fork, seccomp or PR_SET_TSC denied?)"};
  }
  return stub;
}

bool StubProcess::start(int block_file, int ram_file) {
  mailbox().turn = Turn::stub;
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  // No exit signal: the program may have its own idea of SIGCHLD.
  const long child = raw(SYS_clone, 0, 0, 0, 0, 0);
  if (child == 0) {
    become_stub(block_, static_cast<u64>(block_file), static_cast<u64>(ram_file));
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (child < 0) return false;
  process_.store(static_cast<pid_t>(child));
  // It answers with the signal it is born with.
  return wait() && mailbox().signal == SIGILL;
}

StubProcess::~StubProcess() {
  const pid_t process = process_.exchange(0);
  if (process == 0) return;
  kill(process, SIGKILL);
  while (waitpid(process, nullptr, __WALL) < 0 && errno == EINTR) {
  }
}

StubProcess::Frame StubProcess::frame(usize xsave_bytes) {
  const u64 offset = __atomic_load_n(&mailbox().frame, __ATOMIC_RELAXED);
  const auto inside = [](u64 at, u64 bytes) {
    return at >= kStack && at < kBlockBytes && bytes <= kBlockBytes - at;
  };
  if (offset % 8 != 0 || !inside(offset, offsetof(ucontext_t, uc_mcontext) + sizeof(mcontext_t))) return {};
  auto* context = reinterpret_cast<ucontext_t*>(memory_.data() + offset);
  const u64 pointer = __atomic_load_n(reinterpret_cast<u64*>(&context->uc_mcontext.fpregs), __ATOMIC_RELAXED);
  const u64 vector = pointer - block_;
  if (vector % 64 != 0 || !inside(vector, xsave_bytes)) return {};
  return {context->uc_mcontext.gregs, memory_.data() + vector};
}

bool StubProcess::exchange() {
  Mailbox& box = mailbox();
  __atomic_store_n(&box.turn, Turn::stub, __ATOMIC_SEQ_CST);
  raw(SYS_futex, reinterpret_cast<u64>(&box.turn), FUTEX_WAKE, 1);
  return wait();
}

bool StubProcess::wait() {
  Mailbox& box = mailbox();
  for (int i = 0; i < 100; i++) {
    if (__atomic_load_n(&box.turn, __ATOMIC_ACQUIRE) == Turn::vcpu) return true;
    __builtin_ia32_pause();
  }
  constexpr u64 kPatience = 10'000'000'000;
  u64 since = 0;  // when guest code was asked back and did not come
  while (__atomic_load_n(&box.turn, __ATOMIC_ACQUIRE) != Turn::vcpu) {
    const timespec look_again = {0, 200'000'000};
    const long result = raw(SYS_futex, reinterpret_cast<u64>(&box.turn), FUTEX_WAIT, Turn::stub,
                            reinterpret_cast<u64>(&look_again));
    if (result != -ETIMEDOUT) continue;
    if (!alive()) return false;
    if (interrupted_.load() == 0) continue;
    const u64 now = now_ns();
    if (since == 0) since = now;
    if (now - since > kPatience) return false;
  }
  interrupted_.store(0);
  return true;
}

bool StubProcess::alive() {
  const pid_t process = process_.load();
  if (process == 0) return false;
  if (waitpid(process, nullptr, WNOHANG | __WALL) == 0) return true;
  process_.store(0);
  return false;
}

void StubProcess::interrupt() {
  interrupted_.fetch_add(1);
  const pid_t process = process_.load();
  if (process > 0) raw(SYS_tgkill, static_cast<u64>(process), static_cast<u64>(process), kInterrupt);
}

}  // namespace nacre::direct
