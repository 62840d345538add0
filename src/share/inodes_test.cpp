#include "share/inodes.hpp"

#include <gtest/gtest.h>

#include "share/testing.hpp"

namespace nacre::share {
namespace {

using testing::Client;
using testing::Shared;

ServerOptions few(usize descriptors, usize inodes = 1000) {
  ServerOptions options;
  options.limits = {.inodes = inodes, .descriptors = descriptors, .handles = 16};
  return options;
}

TEST(ShareInodes, AreKnownWithFewDescriptors) {
  Shared shared;
  std::filesystem::create_directories(shared.root + "/a/b/c");
  for (int i = 0; i < 200; ++i) shared.put("a/b/c/" + std::to_string(i), std::to_string(i));
  Client client(shared, few(8));
  const u64 folder = client.walk({"a", "b", "c"});
  std::vector<u64> files;
  for (int i = 0; i < 200; ++i) files.push_back(client.look_up(folder, std::to_string(i)).value().nodeid);
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 200; ++i) {
      const u64 file = files[static_cast<usize>(i)];
      const u64 handle = client.open_file(file, O_RDONLY).value();
      EXPECT_EQ(client.read(file, handle).value(), std::to_string(i));
      EXPECT_EQ(client.release(file, handle), 0);
    }
    EXPECT_LE(client.server().inodes().open_descriptors(), 8u);
  }
}

TEST(ShareInodes, AreBounded) {
  Shared shared;
  for (int i = 0; i < 30; ++i) shared.put(std::to_string(i), "");
  Client client(shared, few(8, 10));
  std::vector<u64> known;
  int refused = 0;
  for (int i = 0; i < 30; ++i) {
    auto found = client.look_up(1, std::to_string(i));
    if (found.ok()) known.push_back(found.value().nodeid);
    if (!found.ok()) refused += found.error() == ENFILE ? 1 : 100;
  }
  EXPECT_EQ(known.size(), 9u);
  EXPECT_EQ(refused, 21);
  for (const u64 inode : known) client.forget(inode);
  EXPECT_EQ(client.server().inodes().count(), 1u);
  EXPECT_TRUE(client.look_up(1, "29").ok());
}

TEST(ShareInodes, NumbersAreNotGivenTwice) {
  Shared shared;
  shared.put("one", "1");
  shared.put("two", "2");
  Client client(shared);
  const u64 one = client.walk({"one"});
  client.forget(one);
  const u64 two = client.walk({"two"});
  EXPECT_NE(one, two);
  EXPECT_EQ(client.attributes(one).error(), ESTALE);
  client.server().reset();
  EXPECT_EQ(client.ask(FUSE_INIT, 0, testing::Bytes().add(Client::init()).str()), 0);
  EXPECT_EQ(client.attributes(two).error(), ESTALE);
  EXPECT_NE(client.walk({"two"}), two);
}

TEST(ShareInodes, AFolderIsKnownAsLongAsWhatIsInIt) {
  Shared shared;
  std::filesystem::create_directories(shared.root + "/a/b");
  shared.put("a/b/file", "deep");
  Client client(shared, few(2));
  const u64 a = client.walk({"a"}), b = client.look_up(a, "b").value().nodeid,
            file = client.look_up(b, "file").value().nodeid;
  client.forget(a);
  client.forget(b);
  EXPECT_EQ(client.attributes(a).error(), ESTALE);
  EXPECT_EQ(client.attributes(file).value().size, 4u);
  client.forget(file);
  EXPECT_EQ(client.server().inodes().count(), 1u);
}

TEST(ShareInodes, WhatTheGuestMovesIsFoundThere) {
  Shared shared;
  std::filesystem::create_directories(shared.root + "/a/b");
  shared.put("a/b/file", "x");
  Client client(shared, few(2));
  const u64 a = client.walk({"a"}), b = client.look_up(a, "b").value().nodeid,
            file = client.look_up(b, "file").value().nodeid;
  ASSERT_EQ(client.rename(a, "b", 1, "elsewhere"), 0);
  for (int i = 0; i < 10; ++i) shared.put("other" + std::to_string(i), "");
  for (int i = 0; i < 10; ++i)
    client.open_file(client.walk({"other" + std::to_string(i)})).take();  // drives descriptors out
  const u64 handle = client.open_file(file).value();
  EXPECT_EQ(client.read(file, handle).value(), "x");
}

TEST(ShareInodes, WhatHasLostItsNameIsKnownByItsDescriptor) {
  Shared shared;
  shared.put("file", "still");
  shared.put("new", "new");
  Client client(shared);
  const u64 file = client.walk({"file"});
  ASSERT_EQ(client.rename(1, "new", 1, "file"), 0);
  EXPECT_EQ(client.attributes(file).value().size, 5u);
  EXPECT_EQ(client.attributes(file).value().nlink, 0u);
  const u64 handle = client.open_file(file).value();
  EXPECT_EQ(client.read(file, handle).value(), "still");
  EXPECT_NE(client.walk({"file"}), file);
}

TEST(ShareInodes, AnotherNameOfAFileStaysGood) {
  Shared shared;
  shared.put("one", "same");
  std::filesystem::create_hard_link(shared.root + "/one", shared.root + "/two");
  Client client(shared);
  const u64 file = client.walk({"two"});
  ASSERT_EQ(client.walk({"one"}), file);
  ASSERT_EQ(client.remove(1, "one"), 0);
  EXPECT_EQ(client.attributes(file).value().nlink, 1u);
  EXPECT_EQ(client.walk({"two"}), file);
}

TEST(ShareInodes, WhatTheHostHasMovedIsStaleUntilItIsFoundAgain) {
  Shared shared;
  std::filesystem::create_directories(shared.root + "/a/b");
  shared.put("a/file", "x");
  Client client(shared);
  const u64 a = client.walk({"a"}), file = client.look_up(a, "file").value().nodeid;
  std::filesystem::rename(shared.root + "/a/file", shared.root + "/a/b/file");
  EXPECT_EQ(client.open_file(file).error(), ESTALE);
  const u64 b = client.look_up(a, "b").value().nodeid;
  EXPECT_EQ(client.look_up(b, "file").value().nodeid, file);
  EXPECT_TRUE(client.open_file(file).ok());
}

// Folders that the host has put into each other the other way round.
TEST(ShareInodes, FoldersInEachOtherMakeNoCircle) {
  Shared shared;
  std::filesystem::create_directories(shared.root + "/a/b");
  Client client(shared);
  const u64 a = client.walk({"a"}), b = client.look_up(a, "b").value().nodeid;
  ASSERT_TRUE(client.attributes(b).ok());
  ASSERT_EQ(client.ask(FUSE_OPENDIR, b, testing::Bytes().add(fuse_open_in{}).str()),
            0);  // its descriptor is there
  std::filesystem::rename(shared.root + "/a/b", shared.root + "/b");
  std::filesystem::rename(shared.root + "/a", shared.root + "/b/a");
  EXPECT_EQ(client.look_up(b, "a").value().nodeid, a);
  EXPECT_TRUE(client.attributes(a).ok());
  EXPECT_TRUE(client.attributes(b).ok());
  client.server().reset();
}

}  // namespace
}  // namespace nacre::share
