// The chipset: the interrupt controllers that all processors share, the timers, and the devices behind
// fixed ports, with the ports and wires between them. Freestanding; under the board's lock.
#pragma once

#include <span>

#include "board/adapters.hpp"
#include "board/isa_lines.hpp"
#include "board/options.hpp"
#include "board/pci_host.hpp"
#include "device/acpi_pm/acpi_pm.hpp"
#include "device/debug/debug_ports.hpp"
#include "device/debug/test_device.hpp"
#include "device/fw_cfg/fw_cfg.hpp"
#include "device/i8042/i8042.hpp"
#include "device/piix/piix.hpp"
#include "device/pvpanic/pvpanic.hpp"
#include "device/reset_port/reset_port.hpp"
#include "device/uart16550/uart16550.hpp"
#include "time/pit/pit.hpp"
#include "time/rtc/rtc.hpp"

namespace nacre::board {

class Chipset {
 public:
  // `to_processors` is the 8259 pair's INT wire, `bus` takes the IOAPIC's messages.
  Chipset(const Options& options, Environment& environment, irq::Line& to_processors, irq::MessageSink& bus);
  Chipset(const Chipset&) = delete;
  Chipset& operator=(const Chipset&) = delete;

  // Claims the ports and the memory windows. Once.
  Status attach(memory::AddressSpace& memory, memory::PortSpace& ports);
  void reset();

  [[nodiscard]] irq::Pic& pic() { return pic_; }
  [[nodiscard]] irq::Ioapic& ioapic() { return ioapic_; }
  [[nodiscard]] PciHost& pci() { return pci_; }
  [[nodiscard]] time::Clock& clock() { return clock_; }
  [[nodiscard]] time::WallClock& wall_clock() { return clock_; }

  [[nodiscard]] u64 next_deadline() const;
  void advance(u64 now);
  // True once after an access that may have changed next_deadline().
  [[nodiscard]] bool take_timers_touched();

  usize serial_input(unsigned port, std::span<const u8> bytes);
  void press_power_button() { pm_.press_power_button(); }

 private:
  struct Serial {
    SerialOutput output;
    device::Uart16550 uart;
    bool input_waits = false;  // the host has more than fitted
  };

  // What firmware for emulators looks for.
  Status attach_firmware_chips(memory::PortSpace& ports);
  // The power-management block's second place: where the guest wants it, if that is there.
  u32 read_moved_pm(u16 offset, unsigned size);
  void write_moved_pm(u16 offset, unsigned size, u32 value);
  Status claim_post_ports(memory::PortSpace& ports);
  Status attach_test_device(memory::AddressSpace& memory, memory::PortSpace& ports);
  void write_memory_size(u64 memory_bytes);
  void check_input_room(unsigned port);

  // One pair of functions for each range of ports.
  u32 read_pic_master(u16 offset, unsigned) { return pic_.read(0, offset); }
  void write_pic_master(u16 offset, unsigned, u32 value) { pic_.write(0, offset, static_cast<u8>(value)); }
  u32 read_pic_slave(u16 offset, unsigned) { return pic_.read(1, offset); }
  void write_pic_slave(u16 offset, unsigned, u32 value) { pic_.write(1, offset, static_cast<u8>(value)); }
  u32 read_elcr(u16 offset, unsigned) { return pic_.read_elcr(offset); }
  void write_elcr(u16 offset, unsigned, u32 value) { pic_.write_elcr(offset, static_cast<u8>(value)); }
  u32 read_pit(u16 offset, unsigned) { return pit_.read(offset); }
  void write_pit(u16 offset, unsigned, u32 value);
  u32 read_port61(u16, unsigned) { return pit_.read_port61(); }
  void write_port61(u16, unsigned, u32 value) { pit_.write_port61(static_cast<u8>(value)); }
  u32 read_rtc(u16 offset, unsigned);
  void write_rtc(u16 offset, unsigned, u32 value);
  u32 read_pm(u16 offset, unsigned size) { return pm_.read(offset, size); }
  void write_pm(u16 offset, unsigned size, u32 value);
  u32 read_com1(u16 offset, unsigned) { return read_serial(0, offset); }
  void write_com1(u16 offset, unsigned, u32 value) { write_serial(0, offset, value); }
  u32 read_com2(u16 offset, unsigned) { return read_serial(1, offset); }
  void write_com2(u16 offset, unsigned, u32 value) { write_serial(1, offset, value); }
  u32 read_serial(unsigned port, u16 offset);
  void write_serial(unsigned port, u16 offset, u32 value);
  u32 read_keyboard_data(u16, unsigned) { return keyboard_.read_data(); }
  void write_keyboard_data(u16, unsigned, u32 value) { keyboard_.write_data(static_cast<u8>(value)); }
  u32 read_keyboard_status(u16, unsigned) { return keyboard_.read_status(); }
  void write_keyboard_command(u16, unsigned, u32 value) { keyboard_.write_command(static_cast<u8>(value)); }
  u32 read_pci(u16 offset, unsigned size);
  void write_pci(u16 offset, unsigned size, u32 value);
  u32 read_port92(u16, unsigned) { return port92_; }
  void write_port92(u16, unsigned, u32 value);
  u32 read_post(u16, unsigned) { return post_.read(); }
  void write_post(u16, unsigned, u32 value) { post_.write(static_cast<u8>(value)); }
  u32 read_panic(u16, unsigned) { return panic_.read(); }
  void write_panic(u16, unsigned, u32 value) { panic_.write(static_cast<u8>(value)); }
  u32 read_fw_cfg(u16 offset, unsigned) { return offset == device::FwCfg::kData ? fw_cfg_.read() : 0xff; }
  void write_fw_cfg(u16 offset, unsigned size, u32 value) {
    if (offset == device::FwCfg::kSelector && size == 2) fw_cfg_.select(static_cast<u16>(value));
  }
  u32 read_debug_exit(u16, unsigned) { return debug_exit_.read(); }
  void write_debug_exit(u16, unsigned, u32 value) { debug_exit_.write(value); }
  u32 read_test_register(u16 offset, unsigned) { return test_device_.read_register(offset); }
  void write_test_register(u16 offset, unsigned size, u32 value) {
    test_device_.write_register(offset, size, value);
  }
  u32 read_test_nothing(u16, unsigned) { return 0; }
  void write_test_nothing(u16, unsigned, u32) {}
  void write_test_line(u16 offset, unsigned, u32 value) { test_device_.write_line(offset, value); }
  u32 read_told_post(u16, unsigned) { return told_post_.read(); }
  void write_told_post(u16, unsigned, u32 value);

