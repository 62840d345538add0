// Linux system calls for the agent, which has no C library. x86-64 only. Errors are negative numbers, as the
// kernel returns them.
#pragma once

#include <asm/ioctls.h>
#include <asm/signal.h>
#include <asm/stat.h>
#include <asm/termbits.h>
#include <asm/unistd.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/poll.h>
#include <linux/wait.h>

#include <cstddef>
#include <cstdint>

extern "C" {  // memory.cpp; there is no C library
void* memcpy(void* to, const void* from, std::size_t bytes);
void* memmove(void* to, const void* from, std::size_t bytes);
void* memset(void* to, int value, std::size_t bytes);
}

namespace nacre::agent {

inline long syscall6(long number, long a, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) {
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}
inline long address(const void* pointer) {
  return reinterpret_cast<long>(pointer);
}

inline long open(const char* path, int flags) {
  return syscall6(__NR_openat, AT_FDCWD, address(path), flags, 0);
}
inline long create(const char* path, int permissions) {
  return syscall6(__NR_openat, AT_FDCWD, address(path), O_WRONLY | O_CREAT | O_TRUNC, permissions);
}
inline long symlink(const char* to, const char* path) {
  return syscall6(__NR_symlink, address(to), address(path));
}
inline long read(int file, void* to, std::size_t bytes) {
  return syscall6(__NR_read, file, address(to), static_cast<long>(bytes));
}
inline long write(int file, const void* from, std::size_t bytes) {
  return syscall6(__NR_write, file, address(from), static_cast<long>(bytes));
}
inline long close(int file) {
  return syscall6(__NR_close, file);
}
inline long pipe2(int* ends, int flags) {
  return syscall6(__NR_pipe2, address(ends), flags);
}
inline long dup2(int from, int to) {
  return syscall6(__NR_dup2, from, to);
}
inline long ioctl(int file, unsigned long request, const void* argument) {
  return syscall6(__NR_ioctl, file, static_cast<long>(request), address(argument));
}
// flags: MS_….
inline long mount_with(const char* source, const char* target, const char* type, unsigned long flags,
                       const char* data = nullptr) {
  return syscall6(__NR_mount, address(source), address(target), address(type), static_cast<long>(flags), address(data));
}
inline long mount(const char* source, const char* target, const char* type, const char* data = nullptr) {
  return syscall6(__NR_mount, address(source), address(target), address(type), 0, address(data));
}
inline long mkdir(const char* path, int mode) {
  return syscall6(__NR_mkdir, address(path), mode);
}
inline long chdir(const char* path) {
  return syscall6(__NR_chdir, address(path));
}
inline long chroot(const char* path) {
  return syscall6(__NR_chroot, address(path));
}
inline long rmdir(const char* path) {
  return syscall6(__NR_rmdir, address(path));
}
inline long unlink(const char* path) {
  return syscall6(__NR_unlink, address(path));
}
// A module of the kernel, from an open file.
inline long load_module(int file) {
  return syscall6(__NR_finit_module, file, address(""), 0);
}
inline long sleep_milliseconds(long count) {
  const struct {
    long seconds, nanoseconds;
  } time = {count / 1000, count % 1000 * 1'000'000};
  return syscall6(__NR_nanosleep, address(&time), 0);
}
inline long fork() {
  return syscall6(__NR_fork, 0);
}
inline long setsid() {
  return syscall6(__NR_setsid, 0);
}
inline long kill(int process, int signal) {
  return syscall6(__NR_kill, process, signal);
}
inline long wait4(int process, int* status, int options) {
  return syscall6(__NR_wait4, process, address(status), options, 0);
}
inline long execve(const char* path, char* const* words, char* const* environment) {
  return syscall6(__NR_execve, address(path), address(words), address(environment));
}
inline long poll(pollfd* entries, unsigned count, int milliseconds) {
  return syscall6(__NR_poll, address(entries), count, milliseconds);
}
inline long sethostname(const char* name, std::size_t length) {
  return syscall6(__NR_sethostname, address(name), static_cast<long>(length));
}
inline long socket(int domain, int type, int protocol) {
  return syscall6(__NR_socket, domain, type, protocol);
}
[[noreturn]] inline void exit(int status) {
  for (;;) syscall6(__NR_exit_group, status);
}

}  // namespace nacre::agent
