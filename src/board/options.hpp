// What a board is to be like. Freestanding.
#pragma once

#include <optional>

#include "base/types.hpp"

namespace nacre::board {

inline constexpr unsigned kMaxProcessors = 32;
inline constexpr unsigned kMaxSerialPorts = 2;
inline constexpr unsigned kMaxDebugPorts = 4;

struct Options {
  u64 memory_bytes = 0;        // whole pages, kMinMemory to kMaxMemory
  u8* ram = nullptr;           // the host's mapping of that many bytes, zeroed
  u8* page_flags = nullptr;    // a byte for each page of it, zeroed
  unsigned processors = 1;     // 1 to kMaxProcessors
  u64 tsc_hz = 0;              // of Environment::tsc(); from 1 kHz on
  unsigned serial_ports = 1;   // 1: COM1; 2: COM2 as well, the channel of `nacre run`
  bool debug_exit = false;     // port 0xf4: a write stops the machine
  bool test_device = false;    // device/debug/test_device.hpp
  // A write to one of them is a byte to the host; on emulators, 0xe9 or 0x402.
  u16 debug_ports[kMaxDebugPorts] = {};
  unsigned debug_port_count = 0;
  std::optional<u16> post_port = {};  // power-on self-test codes that are written there are told
  // A ROM image, whole pages, at most layout.hpp's kMaxFirmware; null: none, and the tables that firmware would have made
  // are in memory. It is mapped as it is: it must live as long as the board.
  u8* firmware = nullptr;
  u64 firmware_bytes = 0;
  u8* firmware_flags = nullptr;  // as page_flags, in the same array; null: its code is not translated
};

}  // namespace nacre::board
