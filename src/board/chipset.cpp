#include "board/chipset.hpp"

namespace nacre::board {
namespace {

constexpr u8 kIoApicId = 0;
constexpr u8 kSciElcr = 1 << (kIrqSci - 8);  // the SCI is level-triggered. ACPI 6.4, 5.2.9

// Offsets in the window of ports 0xcf8 to 0xcff.
constexpr u16 kResetOffset = kPortReset - kPortPciAddress, kDataOffset = kPortPciData - kPortPciAddress;

// System control port A (0x92): bit 0 resets, bit 1 is the A20 gate, always open here.
constexpr u8 kFastReset = 1 << 0, kA20 = 1 << 1;

// A port of the user's choice.
Status claim_asked(memory::PortSpace& ports, u16 port, memory::PortHandler& handler) {
  if (ports.claim(port, 1, handler).ok()) return {};
  return Error("Port ").append_number(port, 16).append(" is another device's already; choose another for --debug-port or --post-port.");
}

u64 earlier(u64 a, u64 b) {
  return a < b ? a : b;
}

}  // namespace

Chipset::Chipset(const Options& options, Environment& environment, irq::Line& to_processors,
                 irq::MessageSink& bus)
    : options_(options),
      environment_(environment),
      clock_(environment),
      power_(environment),
      pic_(to_processors),
      ioapic_(bus, kIoApicId),
      timer_line_(pic_, ioapic_, kIrqTimer),
      keyboard_line_(pic_, ioapic_, kIrqKeyboard),
      com2_line_(pic_, ioapic_, kIrqCom2),
      com1_line_(pic_, ioapic_, kIrqCom1),
      rtc_line_(pic_, ioapic_, kIrqRtc),
      sci_line_(pic_, ioapic_, kIrqSci),
      mouse_line_(pic_, ioapic_, kIrqMouse),
      pit_(clock_, timer_line_),
      rtc_(clock_, clock_, rtc_line_),
      pm_(clock_, sci_line_, power_),
      serial_{{{environment, 0}, {com1_line_, serial_[0].output}},
              {{environment, 1}, {com2_line_, serial_[1].output}}},
      keyboard_({.irq1 = keyboard_line_, .irq12 = mouse_line_, .power = power_}),
      reset_port_(power_),
      panic_(power_),
      debug_exit_(power_),
      all_lines_(pic_, ioapic_),
      test_device_(all_lines_),
      fw_cfg_(options.memory_bytes, options.processors),
      debug_ports_{{environment, 0}, {environment, 1}, {environment, 2}, {environment, 3}} {}

Status Chipset::attach(memory::AddressSpace& memory, memory::PortSpace& ports) {
  TRY(memory.add_mmio(GuestPhysical(kIoApicBase), kPageSize, ioapic_window_));
  TRY(memory.add_mmio(GuestPhysical(kEcamBase), kEcamBytes, pci_));
  TRY(memory.add_mmio(GuestPhysical(kPciWindowBase), kEcamBase - kPciWindowBase, pci_.window()));
  TRY(memory.add_mmio(GuestPhysical(kPciWindow2Base), kIoApicBase - kPciWindow2Base, pci_.window2()));

  TRY(ports.claim(kPortPicMaster, 2, pic_master_ports_));
  TRY(ports.claim(kPortPit, 4, pit_ports_));
  TRY(ports.claim(kPortKeyboardData, 1, keyboard_data_port_));
  TRY(ports.claim(kPort61, 1, port61_));
  TRY(ports.claim(kPortKeyboard, 1, keyboard_port_));
  TRY(ports.claim(kPortCmos, 2, rtc_ports_));
  TRY(ports.claim(kPort92, 1, port92_port_));
  TRY(ports.claim(kPortPicSlave, 2, pic_slave_ports_));
  TRY(ports.claim(kPortCom1, device::Uart16550::kPorts, com1_ports_));
  if (options_.serial_ports > 1) TRY(ports.claim(kPortCom2, device::Uart16550::kPorts, com2_ports_));
  TRY(ports.claim(kPortElcr, 2, elcr_ports_));
  TRY(ports.claim(kPortPm1Event, kPmPorts, pm_ports_, 4));
  TRY(ports.claim(kPortPciAddress, 8, pci_ports_, 4));
  TRY(ports.claim(kPortPanic, 1, panic_port_));
  if (options_.debug_exit) TRY(ports.claim(kPortDebugExit, 4, debug_exit_port_, 4));
  if (options_.test_device) TRY(attach_test_device(memory, ports));
  for (unsigned i = 0; i < options_.debug_port_count; ++i) TRY(claim_asked(ports, options_.debug_ports[i], debug_ports_[i]));
  if (options_.firmware != nullptr) {
    TRY(attach_firmware_chips(ports));
  } else {
    TRY(ports.claim(kPortFwCfg, 2, fw_cfg_ports_, 2));  // firmware would look for files there
  }
  return claim_post_ports(ports);
}

Status Chipset::attach_test_device(memory::AddressSpace& memory, memory::PortSpace& ports) {
  using device::TestDevice;
  TRY(memory.add_mmio(GuestPhysical(kTestWindowBase), TestDevice::kWindowBytes, test_window_));
  TRY(ports.claim(kPortTestRegister, TestDevice::kRegisterPorts, test_register_ports_, 4));
  TRY(ports.claim(kPortTestFlush, TestDevice::kFlushPorts, test_flush_port_, 4));
  // The register's second place holds the debug console's usual port; who asks for that one gets it.
  const auto is_there = [](u16 port) { return port >= kPortTestBytes && port < kPortTestBytes + TestDevice::kRegisterPorts; };
  bool taken = options_.post_port && is_there(*options_.post_port);
  for (unsigned i = 0; i < options_.debug_port_count; ++i) taken = taken || is_there(options_.debug_ports[i]);
  if (!taken) TRY(ports.claim(kPortTestBytes, TestDevice::kRegisterPorts, test_register_ports_));
  return ports.claim(kPortTestLines, TestDevice::kLines, test_line_ports_);
}

Status Chipset::attach_firmware_chips(memory::PortSpace& ports) {
  pci_.replace_bridge(firmware_bridge_);
  pci_.attach(1, 0, isa_bridge_);
  pci_.attach(1, 3, power_management_);
  return ports.claim(kPortMovedPm, kPmPorts, moved_pm_ports_, 4);
}

// The usual port is there always, as code uses it for a delay, unless something else was asked for there.
Status Chipset::claim_post_ports(memory::PortSpace& ports) {
  bool taken = options_.post_port == kPortPost;
  for (unsigned i = 0; i < options_.debug_port_count; ++i) taken = taken || options_.debug_ports[i] == kPortPost;
  if (!taken) TRY(ports.claim(kPortPost, 1, post_port_));
  return options_.post_port ? claim_asked(ports, *options_.post_port, told_post_port_) : Status{};
}

void Chipset::reset() {
  pic_.reset();
  ioapic_.reset();
  pic_.write_elcr(1, kSciElcr);
  pit_.reset();
  rtc_.reset();
  pm_.reset();
  for (Serial& serial : serial_) {
    serial.uart.reset();
    serial.input_waits = false;
  }
  keyboard_.reset();
  reset_port_.reset();
  fw_cfg_.reset();
  if (options_.test_device) test_device_.reset();
  pci_.reset();
  u64 no_regions = 0;
  firmware_bridge_.reset(no_regions);
  port92_ = kA20;
  write_memory_size(options_.memory_bytes);
  timers_touched_ = true;
}

// The sizes that a PC's BIOS leaves in CMOS: conventional, above 1 MiB in KiB, above 16 MiB in 64 KiB.
void Chipset::write_memory_size(u64 memory_bytes) {
  const auto store = [this](u8 index, u64 value) {
    const u64 capped = value < 0xffff ? value : 0xffff;
    rtc_.set_nvram(index, static_cast<u8>(capped));
    rtc_.set_nvram(static_cast<u8>(index + 1), static_cast<u8>(capped >> 8));
  };
  const u64 low = memory_bytes < kLowRamLimit ? memory_bytes : kLowRamLimit;
  store(0x15, kEbdaBase / kKiB);
  store(0x17, (low - kMiB) / kKiB);
  store(0x30, (low - kMiB) / kKiB);
  store(0x34, low > 16 * kMiB ? (low - 16 * kMiB) / (64 * kKiB) : 0);
  // Emulators' convention, which firmware reads: memory above 4 GiB in 64 KiB, three bytes, and processors but one.
  const u64 high = (memory_bytes - low) / (64 * kKiB);
  for (u8 i = 0; i < 3; ++i) rtc_.set_nvram(static_cast<u8>(0x5b + i), static_cast<u8>(high >> 8 * i));
  rtc_.set_nvram(0x5f, static_cast<u8>(options_.processors - 1));
}

u64 Chipset::next_deadline() const {
  return earlier(pit_.next_deadline(), earlier(rtc_.next_deadline(), pm_.next_deadline()));
}

void Chipset::advance(u64 now) {
  pit_.advance(now);
  rtc_.advance(now);
  pm_.advance(now);
}

bool Chipset::take_timers_touched() {
  const bool touched = timers_touched_;
  timers_touched_ = false;
  return touched;
}

void Chipset::write_pit(u16 offset, unsigned, u32 value) {
  pit_.write(offset, static_cast<u8>(value));
  timers_touched_ = true;
}

u32 Chipset::read_rtc(u16 offset, unsigned) {
  timers_touched_ = true;  // reading register C re-arms
  return rtc_.read(offset);
}

void Chipset::write_rtc(u16 offset, unsigned, u32 value) {
  rtc_.write(offset, static_cast<u8>(value));
  timers_touched_ = true;
}

void Chipset::write_pm(u16 offset, unsigned size, u32 value) {
  pm_.write(offset, size, value);
  timers_touched_ = true;
}

u32 Chipset::read_moved_pm(u16 offset, unsigned size) {
  return power_management_.base() == kPortMovedPm ? pm_.read(offset, size) : ~u32{0};
}

void Chipset::write_moved_pm(u16 offset, unsigned size, u32 value) {
  if (power_management_.base() == kPortMovedPm) write_pm(offset, size, value);
}

usize Chipset::serial_input(unsigned port, std::span<const u8> bytes) {
  if (port >= options_.serial_ports) return bytes.size();  // nobody listens
  Serial& serial = serial_[port];
  usize taken = 0;
  while (taken < bytes.size() && serial.uart.receive(bytes[taken])) ++taken;
  serial.input_waits = taken < bytes.size();
  return taken;
}

void Chipset::check_input_room(unsigned port) {
  Serial& serial = serial_[port];
  if (!serial.input_waits || !serial.uart.can_receive()) return;
  serial.input_waits = false;
  environment_.serial_input_room(port);
}

u32 Chipset::read_serial(unsigned port, u16 offset) {
  const u32 value = serial_[port].uart.read(offset);
  check_input_room(port);
  return value;
}

void Chipset::write_serial(unsigned port, u16 offset, u32 value) {
  serial_[port].uart.write(offset, static_cast<u8>(value));
  check_input_room(port);
}

void Chipset::write_told_post(u16, unsigned, u32 value) {
  told_post_.write(static_cast<u8>(value));
  environment_.post_code(told_post_.read());
}

u32 Chipset::read_pci(u16 offset, unsigned size) {
  if (offset == 0 && size == 4) return pci_.address();
  if (offset >= kDataOffset) return pci_.read_data(static_cast<u16>(offset - kDataOffset), size);
  return offset == kResetOffset && size == 1 ? reset_port_.read() : ~u32{0};
}

void Chipset::write_pci(u16 offset, unsigned size, u32 value) {
  if (offset == 0 && size == 4) return pci_.set_address(value);
  if (offset >= kDataOffset) return pci_.write_data(static_cast<u16>(offset - kDataOffset), size, value);
  if (offset == kResetOffset && size == 1) reset_port_.write(static_cast<u8>(value));
}

void Chipset::write_port92(u16, unsigned, u32 value) {
  const bool resets = (value & kFastReset) != 0 && (port92_ & kFastReset) == 0;
  port92_ = static_cast<u8>((value & kFastReset) | kA20);
  if (resets) power_.reset();
}

}  // namespace nacre::board
