// A writer of ACPI Machine Language: the few operators our DSDT uses, each a function named as in the
// ASL that it stands for. ACPI 6.4, chapter 20. Writes into memory given to it; too small a buffer makes
// overflowed() true and loses the rest. Freestanding.
//
//   aml.device("COM1", [&] { aml.name("_HID", aml::eisa_id("PNP0501")); … });
#pragma once

#include <span>
#include <string_view>

#include "base/types.hpp"

namespace nacre::board::acpi {

// A compressed EISA identifier such as PNP0A08. ACPI 6.4, 19.3.4.
struct EisaId {
  u32 value = 0;
};
constexpr EisaId eisa_id(std::string_view id) {
  const auto hex = [](char c) { return static_cast<u32>(c <= '9' ? c - '0' : c - 'A' + 10); };
  const auto letter = [](char c) { return static_cast<u32>(c - '@') & 31; };
  const u32 big_endian = letter(id[0]) << 26 | letter(id[1]) << 21 | letter(id[2]) << 16 | hex(id[3]) << 12 |
                         hex(id[4]) << 8 | hex(id[5]) << 4 | hex(id[6]);
  return {__builtin_bswap32(big_endian)};
}
static_assert(eisa_id("PNP0A03").value == 0x030ad041);

// How a range of an address space resource is used. ACPI 6.4, 6.4.3.5.
enum class Range : u8 { Memory = 0, Io = 1, Bus = 2 };

class AmlWriter {
 public:
  explicit AmlWriter(std::span<u8> to) : to_(to) {}

  [[nodiscard]] usize size() const { return size_; }
  [[nodiscard]] bool overflowed() const { return overflowed_; }

  // Blocks. A path is segments of four characters, with a leading backslash or none.
  template <typename Body>
  void scope(std::string_view path, Body body) {
    const usize block = begin({0x10});
    path_name(path);
    body();
    end(block);
  }
  template <typename Body>
  void device(std::string_view segment, Body body) {
    const usize block = begin({0x5b, 0x82});
    path_name(segment);
    body();
    end(block);
  }
  template <typename Body>
  void method(std::string_view segment, u8 arguments, Body body) {
    const usize block = begin({0x14});
    path_name(segment);
    byte(arguments & 7);
    body();
    end(block);
  }
  // Package: the body writes `count` elements.
  template <typename Body>
  void name_package(std::string_view path, u8 count, Body body) {
    byte(0x08);
    path_name(path);
    const usize block = begin({0x12});
    byte(count);
    body();
    end(block);
  }
  // ResourceTemplate: the body writes descriptors.
  template <typename Body>
  void name_resources(std::string_view path, Body body) {
    byte(0x08);
    path_name(path);
    const usize block = begin({0x11});
    const usize length = begin_word();
    body();
    descriptor({0x79, 0x00});  // end tag; a checksum of 0 is valid for all
    end_word(length);
    end(block);
  }

  void name(std::string_view path, u64 value);
  void name(std::string_view path, EisaId id);
  void name(std::string_view path, std::string_view text);
  void integer(u64 value);

  // Method bodies.
  template <typename Body>
  void if_arg_equals_uuid(u8 argument, const u8 (&uuid)[16], Body body) {
    const usize block = begin({0xa0});
    byte(0x93);  // LEqual
    arg(argument);
    buffer(uuid);
    body();
    end(block);
  }
  void return_arg(u8 argument);
  void create_dword_field(u8 argument, u8 index, std::string_view segment);
  // segment |= value
  void or_into(std::string_view segment, u64 value);

  // Resource descriptors. ACPI 6.4, 6.4.2 and 6.4.3.
  void io(u16 base, u8 count);
  void irq(unsigned line);  // edge, active high, exclusive
  void fixed_memory(u32 base, u32 bytes);
  void word_range(Range kind, u16 base, u16 last);
  void dword_memory(u32 base, u32 last);

 private:
  template <usize n>
  usize begin(const u8 (&opcode)[n]) {
    for (const u8 b : opcode) byte(b);
    const usize at = size_;
    for (int i = 0; i < 3; ++i) byte(0);  // PkgLength, always in its three-byte form
    return at;
  }
  template <usize n>
  void descriptor(const u8 (&bytes)[n]) {
    for (const u8 b : bytes) byte(b);
  }
  void end(usize block);
  usize begin_word();  // a BufferSize as a WordConst
  void end_word(usize at);
  void patch(usize at, u8 value);
  void byte(u8 value);
  void little_endian(u64 value, unsigned bytes);
  void path_name(std::string_view path);
  void arg(u8 argument) { byte(static_cast<u8>(0x68 + argument)); }
  void buffer(std::span<const u8> bytes);

  std::span<u8> to_;
  usize size_ = 0;
  bool overflowed_ = false;
};

}  // namespace nacre::board::acpi
