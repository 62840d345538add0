// Locks on image files, so that two machines cannot write one disk. Any thread.
//
// Open-file-description locks on the bytes that QEMU uses for this, with its meaning, so that its tools
// refuse an image that Nacre has open and the other way round: a shared lock on byte 100 + n says "I do n",
// on byte 200 + n "nobody else may do n", where n is 0 for reading, 1 for writing and 3 for changing the
// size. Both sides lock first and look second, so of two that start together both may be refused, but never
// none.
#pragma once

#include <string>

#include "base/result.hpp"
#include "storage/block_file.hpp"

namespace nacre::storage {

// Held until the descriptor is closed. A file system without locks is no Error.
Status lock_image(int file, const std::string& path, Access access);

}  // namespace nacre::storage
