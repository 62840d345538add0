#include "irq/ioapic/ioapic_sequence.hpp"

extern "C" int LLVMFuzzerTestOneInput(const nacre::u8* data, nacre::usize size) {
  nacre::irq::ioapic_sequence(nacre::testing::ByteSource({data, size}));
  return 0;
}
