#include "virtio/console/console_sequence.hpp"

extern "C" int LLVMFuzzerTestOneInput(const nacre::u8* data, nacre::usize size) {
  nacre::virtio::console::console_sequence(nacre::testing::ByteSource({data, size}));
  return 0;
}
