#include "board/board.hpp"

#include "board/acpi/tables.hpp"
#include "board/memory_map.hpp"

namespace nacre::board {

Board::Board(const Options& options, Environment& environment)
    : options_(options),
      environment_(environment),
      ram_writer_(memory_),
      ram_word_(memory_),
      ram_byte_(memory_),
      pic_output_(bus_),
      chipset_(options, environment, pic_output_, bus_) {}

Status Board::check_options() const {
  const Options& o = options_;
  if (o.memory_bytes < kMinMemory || o.memory_bytes > kMaxMemory || o.memory_bytes % kPageSize != 0) {
    return Error("Guest memory of ")
        .append_number(o.memory_bytes)
        .append(" bytes is not possible; choose whole pages, from 2 MiB to 1 TiB.");
  }
  if (o.processors < 1 || o.processors > kMaxProcessors) {
    return Error("A guest with ")
        .append_number(o.processors)
        .append(" processors is not possible; choose 1 to ")
        .append_number(kMaxProcessors)
        .append(".");
  }
  if (o.serial_ports < 1 || o.serial_ports > kMaxSerialPorts) {
    return Error("A guest with ")
        .append_number(o.serial_ports)
        .append(" serial ports is not possible; choose 1 or 2.");
  }
  NACRE_CHECK(o.firmware_bytes <= kMaxFirmware && o.debug_port_count <= kMaxDebugPorts);
  NACRE_CHECK(o.ram != nullptr && o.page_flags != nullptr && o.tsc_hz >= 1000);
  return {};
}

Status Board::assemble() {
  TRY(check_options());
  TRY(map_ram());
  TRY(chipset_.attach(memory_, ports_));
  add_processors();
  reset();
  return {};
}

Status Board::map_ram() {
  const auto add = [this](u64 base, u64 end, u64 file_offset) -> Status {
    if (end <= base) return {};
    return memory_.add_ram(GuestPhysical(base), end - base, options_.ram + file_offset,
                           options_.page_flags + file_offset / kPageSize);
  };
  const u64 low_end = low_ram_end(options_.memory_bytes);
  TRY(add(0, kVgaHole, 0));
  TRY(add(kShadowBase, low_end, kShadowBase));
  TRY(add(kHighRamBase, high_ram_end(options_.memory_bytes), low_end));
  if (options_.firmware == nullptr) return {};
  return memory_.add_rom(GuestPhysical(kHighRamBase - options_.firmware_bytes), options_.firmware_bytes, options_.firmware,
                         options_.firmware_flags);
}

void Board::add_processors() {
  const ProcessorPort::Wiring wiring = {.environment = environment_,
                                        .host = *this,
                                        .memory = memory_,
                                        .ram = ram_writer_,
                                        .word = ram_word_,
                                        .byte = ram_byte_,
                                        .clock = chipset_.clock(),
                                        .wall_clock = chipset_.wall_clock(),
                                        .bus = bus_,
                                        .ioapic = chipset_.ioapic(),
                                        .pic = chipset_.pic(),
                                        .base = base_};
  for (unsigned i = 0; i < options_.processors; ++i) {
    processors_[i].emplace(wiring, i, options_.tsc_hz);
    NACRE_CHECK(bus_.attach(processors_[i]->local_apic()));
  }
}

void Board::reset() {
  chipset_.reset();
  for (unsigned i = 0; i < options_.processors; ++i) port(i).reset();
  if (options_.firmware != nullptr) {
    shadow_firmware();
  } else {
    write_tables();
  }
  for (u64& announced : announced_deadline_) announced = 0;
  base_ = environment_.instant();
}

// On a PC the first mebibyte shows the ROM until its code has copied it to the RAM behind. Here it is in RAM from the
// start, as if that had been done: code that copies itself there, or unlocks the RAM first, finds no difference.
void Board::shadow_firmware() {
  const u64 bytes = options_.firmware_bytes < kMaxShadow ? options_.firmware_bytes : kMaxShadow;
  NACRE_CHECK(memory_.write(GuestPhysical(kMiB - bytes), options_.firmware + options_.firmware_bytes - bytes, bytes));
}

void Board::write_tables() {
  u8* tables = memory_.host(GuestPhysical(kTablesBase), true);
  NACRE_CHECK(tables != nullptr);
  const Status built =
      acpi::build_tables({tables, kTablesBytes}, static_cast<u32>(kTablesBase),
                         {.processors = options_.processors,
                          .serial_ports = options_.serial_ports,
                          .last_bus = chipset_.pci().last_bus()});
  NACRE_CHECK(built.ok());  // room for the largest board there can be: a test sees to it
  // There is no firmware to start again at the reset vector, but guests jump there to reboot (Linux with
  // reboot=bios): ask for the reset instead. mov dx, 0xcf9; mov al, 6; out dx, al; hlt; jmp to the hlt
  constexpr u8 reboot[] = {0xba, kPortReset & 0xff, kPortReset >> 8, 0xb0, 0x06, 0xee, 0xf4, 0xeb, 0xfd};
  NACRE_CHECK(memory_.write(GuestPhysical(kResetVector), reboot, sizeof reboot));
}

ProcessorPort& Board::port(unsigned i) {
  NACRE_CHECK(i < kMaxProcessors && processors_[i].has_value());
  return *processors_[i];
}

void Board::tsc_changed(unsigned i) {
  port(i).local_apic().tsc_changed();
  port(i).pvclock().refresh();
  timers_touched(i, port(i).local_apic().next_deadline());
}

u64 Board::next_deadline(unsigned i) {
  u64 earliest = port(i).local_apic().next_deadline();
  if (i == 0 && chipset_.next_deadline() < earliest) earliest = chipset_.next_deadline();
  announced_deadline_[i] = earliest;
  return earliest;
}

u64 Board::next_deadline() {
  u64 earliest = kNever;
  for (unsigned i = 0; i < options_.processors; ++i) {
    const u64 deadline = next_deadline(i);
    if (deadline < earliest) earliest = deadline;
  }
  return earliest;
}

void Board::advance(unsigned i) {
  const u64 now = environment_.now();
  if (i == 0) chipset_.advance(now);
  port(i).local_apic().advance(now);
}

void Board::advance() {
  for (unsigned i = 0; i < options_.processors; ++i) advance(i);
}

void Board::timers_touched(unsigned processor, u64 candidate) {
  if (candidate >= announced_deadline_[processor]) return;
  announced_deadline_[processor] = candidate;
  environment_.deadline_moved(processor);
}

u32 Board::port_read(u16 port, unsigned size) {
  const u32 value = ports_.read(port, size);
  if (chipset_.take_timers_touched()) timers_touched(0, chipset_.next_deadline());
  return value;
}

void Board::port_write(u16 port, unsigned size, u32 value) {
  ports_.write(port, size, value);
  if (chipset_.take_timers_touched()) timers_touched(0, chipset_.next_deadline());
}

}  // namespace nacre::board
