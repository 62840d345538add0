// The DSDT: what a driver cannot find out by itself about this PC. ACPI 6.4, 5.2.11.1.
#include "board/acpi/aml.hpp"
#include "board/acpi/tables.hpp"
#include "board/layout.hpp"

namespace nacre::board::acpi {
namespace {

constexpr u64 kPresent = 0xf;   // _STA: present, enabled, shown, working
constexpr u8 kSleepTypeS5 = 5;  // what PM1a control takes for "off"

// 33DB4D5B-1FF7-401C-9657-7441C03DD766: PCI host bridge capabilities. PCI Firmware 3.3, 4.5.1.
constexpr u8 kHostBridgeUuid[16] = {0x5b, 0x4d, 0xdb, 0x33, 0xf7, 0x1f, 0x1c, 0x40,
                                    0x96, 0x57, 0x74, 0x41, 0xc0, 0x3d, 0xd7, 0x66};

constexpr u32 last(u64 end) {
  return static_cast<u32>(end - 1);
}

void write_host_bridge_resources(AmlWriter& aml, u8 last_bus) {
  aml.name_resources("_CRS", [&] {
    aml.word_range(Range::Bus, 0, last_bus);
    aml.io(kPortPciAddress, 8);
    aml.word_range(Range::Io, 0, kPortPciAddress - 1);
    aml.word_range(Range::Io, kPortPciAddress + 8, 0xffff);
    aml.dword_memory(kVgaHole, last(kShadowBase));
    aml.dword_memory(kPciWindowBase, last(kEcamBase));
    aml.dword_memory(kPciWindow2Base, last(kIoApicBase));
  });
}

// Grants the guest control of whatever it asks for: there is no firmware that would want it.
void write_osc(AmlWriter& aml) {
  aml.method("_OSC", 4, [&] {
    aml.if_arg_equals_uuid(0, kHostBridgeUuid, [&] { aml.return_arg(3); });
    aml.create_dword_field(3, 0, "CDW1");
    aml.or_into("CDW1", 4);  // unrecognized UUID
    aml.return_arg(3);
  });
}

void write_pci(AmlWriter& aml, u8 last_bus) {
  aml.device("PCI0", [&] {
    aml.name("_HID", eisa_id("PNP0A08"));
    aml.name("_CID", eisa_id("PNP0A03"));
    aml.name("_SEG", 0);
    aml.name("_BBN", 0);
    aml.name("_UID", 0);
    write_host_bridge_resources(aml, last_bus);
    write_osc(aml);
  });
}

void write_serial(AmlWriter& aml, std::string_view name, unsigned number, u16 port, unsigned irq) {
  aml.device(name, [&] {
    aml.name("_HID", eisa_id("PNP0501"));
    aml.name("_UID", number);
    aml.name("_STA", kPresent);
    aml.name_resources("_CRS", [&] {
      aml.io(port, 8);
      aml.irq(irq);
    });
  });
}

void write_rtc(AmlWriter& aml) {
  aml.device("RTC0", [&] {
    aml.name("_HID", eisa_id("PNP0B00"));
    aml.name_resources("_CRS", [&] {
      aml.io(kPortCmos, 2);
      aml.irq(kIrqRtc);
    });
  });
}

// By which the guest's kernel tells of its panic: device/pvpanic.
void write_panic(AmlWriter& aml) {
  aml.device("PEVT", [&] {
    aml.name("_HID", "QEMU0001");
    aml.name("_STA", kPresent);
    aml.name_resources("_CRS", [&] { aml.io(kPortPanic, 1); });
  });
}

// What the board takes for itself, so that the guest puts nothing there.
void write_motherboard(AmlWriter& aml) {
  aml.device("MBRD", [&] {
    aml.name("_HID", eisa_id("PNP0C02"));
    aml.name("_UID", 0);
    aml.name_resources("_CRS", [&] {
      aml.io(kPortPm1Event, kPmPorts);
      aml.fixed_memory(static_cast<u32>(kEcamBase), static_cast<u32>(kEcamBytes));
    });
  });
}

// ACPI0007 devices, C000 to C0FF, matched to the MADT by their _UID. ACPI 6.4, 8.4.
void write_processors(AmlWriter& aml, unsigned count) {
  constexpr char digits[] = "0123456789ABCDEF";
  for (unsigned i = 0; i < count; ++i) {
    const char segment[4] = {'C', '0', digits[i >> 4 & 0xf], digits[i & 0xf]};
    aml.device({segment, 4}, [&] {
      aml.name("_HID", "ACPI0007");
      aml.name("_UID", i);
    });
  }
}

}  // namespace

usize build_dsdt(std::span<u8> to, const Machine& machine) {
  AmlWriter aml(to);
  aml.scope("\\_SB_", [&] {
    write_pci(aml, machine.last_bus);
    write_serial(aml, "COM1", 1, kPortCom1, kIrqCom1);
    if (machine.serial_ports > 1) write_serial(aml, "COM2", 2, kPortCom2, kIrqCom2);
    write_rtc(aml);
    write_panic(aml);
    write_motherboard(aml);
    write_processors(aml, machine.processors);
  });
  aml.name_package("\\_S5_", 4, [&] {
    aml.integer(kSleepTypeS5);
    aml.integer(kSleepTypeS5);
    aml.integer(0);
    aml.integer(0);
  });
  return aml.overflowed() ? 0 : aml.size();
}

}  // namespace nacre::board::acpi
