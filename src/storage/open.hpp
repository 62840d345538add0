// Opening images by name: which format, which backing images, which locks. Blocks; for starting machines and
// tools.
#pragma once

#include <vector>

#include "storage/image.hpp"
#include "storage/qcow2/snapshots.hpp"

namespace nacre::storage {

// What Format::Detect goes by. A guest decides what its disk starts with, so its content must never make an
// image of it that names other files, or that may grow: docs/adr/0012-which-format-a-disk-has.md.
enum class Unsaid : u8 {
  ByContent,  // tools; but a backing file is followed only when the format was said or the name ends in
              // .qcow2
  ByName,  // guests' disks: .qcow2 is qcow2, everything else is raw, and one that looks otherwise is an Error
};

struct OpenOptions {
  Access access = Access::ReadOnly;
  Locking locking = Locking::Locked;
  Format format = Format::Detect;
  Unsaid unsaid = Unsaid::ByContent;
  std::string snapshot = {};   // id or name of an internal snapshot; read only
  u64 cache_bytes = 8 * kMiB;  // of metadata, for each image of the chain
  // How an image is handed to a process that may not open files: who may opens it with `kept`, which gets duplicates of
  // the files of the chain, the image's first, with their locks. The other is `given` these and opens none by name.
  std::vector<host::UniqueFd>* kept = nullptr;
  std::vector<host::UniqueFd>* given = nullptr;
};

// With its backing images, which are opened for reading. An image that was left dirty is repaired first if it
// is opened for writing. `loop` must outlive the image.
Result<std::unique_ptr<Image>> open_image(Loop& loop, const std::string& path,
                                          const OpenOptions& options = {});

// What the file starts like: qcow2, or else raw.
Result<Format> detect_format(BlockFile& file, const std::string& path);

// Whether the file is called what qcow2 images are called.
bool is_named_qcow2(const std::string& path);

// The name of a backing file as seen from where its overlay is; an Error for what is no file ("nbd://…").
Result<std::string> backing_path(const std::string& overlay, const std::string& name);

}  // namespace nacre::storage
