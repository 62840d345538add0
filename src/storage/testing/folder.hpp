// A folder of a test's own, gone with it; and running the field's tools in it.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include "base/types.hpp"

namespace nacre::storage::testing {

class Folder {
 public:
  Folder() {
    std::string name = std::filesystem::temp_directory_path() / "nacre-storage-XXXXXX";
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    path_ = name;
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  [[nodiscard]] std::string path(const std::string& name) const { return path_ + "/" + name; }
  void write(const std::string& name, std::span<const u8> bytes) const {
    std::ofstream file(path(name), std::ios::binary);
    file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  [[nodiscard]] std::vector<u8> read(const std::string& name) const {
    std::ifstream file(path(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

 private:
  std::string path_;
};

struct Outcome {
  int status;  // exit status; negative: by a signal, or not run at all
  std::string output;
};

// Runs a shell command; standard error is in the output.
inline Outcome run(const std::string& command) {
  Outcome result = {-1, {}};
  FILE* pipe = popen(("{ " + command + "; } 2>&1").c_str(), "r");
  if (pipe == nullptr) return result;
  std::array<char, 4096> text;
  while (const usize got = fread(text.data(), 1, text.size(), pipe)) result.output.append(text.data(), got);
  const int status = pclose(pipe);
  if (WIFEXITED(status)) result.status = WEXITSTATUS(status);
  return result;
}

inline bool has_qemu_tools() {
  static const bool has = run("command -v qemu-img && command -v qemu-io").status == 0;
  return has;
}

}  // namespace nacre::storage::testing

#define NACRE_NEEDS_QEMU_TOOLS()                    \
  if (!::nacre::storage::testing::has_qemu_tools()) \
  GTEST_SKIP() << "qemu-img and qemu-io are not here; apt-get install qemu-utils has them"
