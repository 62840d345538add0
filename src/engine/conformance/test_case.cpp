#include "engine/conformance/test_case.hpp"

#include <cstring>

namespace nacre::conformance {

void fill_data(const Case& test, u8* data) {
  u64 x = test.memory_seed | 1;
  for (u64 i = 0; i < kDataBytes; i += 8) {
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;  // xorshift64
    std::memcpy(data + i, &x, 8);
  }
  for (unsigned i = 0; i < test.patch_count; ++i) {
    std::memcpy(data + test.patches[i].offset, &test.patches[i].value, 8);
  }
}

void fill_code(const Case& test, u8* code) {
  constexpr u8 kInt3 = 0xcc;
  std::memset(code, kInt3, kCodeBytes);
  const usize room = kCodeBytes - test.code_offset;
  std::memcpy(code + test.code_offset, test.code, test.code_bytes < room ? test.code_bytes : room);
}

}  // namespace nacre::conformance
