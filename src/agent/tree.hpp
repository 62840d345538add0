// Trees of files as frames: TreeSender reads them from a file system, TreeReceiver makes them. Both sides;
// freestanding.
//
// The receiver believes nothing: a name is one component of a path, directories are entered by descriptor and
// never through a link, files are made anew and never written through what stands there. So whatever frames
// come, nothing outside of the place is touched. Owners, hard links, holes, extended attributes and special
// files are not carried.
#pragma once

#include <sys/stat.h>

#include "agent/wire.hpp"

namespace nacre::agent {

// What went wrong with part of a tree; the rest goes on.
struct Problems {
  u32 count = 0;
  u32 first_error = 0;
  char first_name[256] = {};
  void add(long error, const char* name);
};

class TreeSender {
 public:
  explicit TreeSender(Wire& wire) : wire_(wire) {}
  // The file or directory at `path` (a link is followed) and all in it; its name on the wire is the path's
  // last part. 0, or an error number: nothing was sent; -1: the other side is gone.
  int send(const char* path);
  [[nodiscard]] bool gone() const { return gone_; }

 private:
  void entry(int folder, const char* name, const char* sent_name, const struct stat& status, unsigned depth);
  void file(int file, const char* name);
  void directory(int folder, unsigned depth);
  void problem(long error, const char* name);
  void sent(bool fine) { gone_ = gone_ || !fine; }

  Wire& wire_;
  bool gone_ = false;
  u8 bytes_[kDataBytes];
};

class TreeReceiver {
 public:
  TreeReceiver() = default;
  TreeReceiver(const TreeReceiver&) = delete;
  TreeReceiver& operator=(const TreeReceiver&) = delete;
  ~TreeReceiver();

  // Into the directory at `path`, or, where there is none, as `path`. 0 or an error number.
  int place(const char* path, bool must_be_directory);
  // One frame of the tree. False: it breaks the rules; there is no going on.
  bool take(Frame type, const u8* payload, u32 bytes);
  [[nodiscard]] bool complete() const { return complete_; }
  [[nodiscard]] const Problems& problems() const { return problems_; }
  [[nodiscard]] u64 files() const { return files_; }

 private:
  struct Folder {
    int file = -1;
    Attributes attributes;
  };
  [[nodiscard]] int here() const { return depth_ == 0 ? root_ : folders_[depth_ - 1].file; }
  void begin_file(const char* name, const Attributes& attributes);
  void begin_directory(const char* name, const Attributes& attributes);
  void leave();
  void link(const char* name, const char* target);
  void data(const u8* bytes, u32 count);
  void end_file();
  long make_room(const char* name) const;
  void entered();

  int root_ = -1;
  char name_[256] = {};  // of the root entry; empty: its own
  Folder folders_[kMostDepth];
  unsigned depth_ = 0;
  unsigned skipped_ = 0;  // directories that could not be made: what is in them passes by
  bool in_file_ = false, complete_ = false;
  int file_ = -1;  // -1 in a file: it could not be made
  Attributes attributes_;
  char file_name_[256] = {};
  Problems problems_;
  u64 files_ = 0;
};

}  // namespace nacre::agent
