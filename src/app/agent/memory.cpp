// What the compiler may call behind one's back, for the programs here, which have no C library.
#include <cstddef>

extern "C" {
void* memcpy(void* to, const void* from, std::size_t bytes) {
  void* result = to;
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes)::"memory");
  return result;
}
void* memmove(void* to, const void* from, std::size_t bytes) {
  auto* target = static_cast<char*>(to);
  const auto* source = static_cast<const char*>(from);
  if (target <= source) return memcpy(to, from, bytes);
  while (bytes-- != 0) target[bytes] = source[bytes];
  return to;
}
void* memset(void* to, int value, std::size_t bytes) {
  void* result = to;
  __asm__ volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(value) : "memory");
  return result;
}
}
