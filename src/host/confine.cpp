#include "host/confine.hpp"

#include <asm/ioctls.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <span>
#include <vector>

#include "base/sanitizer.hpp"
#include "host/error.hpp"
#include "host/kvm_requests.hpp"

namespace nacre::host {
namespace {

// Both roles. None of these reaches a file, a socket, a process or a privilege that is not held already.
constexpr long kCommon[] = {
    SYS_read,          SYS_write,        SYS_close,         SYS_futex,           SYS_munmap,
    SYS_madvise,       SYS_brk,          SYS_mremap,        SYS_rt_sigreturn,    SYS_rt_sigprocmask,
    SYS_rt_sigaction,  SYS_sigaltstack,  SYS_tgkill,        SYS_gettid,          SYS_getpid,
    SYS_wait4,             SYS_timer_settime, SYS_timer_delete, SYS_clock_gettime, SYS_clock_nanosleep, SYS_nanosleep,
    SYS_gettimeofday,  SYS_getrandom,    SYS_sched_yield,   SYS_restart_syscall, SYS_exit,
    SYS_exit_group,    SYS_membarrier,
};
constexpr long kInputOutput[] = {SYS_poll,  SYS_ppoll,      SYS_fsync, SYS_ftruncate,
                                 SYS_fstat, SYS_newfstatat, SYS_lseek,
                                 SYS_recvmsg};  // a named machine's line to its supervisor: files of what is attached
constexpr long kDevice[] = {SYS_pread64,   SYS_pwrite64, SYS_preadv,    SYS_pwritev, SYS_fsync, SYS_fdatasync,
                            SYS_fallocate, SYS_fstat,    SYS_ftruncate, SYS_lseek,   SYS_poll,  SYS_ppoll,
                            SYS_preadv2,   SYS_pwritev2, SYS_io_uring_enter,
                            SYS_timerfd_settime,                // for a disk's rate limits
                            SYS_set_robust_list, SYS_rseq};  // of a new thread
// What is connected already, and who comes to a listener. Not socket and connect: see vsock/broker.hpp.
constexpr long kSockets[] = {SYS_epoll_wait, SYS_epoll_ctl, SYS_accept4, SYS_sendmsg, SYS_recvmsg, SYS_sendto, SYS_shutdown,
                             SYS_poll,       SYS_ppoll,     SYS_set_robust_list, SYS_rseq};
// The process that connects for another. Its only input is a number, its names all begin with the user's path.
constexpr long kBroker[] = {SYS_connect, SYS_recvfrom, SYS_sendmsg, SYS_newfstatat, SYS_unlink};
constexpr u32 kBrokersFamily[] = {AF_UNIX};
// What libslirp does with sockets, and waiting. New ones are of the Internet's families (below), so neither other
// programs' Unix sockets nor the kernel's own are in reach.
constexpr long kNetwork[] = {SYS_poll,       SYS_ppoll,      SYS_connect,     SYS_bind,        SYS_listen,  SYS_accept,
                             SYS_accept4,    SYS_shutdown,   SYS_sendto,      SYS_recvfrom,    SYS_sendmsg, SYS_recvmsg,
                             SYS_readv,      SYS_writev,     SYS_getsockname, SYS_getpeername, SYS_getsockopt,
                             SYS_setsockopt, SYS_fcntl,      SYS_set_robust_list, SYS_rseq};  // of a new thread
// A tap interface; datagrams to Unix sockets, whose folder is read to find the others.
constexpr long kLink[] = {SYS_poll,    SYS_ppoll,  SYS_readv, SYS_writev,     SYS_sendto,
                          SYS_recvmsg, SYS_lseek,  SYS_getdents64, SYS_set_robust_list, SYS_rseq};
constexpr long kChannel[] = {SYS_poll, SYS_ppoll, SYS_set_robust_list, SYS_rseq};
// Files by descriptors. No process, no socket, and no link to follow but those of its own descriptors.
constexpr long kShare[] = {
    SYS_poll,      SYS_ppoll,      SYS_openat,     SYS_newfstatat, SYS_fstat,           SYS_statx,      SYS_readlinkat, SYS_symlinkat,
    SYS_mknodat,   SYS_mkdirat,    SYS_unlinkat,   SYS_renameat,   SYS_renameat2,  SYS_linkat,          SYS_fchmodat,   SYS_fchownat,   SYS_utimensat,
    SYS_ftruncate, SYS_fallocate,  SYS_lseek,      SYS_fsync,      SYS_fdatasync,       SYS_syncfs,     SYS_fstatfs,    SYS_getdents64,
    SYS_preadv,    SYS_pwritev2,   SYS_fgetxattr,  SYS_fsetxattr,  SYS_flistxattr,      SYS_fremovexattr, SYS_copy_file_range,
    SYS_flock,     SYS_fcntl,
};
constexpr u32 kLinkRequests[] = {TUNSETOFFLOAD, KVM_SIGNAL_MSI};
constexpr u32 kNetworkFamilies[] = {AF_INET, AF_INET6};
constexpr u32 kNetworkRequests[] = {FIONREAD, KVM_SIGNAL_MSI};
// mmap and mprotect: not with PROT_EXEC. Code that is translated later is written through a second view.
constexpr long kNoExecute[] = {SYS_mmap, SYS_mprotect};
// ptrace: on what is traced already (the stub of engine/direct), and neither its memory nor another process.
constexpr u32 kStubRequests[] = {PTRACE_CONT,       PTRACE_GETREGS,   PTRACE_SETREGS,
                                 PTRACE_GETSIGINFO, PTRACE_GETREGSET, PTRACE_SETREGSET};
// And, where KVM runs the machine, what belongs to a card that is taken out.
constexpr u32 kTerminalRequests[] = {TCGETS, TCSETS, TCSETSW, TCSETSF, TIOCGWINSZ, KVM_SIGNAL_MSI, KVM_IOEVENTFD};

// Of a vCPU: run it, interrupt it, read and write its state.
constexpr u32 kVcpuRequests[] = {
    KVM_RUN,       KVM_INTERRUPT, KVM_NMI,       KVM_GET_REGS,      KVM_SET_REGS,      KVM_GET_SREGS,       KVM_SET_SREGS,       static_cast<u32>(kKvmGetMsrs),
    static_cast<u32>(kKvmSetMsrs),  KVM_GET_XCRS,  KVM_SET_XCRS,  static_cast<u32>(kKvmGetXsave),     static_cast<u32>(kKvmSetXsave),     KVM_GET_DEBUGREGS,   KVM_SET_DEBUGREGS,
    KVM_GET_VCPU_EVENTS,          KVM_SET_VCPU_EVENTS,              KVM_SET_DEVICE_ATTR,
    KVM_SET_GUEST_DEBUG, KVM_GET_LAPIC, KVM_SET_LAPIC, KVM_GET_MP_STATE, KVM_SET_MP_STATE, static_cast<u32>(kKvmSetSignalMask),
    // Of the machine: interrupt it, say which interrupts' end is told, where writes ring a device's bell, and what was heard of written memory.
    KVM_SIGNAL_MSI, static_cast<u32>(kKvmSetGsiRouting), KVM_IOEVENTFD, KVM_RESET_DIRTY_RINGS,
};
// Of the threads that have interrupts for the guest, where KVM has its local APICs: they can interrupt their own machine.
constexpr u32 kMessageRequests[] = {KVM_SIGNAL_MSI};

// Of one that runs user code only: also the slot whose coming and going has KVM forget its shadow page tables.
constexpr u32 kUserVcpuRequests[] = {
    KVM_RUN,           KVM_GET_REGS, KVM_SET_REGS, KVM_GET_SREGS, KVM_SET_SREGS, static_cast<u32>(kKvmGetMsrs), static_cast<u32>(kKvmSetMsrs), KVM_GET_XCRS, KVM_SET_XCRS,
    static_cast<u32>(kKvmGetXsave), static_cast<u32>(kKvmSetXsave), KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS, KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, KVM_SET_DEVICE_ATTR,
    KVM_SET_USER_MEMORY_REGION,
};

class Filter {
 public:
  explicit Filter(ThreadRole role) {
    // Another architecture's numbers, and x32's, mean other calls.
    load(offsetof(seccomp_data, arch));
    unless_equal(AUDIT_ARCH_X86_64, SECCOMP_RET_KILL_PROCESS);
    load(offsetof(seccomp_data, nr));
    for (const long call : kCommon) allow(call);
    for (const long call : kNoExecute) allow_without_bits(call, 2, PROT_EXEC);
    if (role == ThreadRole::Device) {
      for (const long call : kDevice) allow(call);
      allow_with_values(SYS_ioctl, 1, kMessageRequests);
      // Threads for file operations, where io_uring is forbidden; never a process. clone3's flags cannot be
      // looked at: without it the library takes clone.
      refuse(SYS_clone3, ENOSYS);
      allow_with_bits(SYS_clone, 0, CLONE_THREAD);
    }
    if (role == ThreadRole::Sockets) {
      for (const long call : kSockets) allow(call);
      allow_with_values(SYS_ioctl, 1, kMessageRequests);
    }
    if (role == ThreadRole::Broker) {
      for (const long call : kBroker) allow(call);
      allow_with_values(SYS_socket, 0, kBrokersFamily);
    }
    if (role == ThreadRole::Channel) {
      for (const long call : kChannel) allow(call);
      allow_with_values(SYS_ioctl, 1, kMessageRequests);
    }
    if (role == ThreadRole::Share) {
      for (const long call : kShare) allow(call);
    }
    if (role == ThreadRole::Link) {
      for (const long call : kLink) allow(call);
      allow_with_values(SYS_ioctl, 1, kLinkRequests);
    }
    if (role == ThreadRole::Network) {
      for (const long call : kNetwork) allow(call);
      allow_with_values(SYS_socket, 0, kNetworkFamilies);
      allow_with_values(SYS_ioctl, 1, kNetworkRequests);
      // libslirp would look for name servers if it came to need them, and glib for a log: they get none, and go on.
      for (const long call : {SYS_openat, SYS_newfstatat, SYS_fstat}) refuse(call, EACCES);
    }
    if (role == ThreadRole::Processor) allow_with_values(SYS_ptrace, 0, kStubRequests);
    if (role == ThreadRole::KvmProcessor) allow_with_values(SYS_ioctl, 1, kVcpuRequests);
    if (role == ThreadRole::KvmUserProcessor) allow_with_values(SYS_ioctl, 1, kUserVcpuRequests);
    if (role == ThreadRole::InputOutput) {
      for (const long call : kInputOutput) allow(call);
      allow_with_values(SYS_ioctl, 1, kTerminalRequests);
    }
    add(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
  }

  Status install() {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno_error("Cannot give up privileges");
    const sock_fprog program = {static_cast<unsigned short>(code_.size()), code_.data()};
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
      return errno_error("Cannot install the system call filter");
    return {};
  }

 private:
  void add(int code, u32 k, u8 if_true = 0, u8 if_false = 0) {
    code_.push_back({static_cast<u16>(code), if_true, if_false, k});
  }
  void load(usize offset) { add(BPF_LD | BPF_W | BPF_ABS, static_cast<u32>(offset)); }
  void unless_equal(u32 value, u32 action) {
    add(BPF_JMP | BPF_JEQ | BPF_K, value, 1, 0);
    add(BPF_RET | BPF_K, action);
  }
  void allow(long call) {
    add(BPF_JMP | BPF_JEQ | BPF_K, static_cast<u32>(call), 0, 1);
    add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  }
  void refuse(long call, u32 error) {
    add(BPF_JMP | BPF_JEQ | BPF_K, static_cast<u32>(call), 0, 1);
    add(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error);
  }
  static constexpr usize argument(unsigned i) {
    return offsetof(seccomp_data, args) + 8 * usize{i};
  }  // its low half

  // Allowed when none of `bits` is set in argument `i`. Else on to the end, with the number loaded again.
  void allow_without_bits(long call, unsigned i, u32 bits) {
    add(BPF_JMP | BPF_JEQ | BPF_K, static_cast<u32>(call), 0, 4);
    load(argument(i));
    add(BPF_JMP | BPF_JSET | BPF_K, bits, 1, 0);
    add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    load(offsetof(seccomp_data, nr));
  }
  // Allowed when one of `bits` is set.
  void allow_with_bits(long call, unsigned i, u32 bits) {
    add(BPF_JMP | BPF_JEQ | BPF_K, static_cast<u32>(call), 0, 4);
    load(argument(i));
    add(BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1);
    add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    load(offsetof(seccomp_data, nr));
  }
  void allow_with_values(long call, unsigned i, std::span<const u32> values) {
    add(BPF_JMP | BPF_JEQ | BPF_K, static_cast<u32>(call), 0, static_cast<u8>(2 + 2 * values.size()));
    load(argument(i));
    for (const u32 value : values) {
      add(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
      add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    load(offsetof(seccomp_data, nr));
  }

  std::vector<sock_filter> code_;
};

}  // namespace

Status confine([[maybe_unused]] ThreadRole role) {
#if defined(NACRE_ADDRESS_SANITIZER) || defined(NACRE_THREAD_SANITIZER)
  return {};
#else
  return Filter(role).install();
#endif
}

}  // namespace nacre::host