  const Options options_;
  Environment& environment_;
  EnvironmentClock clock_;
  PowerOutput power_;

  irq::Pic pic_;
  irq::Ioapic ioapic_;
  IsaLine timer_line_, keyboard_line_, com2_line_, com1_line_, rtc_line_, sci_line_, mouse_line_;

  time::Pit pit_;
  time::Rtc rtc_;
  device::AcpiPm pm_;
  Serial serial_[kMaxSerialPorts];
  device::I8042 keyboard_;
  device::ResetPort reset_port_;
  device::PostPort post_, told_post_;  // the usual port, and the one whose codes are told
  device::Pvpanic panic_;
  device::DebugExit debug_exit_;
  AllLines all_lines_;
  device::TestDevice test_device_;
  device::FwCfg fw_cfg_;
  DebugPort debug_ports_[kMaxDebugPorts];
  PciHost pci_;
  device::piix::HostBridge firmware_bridge_;  // these three: with firmware alone
  device::piix::IsaBridge isa_bridge_;
  device::piix::PowerManagement power_management_{kPortPm1Event};
  u8 port92_ = 0;
  bool timers_touched_ = false;

  Window<irq::Ioapic> ioapic_window_{ioapic_};
  Ports<Chipset, &Chipset::read_pic_master, &Chipset::write_pic_master> pic_master_ports_{*this};
  Ports<Chipset, &Chipset::read_pic_slave, &Chipset::write_pic_slave> pic_slave_ports_{*this};
  Ports<Chipset, &Chipset::read_elcr, &Chipset::write_elcr> elcr_ports_{*this};
  Ports<Chipset, &Chipset::read_pit, &Chipset::write_pit> pit_ports_{*this};
  Ports<Chipset, &Chipset::read_port61, &Chipset::write_port61> port61_{*this};
  Ports<Chipset, &Chipset::read_rtc, &Chipset::write_rtc> rtc_ports_{*this};
  Ports<Chipset, &Chipset::read_pm, &Chipset::write_pm> pm_ports_{*this};
  Ports<Chipset, &Chipset::read_com1, &Chipset::write_com1> com1_ports_{*this};
  Ports<Chipset, &Chipset::read_com2, &Chipset::write_com2> com2_ports_{*this};
  Ports<Chipset, &Chipset::read_keyboard_data, &Chipset::write_keyboard_data> keyboard_data_port_{*this};
  Ports<Chipset, &Chipset::read_keyboard_status, &Chipset::write_keyboard_command> keyboard_port_{*this};
  Ports<Chipset, &Chipset::read_pci, &Chipset::write_pci> pci_ports_{*this};
  Ports<Chipset, &Chipset::read_port92, &Chipset::write_port92> port92_port_{*this};
  Ports<Chipset, &Chipset::read_post, &Chipset::write_post> post_port_{*this};
  Ports<Chipset, &Chipset::read_panic, &Chipset::write_panic> panic_port_{*this};
  Ports<Chipset, &Chipset::read_fw_cfg, &Chipset::write_fw_cfg> fw_cfg_ports_{*this};
  Ports<Chipset, &Chipset::read_debug_exit, &Chipset::write_debug_exit> debug_exit_port_{*this};
  Ports<Chipset, &Chipset::read_test_register, &Chipset::write_test_register> test_register_ports_{*this};
  Ports<Chipset, &Chipset::read_test_nothing, &Chipset::write_test_nothing> test_flush_port_{*this};
  Ports<Chipset, &Chipset::read_test_nothing, &Chipset::write_test_line> test_line_ports_{*this};
  Window<device::TestDevice> test_window_{test_device_};
  Ports<Chipset, &Chipset::read_moved_pm, &Chipset::write_moved_pm> moved_pm_ports_{*this};
  Ports<Chipset, &Chipset::read_told_post, &Chipset::write_told_post> told_post_port_{*this};
};

}  // namespace nacre::board
