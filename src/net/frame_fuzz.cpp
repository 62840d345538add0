#include "net/frame_sequence.hpp"

extern "C" int LLVMFuzzerTestOneInput(const nacre::u8* data, nacre::usize size) {
  nacre::net::frame_sequence(nacre::testing::ByteSource({data, size}));
  return 0;
}
