// Pieces of metadata on their way to the file. Driven from the image's I/O thread.
#pragma once

#include <vector>

#include "storage/buffers.hpp"
#include "storage/task.hpp"

namespace nacre::storage::qcow2 {

// What a commit writes somewhere in the file; bytes of its own, taken at one moment.
struct Piece {
  u64 offset;
  PageBuffer bytes;
};

// Writes them in any order, many at once, neighbours together; the first error. Both stay until it is done.
Task<int> write_all(Target* file, const std::vector<Piece>* pieces);

}  // namespace nacre::storage::qcow2
