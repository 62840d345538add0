#include "virtio/fs/fs_sequence.hpp"

extern "C" int LLVMFuzzerTestOneInput(const nacre::u8* data, nacre::usize size) {
  nacre::virtio::fs::fs_sequence(nacre::testing::ByteSource({data, size}));
  return 0;
}
