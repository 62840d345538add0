#include "engine/conformance/test_case.hpp"

#include "base/copy.hpp"

namespace nacre::conformance {

void fill_data(const Case& test, u8* data) {
  u64 x = test.memory_seed | 1;
  for (u64 i = 0; i < kDataBytes; i += 8) {
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;  // xorshift64
    copy_bytes(data + i, &x, 8);
  }
  for (unsigned i = 0; i < test.patch_count; ++i) {
    copy_bytes(data + test.patches[i].offset, &test.patches[i].value, 8);
  }
}

void fill_code(const Case& test, u8* code) {
  constexpr u8 kInt3 = 0xcc;
  fill_bytes(code, kInt3, kCodeBytes);
  const usize room = kCodeBytes - test.code_offset;
  copy_bytes(code + test.code_offset, test.code, test.code_bytes < room ? test.code_bytes : room);
}

}  // namespace nacre::conformance
