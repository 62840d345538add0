// The options of machines that start firmware, and of the ports that test ROMs talk by: what their texts mean.
#pragma once

#include <optional>
#include <string>

#include "base/result.hpp"
#include "host/fd.hpp"
#include "host/file_bytes.hpp"

namespace nacre::app {

// --serial, --console, --debug-port: where bytes come from and go to; -1: nowhere.
struct Place {
  int in = -1, out = -1;
  host::UniqueFd file;
};

// stdio, file:PATH or none. Opening empties a file: last, when all that could be refused has been looked at.
Result<Place> place_of(const char* option, const std::string& text);

// "0xe9=FILE": FILE is a path, or stdio or stderr.
struct DebugPort {
  u16 port = 0;
  std::string file;
};
Result<DebugPort> debug_port_of(const std::string& text);
Result<Place> open_debug_port(const DebugPort& port);  // as place_of()

// "0x190" or "0x190,end=0xff".
struct PostPort {
  u16 port = 0;
  std::optional<u8> end;
};
Result<PostPort> post_port_of(const std::string& text);

// A ROM image: whole pages, not too many.
Result<host::FileBytes> read_firmware(const std::string& path);

}  // namespace nacre::app
