// New qcow2 images, and changing the size of one. Blocks; for tools.
#pragma once

#include "storage/qcow2/header.hpp"

namespace nacre::storage::qcow2 {

struct NewImage {
  u64 size = 0;
  u32 version = 3;
  u32 cluster_bits = 16;
  u32 refcount_order = 4;
  bool lazy_refcounts = false;
  Compression compression = Compression::Zlib;
  std::string backing_name;
  std::string backing_format;
};

// Writes an empty image to an empty file.
Status format_file(BlockFile& file, const NewImage& wanted, const std::string& path);

// A larger disk; what is new reads as zeros. The image must be closed and clean, and smaller than `size`.
Status grow(BlockFile& file, u64 size, const std::string& path);

}  // namespace nacre::storage::qcow2
