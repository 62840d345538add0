#include "device/acpi_pm/acpi_pm_sequence.hpp"

extern "C" int LLVMFuzzerTestOneInput(const nacre::u8* data, nacre::usize size) {
  nacre::device::acpi_pm_sequence(nacre::testing::ByteSource({data, size}));
  return 0;
}
