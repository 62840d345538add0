#include "device/i8042/i8042_sequence.hpp"

extern "C" int LLVMFuzzerTestOneInput(const nacre::u8* data, nacre::usize size) {
  nacre::device::i8042_sequence(nacre::testing::ByteSource({data, size}));
  return 0;
}
