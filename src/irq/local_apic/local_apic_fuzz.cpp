#include "irq/local_apic/local_apic_sequence.hpp"

extern "C" int LLVMFuzzerTestOneInput(const nacre::u8* data, nacre::usize size) {
  nacre::irq::local_apic_sequence(nacre::testing::ByteSource({data, size}));
  return 0;
}
