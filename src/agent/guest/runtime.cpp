// What the compiler wants from a C library, and the way in. The agent has none, so that it runs in any guest.
#include "base/types.hpp"

using nacre::u8;
using nacre::usize;

extern "C" {
void* memcpy(void* to, const void* from, usize bytes) {
  void* result = to;
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes)::"memory");
  return result;
}
void* memmove(void* to, const void* from, usize bytes) {
  u8* target = static_cast<u8*>(to);
  const u8* source = static_cast<const u8*>(from);
  if (target <= source || target >= source + bytes) return memcpy(to, from, bytes);
  while (bytes-- != 0) target[bytes] = source[bytes];
  return to;
}
void* memset(void* to, int value, usize bytes) {
  void* result = to;
  __asm__ volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(value) : "memory");
  return result;
}
void __cxa_pure_virtual() {
  __builtin_trap();
}
}

// The kernel gives a program the count of its words and the words on a 16-byte aligned stack.
__asm__(
    ".globl _start\n"
    "_start:\n"
    "  xor %ebp, %ebp\n"
    "  mov %rsp, %rdi\n"
    "  and $-16, %rsp\n"
    "  call agent_main\n"
    "  ud2\n");
