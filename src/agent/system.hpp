// Linux system calls without a C library, for what runs in the guest and on the host alike. x86-64. Errors
// are negative numbers, as the kernel returns them. The C library's headers give constants and layouts only.
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cerrno>

#include "base/types.hpp"

namespace nacre::agent::sys {

inline long call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) {
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

inline long read(int file, void* to, usize bytes) {
  return call(SYS_read, file, address(to), static_cast<long>(bytes));
}
inline long write(int file, const void* from, usize bytes) {
  return call(SYS_write, file, address(from), static_cast<long>(bytes));
}
inline long close(int file) {
  return call(SYS_close, file);
}
inline long poll(pollfd* entries, unsigned count, int milliseconds) {
  return call(SYS_poll, address(entries), count, milliseconds);
}
inline long openat(int folder, const char* name, int flags, int mode = 0) {
  return call(SYS_openat, folder, address(name), flags | O_CLOEXEC, mode);
}
inline long fstatat(int folder, const char* name, struct stat& status, int flags) {
  return call(SYS_newfstatat, folder, address(name), address(&status), flags);
}
inline long mkdirat(int folder, const char* name, int mode) {
  return call(SYS_mkdirat, folder, address(name), mode);
}
inline long unlinkat(int folder, const char* name) {
  return call(SYS_unlinkat, folder, address(name), 0);
}
inline long symlinkat(const char* target, int folder, const char* name) {
  return call(SYS_symlinkat, address(target), folder, address(name));
}
inline long readlinkat(int folder, const char* name, char* to, usize bytes) {
  return call(SYS_readlinkat, folder, address(name), address(to), static_cast<long>(bytes));
}
inline long fchmod(int file, u32 mode) {
  return call(SYS_fchmod, file, static_cast<long>(mode));
}
inline long utimensat(int folder, const char* name, const timespec* times, int flags) {
  return call(SYS_utimensat, folder, address(name), address(times), flags);
}
inline long getdents(int folder, void* to, usize bytes) {
  return call(SYS_getdents64, folder, address(to), static_cast<long>(bytes));
}

inline usize length(const char* text) {
  usize count = 0;
  while (text[count] != 0) ++count;
  return count;
}

}  // namespace nacre::agent::sys
