#include "device/uart16550/uart16550_sequence.hpp"

extern "C" int LLVMFuzzerTestOneInput(const nacre::u8* data, nacre::usize size) {
  nacre::device::uart16550_sequence(nacre::testing::ByteSource({data, size}));
  return 0;
}
