#include "virtio/blk/blk_sequence.hpp"

extern "C" int LLVMFuzzerTestOneInput(const nacre::u8* data, nacre::usize size) {
  nacre::virtio::blk::blk_sequence(nacre::testing::ByteSource({data, size}));
  return 0;
}
