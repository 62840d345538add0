// Copying and filling without vector registers. The core is called while those hold the guest's values,
// and the C library's memcpy and memset use them, whatever flags we compile with. Use these wherever the
// length is not a small constant (the compiler expands those in place). Freestanding; any thread.
#pragma once

#include "base/types.hpp"

namespace nacre {

// [to, to + bytes) must not overlap [from, from + bytes).
inline void copy_bytes(void* to, const void* from, usize bytes) {
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
}

inline void fill_bytes(void* to, u8 value, usize bytes) {
  __asm__ volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(value) : "memory");
}

}  // namespace nacre
