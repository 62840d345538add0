// qcow2 on a file in memory: what is read is what was written, in every geometry, with operations under way
// together.
#include <gtest/gtest.h>

#include "storage/raw.hpp"
#include "storage/testing/disk_model.hpp"

namespace nacre::storage::qcow2 {
namespace {

using namespace nacre::storage::testing;

struct Shape {
  u32 version, cluster_bits, refcount_order;
  bool has_backing;
  u64 cache_bytes;
};

class EachShape : public ::testing::TestWithParam<Shape> {
 protected:
  static constexpr u64 kDisk = 3 * kMiB + 512 * 3;
  NewImage wanted() const {
    NewImage image;
    image.size = kDisk;
    image.version = GetParam().version;
    image.cluster_bits = GetParam().cluster_bits;
    image.refcount_order = GetParam().refcount_order;
    if (GetParam().has_backing) image.backing_name = "below";
    return image;
  }
  // A backing image that is shorter than the disk.
  std::unique_ptr<Image> backing() {
    if (!GetParam().has_backing) return nullptr;
    auto below = std::make_shared<MemoryFile::State>();
    below->content.assign(model.begin(), model.begin() + kDisk / 2 + 100);
    return std::make_unique<Raw>(std::make_unique<MemoryFile>(below), Access::ReadOnly, Raw::Said::ByUser);
  }
  void SetUp() override {
    if (!GetParam().has_backing) return;
    std::mt19937 random(5);
    for (u64 i = 0; i < kDisk / 2 + 100; ++i) model[i] = static_cast<u8>(random());
  }
  std::vector<u8> model = std::vector<u8>(kDisk);
};

// Ranges of operations under way together do not overlap here, so that there is one right answer; they do
// share clusters.
TEST_P(EachShape, reads_what_was_written) {
  const State state = new_qcow2(wanted());
  for (u32 session = 1; session <= 3; ++session) {
    auto opened = open_qcow2(state, session, backing(), {Access::ReadWrite, GetParam().cache_bytes, nullptr});
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    const auto image = opened.take();
    std::mt19937 random(session);
    for (int round = 0; round < 150; ++round) {
      std::list<Submitted> requests;
      std::vector<u8> taken(kDisk / 512 + 1);
      for (int i = 0; i < 8; ++i) {
        const u64 most = random() % 8 == 0 ? 300'000 : 9000;
        const u64 offset = random() % 4 == 0 ? random() % kDisk : random() % (kDisk / 16);
        const u64 length = 1 + random() % std::min(most, kDisk - offset);
        const auto touched =
            std::span(taken).subspan(offset / 512, (offset + length - 1) / 512 - offset / 512 + 1);
        if (!is_zero(touched)) continue;
        std::fill(touched.begin(), touched.end(), u8{1});
        Submitted& request = requests.emplace_back();
        request.offset = offset;
        const auto where = std::span(model).subspan(offset, length);
        switch (random() % 8) {
          case 0:
          case 1:
          case 2:
          case 3:
            request.kind = Request::Kind::Write;
            request.bytes.resize(length);
            for (u8& byte : request.bytes) byte = static_cast<u8>(random());
            std::copy(request.bytes.begin(), request.bytes.end(), where.begin());
            break;
          case 4:
            request.kind = Request::Kind::WriteZeroes;
            request.space = random() % 2 == 0 ? Request::Space::Keep : Request::Space::Release;
            request.length = length;
            std::fill(where.begin(), where.end(), u8{0});
            break;
          case 5:
            request.kind = Request::Kind::Flush;
            break;
          default:
            request.kind = Request::Kind::Read;
            request.bytes.resize(length);
            break;
        }
        request.start(*image);
      }
      for (Submitted& request : requests) {
        while (!request.is_complete) image->wait();
        ASSERT_EQ(request.error, 0);
        if (request.kind != Request::Kind::Read) continue;
        const auto right = std::span(model).subspan(request.offset, request.length);
        ASSERT_TRUE(std::equal(right.begin(), right.end(), request.bytes.begin()));
      }
    }
    std::vector<u8> all(kDisk);
    ASSERT_EQ(read_now(*image, 0, all), 0);
    ASSERT_TRUE(all == model);
    ASSERT_TRUE(image->close().ok());
    ASSERT_TRUE(is_sound(state));
  }
  const auto image =
      open_qcow2(state, 0, backing(), {Access::ReadOnly, GetParam().cache_bytes, nullptr}).take();
  std::vector<u8> all(kDisk);
  EXPECT_EQ(read_now(*image, 0, all), 0);
  EXPECT_TRUE(all == model);
}

TEST_P(EachShape, a_discard_gives_the_space_back) {
  const State state = new_qcow2(wanted());
  auto image = open_qcow2(state, 9, backing()).take();
  std::vector<u8> full(kDisk, 0xa7);
  ASSERT_EQ(write_now(*image, 0, full), 0);
  ASSERT_TRUE(image->close().ok());
  EXPECT_GE(state->content.size(), kDisk);
  image = open_qcow2(state, 10, backing()).take();
  ASSERT_EQ(do_now(*image, Request::Kind::Discard, 0, kDisk), 0);
  ASSERT_TRUE(image->close().ok());
  ASSERT_TRUE(is_sound(state));
  // Over a backing file, version 2 has no way to discard.
  if (GetParam().has_backing && GetParam().version == 2) return;
  EXPECT_EQ(std::count(state->content.begin(), state->content.end(), 0xa7), 0);
}

INSTANTIATE_TEST_SUITE_P(Shapes, EachShape,
                         ::testing::Values(Shape{3, 16, 4, false, 8 * kMiB}, Shape{3, 16, 4, true, 8 * kMiB},
                                           Shape{2, 16, 4, false, 8 * kMiB}, Shape{2, 12, 4, true, 64 * kKiB},
                                           Shape{3, 9, 4, true, 8 * kKiB}, Shape{3, 9, 6, false, 8 * kKiB},
                                           Shape{3, 9, 0, true, 16 * kKiB}, Shape{3, 10, 1, false, 16 * kKiB},
                                           Shape{3, 12, 2, true, 64 * kKiB},
                                           Shape{3, 12, 3, false, 64 * kKiB},
                                           Shape{3, 14, 5, true, 64 * kKiB}, Shape{3, 21, 4, true, 8 * kMiB}),
                         [](const auto& about) {
                           const Shape& shape = about.param;
                           return "v" + std::to_string(shape.version) + "_cluster" +
                                  std::to_string(shape.cluster_bits) + "_order" +
                                  std::to_string(shape.refcount_order) +
                                  (shape.has_backing ? "_overlay" : "");
                         });

}  // namespace
}  // namespace nacre::storage::qcow2
