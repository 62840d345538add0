// The newc format: per entry a header of ASCII hexadecimal numbers, the name with its zero byte, the content;
// name and content are each padded to four bytes. The entry "TRAILER!!!" ends the archive.
#include "guest/cpio.hpp"

#include <array>
#include <utility>

namespace nacre::guest {
namespace {

// The file type bits of st_mode, inode(7).
constexpr std::uint32_t type_character_device = 0020000;
constexpr std::uint32_t type_directory = 0040000;
constexpr std::uint32_t type_file = 0100000;
constexpr std::uint32_t type_symlink = 0120000;
constexpr std::uint32_t permission_bits = 07777;

constexpr std::size_t alignment = 4;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// "/a/b/" and "a/b" are both "a/b" in the archive.
std::string_view without_slashes(std::string_view path) {
  while (path.starts_with('/')) path.remove_prefix(1);
  while (path.ends_with('/')) path.remove_suffix(1);
  return path;
}

// Eight digits.
std::string hexadecimal(std::uint32_t value) {
  std::string digits(8, '0');
  for (auto digit = digits.rbegin(); digit != digits.rend(); ++digit, value >>= 4)
    *digit = "0123456789abcdef"[value & 15];
  return digits;
}

}  // namespace

bool CpioWriter::directory(std::string_view path, std::uint32_t permissions) {
  if (directories_.contains(without_slashes(path))) return true;
  return add(path, type_directory | (permissions & permission_bits), {}, {});
}

bool CpioWriter::file(std::string_view path, std::uint32_t permissions, std::span<const std::byte> content) {
  return add(path, type_file | (permissions & permission_bits), {}, content);
}

bool CpioWriter::symlink(std::string_view path, std::string_view target) {
  return !target.empty() && target.size() <= max_name && add(path, type_symlink | 0777, {}, bytes_of(target));
}

bool CpioWriter::character_device(std::string_view path, std::uint32_t permissions, DeviceNumber number) {
  return add(path, type_character_device | (permissions & permission_bits), number, {});
}

bool CpioWriter::contains(std::string_view path) const {
  const auto name = without_slashes(path);
  return directories_.contains(name) || others_.contains(name);
}

std::vector<std::byte> CpioWriter::finish() {
  put_entry("TRAILER!!!", 0, {}, {});
  directories_.clear();
  others_.clear();
  inode_ = 0;
  return std::exchange(archive_, {});
}

bool CpioWriter::add(std::string_view path, std::uint32_t mode, DeviceNumber number,
                     std::span<const std::byte> content) {
  const auto name = without_slashes(path);
  if (name.empty() || name.size() > max_name || content.size() > max_content || contains(name)) return false;
  if (!add_parents(name)) return false;
  put_entry(name, mode, number, content);
  ((mode & ~permission_bits) == type_directory ? directories_ : others_).emplace(name);
  return true;
}

bool CpioWriter::add_parents(std::string_view name) {
  const auto slash = name.rfind('/');
  return slash == name.npos || directory(name.substr(0, slash));
}

void CpioWriter::put_entry(std::string_view name, std::uint32_t mode, DeviceNumber number,
                           std::span<const std::byte> content) {
  const std::uint32_t links = 1;
  const std::array<std::uint32_t, 13> fields = {++inode_,
                                                mode,
                                                /*uid*/ 0,
                                                /*gid*/ 0,
                                                links,
                                                /*mtime*/ 0,
                                                static_cast<std::uint32_t>(content.size()),
                                                /*device of the archive itself*/ 0,
                                                0,
                                                number.major,
                                                number.minor,
                                                static_cast<std::uint32_t>(name.size() + 1),
                                                /*checksum, unused in newc*/ 0};
  put(bytes_of("070701"));
  for (const auto field : fields) put(bytes_of(hexadecimal(field)));
  put(bytes_of(name));
  archive_.push_back(std::byte{0});
  pad();
  put(content);
  pad();
}

void CpioWriter::put(std::span<const std::byte> bytes) {
  archive_.insert(archive_.end(), bytes.begin(), bytes.end());
}

void CpioWriter::pad() {
  archive_.resize((archive_.size() + alignment - 1) / alignment * alignment);
}

}  // namespace nacre::guest
