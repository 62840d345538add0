// The header of a qcow2 file: read from hostile bytes, made for new images. Any thread.
#pragma once

#include <string>
#include <vector>

#include "base/result.hpp"
#include "storage/block_file.hpp"
#include "storage/qcow2/layout.hpp"

namespace nacre::storage::qcow2 {

struct Header {
  u32 version = 3;
  Geometry geometry;
  u64 size = 0;
  u64 l1_offset = 0;
  u32 l1_entries = 0;
  u64 refcount_table_offset = 0;
  u32 refcount_table_clusters = 0;
  u32 snapshots = 0;
  u64 snapshots_offset = 0;
  u64 incompatible = 0, compatible = 0, autoclear = 0;
  u32 length = kHeaderV3;
  Compression compression = Compression::Zlib;
  std::string backing_name;    // empty: none
  std::string backing_format;  // empty: not said
  struct Bitmaps {             // the directory; not kept up by us
    u32 count = 0;
    u64 directory_bytes = 0, directory_offset = 0;
  } bitmaps;

  [[nodiscard]] bool is_dirty() const { return (incompatible & Incompatible::dirty) != 0; }
  [[nodiscard]] bool is_corrupt() const { return (incompatible & Incompatible::corrupt) != 0; }
  [[nodiscard]] bool has_zero_clusters() const { return version >= 3; }
};

// Reads and checks a header: everything in it is possible and lies in the file. `path` is for the sentence.
Result<Header> read_header(BlockFile& file, const std::string& path);

// The first cluster of a new image.
std::vector<u8> make_header(const Header& header);

}  // namespace nacre::storage::qcow2
