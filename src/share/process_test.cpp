#include "share/process.hpp"

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <algorithm>

#include "host/mapping.hpp"
#include "share/testing.hpp"

namespace nacre::share {
namespace {

using testing::Bytes;
using testing::Shared;
using virtio::fs::FileRequest;

// Guest memory, and one request at a time through the process: what the device would do.
struct ShareProcessTest : ::testing::Test {
  Shared shared;
  u8* ram = static_cast<u8*>(mmap(nullptr, kRam, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  static constexpr usize kRam = 1 << 20;

  void SetUp() override { signal(SIGPIPE, SIG_IGN); }  // as on a device's thread, which has it masked
  void TearDown() override { munmap(ram, kRam); }
  std::unique_ptr<ShareProcess> start(bool read_only = false) {
    auto share = ShareProcess::start({.path = shared.root, .read_only = read_only}, {ram, kRam});
    EXPECT_TRUE(share.ok()) << share.error().message();
    return share.take();
  }
  // A raw conversation, below ShareProcess.
  struct Asked {
    int error = -1;
    std::string answer;
  };
  static Asked ask(ShareProcess& share, u8* memory, u32 operation, u64 inode, const std::string& arguments) {
    fuse_in_header header = {};
    header.len = static_cast<u32>(sizeof header + arguments.size());
    header.opcode = operation;
    header.unique = 5;
    header.nodeid = inode;
    const std::string text = Bytes().add(header).raw(arguments).str();
    std::memcpy(memory, text.data(), text.size());
    Question question;
    question.tag = 3;
    question.readable = 1;
    question.total = 2;
    question.pieces[0] = {0, static_cast<u32>(text.size()), 0};
    question.pieces[1] = {4096, 8192, 0};
    if (write(share.descriptor(), &question, question.bytes()) < 0) return {};
    pollfd entry = {share.descriptor(), POLLIN, 0};
    poll(&entry, 1, 10'000);
    Answer answer;
    if (read(share.descriptor(), &answer, sizeof answer) != sizeof answer) return {};
    EXPECT_EQ(answer.tag, 3u);
    fuse_out_header out = {};
    std::memcpy(&out, memory + 4096, sizeof out);
    EXPECT_EQ(out.len, answer.written);
    return {-out.error,
            std::string(reinterpret_cast<char*>(memory + 4096 + sizeof out), answer.written - sizeof out)};
  }
  static std::string init() { return Bytes().add(testing::Client::init()).str(); }
};

TEST_F(ShareProcessTest, ServesTheFolder) {
  shared.put("file", "hello");
  auto share = start();
  ASSERT_EQ(ask(*share, ram, FUSE_INIT, 0, init()).error, 0);
  const Asked found = ask(*share, ram, FUSE_LOOKUP, 1, Bytes().text("file").str());
  ASSERT_EQ(found.error, 0);
  fuse_entry_out entry = {};
  std::memcpy(&entry, found.answer.data(), sizeof entry);
  EXPECT_EQ(entry.attr.size, 5u);
  const Asked opened = ask(*share, ram, FUSE_OPEN, entry.nodeid, Bytes().add(fuse_open_in{O_RDWR, 0}).str());
  ASSERT_EQ(opened.error, 0);
  fuse_open_out open = {};
  std::memcpy(&open, opened.answer.data(), sizeof open);
  EXPECT_EQ(
      ask(*share, ram, FUSE_READ, entry.nodeid, Bytes().add(testing::reading(open.fh, 0, 100)).str()).answer,
      "hello");
  // Every operation, so that each passes the system call filter.
  for (u32 operation = 1; operation < 56; ++operation) {
    if (operation == FUSE_FORGET || operation == FUSE_BATCH_FORGET || operation == FUSE_INTERRUPT ||
        operation == FUSE_DESTROY)
      continue;
    EXPECT_NE(ask(*share, ram, operation, entry.nodeid,
                  Bytes().add(open.fh).add(u64{0}).add(u64{1}).text("x").str())
                  .error,
              -1)
        << operation;
  }
}

// What the process sees of the host is the folder, in which devices and set-user-ID mean nothing.
TEST_F(ShareProcessTest, TheFolderIsItsRoot) {
  shared.put("file", "hello");
  auto share = start(true);
  if (!share->is_enclosed()) GTEST_SKIP() << "no namespaces here";
  const std::string process = "/proc/" + std::to_string(share->process());
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(process + "/root/"))
    names.push_back(entry.path().filename());
  EXPECT_EQ(names, std::vector<std::string>{"file"});
  std::ifstream mounts(process + "/mountinfo");
  const std::string text{std::istreambuf_iterator<char>(mounts), {}};
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
  EXPECT_NE(text.find(" / ro,nosuid,nodev,noexec"), std::string::npos) << text;
}

TEST_F(ShareProcessTest, EndsWithTheMachine) {
  auto share = start();
  share.reset();    // nothing comes back
  share = nullptr;  // returns when the process has ended
  SUCCEED();
}

TEST_F(ShareProcessTest, MemoryOutsideOfTheGuestsEndsTheServer) {
  for (const Piece piece : {Piece{kRam - 10, 11, 0}, Piece{~u64{0}, 1, 0}, Piece{kRam + 1, 0, 0}}) {
    auto share = start();
    Question question;
    question.total = question.readable = 1;
    question.pieces[0] = piece;
    ASSERT_GT(write(share->descriptor(), &question, question.bytes()), 0);
    pollfd entry = {share->descriptor(), POLLIN, 0};
    ASSERT_EQ(poll(&entry, 1, 10'000), 1);
    char byte;
    EXPECT_EQ(read(share->descriptor(), &byte, 1), 0);
  }
}

TEST_F(ShareProcessTest, QuestionsThatLieEndTheServer) {
  for (const u16 total : {u16{2}, u16{257}, u16{65535}}) {
    auto share = start();
    Question question;
    question.total = total;
    ASSERT_GT(write(share->descriptor(), &question, __builtin_offsetof(Question, pieces) + 16), 0);
    pollfd entry = {share->descriptor(), POLLIN, 0};
    ASSERT_EQ(poll(&entry, 1, 10'000), 1);
    char byte;
    EXPECT_EQ(read(share->descriptor(), &byte, 1), 0);
  }
}

TEST_F(ShareProcessTest, AServerThatIsGoneIsAnErrorOfEachRequest) {
  auto share = start();
  // Ended by its own rules; then what the device asks for.
  const Question wrong = {.total = 9};
  ASSERT_GT(write(share->descriptor(), &wrong, 16), 0);
  pollfd entry = {share->descriptor(), POLLIN, 0};
  ASSERT_EQ(poll(&entry, 1, 10'000), 1);
  share->dispatch();
  fuse_in_header header = {};
  header.len = sizeof header;
  header.opcode = FUSE_GETATTR;
  header.unique = 99;
  std::memcpy(ram, &header, sizeof header);
  const virtio::Segment segments[] = {{ram, 0, sizeof header}, {ram + 4096, 4096, 200}};
  FileRequest request = {.slot = 1, .readable = 1, .total = 2, .writable_bytes = 200, .segments = segments};
  EXPECT_TRUE(share->submit(request));
  EXPECT_EQ(request.written, 16u);
  fuse_out_header out = {};
  std::memcpy(&out, ram + 4096, sizeof out);
  EXPECT_EQ(out.error, -EIO);
  EXPECT_EQ(out.unique, 99u);
}

TEST_F(ShareProcessTest, WhatIsNoFolderIsSaid) {
  shared.put("file", "");
  EXPECT_NE(std::string(ShareProcess::start({.path = shared.root + "/file"}, {ram, kRam}).error().message())
                .find("Not a directory"),
            std::string::npos);
  EXPECT_NE(std::string(ShareProcess::start({.path = shared.root + "/none"}, {ram, kRam}).error().message())
                .find("No such file"),
            std::string::npos);
  EXPECT_NE(
      std::string(ShareProcess::start({.path = "/proc"}, {ram, kRam}).error().message()).find("kernel's own"),
      std::string::npos);
}

}  // namespace
}  // namespace nacre::share
