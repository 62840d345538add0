// The configuration of a named virtual machine: nacre.toml in its folder. docs/vm-life.md has the schema. A
// file that does not follow it is an Error with the line. Pure; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/types.hpp"

namespace nacre::life {

// What follows an ending that the guest brought about itself.
enum class Then : u8 { Stop, Restart };

struct DiskEntry {
  std::string file;  // relative to the machine's folder, or absolute
  bool read_only = false;
};

struct MachineConfig {
  std::string image;  // what it was made from; for people
  unsigned cpus = 1;
  std::string memory = "1G";
  std::string engine = "auto", cpu = "host", direct;  // direct: empty, as nacre has it

  std::vector<std::string> networks;  // each as --net has it: docs/network.md
  std::vector<std::string> shares;    // each as --share has it: docs/share.md
  bool vsock = true;  // vsock.sock in the folder
  unsigned slots = 0;  // for devices that come while it runs: docs/vm-life.md

  std::string kernel;   // paths like those of disks
  std::string initrd;   // or
  std::string modules;  // a folder: our own small initial RAM disk is made, with these
  std::string append;

  std::vector<DiskEntry> disks;

  Then on_reboot = Then::Restart, on_panic = Then::Stop;
  i64 stop_timeout = 90;  // seconds
};

// `name`: of the file, for errors.
Result<MachineConfig> parse_config(std::string_view text, const std::string& name);
// As a new machine's file begins, with a comment on each part.
std::string write_config(const MachineConfig& config);

// The manifest of an image: image.toml. Paths are those of the image's folder.
struct ImageManifest {
  std::string name, release;
  std::string append = "console=ttyS0 root=/dev/vda";
};
Result<ImageManifest> parse_manifest(std::string_view text, const std::string& name);

}  // namespace nacre::life
