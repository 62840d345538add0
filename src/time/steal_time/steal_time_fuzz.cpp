#include "time/steal_time/steal_time_sequence.hpp"

extern "C" int LLVMFuzzerTestOneInput(const nacre::u8* data, nacre::usize size) {
  nacre::time::steal_time_sequence(nacre::testing::ByteSource({data, size}));
  return 0;
}
