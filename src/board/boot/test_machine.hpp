// For tests of loaders: a guest's RAM laid out as the board does it, and little builders of images.
#pragma once

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "board/boot/boot.hpp"
#include "board/memory_map.hpp"

namespace nacre::board::boot {

class TestMachine {
 public:
  explicit TestMachine(u64 bytes)
      : bytes_(bytes),
        ram_(static_cast<u8*>(std::calloc(bytes, 1)), &std::free),
        machine_{space_, bytes, 0xe0000} {
    const u64 low = low_ram_end(bytes);
    must(space_.add_ram(GuestPhysical(0), kVgaHole, ram_.get(), nullptr));
    must(space_.add_ram(GuestPhysical(kShadowBase), low - kShadowBase, ram_.get() + kShadowBase, nullptr));
    if (bytes > low)
      must(space_.add_ram(GuestPhysical(kHighRamBase), bytes - low, ram_.get() + low, nullptr));
  }

  [[nodiscard]] const Machine& machine() const { return machine_; }
  [[nodiscard]] u64 bytes() const { return bytes_; }

  template <typename T>
  T at(u64 address) const {
    T value{};
    NACRE_CHECK(space_.read(GuestPhysical(address), &value, sizeof value));
    return value;
  }
  [[nodiscard]] std::string text(u64 address) const {
    std::string text;
    while (const char c = at<char>(address + text.size())) text += c;
    return text;
  }
  void fill(u64 address, usize size, u8 value) {
    const std::vector<u8> bytes(size, value);
    NACRE_CHECK(space_.write(GuestPhysical(address), bytes.data(), size));
  }

 private:
  static void must(const Status& status) { NACRE_CHECK(status.ok()); }

  u64 bytes_;
  std::unique_ptr<u8, decltype(&std::free)> ram_;
  memory::AddressSpace space_;
  Machine machine_;
};

using Image = std::vector<u8>;

template <typename T>
void put(Image& image, usize offset, T value) {
  if (image.size() < offset + sizeof value) image.resize(offset + sizeof value);
  std::memcpy(image.data() + offset, &value, sizeof value);
}

// A bzImage of protocol 2.15 with one setup sector: `code_bytes` of protected-mode code counting up.
inline Image make_bzimage(usize code_bytes = 0x2000, u64 preferred = 16 * kMiB, u32 init_size = 0x400000) {
  Image image(1024 + code_bytes);
  put<u8>(image, 0x1f1, 1);
  put<u32>(image, 0x1f4, static_cast<u32>(code_bytes / 16));
  put<u16>(image, 0x1fe, 0xaa55);
  put<u16>(image, 0x200, 0x6aeb);
  put<u32>(image, 0x202, 0x53726448);
  put<u16>(image, 0x206, 0x020f);
  put<u8>(image, 0x211, 1);
  put<u32>(image, 0x22c, 0x7fffffff);
  put<u32>(image, 0x230, 2 * kMiB);
  put<u8>(image, 0x234, 1);
  put<u16>(image, 0x236, 1);
  put<u32>(image, 0x238, 2047);
  put<u64>(image, 0x258, preferred);
  put<u32>(image, 0x260, init_size);
  for (usize i = 0; i < code_bytes; ++i) image[1024 + i] = static_cast<u8>(i * 7 + i / 256);
  return image;
}

// An ELF file with one PT_LOAD of `content` (memory_size in memory) at offset 0x1000.
struct ElfSpec {
  bool is_64 = true;
  u64 entry = kMiB, physical = kMiB, virtual_address = kMiB, memory_size = 0x3000;
  usize content = 0x1000;
  u64 pvh_entry = 0;  // adds a note when not 0
};
inline Image make_elf(const ElfSpec& spec) {
  Image image(0x1000 + spec.content);
  const u8 ident[7] = {0x7f, 'E', 'L', 'F', static_cast<u8>(spec.is_64 ? 2 : 1), 1, 1};
  std::memcpy(image.data(), ident, sizeof ident);
  put<u16>(image, 16, 2);
  put<u16>(image, 18, spec.is_64 ? 62 : 3);
  const u16 count = spec.pvh_entry != 0 ? 2 : 1;
  constexpr u64 note_at = 0x800;
  if (spec.is_64) {
    put<u64>(image, 24, spec.entry);
    put<u64>(image, 32, 64);
    put<u16>(image, 54, 56);
    put<u16>(image, 56, count);
    put<u32>(image, 64, 1);
    put<u64>(image, 72, 0x1000);
    put<u64>(image, 80, spec.virtual_address);
    put<u64>(image, 88, spec.physical);
    put<u64>(image, 96, spec.content);
    put<u64>(image, 104, spec.memory_size);
    put<u32>(image, 120, spec.pvh_entry != 0 ? 4 : 0);
    put<u64>(image, 128, note_at);
    put<u64>(image, 152, 0x40);
  } else {
    put<u32>(image, 24, static_cast<u32>(spec.entry));
    put<u32>(image, 28, 52);
    put<u16>(image, 42, 32);
    put<u16>(image, 44, count);
    put<u32>(image, 52, 1);
    put<u32>(image, 56, 0x1000);
    put<u32>(image, 60, static_cast<u32>(spec.virtual_address));
    put<u32>(image, 64, static_cast<u32>(spec.physical));
    put<u32>(image, 68, static_cast<u32>(spec.content));
    put<u32>(image, 72, static_cast<u32>(spec.memory_size));
    put<u32>(image, 84, spec.pvh_entry != 0 ? 4 : 0);
    put<u32>(image, 88, note_at);
    put<u32>(image, 100, 0x40);
  }
  if (spec.pvh_entry != 0) {
    put<u32>(image, note_at, 4);  // a note of another vendor first
    put<u32>(image, note_at + 4, 5);
    put<u32>(image, note_at + 8, 18);
    std::memcpy(image.data() + note_at + 12, "GNU", 4);
    put<u32>(image, note_at + 24, 4);
    put<u32>(image, note_at + 28, 8);
    put<u32>(image, note_at + 32, 18);
    std::memcpy(image.data() + note_at + 36, "Xen", 4);
    put<u64>(image, note_at + 40, spec.pvh_entry);
  }
  for (usize i = 0; i < spec.content; ++i) image[0x1000 + i] = static_cast<u8>(i * 3 + 1);
  return image;
}

inline void put_multiboot_header(Image& image, usize at, u32 flags) {
  put<u32>(image, at, 0x1badb002);
  put<u32>(image, at + 4, flags);
  put<u32>(image, at + 8, 0u - 0x1badb002 - flags);
}

}  // namespace nacre::board::boot
