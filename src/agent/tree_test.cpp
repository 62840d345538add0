#include "agent/tree.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>

#include "host/fd.hpp"

namespace nacre::agent {
namespace {

namespace fs = std::filesystem;

struct TreeTest : ::testing::Test {
  std::string folder = [] {
    char name[] = "/tmp/nacre-tree-XXXXXX";
    return std::string(mkdtemp(name));
  }();
  TreeTest() {
    fs::create_directories(folder + "/in");
    fs::create_directories(folder + "/outside");
  }
  ~TreeTest() override { fs::remove_all(folder); }

  static std::string content(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  // Over a socket, with a thread at the other end.
  int copy(const std::string& from, const std::string& to, TreeReceiver& receiver,
           bool must_be_directory = false) {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    const host::UniqueFd near(ends[0]), far(ends[1]);
    if (const int error = receiver.place(to.c_str(), must_be_directory)) return error;
    int sent = 0;
    std::thread thread([&] {
      auto wire = std::make_unique<Wire>(far.number());
      sent = std::make_unique<TreeSender>(*wire)->send(from.c_str());
      if (sent != 0) shutdown(far.number(), SHUT_RDWR);
    });
    auto wire = std::make_unique<Wire>(near.number());
    while (!receiver.complete() && wire->receive()) {
      EXPECT_TRUE(receiver.take(wire->type(), wire->payload(), wire->bytes()));
    }
    thread.join();
    return sent;
  }
  // Frames by hand, as another side might send them.
  static bool entry(TreeReceiver& receiver, Frame type, const std::string& name, u32 mode = 0644) {
    const Attributes attributes = {mode, 0, 1000};
    std::string bytes(reinterpret_cast<const char*>(&attributes), sizeof attributes);
    bytes.append(name.c_str(), name.size() + 1);
    return receiver.take(type, reinterpret_cast<const u8*>(bytes.data()), static_cast<u32>(bytes.size()));
  }
  static bool link(TreeReceiver& receiver, const std::string& name, const std::string& target) {
    const std::string bytes = name + '\0' + target + '\0';
    return receiver.take(Frame::Link, reinterpret_cast<const u8*>(bytes.data()),
                         static_cast<u32>(bytes.size()));
  }
  static bool end(TreeReceiver& receiver, Frame type) { return receiver.take(type, nullptr, 0); }
};

TEST_F(TreeTest, ATreeComesOverAsItIs) {
  fs::create_directories(folder + "/tree/empty");
  fs::create_directories(folder + "/tree/deep/er");
  std::string large(300'000, 0);
  for (usize i = 0; i < large.size(); ++i) large[i] = static_cast<char>(i * i >> 7);
  std::ofstream(folder + "/tree/deep/er/large", std::ios::binary) << large;
  std::ofstream(folder + "/tree/program") << "#!/bin/sh\n";
  fs::permissions(folder + "/tree/program", fs::perms(0751));
  fs::permissions(folder + "/tree/empty", fs::perms(0555));
  fs::create_symlink("program", folder + "/tree/link");
  const timespec times[2] = {{1, 0}, {1'000'000'000, 123'456'789}};
  utimensat(AT_FDCWD, (folder + "/tree/program").c_str(), times, 0);
  utimensat(AT_FDCWD, (folder + "/tree/deep").c_str(), times, 0);

  TreeReceiver receiver;
  ASSERT_EQ(copy(folder + "/tree", folder + "/in", receiver), 0);
  EXPECT_EQ(receiver.problems().count, 0u) << receiver.problems().first_name;
  EXPECT_EQ(content(folder + "/in/tree/deep/er/large"), large);
  EXPECT_EQ(fs::read_symlink(folder + "/in/tree/link"), "program");
  struct stat status = {};
  stat((folder + "/in/tree/program").c_str(), &status);
  EXPECT_EQ(status.st_mode & 07777, 0751u);
  EXPECT_EQ(status.st_mtim.tv_sec, 1'000'000'000);
  EXPECT_EQ(status.st_mtim.tv_nsec, 123'456'789);
  stat((folder + "/in/tree/deep").c_str(), &status);
  EXPECT_EQ(status.st_mtim.tv_sec, 1'000'000'000);
  stat((folder + "/in/tree/empty").c_str(), &status);
  EXPECT_EQ(status.st_mode & 07777, 0555u);
  fs::permissions(folder + "/in/tree/empty", fs::perms(0755));
}

TEST_F(TreeTest, WhereItGoes) {
  std::ofstream(folder + "/file") << "text";
  {
    TreeReceiver into;
    EXPECT_EQ(copy(folder + "/file", folder + "/in", into), 0);
    EXPECT_EQ(content(folder + "/in/file"), "text");
  }
  {
    TreeReceiver as;
    EXPECT_EQ(copy(folder + "/file", folder + "/in/other", as), 0);
    EXPECT_EQ(content(folder + "/in/other"), "text");
  }
  TreeReceiver no, neither, nor;
  EXPECT_EQ(copy(folder + "/file", folder + "/in/absent/file", no), ENOENT);
  EXPECT_EQ(copy(folder + "/file", folder + "/in/absent/", neither), ENOENT);
  EXPECT_EQ(copy(folder + "/file", folder + "/in/other", nor, true), ENOTDIR);
}

TEST_F(TreeTest, AnOlderFileIsReplacedADirectoryIsNot) {
  std::ofstream(folder + "/file") << "new";
  std::ofstream(folder + "/in/file") << "old and longer";
  fs::create_hard_link(folder + "/in/file", folder + "/outside/also");
  TreeReceiver receiver, again;
  EXPECT_EQ(copy(folder + "/file", folder + "/in", receiver), 0);
  EXPECT_EQ(content(folder + "/in/file"), "new");
  EXPECT_EQ(content(folder + "/outside/also"), "old and longer");
  fs::remove(folder + "/in/file");
  fs::create_directories(folder + "/in/file");
  EXPECT_EQ(copy(folder + "/file", folder + "/in", again), 0);
  EXPECT_EQ(again.problems().first_error, static_cast<u32>(EISDIR));
}

TEST_F(TreeTest, WhatIsNoFileStays) {
  std::ofstream(folder + "/file") << "new";
  ASSERT_EQ(mkfifo((folder + "/in/file").c_str(), 0600), 0);
  TreeReceiver receiver;
  EXPECT_EQ(copy(folder + "/file", folder + "/in", receiver), 0);
  EXPECT_EQ(receiver.problems().first_error, static_cast<u32>(EEXIST));
  EXPECT_TRUE(fs::is_fifo(folder + "/in/file"));
}

TEST_F(TreeTest, NamesThatLeadElsewhereBreakTheRules) {
  for (const char* name : {"", ".", "..", "../x", "a/b", "/etc/passwd"}) {
    TreeReceiver receiver;
    ASSERT_EQ(receiver.place((folder + "/in").c_str(), true), 0);
    EXPECT_FALSE(entry(receiver, Frame::File, name)) << name;
    EXPECT_FALSE(entry(receiver, Frame::Directory, name)) << name;
    EXPECT_FALSE(link(receiver, name, "x")) << name;
  }
  EXPECT_TRUE(fs::is_empty(folder + "/in"));
}

TEST_F(TreeTest, NothingGoesThroughALink) {
  TreeReceiver receiver;
  ASSERT_EQ(receiver.place((folder + "/in").c_str(), true), 0);
  ASSERT_TRUE(entry(receiver, Frame::Directory, "d", 0755));
  ASSERT_TRUE(link(receiver, "out", folder + "/outside"));
  ASSERT_TRUE(entry(receiver, Frame::Directory, "out", 0777));  // a link: cannot be entered
  ASSERT_TRUE(entry(receiver, Frame::File, "x"));
  ASSERT_TRUE(end(receiver, Frame::End));
  ASSERT_TRUE(end(receiver, Frame::Leave));
  ASSERT_TRUE(link(receiver, "file", folder + "/outside/made"));
  ASSERT_TRUE(entry(receiver, Frame::File, "file"));  // replaces the link
  ASSERT_TRUE(end(receiver, Frame::End));
  ASSERT_TRUE(end(receiver, Frame::Leave));
  EXPECT_TRUE(receiver.complete());
  EXPECT_TRUE(fs::is_empty(folder + "/outside"));
  EXPECT_TRUE(fs::is_regular_file(fs::symlink_status(folder + "/in/d/file")));
  EXPECT_EQ(receiver.problems().count, 1u);
}

TEST_F(TreeTest, NoSetUserIdComesOver) {
  TreeReceiver receiver;
  ASSERT_EQ(receiver.place((folder + "/in").c_str(), true), 0);
  entry(receiver, Frame::File, "x", 06755);
  end(receiver, Frame::End);
  struct stat status = {};
  stat((folder + "/in/x").c_str(), &status);
  EXPECT_EQ(status.st_mode & 07777, 0755u);
}

TEST_F(TreeTest, DirectoriesWithoutEndAreBounded) {
  TreeReceiver receiver;
  ASSERT_EQ(receiver.place((folder + "/in").c_str(), true), 0);
  for (unsigned i = 0; i < 2 * kMostDepth; ++i) ASSERT_TRUE(entry(receiver, Frame::Directory, "d", 0755));
  for (unsigned i = 0; i < 2 * kMostDepth; ++i) ASSERT_TRUE(end(receiver, Frame::Leave));
  EXPECT_TRUE(receiver.complete());
  EXPECT_EQ(receiver.problems().first_error, static_cast<u32>(ELOOP));
}

TEST_F(TreeTest, FramesOutOfPlaceBreakTheRules) {
  TreeReceiver receiver;
  ASSERT_EQ(receiver.place((folder + "/in").c_str(), true), 0);
  EXPECT_FALSE(end(receiver, Frame::Data));
  EXPECT_FALSE(end(receiver, Frame::End));
  EXPECT_FALSE(end(receiver, Frame::Leave));
  EXPECT_FALSE(end(receiver, Frame::Exited));
  ASSERT_TRUE(entry(receiver, Frame::File, "x"));
  EXPECT_FALSE(entry(receiver, Frame::File, "y"));
  EXPECT_FALSE(end(receiver, Frame::Leave));
  ASSERT_TRUE(end(receiver, Frame::End));
  EXPECT_TRUE(receiver.complete());
  EXPECT_FALSE(entry(receiver, Frame::File, "y"));
}

}  // namespace
}  // namespace nacre::agent
