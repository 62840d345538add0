#include "vsock/hub_sequence.hpp"

extern "C" int LLVMFuzzerTestOneInput(const nacre::u8* data, nacre::usize size) {
  nacre::vsock::testing::hub_sequence(nacre::testing::ByteSource({data, size}));
  return 0;
}
