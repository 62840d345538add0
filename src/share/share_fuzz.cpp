#include "share/share_sequence.hpp"

extern "C" int LLVMFuzzerTestOneInput(const nacre::u8* data, nacre::usize size) {
  nacre::share::share_sequence(nacre::testing::ByteSource({data, size}));
  return 0;
}
