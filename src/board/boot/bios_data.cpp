#include "board/boot/bios_data.hpp"

#include "base/check.hpp"
#include "board/layout.hpp"

namespace nacre::board::boot {
namespace {

constexpr u64 kBiosData = 0x400;
struct Field {
  static constexpr u64 com1 = 0x00, ebda_segment = 0x0e, equipment = 0x10, conventional_kib = 0x13;
};
constexpr u16 kOneSerialPort = 1 << 9;  // of the equipment word
constexpr u64 kFailing = kEbdaBase + 16;
// push %bp; mov %sp, %bp; orb $1, 6(%bp); pop %bp; iret
constexpr u8 kFailingCode[] = {0x55, 0x89, 0xe5, 0x80, 0x4e, 0x06, 0x01, 0x5d, 0xcf};

template <typename T>
void store(const Machine& machine, u64 address, const T& value) {
  NACRE_CHECK(machine.memory.write(GuestPhysical(address), &value, sizeof value));
}

}  // namespace

void write_bios_data(const Machine& machine) {
  constexpr u16 segment = kEbdaBase >> 4;
  for (u64 vector = 0; vector < 256; ++vector)
    store(machine, 4 * vector, u32{segment} << 16 | static_cast<u32>(kFailing - kEbdaBase));
  store(machine, kFailing, kFailingCode);
  store(machine, kEbdaBase, u8{1});  // its size in KiB
  store(machine, kBiosData + Field::com1, u16{kPortCom1});
  store(machine, kBiosData + Field::ebda_segment, segment);
  store(machine, kBiosData + Field::equipment, kOneSerialPort);
  store(machine, kBiosData + Field::conventional_kib, static_cast<u16>(kEbdaBase / kKiB));
}

}  // namespace nacre::board::boot
