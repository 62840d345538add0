// without_io_uring COMMAND…: runs a command where io_uring is forbidden, as many containers forbid it. For
// tests of what is done instead.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  constexpr unsigned short kLoad = BPF_LD | BPF_W | BPF_ABS, kEqual = BPF_JMP | BPF_JEQ | BPF_K,
                           kReturn = BPF_RET | BPF_K;
  sock_filter code[] = {
      {kLoad, 0, 0, offsetof(seccomp_data, nr)},
      {kEqual, 0, 1, SYS_io_uring_setup},
      {kReturn, 0, 0, SECCOMP_RET_ERRNO | EPERM},
      {kReturn, 0, 0, SECCOMP_RET_ALLOW},
  };
  const sock_fprog program = {sizeof code / sizeof code[0], code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    perror("without_io_uring");
    return 125;
  }
  execvp(argv[1], argv + 1);
  perror(argv[1]);
  return 127;
}
