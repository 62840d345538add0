// Host files under both loops, locks, raw images.
#include <gtest/gtest.h>

#include <fcntl.h>
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <random>

#include "host/confine.hpp"
#include "storage/buffers.hpp"
#include "storage/raw.hpp"
#include "storage/testing/folder.hpp"

namespace nacre::storage {
namespace {

using testing::Folder;

class EachLoop : public ::testing::TestWithParam<Loop::Kind> {
 protected:
  void SetUp() override {
    auto made = Loop::create(GetParam());
    if (!made) GTEST_SKIP() << made.error().message();
    loop = made.take();
  }
  Folder folder;
  std::unique_ptr<Loop> loop;
};

struct Counted final : Request {
  int* count = nullptr;
  void completed() override { ++*count; }
};

TEST_P(EachLoop, carries_out_what_is_asked) {
  const auto file = HostFile::create(*loop, folder.path("image")).take();
  std::vector<u8> written(300'000);
  std::mt19937 random(1);
  for (u8& byte : written) byte = static_cast<u8>(random());
  EXPECT_EQ(write_now(*file, 1'000'003, written), 0);
  EXPECT_EQ(file->size(), 1'300'003u);
  EXPECT_EQ(flush_now(*file), 0);
  std::vector<u8> read(400'000, 0xee);
  EXPECT_EQ(read_now(*file, 999'000, read), 0);
  EXPECT_TRUE(is_zero(std::span(read).first(1003)));
  EXPECT_TRUE(std::equal(written.begin(), written.end(), read.begin() + 1003));
  EXPECT_TRUE(is_zero(std::span(read).subspan(301'003)));  // behind the end of the file

  EXPECT_EQ(zero_now(*file, 1'000'003, 100'000), 0);
  EXPECT_EQ(read_now(*file, 1'000'003, std::span(read).first(200'000)), 0);
  EXPECT_TRUE(is_zero(std::span(read).first(100'000)));
  EXPECT_TRUE(std::equal(written.begin() + 100'000, written.begin() + 200'000, read.begin() + 100'000));
}

TEST_P(EachLoop, a_released_range_leaves_the_disk) {
  const auto file = HostFile::create(*loop, folder.path("image")).take();
  EXPECT_EQ(write_now(*file, 0, std::vector<u8>(8 * kMiB, 7)), 0);
  EXPECT_EQ(flush_now(*file), 0);
  const u64 before = file->allocated_bytes();
  EXPECT_EQ(zero_now(*file, kMiB, 6 * kMiB), 0);
  EXPECT_LE(file->allocated_bytes() + 5 * kMiB, before);
  EXPECT_EQ(file->size(), 8 * kMiB);
  EXPECT_FALSE(file->extent_at(0).is_hole);
  EXPECT_EQ(file->extent_at(0).end, kMiB);
  EXPECT_TRUE(file->extent_at(2 * kMiB).is_hole);
  EXPECT_EQ(file->extent_at(2 * kMiB).end, 7 * kMiB);
}

// More at once than the ring or the threads hold; none is lost, each sees its own bytes.
TEST_P(EachLoop, many_operations_at_once) {
  const int file = ::open(folder.path("image").c_str(), O_RDWR | O_CREAT, 0600);
  ASSERT_GE(file, 0);
  constexpr usize kMany = 1000;
  std::vector<u32> values(kMany * 1024);
  for (usize i = 0; i < values.size(); ++i) values[i] = static_cast<u32>(i);
  std::vector<Counted> requests(kMany);
  std::vector<iovec> pieces(kMany);
  for (const Request::Kind kind : {Request::Kind::Write, Request::Kind::Read}) {
    int complete = 0;
    if (kind == Request::Kind::Read) values.assign(values.size(), 0);
    for (usize i = 0; i < kMany; ++i) {
      pieces[i] = {values.data() + i * 1024, 4096};
      requests[i].count = &complete;
      requests[i].kind = kind;
      requests[i].offset = (kMany - 1 - i) * 4096;
      requests[i].length = 4096;
      requests[i].buffers = {&pieces[i], 1};
      loop->start(file, requests[i]);
    }
    while (complete < static_cast<int>(kMany)) loop->wait();
    for (const Counted& request : requests) EXPECT_EQ(request.error, 0);
  }
  ::close(file);
  for (usize i = 0; i < values.size(); ++i) ASSERT_EQ(values[i], i);
}

TEST_P(EachLoop, failures_come_back_as_errors) {
  const auto file = HostFile::create(*loop, folder.path("image")).take();
  rlimit before = {};
  getrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, SIG_IGN);
  const rlimit small = {kMiB, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const int error = write_now(*file, kMiB - 4096, std::vector<u8>(8192, 1));
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_EQ(error, EFBIG);
}

// All that an image does to its file, threads being made meanwhile, as where io_uring is forbidden.
int use_confined(Loop::Kind kind, const std::string& path) {
  // As a VM does: for a further heap glibc looks up how many processors there are, in a file.
  mallopt(M_ARENA_MAX, 1);
  const auto loop = Loop::create(kind).take();
  const auto file = HostFile::create(*loop, path).take();
  if (!host::confine(host::ThreadRole::Device)) return 1;
  std::vector<u8> bytes(4 * kMiB, 3);
  int error = write_now(*file, 0, bytes);
  std::vector<Counted> requests(40);
  int complete = 0;
  // Each to a place of its own, as what threads write at once must be.
  constexpr usize kPiece = 64 * kKiB;
  std::vector<iovec> pieces(requests.size());
  for (usize i = 0; i < requests.size(); i++) {
    Counted& request = requests[i];
    pieces[i] = {bytes.data() + i * kPiece, kPiece};
    request.count = &complete;
    request.kind = Request::Kind::Read;
    request.offset = i * kPiece;
    request.length = kPiece;
    request.buffers = {&pieces[i], 1};
    loop->start(file->number(), request);
  }
  while (complete < 40) loop->wait();
  for (const Counted& request : requests) error |= request.error;
  error |= zero_now(*file, kMiB, kMiB) | flush_now(*file) | file->resize(8 * kMiB);
  static_cast<void>(file->extent_at(0));
  return error == 0 && read_now(*file, kMiB, bytes) == 0 && bytes[0] == 0 ? 0 : 2;
}

TEST_P(EachLoop, is_allowed_all_it_needs_under_the_filter_of_a_disks_thread) {
  EXPECT_EXIT(_exit(use_confined(GetParam(), folder.path("image"))), ::testing::ExitedWithCode(0), "");
}

INSTANTIATE_TEST_SUITE_P(Loops, EachLoop, ::testing::Values(Loop::Kind::IoUring, Loop::Kind::Threads),
                         [](const auto& about) {
                           return about.param == Loop::Kind::IoUring ? "io_uring" : "threads";
                         });

struct RawImage : ::testing::Test {
  Folder folder;
  std::unique_ptr<Loop> loop = Loop::create().take();
};

TEST_F(RawImage, keeps_to_its_size_and_its_rights) {
  folder.write("image", std::vector<u8>(10'000, 5));
  Raw image(HostFile::open(*loop, folder.path("image"), Access::ReadOnly).take(), Access::ReadOnly,
            Raw::Said::ByUser);
  std::vector<u8> bytes(100);
  EXPECT_EQ(image.size(), 10'000u);
  EXPECT_EQ(read_now(image, 9'900, bytes), 0);
  EXPECT_EQ(bytes, std::vector<u8>(100, 5));
  EXPECT_EQ(read_now(image, 9'901, bytes), EINVAL);
  EXPECT_EQ(read_now(image, ~u64{0} - 10, bytes), EINVAL);
  EXPECT_EQ(write_now(image, 0, bytes), EROFS);
  EXPECT_EQ(do_now(image, Request::Kind::Discard, 0, 4096), EROFS);
  EXPECT_EQ(do_now(image, Request::Kind::Flush, 0, 0), 0);
}

TEST_F(RawImage, a_guest_cannot_make_another_format_of_it) {
  folder.write("image", std::vector<u8>(10'000, 0));
  Raw image(HostFile::open(*loop, folder.path("image"), Access::ReadWrite).take(), Access::ReadWrite,
            Raw::Said::ByNobody);
  const std::vector<u8> header = {'Q', 'F', 'I', 0xfb, 0, 0, 0, 3};
  EXPECT_EQ(write_now(image, 0, header), EPERM);
  EXPECT_EQ(write_now(image, 512, header), 0);
  EXPECT_EQ(write_now(image, 0, std::span(header).first(3)), EPERM);
  EXPECT_EQ(write_now(image, 3, std::span(header).subspan(3, 1)), EPERM);
  EXPECT_EQ(write_now(image, 0, std::vector<u8>(512, 1)), 0);
}

TEST(ImageLock, one_writer_or_many_readers) {
  const Folder folder;
  folder.write("image", std::vector<u8>(512, 0));
  const auto loop = Loop::create().take();
  const auto open = [&](Access access, Locking locking = Locking::Locked) {
    return HostFile::open(*loop, folder.path("image"), access, locking);
  };
  {
    const auto writer = open(Access::ReadWrite);
    EXPECT_TRUE(writer.ok());
    const auto second = open(Access::ReadWrite);
    ASSERT_FALSE(second.ok());
    EXPECT_NE(std::string(second.error().message()).find("in use by another process"), std::string::npos);
    EXPECT_FALSE(open(Access::ReadOnly).ok());
    EXPECT_TRUE(open(Access::ReadOnly, Locking::Unlocked).ok());
  }
  const auto reader = open(Access::ReadOnly);
  EXPECT_TRUE(reader.ok());
  EXPECT_TRUE(open(Access::ReadOnly).ok());
  EXPECT_FALSE(open(Access::ReadWrite).ok());
}

TEST(HostFile, what_is_not_an_image_is_refused_in_a_sentence) {
  const Folder folder;
  const auto loop = Loop::create().take();
  const auto missing = HostFile::open(*loop, folder.path("missing"), Access::ReadOnly);
  ASSERT_FALSE(missing.ok());
  EXPECT_NE(std::string(missing.error().message()).find("No such file"), std::string::npos);
  EXPECT_FALSE(HostFile::open(*loop, folder.path(""), Access::ReadOnly).ok());
  EXPECT_FALSE(HostFile::open(*loop, "/dev/null", Access::ReadWrite).ok());
}

}  // namespace
}  // namespace nacre::storage
