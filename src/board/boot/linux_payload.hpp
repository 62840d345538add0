// What is inside a bzImage: the compressed vmlinux, so that the host can unpack it once and for all instead
// of every guest at every boot. Linux, Documentation/arch/x86/boot.rst, payload_offset. Freestanding.
#pragma once

#include "board/boot/boot.hpp"

namespace nacre::board::boot {

enum class Compression : u8 { Unknown, None, Gzip, Bzip2, Lzma, Xz, Lzo, Lz4, Zstd };

struct Payload {
  Bytes bytes;  // the compressed stream, without the length that the kernel's build appends
  Compression compression = Compression::Unknown;
  u64 unpacked_bytes = 0;  // as that length says; up to 1 GiB. To be believed only after unpacking
};

// Error when the file is not a whole bzImage with a 64-bit entry, or says nothing about its payload.
Result<Payload> find_payload(Bytes bzimage);

// Unpacks Compression::Lz4 (the legacy frame format, which is what the kernel's build makes). True when
// the stream is well-formed and fills `to` exactly. Any input is safe.
[[nodiscard]] bool unpack_lz4(Bytes stream, std::span<u8> to);

// How much of a bzImage holds its whole setup header.
inline constexpr usize kSetupBytes = 0x400;

// Loads a bzImage (request.kernel, of which the first kSetupBytes are enough) by way of its already unpacked
// payload, and enters that at its own 64-bit entry point; the rest is as load() does it. If `random` is not
// 0, the command line does not say "nokaslr", and the payload carries relocations, the kernel is put at a
// random physical and virtual address, as its own decompressor would.
Status load_unpacked(const Machine& machine, const Request& request, Bytes vmlinux, u64 random,
                     cpu::State& state);

}  // namespace nacre::board::boot
