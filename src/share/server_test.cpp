#include "share/server.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <atomic>
#include <thread>

#include "share/share_sequence.hpp"
#include "share/testing.hpp"

namespace nacre::share {
namespace {

using testing::Bytes;
using testing::Client;
using testing::Shared;

struct ShareServer : ::testing::Test {
  Shared shared;
  Client client{shared};

  u64 made(const std::string& name, const std::string& text) {
    shared.put(name, text);
    return client.walk({name});
  }
};

TEST_F(ShareServer, AgreesOnWhatBothKnow) {
  ASSERT_EQ(client.ask(FUSE_INIT, 0, Bytes().add(Client::init()).str()), 0);
  const auto answer = client.as<fuse_init_out>();
  EXPECT_EQ(answer.major, 7u);
  EXPECT_EQ(answer.max_pages, 256u);
  EXPECT_EQ(answer.flags & (FUSE_WRITEBACK_CACHE | FUSE_EXPORT_SUPPORT | FUSE_POSIX_ACL), 0u);
  fuse_init_in other = Client::init();
  other.major = 8;
  EXPECT_EQ(client.ask(FUSE_INIT, 0, Bytes().add(other).str()), 0);  // to ask again
  EXPECT_EQ(client.attributes(1).error(), EIO);                      // nothing is agreed on
  other = Client::init();
  other.minor = 12;
  EXPECT_EQ(client.ask(FUSE_INIT, 0, Bytes().add(other).str()), EPROTO);
}

TEST_F(ShareServer, ReadsAndWrites) {
  const auto [file, handle] = client.create(1, "file").value();
  EXPECT_EQ(client.write(file, handle, "hello world"), 0);
  EXPECT_EQ(client.write(file, handle, "W", 6), 0);
  EXPECT_EQ(client.read(file, handle, 3, 100).value(), "lo World");
  EXPECT_EQ(client.read(file, handle, 3, 4).value(), "lo W");
  EXPECT_EQ(client.read(file, handle, 50).value(), "");
  EXPECT_EQ(shared.text_of("file"), "hello World");
  EXPECT_EQ(client.release(file, handle), 0);
  EXPECT_EQ(client.read(file, handle).error(), EBADF);
}

TEST_F(ShareServer, AppendsAtTheEndThatIsButNotFromMappings) {
  const u64 file = made("log", "one\n");
  const u64 handle = client.open_file(file, O_WRONLY | O_APPEND).value();
  shared.put("log", "one\ntwo\n");  // by the host
  EXPECT_EQ(client.write(file, handle, "three\n", 4, O_APPEND), 0);
  EXPECT_EQ(shared.text_of("log"), "one\ntwo\nthree\n");
  EXPECT_EQ(client.write(file, handle, "ONE", 0, O_APPEND, FUSE_WRITE_CACHE), 0);
  EXPECT_EQ(shared.text_of("log"), "ONE\ntwo\nthree\n");
}

// --- no way out ---

TEST_F(ShareServer, NamesAreOneComponent) {
  shared.put("file", "x");
  for (const char* name :
       {"", ".", "..", "/", "../secret", "../secret/file", "/etc/passwd", "folder/file", "file/"}) {
    EXPECT_EQ(client.look_up(1, name).error(), EINVAL) << name;
    EXPECT_EQ(client.create(1, name).error(), EINVAL) << name;
    EXPECT_EQ(client.make_folder(1, name), EINVAL) << name;
    EXPECT_EQ(client.remove(1, name), EINVAL) << name;
    EXPECT_EQ(client.ask(FUSE_RMDIR, 1, Bytes().text(name).str()), EINVAL) << name;
    EXPECT_EQ(client.rename(1, name, 1, "new"), EINVAL) << name;
    EXPECT_EQ(client.rename(1, "file", 1, name), EINVAL) << name;
    EXPECT_EQ(client.ask(FUSE_SYMLINK, 1, Bytes().text(name).text("x").str()), EINVAL) << name;
    EXPECT_EQ(client.ask(FUSE_MKNOD, 1, Bytes().add(fuse_mknod_in{S_IFREG, 0, 0, 0}).text(name).str()),
              EINVAL)
        << name;
    EXPECT_EQ(client.ask(FUSE_LINK, 1, Bytes().add(fuse_link_in{1}).text(name).str()), EINVAL) << name;
  }
  EXPECT_EQ(client.look_up(1, std::string(256, 'x')).error(), ENAMETOOLONG);
}

TEST_F(ShareServer, LinksAreNotFollowed) {
  std::filesystem::create_symlink("../secret", shared.root + "/out");
  std::filesystem::create_symlink("../secret/file", shared.root + "/file");
  const u64 out = client.walk({"out"}), file = client.walk({"file"});
  EXPECT_EQ(client.attributes(out).value().mode & S_IFMT, static_cast<u32>(S_IFLNK));
  EXPECT_EQ(client.look_up(out, "file").error(), ENOTDIR);
  EXPECT_EQ(client.open_file(file).error(), ELOOP);
  EXPECT_EQ(client.ask(FUSE_OPENDIR, out, Bytes().add(fuse_open_in{}).str()), ENOTDIR);
  EXPECT_EQ(client.ask(FUSE_READLINK, out), 0);
  EXPECT_EQ(client.answer(), "../secret");
  // Created over, without O_EXCL: the link is there and is not followed.
  EXPECT_EQ(client.create(1, "file", 0644, O_RDWR | O_TRUNC).error(), ELOOP);
  fuse_setattr_in size = {};
  size.valid = FATTR_SIZE;
  EXPECT_NE(client.ask(FUSE_SETATTR, file, Bytes().add(size).str()), 0);
  fuse_setattr_in mode = {};
  mode.valid = FATTR_MODE;
  mode.mode = 0777;
  EXPECT_NE(client.ask(FUSE_SETATTR, file, Bytes().add(mode).str()), 0);
  fuse_setattr_in times = {};
  times.valid = FATTR_MTIME;
  EXPECT_EQ(client.ask(FUSE_SETATTR, file, Bytes().add(times).str()), 0);  // the link's own
  struct stat status = {};
  ASSERT_EQ(stat((shared.path + "/secret/file").c_str(), &status), 0);
  EXPECT_NE(status.st_mtim.tv_sec, 0);
  EXPECT_EQ(shared.text_of("../secret/file"), "SECRET");
  EXPECT_TRUE(testing::open_below(shared.path, shared.root).empty());
}

// The host's side (or another guest's) swaps folders and links all the time, while this guest asks.
TEST_F(ShareServer, SwapsOfLinksAreNotFollowed) {
  std::filesystem::create_directories(shared.root + "/folder");
  shared.put("folder/file", "inside");
  std::filesystem::create_symlink("../secret", shared.root + "/link");
  std::atomic<bool> done = false;
  std::thread swaps([&] {
    while (!done) {
      renameat2(AT_FDCWD, (shared.root + "/folder").c_str(), AT_FDCWD, (shared.root + "/link").c_str(),
                RENAME_EXCHANGE);
    }
  });
  unsigned read = 0;
  for (int i = 0; i < 20000; ++i) {
    auto folder = client.look_up(1, i % 2 == 0 ? "folder" : "link");
    if (!folder.ok()) continue;
    if (auto file = client.look_up(folder.value().nodeid, "file"); file.ok()) {
      if (auto handle = client.open_file(file.value().nodeid, O_RDONLY); handle.ok()) {
        auto text = client.read(file.value().nodeid, handle.value());
        ASSERT_EQ(text.value(), "inside");
        ++read;
        client.release(file.value().nodeid, handle.value());
      }
      client.forget(file.value().nodeid);
    }
    client.forget(folder.value().nodeid);
  }
  done = true;
  swaps.join();
  EXPECT_GT(read, 0u);
}

TEST_F(ShareServer, PipesSocketsAndDevicesAreNeverOpened) {
  ASSERT_EQ(mkfifo((shared.root + "/pipe").c_str(), 0600), 0);
  const u64 pipe = client.walk({"pipe"});
  EXPECT_EQ(client.open_file(pipe, O_RDONLY).error(), ENXIO);  // and does not wait
  EXPECT_EQ(client.open_file(pipe, O_WRONLY).error(), ENXIO);
  EXPECT_EQ(client.create(1, "pipe", 0600, O_WRONLY).error(), ENXIO);
  for (const u32 type : {u32{S_IFCHR}, u32{S_IFBLK}, u32{S_IFDIR}, u32{S_IFLNK}, u32{0}}) {
    EXPECT_EQ(
        client.ask(FUSE_MKNOD, 1, Bytes().add(fuse_mknod_in{type | 0600, 0x103, 0, 0}).text("node").str()),
        EPERM)
        << type;
  }
  EXPECT_EQ(client.ask(FUSE_MKNOD, 1, Bytes().add(fuse_mknod_in{S_IFIFO | 0600, 0, 0, 0}).text("own").str()),
            0);
}

TEST_F(ShareServer, RightsOfOthersAreNotGiven) {
  const u64 file = client.create(1, "program", 06755).value().first;
  fuse_setattr_in mode = {};
  mode.valid = FATTR_MODE;
  mode.mode = 06755;
  EXPECT_EQ(client.ask(FUSE_SETATTR, file, Bytes().add(mode).str()), 0);
  EXPECT_EQ(client.attributes(file).value().mode, static_cast<u32>(S_IFREG | 0755));
  EXPECT_EQ(client.ask(FUSE_SETXATTR, file,
                       Bytes().add(fuse_getxattr_in{1, 0}).text("security.capability").raw("x").str()),
            EOPNOTSUPP);
  EXPECT_EQ(
      client.ask(FUSE_GETXATTR, file, Bytes().add(fuse_getxattr_in{100, 0}).text("security.selinux").str()),
      EOPNOTSUPP);
}

TEST_F(ShareServer, AReadOnlyShareChangesNothing) {
  shared.put("file", "kept");
  ServerOptions options;
  options.read_only = true;
  Client reader(shared, options);
  const u64 file = reader.walk({"file"});
  for (const u32 flags : {u32{O_WRONLY}, u32{O_RDWR}, u32{O_TRUNC}})
    EXPECT_EQ(reader.open_file(file, flags).error(), EROFS);
  const u64 handle = reader.open_file(file, O_RDONLY).value();
  EXPECT_EQ(reader.read(file, handle).value(), "kept");
  EXPECT_EQ(reader.write(file, handle, "x"), EROFS);
  EXPECT_EQ(reader.create(1, "new").error(), EROFS);
  EXPECT_EQ(reader.create(1, "file", 0644, O_RDWR).error(), EROFS);
  EXPECT_EQ(reader.remove(1, "file"), EROFS);
  EXPECT_EQ(reader.rename(1, "file", 1, "other"), EROFS);
  EXPECT_EQ(reader.make_folder(1, "new"), EROFS);
  for (const u32 operation : {FUSE_SETATTR, FUSE_SYMLINK, FUSE_MKNOD, FUSE_RMDIR, FUSE_RENAME, FUSE_LINK,
                              FUSE_SETXATTR, FUSE_REMOVEXATTR, FUSE_FALLOCATE, FUSE_COPY_FILE_RANGE})
    EXPECT_EQ(reader.ask(operation, 1), EROFS) << operation;
}

// --- requests that lie ---

TEST_F(ShareServer, HeadersThatLieAreRefused) {
  fuse_in_header header = {};
  header.opcode = FUSE_GETATTR;
  header.nodeid = 1;
  const auto ask = [&](u32 length, usize bytes) {
    header.len = length;
    std::string text = Bytes().add(header).add(fuse_getattr_in{}).str();
    text.resize(bytes);
    return client.ask_raw(text);
  };
  EXPECT_EQ(ask(56, 56), 0);
  EXPECT_EQ(ask(0, 56), EINVAL);
  EXPECT_EQ(ask(39, 56), EINVAL);
  EXPECT_EQ(ask(57, 56), EINVAL);
  EXPECT_EQ(ask(~0u, 56), EINVAL);
  EXPECT_EQ(ask(48, 56), EINVAL);  // too short for what it is
  for (usize bytes = 0; bytes < 40; ++bytes) EXPECT_EQ(ask(56, bytes), EINVAL);
  EXPECT_EQ(client.ask_raw(std::string(100, '\0'), 15), -1);  // no room to say so
}

TEST_F(ShareServer, EveryOperationSurvivesBeingShortAndUnknown) {
  made("file", "x");
  for (u32 operation = 0; operation < 60; ++operation) {
    if (operation == FUSE_INIT || operation == FUSE_DESTROY) continue;
    for (usize bytes = 0; bytes < 120; bytes += 7) {
      for (const usize room : {0u, 8u, 16u, 20u, 100u}) {
        client.ask(operation, 1, std::string(bytes, '\xff'), room);
        client.ask(operation, 1, std::string(bytes, '\0'), room);
        client.ask(operation, 77, std::string(bytes, 'a'), room);
      }
    }
  }
  EXPECT_EQ(client.ask(999, 1), ENOSYS);
  EXPECT_EQ(client.ask(~0u, 1), ENOSYS);
  EXPECT_TRUE(client.attributes(1).ok());
}

TEST_F(ShareServer, WritesTakeNoMoreThanIsThere) {
  const auto [file, handle] = client.create(1, "file").value();
  fuse_write_in in = {};
  in.fh = handle;
  in.size = 100;
  EXPECT_EQ(client.ask(FUSE_WRITE, file, Bytes().add(in).raw(std::string(99, 'x')).str()), EINVAL);
  EXPECT_EQ(shared.text_of("file"), "");
}

TEST_F(ShareServer, HandlesAreOfTheirInode) {
  const u64 one = made("one", "1"), two = made("two", "2");
  const u64 handle = client.open_file(one).value();
  EXPECT_EQ(client.read(two, handle).error(), EBADF);
  EXPECT_EQ(client.read(one, handle + 1).error(), EBADF);
  EXPECT_EQ(client.read(one, ~u64{0}).error(), EBADF);
  EXPECT_EQ(client.ask(FUSE_READDIR, one, Bytes().add(testing::reading(handle, 0, 100)).str()), EBADF);
  EXPECT_EQ(client.release(two, handle), EBADF);
  EXPECT_EQ(client.release(one, handle), 0);
  EXPECT_EQ(client.release(one, handle), EBADF);
}

TEST_F(ShareServer, HandlesAreBounded) {
  ServerOptions options;
  options.limits.handles = 4;
  Client bounded(shared, options);
  shared.put("file", "");
  const u64 file = bounded.walk({"file"});
  std::vector<u64> handles;
  for (int i = 0; i < 4; ++i) handles.push_back(bounded.open_file(file).value());
  EXPECT_EQ(bounded.open_file(file).error(), ENFILE);
  EXPECT_EQ(bounded.create(1, "new").error(), ENFILE);
  EXPECT_FALSE(std::filesystem::exists(shared.root + "/new"));
  EXPECT_EQ(bounded.release(file, handles[1]), 0);
  EXPECT_TRUE(bounded.open_file(file).ok());
}

// --- folders ---

std::vector<std::string> names_in(Client& client, u64 folder, bool with_attributes, u32 size) {
  std::vector<std::string> names;
  NACRE_CHECK(client.ask(FUSE_OPENDIR, folder, Bytes().add(fuse_open_in{}).str()) == 0);
  fuse_read_in in = {};
  in.fh = client.as<fuse_open_out>().fh;
  in.size = size;
  const usize before = with_attributes ? __builtin_offsetof(fuse_direntplus, dirent) : 0;
  for (;;) {
    NACRE_CHECK(client.ask(with_attributes ? FUSE_READDIRPLUS : FUSE_READDIR, folder, Bytes().add(in).str(),
                           size + 16) == 0);
    if (client.answer().empty()) break;
    for (usize at = 0; at < client.answer().size();) {
      const auto entry = client.as<fuse_dirent>(at + before);
      names.push_back(client.answer().substr(at + before + FUSE_NAME_OFFSET, entry.namelen));
      in.offset = entry.off;
      at += FUSE_REC_ALIGN(before + FUSE_NAME_OFFSET + entry.namelen);
    }
  }
  EXPECT_EQ(client.release(folder, in.fh), 0);
  std::sort(names.begin(), names.end());
  return names;
}

TEST_F(ShareServer, FoldersAreReadInPieces) {
  std::vector<std::string> wanted = {".", ".."};
  for (int i = 0; i < 500; ++i) {
    wanted.push_back("file-" + std::to_string(i));
    shared.put(wanted.back(), "");
  }
  std::sort(wanted.begin(), wanted.end());
  for (const bool with_attributes : {false, true}) {
    for (const u32 size : {300u, 4096u, 100000u})
      EXPECT_EQ(names_in(client, 1, with_attributes, size), wanted) << size;
  }
  EXPECT_EQ(client.server().inodes().count(), 501u);
}

// --- what the host does ---

TEST_F(ShareServer, ContentsAreKeptByTheGuestOnlyWhileTheyAreTheSame) {
  const u64 file = made("file", "one");
  const timespec old[2] = {{1000, 0}, {1000, 0}};
  ASSERT_EQ(utimensat(AT_FDCWD, (shared.root + "/file").c_str(), old, 0), 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(60));  // the file's change is a while ago
  const auto flags = [&] {
    EXPECT_TRUE(client.open_file(file).ok());
    return client.as<fuse_open_out>().open_flags & FOPEN_KEEP_CACHE;
  };
  EXPECT_EQ(flags(), 0u);
  EXPECT_NE(flags(), 0u);
  shared.put("file", "two");
  EXPECT_EQ(flags(), 0u);
  EXPECT_EQ(flags(), 0u);  // it may change again within the same tick
}

TEST_F(ShareServer, OwnersAreShownAsTheGuests) {
  ServerOptions options;
  options.host_user = geteuid();
  options.host_group = getegid();
  options.user = 1000;
  options.group = 100;
  Client other(shared, options);
  shared.put("file", "");
  const u64 file = other.walk({"file"});
  EXPECT_EQ(other.attributes(file).value().uid, 1000u);
  EXPECT_EQ(other.attributes(file).value().gid, 100u);
  fuse_setattr_in owner = {};
  owner.valid = FATTR_UID;
  owner.uid = 7;
  EXPECT_EQ(other.ask(FUSE_SETATTR, file, Bytes().add(owner).str()),
            0);  // not heeded, as tar and dpkg as root will want it
  EXPECT_EQ(other.attributes(file).value().uid, 1000u);
  options.host_user = geteuid() + 1;
  Client foreign(shared, options);
  EXPECT_EQ(foreign.attributes(foreign.walk({"file"})).value().uid, 65534u);
}

TEST_F(ShareServer, ExtendedAttributesAreTheUsers) {
  const u64 file = made("file", "");
  if (setxattr((shared.root + "/file").c_str(), "user.a", "1", 1, 0) != 0)
    GTEST_SKIP() << "this file system has none";
  const auto get = [&](u32 size) {
    return client.ask(FUSE_GETXATTR, file, Bytes().add(fuse_getxattr_in{size, 0}).text("user.a").str());
  };
  EXPECT_EQ(get(0), 0);
  EXPECT_EQ(client.as<fuse_getxattr_out>().size, 1u);
  EXPECT_EQ(get(10), 0);
  EXPECT_EQ(client.answer(), "1");
  EXPECT_EQ(
      client.ask(FUSE_SETXATTR, file, Bytes().add(fuse_getxattr_in{3, 0}).text("user.b").raw("two").str()),
      0);
  EXPECT_EQ(
      client.ask(FUSE_SETXATTR, file, Bytes().add(fuse_getxattr_in{30, 0}).text("user.b").raw("two").str()),
      EINVAL);
  EXPECT_EQ(client.ask(FUSE_LISTXATTR, file, Bytes().add(fuse_getxattr_in{100, 0}).str()), 0);
  EXPECT_EQ(client.answer().size(), 14u);
  EXPECT_EQ(client.ask(FUSE_REMOVEXATTR, file, Bytes().text("user.a").str()), 0);
  EXPECT_EQ(get(10), ENODATA);
}

TEST_F(ShareServer, FileSystemsOfTheKernelsOwnAreNotShared) {
  for (const char* path : {"/proc", "/sys"}) {
    host::UniqueFd folder(open(path, O_PATH | O_CLOEXEC));
    EXPECT_FALSE(Server::create(std::move(folder), host::UniqueFd(), {}).ok()) << path;
  }
  if (geteuid() != 0) GTEST_SKIP() << "the rest looks at /, as root";
  Shared around;
  host::UniqueFd folder(open("/", O_PATH | O_CLOEXEC));
  host::UniqueFd descriptors(open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC));
  around.root = "/";
  Client whole(around);
  EXPECT_EQ(whole.look_up(1, "proc").error(), EACCES);
  EXPECT_TRUE(whole.look_up(1, "usr").ok());
  around.root = around.path;
}

TEST(ShareServerRandom, SurvivesRandomSequences) {
  nacre::testing::run_random_sequences(share_sequence, 300);
}

}  // namespace
}  // namespace nacre::share
