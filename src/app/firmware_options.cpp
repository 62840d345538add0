#include "app/firmware_options.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "board/layout.hpp"

namespace nacre::app {
namespace {

// Decimal, or hexadecimal after 0x; all of the text, and at most `most`.
std::optional<u64> number_of(const std::string& text, u64 most) {
  if (text.empty() || text[0] < '0' || text[0] > '9') return {};
  const bool hexadecimal = text.starts_with("0x") || text.starts_with("0X");
  const char* start = text.c_str() + (hexadecimal ? 2 : 0);
  if (hexadecimal && isxdigit(static_cast<unsigned char>(*start)) == 0) return {};
  char* end = nullptr;
  errno = 0;
  const u64 value = strtoull(start, &end, hexadecimal ? 16 : 10);
  if (errno != 0 || *end != 0 || value > most) return {};
  return value;
}

Error not_understood(const char* option, const std::string& text, const char* what_it_takes) {
  return Error(option)
      .append(" does not take \"")
      .append(text.c_str())
      .append("\"; it takes ")
      .append(what_it_takes)
      .append(".");
}

}  // namespace

Result<Place> place_of(const char* option, const std::string& text) {
  Place place;
  if (text == "stdio") {
    place.in = STDIN_FILENO;
    place.out = STDOUT_FILENO;
  } else if (text.starts_with("file:") && text.size() > 5) {
    place.file = TRY(host::open_for_writing(text.c_str() + 5));
    place.out = place.file.number();
  } else if (text != "none") {
    return not_understood(option, text, "stdio, file:PATH or none");
  }
  return place;
}

Result<DebugPort> debug_port_of(const std::string& text) {
  const usize equals = text.find('=');
  const auto port = number_of(text.substr(0, equals), 0xffff);
  if (!port || equals == std::string::npos || equals + 1 == text.size())
    return not_understood("--debug-port", text, "PORT=FILE, as 0xe9=out.txt, 0x402=stdio or 0x402=stderr");
  return DebugPort{static_cast<u16>(*port), text.substr(equals + 1)};
}

Result<Place> open_debug_port(const DebugPort& port) {
  if (port.file == "stdio") return Place{-1, STDOUT_FILENO, {}};
  if (port.file == "stderr") return Place{-1, STDERR_FILENO, {}};
  return place_of("--debug-port", port.file.starts_with("file:") ? port.file : "file:" + port.file);
}

Result<PostPort> post_port_of(const std::string& text) {
  const usize comma = text.find(',');
  const auto port = number_of(text.substr(0, comma), 0xffff);
  std::optional<u64> end;
  const std::string rest = comma == std::string::npos ? "" : text.substr(comma);
  if (rest.starts_with(",end=")) end = number_of(rest.substr(5), 0xff);
  if (!port || (!rest.empty() && !end))
    return not_understood("--post-port", text, "PORT[,end=CODE], as 0x80 or 0x190,end=0xff");
  PostPort result{static_cast<u16>(*port), {}};
  if (end) result.end = static_cast<u8>(*end);
  return result;
}

Result<host::FileBytes> read_firmware(const std::string& path) {
  auto file = TRY(
      host::FileBytes::read(path.c_str(), "firmware", board::kMaxFirmware, "the largest ROM there can be"));
  const usize bytes = file.bytes().size();
  if (bytes != 0 && bytes % kPageSize == 0) return file;
  return Error("The firmware ")
      .append(path.c_str())
      .append(" has ")
      .append_number(bytes)
      .append(
          " bytes; a ROM image is a multiple of 4096 bytes, up to 16 MiB, and its last 16 bytes are where "
          "the processor starts.");
}

}  // namespace nacre::app
