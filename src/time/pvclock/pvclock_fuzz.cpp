#include "time/pvclock/pvclock_sequence.hpp"

extern "C" int LLVMFuzzerTestOneInput(const nacre::u8* data, nacre::usize size) {
  nacre::time::pvclock_sequence(nacre::testing::ByteSource({data, size}));
  return 0;
}
