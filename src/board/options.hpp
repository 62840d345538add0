// What a board is to be like. Freestanding.
#pragma once

#include "base/types.hpp"

namespace nacre::board {

inline constexpr unsigned kMaxProcessors = 32;
inline constexpr unsigned kMaxSerialPorts = 2;

struct Options {
  u64 memory_bytes = 0;        // whole pages, kMinMemory to kMaxMemory
  u8* ram = nullptr;           // the host's mapping of that many bytes, zeroed
  u8* page_flags = nullptr;    // a byte for each page of it, zeroed
  unsigned processors = 1;     // 1 to kMaxProcessors
  u64 tsc_hz = 0;              // of Environment::tsc(); from 1 kHz on
  unsigned serial_ports = 1;   // 1: COM1; 2: COM2 as well, the channel of `nacre run`
  bool debug_exit = false;     // port 0xf4: a write stops the machine
  bool debug_console = false;  // port 0xe9: a write is a byte to the host
};

}  // namespace nacre::board
