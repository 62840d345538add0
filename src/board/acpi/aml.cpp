#include "board/acpi/aml.hpp"

namespace nacre::board::acpi {
namespace {

// ACPI 6.4, 20.2.3 and 20.2.5.
constexpr u8 kNameOp = 0x08, kStringPrefix = 0x0d, kBytePrefix = 0x0a, kWordPrefix = 0x0b,
             kDWordPrefix = 0x0c, kQWordPrefix = 0x0e, kBufferOp = 0x11, kReturnOp = 0xa4, kOrOp = 0x7d,
             kCreateDWordFieldOp = 0x8a, kDualNamePrefix = 0x2e, kMultiNamePrefix = 0x2f;

// Address space resources. ACPI 6.4, 6.4.3.5: producer, positive decode, fixed minimum and maximum.
constexpr u8 kFixedRange = 0x0c, kEntireIoRange = 0x03, kNonCacheableWritable = 0x01;

}  // namespace

void AmlWriter::byte(u8 value) {
  if (size_ == to_.size()) {
    overflowed_ = true;
    return;
  }
  to_[size_++] = value;
}

void AmlWriter::patch(usize at, u8 value) {
  if (at < to_.size()) to_[at] = value;
}

void AmlWriter::little_endian(u64 value, unsigned bytes) {
  for (unsigned i = 0; i < bytes; ++i) byte(static_cast<u8>(value >> (8 * i)));
}

// PkgLength counts itself. Two bytes follow the lead byte, whose low bits are the length's lowest four.
void AmlWriter::end(usize block) {
  const usize length = size_ - block;
  if (length >= 1 << 20) overflowed_ = true;
  patch(block, static_cast<u8>(0x80 | (length & 0xf)));
  patch(block + 1, static_cast<u8>(length >> 4));
  patch(block + 2, static_cast<u8>(length >> 12));
}

usize AmlWriter::begin_word() {
  byte(kWordPrefix);
  little_endian(0, 2);
  return size_;
}

void AmlWriter::end_word(usize at) {
  const usize length = size_ - at;
  if (length > 0xffff) overflowed_ = true;
  patch(at - 2, static_cast<u8>(length));
  patch(at - 1, static_cast<u8>(length >> 8));
}

void AmlWriter::path_name(std::string_view path) {
  if (path.starts_with('\\')) {
    byte('\\');
    path.remove_prefix(1);
  }
  const usize segments = (path.size() + 1) / 5;  // four characters each, and dots between
  if (segments == 2) byte(kDualNamePrefix);
  if (segments > 2) {
    byte(kMultiNamePrefix);
    byte(static_cast<u8>(segments));
  }
  for (const char c : path) {
    if (c != '.') byte(static_cast<u8>(c));
  }
}

void AmlWriter::integer(u64 value) {
  if (value <= 1) return byte(static_cast<u8>(value));  // ZeroOp, OneOp
  if (value <= 0xff) {
    byte(kBytePrefix);
    return little_endian(value, 1);
  }
  if (value <= 0xffff) {
    byte(kWordPrefix);
    return little_endian(value, 2);
  }
  if (value <= 0xffffffff) {
    byte(kDWordPrefix);
    return little_endian(value, 4);
  }
  byte(kQWordPrefix);
  little_endian(value, 8);
}

void AmlWriter::name(std::string_view path, u64 value) {
  byte(kNameOp);
  path_name(path);
  integer(value);
}

void AmlWriter::name(std::string_view path, EisaId id) {
  byte(kNameOp);
  path_name(path);
  byte(kDWordPrefix);
  little_endian(id.value, 4);
}

void AmlWriter::name(std::string_view path, std::string_view text) {
  byte(kNameOp);
  path_name(path);
  byte(kStringPrefix);
  for (const char c : text) byte(static_cast<u8>(c));
  byte(0);
}

void AmlWriter::buffer(std::span<const u8> bytes) {
  const usize block = begin({kBufferOp});
  integer(bytes.size());
  for (const u8 b : bytes) byte(b);
  end(block);
}

void AmlWriter::return_arg(u8 argument) {
  byte(kReturnOp);
  arg(argument);
}

void AmlWriter::create_dword_field(u8 argument, u8 index, std::string_view segment) {
  byte(kCreateDWordFieldOp);
  arg(argument);
  integer(index);
  path_name(segment);
}

void AmlWriter::or_into(std::string_view segment, u64 value) {
  byte(kOrOp);
  path_name(segment);
  integer(value);
  path_name(segment);
}

void AmlWriter::io(u16 base, u8 count) {
  descriptor({0x47, 0x01});  // decodes 16 bits
  little_endian(base, 2);
  little_endian(base, 2);
  byte(0x01);  // alignment
  byte(count);
}

void AmlWriter::irq(unsigned line) {
  byte(0x22);
  little_endian(u64{1} << line, 2);
}

void AmlWriter::fixed_memory(u32 base, u32 bytes) {
  descriptor({0x86, 0x09, 0x00, 0x01});  // read-write
  little_endian(base, 4);
  little_endian(bytes, 4);
}

void AmlWriter::word_range(Range kind, u16 base, u16 last) {
  descriptor({0x88, 0x0d, 0x00, static_cast<u8>(kind), kFixedRange});
  byte(kind == Range::Io ? kEntireIoRange : 0);
  little_endian(0, 2);  // granularity
  little_endian(base, 2);
  little_endian(last, 2);
  little_endian(0, 2);  // translation
  little_endian(u64{last} - base + 1, 2);
}

void AmlWriter::dword_memory(u32 base, u32 last) {
  descriptor({0x87, 0x17, 0x00, static_cast<u8>(Range::Memory), kFixedRange, kNonCacheableWritable});
  little_endian(0, 4);
  little_endian(base, 4);
  little_endian(last, 4);
  little_endian(0, 4);
  little_endian(u64{last} - base + 1, 4);
}

}  // namespace nacre::board::acpi
