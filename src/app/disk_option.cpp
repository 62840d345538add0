#include "app/disk_option.hpp"

#include <string_view>

#include "host/guest_ram.hpp"

namespace nacre::app {
namespace {

using storage::Format;

Error wrong(std::string_view word, const char* why) {
  return Error("--disk does not take \"").append(std::string(word).c_str()).append("\": ").append(why);
}

Result<u64> rate(std::string_view word, const std::string& value, const char* why) {
  const auto number = host::parse_size(value.c_str());
  if (!number || number.value() == 0) return wrong(word, why);
  return number.value();
}

// True: the word is an option, and has been applied. False: it is a part of the name.
Result<bool> apply(std::string_view word, vm::DiskConfig& disk) {
  const usize equals = word.find('=');
  const std::string_view name = word.substr(0, equals);
  const std::string value(equals == word.npos ? "" : word.substr(equals + 1));
  if (word == "readonly") {
    disk.read_only = true;
  } else if (name == "format" && equals != word.npos) {
    disk.format = storage::format_named(value);
    if (disk.format == Format::Detect) return wrong(word, "there are the formats raw and qcow2.");
  } else if (name == "iops" && equals != word.npos) {
    disk.limits.operations = TRY(rate(word, value, "it wants a number of operations a second, as iops=500."));
  } else if (name == "bandwidth" && equals != word.npos) {
    disk.limits.bytes = TRY(rate(word, value, "it wants bytes a second, as bandwidth=20M."));
  } else {
    return false;
  }
  return true;
}

}  // namespace

Result<vm::DiskConfig> parse_disk(const std::string& text) {
  vm::DiskConfig disk;
  std::string_view rest = text;
  for (usize comma = rest.rfind(','); comma != rest.npos; comma = rest.rfind(',')) {
    if (!TRY(apply(rest.substr(comma + 1), disk))) break;
    rest = rest.substr(0, comma);
  }
  disk.path = rest;
  if (rest.empty()) return Error{"--disk wants a file, as in --disk disk.qcow2 or --disk disk.img,readonly."};
  return disk;
}

}  // namespace nacre::app
