#include "irq/pic/pic_sequence.hpp"

extern "C" int LLVMFuzzerTestOneInput(const nacre::u8* data, nacre::usize size) {
  nacre::irq::pic_sequence(nacre::testing::ByteSource({data, size}));
  return 0;
}
