#include "device/pci/root_port_sequence.hpp"

extern "C" int LLVMFuzzerTestOneInput(const nacre::u8* data, nacre::usize size) {
  nacre::device::pci::root_port_sequence(nacre::testing::ByteSource({data, size}));
  return 0;
}
