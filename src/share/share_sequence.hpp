// Any sequence of FUSE requests against a server and its folder, of plausible parts and of none; shared by
// fuzz target and random test. Whatever is asked: nothing outside of the folder is opened or changed, every
// answer is well-formed, and what may be kept is bounded.
#pragma once

#include <sys/resource.h>
#include <csignal>

#include "irq/testing/byte_source.hpp"
#include "share/testing.hpp"

namespace nacre::share {

inline void share_sequence(nacre::testing::ByteSource bytes) {
  // No file grows large, whatever is asked: it would be this machine's memory.
  static const bool limited = [] {
    std::signal(SIGXFSZ, SIG_IGN);
    rlimit limit = {};
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = 4 * kMiB;
    return setrlimit(RLIMIT_FSIZE, &limit) == 0;
  }();
  NACRE_CHECK(limited);
  const testing::Shared shared(access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
  std::filesystem::create_directories(shared.root + "/a/b");
  shared.put("a/file", "some text in a file");
  std::filesystem::create_symlink("../secret", shared.root + "/out");
  std::filesystem::create_symlink("../../secret/file", shared.root + "/a/link");
  NACRE_CHECK(mkfifo((shared.root + "/pipe").c_str(), 0600) == 0);
  ServerOptions options;
  options.keeps_owners = bytes.take<u8>() % 2 == 0;
  options.read_only = bytes.take<u8>() % 16 == 0;
  options.host_user = geteuid();
  options.limits = {.inodes = 12, .descriptors = 4, .handles = 6};
  testing::Client client(shared, options);

  std::vector<u64> inodes = {1, 1};
  std::vector<u64> handles = {1};
  constexpr const char* kNames[] = {"a",  "b", "file", "link",   "out",       "pipe",   "new",  "other",
                                    "..", ".", "",     "a/file", "../secret", "secret", "/etc", "user.x"};
  constexpr u32 kFlags[] = {
      O_RDONLY, O_RDWR, O_WRONLY | O_TRUNC, O_RDWR | O_EXCL, O_RDWR | O_APPEND, O_DIRECTORY, O_PATH, ~0u};
  while (!bytes.empty()) {
    const u8 what = bytes.take<u8>();
    const auto inode = [&] {
      return what % 64 == 63 ? bytes.take<u64>() : inodes[bytes.take<u8>() % inodes.size()];
    };
    const auto handle = [&] {
      return what % 64 == 62 ? bytes.take<u64>() : handles[bytes.take<u8>() % handles.size()];
    };
    const auto name = [&] { return std::string(bytes.pick(kNames)); };
    const u32 operation = bytes.take<u8>() % 56;
    testing::Bytes request;
    switch (operation) {
      case FUSE_FORGET:
        request.add(fuse_forget_in{bytes.take<u8>() % 4u});
        break;
      case FUSE_BATCH_FORGET:
        request.add(fuse_batch_forget_in{bytes.take<u8>(), 0})
            .add(fuse_forget_one{inode(), bytes.take<u8>()})
            .add(fuse_forget_one{inode(), ~u64{0}});
        break;
      case FUSE_SETATTR: {
        fuse_setattr_in in = {};
        in.valid = bytes.take<u16>();
        in.fh = handle();
        in.size = bytes.take<u16>();
        in.mode = bytes.take<u16>();
        in.uid = in.gid = bytes.take<u8>() % 2 * 1000;
        in.atimensec = in.mtimensec = bytes.take<u32>();
        request.add(in);
        break;
      }
      case FUSE_SYMLINK:
        request.text(name()).text(name());
        break;
      case FUSE_MKNOD:
        request.add(fuse_mknod_in{static_cast<u32>(bytes.take<u16>()), bytes.take<u32>(), 0, 0}).text(name());
        break;
      case FUSE_MKDIR:
        request.add(fuse_mkdir_in{static_cast<u32>(bytes.take<u16>() | 0700), 0}).text(name());
        break;
      case FUSE_RENAME:
        request.add(fuse_rename_in{inode()}).text(name()).text(name());
        break;
      case FUSE_RENAME2:
        request.add(fuse_rename2_in{inode(), bytes.take<u8>() % 8u, 0}).text(name()).text(name());
        break;
      case FUSE_LINK:
        request.add(fuse_link_in{inode()}).text(name());
        break;
      case FUSE_OPEN:
      case FUSE_OPENDIR:
        request.add(fuse_open_in{bytes.pick(kFlags), bytes.take<u8>()});
        break;
      case FUSE_CREATE: {
        fuse_create_in in = {};
        in.flags = bytes.pick(kFlags);
        in.mode = bytes.take<u16>();
        request.add(in).text(name());
        break;
      }
      case FUSE_READ:
      case FUSE_READDIR:
      case FUSE_READDIRPLUS:
        request.add(testing::reading(
            handle(), bytes.take<u8>() % 4 == 0 ? bytes.take<u64>() : bytes.take<u8>(), bytes.take<u16>()));
        break;
      case FUSE_WRITE: {
        fuse_write_in in = {};
        in.fh = handle();
        in.offset = bytes.take<u8>() % 8 == 0 ? bytes.take<u64>() : bytes.take<u16>();
        in.size = bytes.take<u8>();
        in.flags = bytes.pick(kFlags);
        in.write_flags = bytes.take<u8>() % 8u;
        request.add(in).raw(std::string(bytes.take<u8>(), 'w'));
        break;
      }
      case FUSE_SETXATTR:
        request.add(fuse_getxattr_in{bytes.take<u8>(), bytes.take<u8>()})
            .text(name())
            .raw(std::string(bytes.take<u8>(), 'v'));
        break;
      case FUSE_GETXATTR:
        request.add(fuse_getxattr_in{bytes.take<u16>(), 0}).text(name());
        break;
      case FUSE_LISTXATTR:
        request.add(fuse_getxattr_in{bytes.take<u16>(), 0});
        break;
      case FUSE_FALLOCATE:
        request.add(fuse_fallocate_in{handle(), bytes.take<u16>(), bytes.take<u16>(), bytes.take<u8>(), 0});
        break;
      case FUSE_COPY_FILE_RANGE:
        request.add(fuse_copy_file_range_in{handle(), bytes.take<u8>(), inode(), handle(), bytes.take<u16>(),
                                            bytes.take<u16>(), 0});
        break;
      case FUSE_LSEEK:
        request.add(fuse_lseek_in{handle(), bytes.take<u16>(), bytes.take<u8>() % 8u, 0});
        break;
      case FUSE_INIT:
        request.add(testing::Client::init());
        break;
      case FUSE_RELEASE:
      case FUSE_RELEASEDIR:
      case FUSE_FSYNC:
      case FUSE_FSYNCDIR:
      case FUSE_GETATTR:
      case FUSE_GETLK:
      case FUSE_SETLK:
      case FUSE_SETLKW:
      case FUSE_FLUSH:
        request.add(handle())
            .add(bytes.take<u64>())
            .add(bytes.take<u64>())
            .add(bytes.take<u64>())
            .add(bytes.take<u64>())
            .add(bytes.take<u64>());
        break;
      case FUSE_SYNCFS:
        continue;  // it would be this machine's
      default:
        request.text(name());
    }
    std::string arguments = request.str();
    if (what % 32 == 31) arguments.resize(bytes.take<u8>());
    if (what % 32 == 30 && !arguments.empty())
      arguments[bytes.take<u8>() % arguments.size()] = static_cast<char>(bytes.take<u8>());
    const usize room = what % 32 == 29 ? bytes.take<u8>() : 8192;
    if (client.ask(operation, inode(), arguments, room) == 0) {
      const std::string& answer = client.answer();
      if ((operation == FUSE_LOOKUP || operation == FUSE_CREATE || operation == FUSE_MKDIR) &&
          answer.size() >= sizeof(fuse_entry_out))
        inodes.push_back(client.as<fuse_entry_out>().nodeid);
      if (operation == FUSE_CREATE && answer.size() > sizeof(fuse_entry_out))
        handles.push_back(client.as<fuse_open_out>(sizeof(fuse_entry_out)).fh);
      if ((operation == FUSE_OPEN || operation == FUSE_OPENDIR) && answer.size() >= sizeof(fuse_open_out))
        handles.push_back(client.as<fuse_open_out>().fh);
    }
    const Server& server = client.server();
    NACRE_CHECK(server.inodes().count() <= 12 && server.handles().count() <= 6 &&
                server.inodes().open_descriptors() <= 5);
    // The host changes names too.
    if (what % 16 == 7) {
      const std::string one = shared.root + "/" + bytes.pick({"a", "out", "file", "new"}),
                        other = shared.root + "/a/" + bytes.pick({"b", "link", "file", "x"});
      if (renameat2(AT_FDCWD, one.c_str(), AT_FDCWD, other.c_str(),
                    bytes.take<u8>() % 2 == 0 ? RENAME_EXCHANGE : 0) != 0)
        continue;
    }
  }
  NACRE_CHECK(testing::open_below(shared.path, shared.root).empty());
  NACRE_CHECK(shared.text_of("../secret/file") == "SECRET");
  usize entries = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(shared.path)) ++entries;
  NACRE_CHECK(entries == 2);
}

}  // namespace nacre::share
