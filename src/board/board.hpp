// Board: everything of the PC that is not a processor. It owns the guest-physical address space, the port
// space, the interrupt and time hardware and the devices, and answers for them to the processors.
//
// Life: construct, assemble() once (builds the maps and writes the firmware tables into RAM), let a loader
// in board/boot place a kernel, run processors against processor(i). reset() brings devices, not RAM, back
// to power-on.
//
// Threads: none are known here. The board is one object without a lock; its owner makes every call (those
// through processor(i) included) under one lock of its own, but for `memory()`, which after assemble() is
// constant and may be used by anyone. Platform::tsc and Platform::random may be called without the lock if
// the Environment's are safe to. Time stands still inside a call: the board reads Environment::now() itself.
// Freestanding.
#pragma once

#include <span>

#include "base/result.hpp"
#include "board/environment.hpp"
#include "board/layout.hpp"
#include "cpu/platform.hpp"
#include "cpu/state.hpp"
#include "memory/address_space.hpp"
#include "memory/port_space.hpp"

namespace nacre::board {

inline constexpr unsigned kMaxProcessors = 32;

struct Options {
  u64 memory_bytes = 0;        // whole pages, kMinMemory to kMaxMemory
  u8* ram = nullptr;           // the host's mapping of that many bytes, zeroed
  u8* page_flags = nullptr;    // a byte for each page of it, zeroed
  unsigned processors = 1;     // 1 to kMaxProcessors
  u64 tsc_hz = 0;              // of Environment::tsc(); not zero
  unsigned serial_ports = 1;   // 1: COM1; 2: COM2 as well, the channel of `nacre run`
  bool debug_exit = false;     // port 0xf4: a write stops the machine
  bool debug_console = false;  // port 0xe9: a write is a byte to the host
};

class Board {
 public:
  Board(const Options& options, Environment& environment);
  Board(const Board&) = delete;
  Board& operator=(const Board&) = delete;

  // An Error when the options are not possible (memory of 0, not whole pages …).
  Status assemble();
  void reset();

  [[nodiscard]] memory::AddressSpace& memory();
  [[nodiscard]] const Options& options() const;
  // Guest-physical address of the ACPI root pointer, for loaders.
  [[nodiscard]] u64 rsdp() const;

  // What processor `i` sees. Before its first instruction, attach() it to its state: the board reads the
  // time stamp offset there and nothing else, on the processor's thread.
  [[nodiscard]] cpu::Platform& processor(unsigned i);
  void attach(unsigned i, const cpu::State& state);

  // When advance() must be called at the latest, in Environment::now() time; kNever when nothing is armed.
  // Any call into the board may change it (then Environment::deadline_moved() is called if it got earlier).
  [[nodiscard]] u64 next_deadline() const;
  // Lets timers fire up to Environment::now().
  void advance();

  // Input of port 0 (COM1) or 1 (COM2). Takes as many bytes as it has room for now and returns their number.
  usize serial_input(unsigned port, std::span<const u8> bytes);
  // The ACPI power button: the guest is asked to shut down.
  void press_power_button();
};

}  // namespace nacre::board
