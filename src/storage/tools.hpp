// What `nacre disk` does with images: make, describe, copy, resize. Blocks.
#pragma once

#include <functional>

#include "storage/open.hpp"
#include "storage/qcow2/check.hpp"
#include "storage/qcow2/create.hpp"

namespace nacre::storage {

struct CreateRequest {
  std::string path;
  Format format = Format::Qcow2;
  u64 size = 0;         // 0 with a backing file: as large as that
  std::string backing;  // as seen from the working folder; in the image it is kept as seen from the image
  Format backing_format = Format::Detect;
  qcow2::NewImage qcow2;  // its geometry and features
};
// A file that is there already is an Error; one that could not be finished is removed.
Status create_image(Loop& loop, const CreateRequest& request);

struct ImageInfo {
  std::string path;
  Format format = Format::Raw;
  u64 size = 0, allocated = 0;  // bytes: of the disk, on the host
  qcow2::Header header;         // of a qcow2 image
  std::vector<qcow2::Snapshot> snapshots;
};
// The image and those below it. Does not mind whether they are in use.
Result<std::vector<ImageInfo>> image_info(Loop& loop, const std::string& path, Format format);

struct ConvertRequest {
  std::string source;
  Format source_format = Format::Detect;
  std::string snapshot;  // of the source
  CreateRequest target;  // its size is the source's
};
// Copies what is not zero; `progress` is told bytes done and in all, now and then.
Status convert_image(Loop& loop, const ConvertRequest& request,
                     const std::function<void(u64, u64)>& progress);

// Makes the disk larger; what is new reads as zeros.
Status resize_image(Loop& loop, const std::string& path, Format format, u64 size);

// Nothing for a raw image: there is nothing to check.
Result<qcow2::CheckReport> check_image(Loop& loop, const std::string& path, Format format,
                                       qcow2::Repair repair);

}  // namespace nacre::storage
