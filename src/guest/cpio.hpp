// An archive in the "newc" cpio format, as the kernel unpacks it into its first root file system
// (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
//
// Built in memory, so that making device nodes needs no root and the archive may go to a file or straight
// into guest RAM. The same calls give the same bytes: times are 0, owners are root. Not thread safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace nacre::guest {

struct DeviceNumber {
  std::uint32_t major;
  std::uint32_t minor;
};

// Paths are those of the guest, from its root, with or without the leading slash. Missing parent directories
// are added (mode 0755): the kernel drops, without a word, an entry whose directory does not exist.
class CpioWriter {
 public:
  // The size of a file, and of a name, is eight hexadecimal digits; Linux takes names up to PATH_MAX.
  static constexpr std::size_t max_content = 0xffff'ffff;
  static constexpr std::size_t max_name = 4095;

  // Each adds an entry, or says false and adds nothing: the name is empty or too long, the content too large,
  // or the path is there already (a directory may be named again, which changes nothing).
  [[nodiscard]] bool directory(std::string_view path, std::uint32_t permissions = 0755);
  [[nodiscard]] bool file(std::string_view path, std::uint32_t permissions,
                          std::span<const std::byte> content);
  [[nodiscard]] bool symlink(std::string_view path, std::string_view target);
  [[nodiscard]] bool character_device(std::string_view path, std::uint32_t permissions, DeviceNumber number);

  [[nodiscard]] bool contains(std::string_view path) const;

  // Ends the archive and gives it away; the writer is empty afterwards.
  [[nodiscard]] std::vector<std::byte> finish();

 private:
  [[nodiscard]] bool add(std::string_view path, std::uint32_t mode, DeviceNumber number,
                         std::span<const std::byte> content);
  [[nodiscard]] bool add_parents(std::string_view name);
  void put_entry(std::string_view name, std::uint32_t mode, DeviceNumber number,
                 std::span<const std::byte> content);
  void put(std::span<const std::byte> bytes);
  void pad();

  std::vector<std::byte> archive_;
  std::set<std::string, std::less<>> directories_;
  std::set<std::string, std::less<>> others_;
  std::uint32_t inode_ = 0;
};

}  // namespace nacre::guest
