// Images: what new machines are made from. docs/vm-life.md.
#pragma once

#include <string>

#include "base/result.hpp"
#include "life/config.hpp"

namespace nacre::app {

// A folder with a kernel (vmlinuz), perhaps initrd or modules/, perhaps a disk (disk.qcow2), and perhaps
// image.toml.
struct Image {
  std::string folder;
  life::ImageManifest manifest;
  std::string kernel, initrd, modules, disk;  // paths; empty: it has none
};

// "debian:12", which is made if it is not there yet (some minutes, told on stderr), or a folder (a path with
// a slash).
Result<Image> find_image(const std::string& name);

}  // namespace nacre::app
