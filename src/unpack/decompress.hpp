// Unpacks what a bzImage carries, with the libraries that the system has for that. The bytes are untrusted.
// Hosted; any thread.
#pragma once

#include "board/boot/linux_payload.hpp"
#include "host/mapping.hpp"

namespace nacre::unpack {

// An Error when the kind is not one of LZ4, xz, zstd, gzip and none, or the stream is damaged or does not
// unpack to the size the payload says. `room` more bytes are free behind.
Result<host::Mapping> decompress(const board::boot::Payload& payload, usize room = 0);

// A whole file of gzip's kind, as Debian packs its hypervisor: boot loaders unpack such before they look what it is.
bool is_gzip(board::boot::Bytes file);
// Where there is no memory for it or it unpacks to more than `most` bytes, an Error too.
Result<host::Mapping> gunzip(board::boot::Bytes file, u64 most);

}  // namespace nacre::unpack
