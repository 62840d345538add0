#include "time/pit/pit_sequence.hpp"

extern "C" int LLVMFuzzerTestOneInput(const nacre::u8* data, nacre::usize size) {
  nacre::time::pit_sequence(nacre::testing::ByteSource({data, size}));
  return 0;
}
