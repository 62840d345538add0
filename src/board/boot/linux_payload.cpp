#include "board/boot/linux_payload.hpp"

#include "board/boot/loaders.hpp"

namespace nacre::board::boot {
namespace {

constexpr u64 kMaxUnpacked = kGiB;

// Magic numbers as the kernel's own lib/decompress.c tells them apart.
Compression compression_of(Bytes stream) {
  u32 magic = 0;
  if (!read_at(stream, 0, magic)) return Compression::Unknown;
  switch (magic) {
    case 0x464c457f:
      return Compression::None;  // ELF
    case 0x184c2102:
      return Compression::Lz4;
    case 0xfd2fb528:
      return Compression::Zstd;
    case 0x587a37fd:
      return Compression::Xz;
    case 0x4f5a4c89:
      return Compression::Lzo;
    default:
      break;
  }
  switch (magic & 0xffff) {
    case 0x8b1f:
      return Compression::Gzip;
    case 0x5a42:
      return Compression::Bzip2;
    case 0x005d:
      return Compression::Lzma;
    default:
      return Compression::Unknown;
  }
}

}  // namespace

Result<Payload> find_payload(Bytes bzimage) {
  if (!is_bzimage(bzimage)) return Error("this kernel is not a bzImage, so there is no payload to unpack");
  const LinuxImage image = TRY(parse_bzimage(bzimage));
  if (!has_64_bit_entry(image.header))
    return Error("this kernel has no 64-bit entry, which its payload would be entered at");
  const u64 offset = image.header.payload_offset;
  const u64 length = image.header.payload_length;
  if (length < 8 || offset > image.code.size() || length > image.code.size() - offset) {
    return Error(
        "the payload of this Linux kernel lies past the end of the file; the file is damaged: fetch it "
        "again");
  }
  Payload payload;
  const Bytes whole = image.code.subspan(offset, length);
  u32 unpacked = 0;
  static_cast<void>(read_at(whole, length - 4, unpacked));
  payload.compression = compression_of(whole);
  // gzip's own trailer ends with the length; to every other format the build appends it.
  payload.bytes = payload.compression == Compression::Gzip ? whole : whole.first(length - 4);
  payload.unpacked_bytes = unpacked;
  if (payload.compression == Compression::None) {
    payload.bytes = whole;
    payload.unpacked_bytes = length;
  }
  if (payload.unpacked_bytes == 0 || payload.unpacked_bytes > kMaxUnpacked) {
    return Error(
        "the payload of this Linux kernel claims an impossible size; the file is damaged: fetch it again");
  }
  return payload;
}

}  // namespace nacre::board::boot
