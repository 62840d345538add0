#include "unpack/decompress.hpp"

#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <cstring>

namespace nacre::unpack {
namespace {

using board::boot::Bytes;
using board::boot::Compression;
using Output = std::span<u8>;

// Each is true when the stream is whole and fills `to` exactly.
bool unpack_xz(Bytes stream, Output to) {
  constexpr u64 kMemoryLimit = 256 * kMiB;  // the kernel's build uses dictionaries of up to 128 MiB
  u64 limit = kMemoryLimit;
  usize in = 0, out = 0;
  const lzma_ret done = lzma_stream_buffer_decode(&limit, 0, nullptr, stream.data(), &in, stream.size(),
                                                  to.data(), &out, to.size());
  return done == LZMA_OK && out == to.size();
}

bool unpack_gzip(Bytes stream, Output to) {
  constexpr int kGzipWindow = 15 + 16;  // largest window, gzip framing
  z_stream z = {};
  if (inflateInit2(&z, kGzipWindow) != Z_OK) return false;
  z.next_in = const_cast<Bytef*>(stream.data());
  z.avail_in = static_cast<uInt>(stream.size());
  z.next_out = to.data();
  z.avail_out = static_cast<uInt>(to.size());
  const int done = inflate(&z, Z_FINISH);
  const bool whole = done == Z_STREAM_END && z.total_out == to.size();
  inflateEnd(&z);
  return whole;
}

bool unpack_zstd(Bytes stream, Output to) {
  return ZSTD_decompress(to.data(), to.size(), stream.data(), stream.size()) == to.size();
}

bool unpack_none(Bytes stream, Output to) {
  if (stream.size() != to.size()) return false;
  std::memcpy(to.data(), stream.data(), to.size());
  return true;
}

bool unpack(Compression kind, Bytes stream, Output to) {
  switch (kind) {
    case Compression::Lz4:
      return board::boot::unpack_lz4(stream, to);
    case Compression::Xz:
      return unpack_xz(stream, to);
    case Compression::Zstd:
      return unpack_zstd(stream, to);
    case Compression::Gzip:
      return unpack_gzip(stream, to);
    case Compression::None:
      return unpack_none(stream, to);
    case Compression::Bzip2:
    case Compression::Lzma:
    case Compression::Lzo:
    case Compression::Unknown:
      break;
  }
  return false;
}

}  // namespace

Result<host::Mapping> decompress(const board::boot::Payload& payload, usize room) {
  auto to = TRY(host::Mapping::anonymous(payload.unpacked_bytes + room));
  if (!unpack(payload.compression, payload.bytes, {to.data(), payload.unpacked_bytes})) {
    return Error("The kernel's payload cannot be unpacked here; the guest is left to do it.");
  }
  return to;
}

// RFC 1952, 2.2 and 2.3: the magic number, method 8; the last four bytes are the unpacked size.
bool is_gzip(Bytes file) {
  constexpr usize kLeast = 18;
  return file.size() >= kLeast && file[0] == 0x1f && file[1] == 0x8b && file[2] == 8;
}

Result<host::Mapping> gunzip(Bytes file, u64 most) {
  board::boot::Payload payload = {file, Compression::Gzip, 0};
  u32 size = 0;
  std::memcpy(&size, file.data() + file.size() - sizeof size, sizeof size);
  payload.unpacked_bytes = size;
  if (size > most) return Error("The compressed kernel is larger than the guest's memory; give it more with --memory");
  auto plain = decompress(payload);
  if (!plain) return Error("The kernel file is packed by gzip and damaged or cut short; fetch it again");
  return plain;
}

}  // namespace nacre::unpack
