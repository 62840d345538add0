// What goes wrong: a full disk, a disk that fails, images that are damaged or impossible.
#include <gtest/gtest.h>

#include "storage/open.hpp"
#include "storage/testing/disk_model.hpp"
#include "storage/testing/folder.hpp"

namespace nacre::storage::qcow2 {
namespace {

using namespace nacre::storage::testing;

NewImage image_of(u64 size, u32 cluster_bits = 12) {
  NewImage image;
  image.size = size;
  image.cluster_bits = cluster_bits;
  return image;
}

// Guests go on when the host's disk is full: writes that need room fail, everything else works, and when
// there is room again nothing is missing.
TEST(Qcow2, a_full_disk_loses_nothing) {
  for (const u64 room : {100 * kKiB, 150 * kKiB, 263 * kKiB, 400 * kKiB}) {
    const State state = new_qcow2(image_of(2 * kMiB, 9));
    auto image = open_qcow2(state, 3, nullptr, {Access::ReadWrite, 16 * kKiB, nullptr}).take();
    state->most_bytes = room;
    std::vector<u8> model(2 * kMiB);
    std::mt19937 random(1);
    usize failures = 0;
    const auto write = [&] {
      const u64 offset = random() % (model.size() / 512) * 512;
      const std::vector<u8> bytes(512, static_cast<u8>(1 + random() % 255));
      const int error = write_now(*image, offset, bytes);
      if (error == 0) {
        std::copy(bytes.begin(), bytes.end(), model.begin() + static_cast<i64>(offset));
        return;
      }
      EXPECT_EQ(error, ENOSPC);
      ++failures;
      // What failed may have been done in part; here it is made sure what is there.
      std::vector<u8> now(512);
      EXPECT_EQ(read_now(*image, offset, now), 0);
      const auto before = std::span(model).subspan(offset, 512);
      EXPECT_TRUE(now == bytes || std::equal(now.begin(), now.end(), before.begin()));
      std::copy(now.begin(), now.end(), before.begin());
    };
    for (int i = 0; i < 1200; ++i) {
      write();
      if (i % 100 == 0) static_cast<void>(do_now(*image, Request::Kind::Flush, 0, 0));
    }
    EXPECT_GT(failures, 0u);
    std::vector<u8> all(model.size());
    ASSERT_EQ(read_now(*image, 0, all), 0);
    ASSERT_TRUE(all == model);
    state->most_bytes = ~u64{0};
    EXPECT_EQ(do_now(*image, Request::Kind::Flush, 0, 0), 0);
    failures = 0;
    for (int i = 0; i < 200; ++i) write();
    EXPECT_EQ(failures, 0u);
    EXPECT_TRUE(image->close().ok());
    EXPECT_TRUE(is_sound(state, true));
    image = open_qcow2(state, 0, nullptr, {Access::ReadOnly, 8 * kMiB, nullptr}).take();
    ASSERT_EQ(read_now(*image, 0, all), 0);
    EXPECT_TRUE(all == model);
  }
}

// A host that fails from some request on: no crash, no hang, and what the file then holds is sound.
TEST(Qcow2, a_failing_disk_leaves_a_sound_image) {
  for (u64 fail_after = 0; fail_after < 400; fail_after += 3) {
    const State state = new_qcow2(image_of(kMiB, 9));
    {
      const auto image = open_qcow2(state, 1, nullptr, {Access::ReadWrite, 8 * kKiB, nullptr}).take();
      state->fail_after = fail_after;
      std::mt19937 random(static_cast<u32>(fail_after));
      for (int i = 0; i < 60; ++i) {
        const u64 offset = random() % (kMiB / 512 - 8) * 512;
        if (i % 9 == 8) {
          static_cast<void>(do_now(*image, Request::Kind::Flush, 0, 0));
        } else if (i % 7 == 6) {
          static_cast<void>(do_now(*image, Request::Kind::Discard, offset, 4096));
        } else {
          static_cast<void>(write_now(*image, offset, std::vector<u8>(1 + random() % 4096, 7)));
        }
      }
      static_cast<void>(image->close());
    }
    state->fail_after = ~u64{0};
    EXPECT_TRUE(is_sound(state, true)) << fail_after;
  }
}

TEST(Qcow2, a_file_system_without_holes_will_do) {
  const State state = new_qcow2(image_of(kMiB));
  state->supports_holes = false;
  auto image = open_qcow2(state, 2).take();
  EXPECT_EQ(write_now(*image, 0, std::vector<u8>(kMiB, 9)), 0);
  EXPECT_EQ(do_now(*image, Request::Kind::Discard, 0, kMiB / 2), 0);
  EXPECT_EQ(do_now(*image, Request::Kind::Flush, 0, 0), 0);
  EXPECT_EQ(write_now(*image, 100, std::vector<u8>(10, 1)), 0);  // into a place that was used before
  std::vector<u8> bytes(4096);
  EXPECT_EQ(read_now(*image, 0, bytes), 0);
  EXPECT_TRUE(is_zero(std::span(bytes).first(100)));
  EXPECT_TRUE(is_zero(std::span(bytes).subspan(110)));
  EXPECT_TRUE(image->close().ok());
  EXPECT_TRUE(is_sound(state));
}

TEST(Qcow2, damage_found_while_running_marks_the_image) {
  const State state = new_qcow2(image_of(kMiB, 16));
  {
    const auto image = open_qcow2(state).take();
    EXPECT_EQ(write_now(*image, 0, std::vector<u8>(512, 1)), 0);
    EXPECT_TRUE(image->close().ok());
  }
  MemoryFile file(state);
  const Header header = read_header(file, "memory").take();
  const u64 l2 = load_big<u64>(&state->content[header.l1_offset]) & kOffsetMask;
  const auto damage = [&](u64 entry) { store_big(&state->content[l2], entry); };
  const u64 good = load_big<u64>(&state->content[l2]);
  std::vector<u8> bytes(512);
  // Misaligned; on the header; on the L1 table; on the refcount table.
  for (const u64 entry : {good + 512, u64{0} | kCopied | 1 << 9, header.l1_offset | kCopied,
                          header.refcount_table_offset | kCopied}) {
    damage(entry);
    store_big(&state->content[Field::incompatible], u64{0});
    const std::vector<u8> before = state->content;
    {
      const auto image = open_qcow2(state).take();
      EXPECT_EQ(write_now(*image, 0, bytes), EIO);
      EXPECT_EQ(write_now(*image, 65536, bytes), EIO);
    }
    EXPECT_EQ(load_big<u64>(&state->content[Field::incompatible]), Incompatible::corrupt);
    store_big(&state->content[Field::incompatible], u64{0});
    EXPECT_TRUE(state->content == before);
    store_big(&state->content[Field::incompatible], Incompatible::corrupt);
    EXPECT_FALSE(open_qcow2(state).ok());
    EXPECT_TRUE(open_qcow2(state, 0, nullptr, {Access::ReadOnly, 8 * kMiB, nullptr}).ok());
    EXPECT_GT(check_qcow2(state).take().corruptions, 0u);
  }
}

// Found by qcow2_image_fuzz: an L1 entry that says "mine" of nothing was looked up for ever.
TEST(Qcow2, an_l1_entry_without_a_table_is_damage) {
  const State state = new_qcow2(image_of(kMiB, 16));
  MemoryFile file(state);
  const Header header = read_header(file, "memory").take();
  for (const u64 entry : {kCopied, u64{1} << 60, (u64{5} << 16 | 512)}) {
    store_big(&state->content[header.l1_offset], entry);
    store_big(&state->content[Field::incompatible], u64{0});
    const auto image = open_qcow2(state).take();
    std::vector<u8> bytes(512);
    EXPECT_EQ(read_now(*image, 0, bytes), EIO);
    EXPECT_EQ(write_now(*image, 0, bytes), EIO);
    EXPECT_EQ(do_now(*image, Request::Kind::WriteZeroes, 0, kMiB), EIO);
  }
}

TEST(Qcow2, check_gives_lost_space_back) {
  const State state = new_qcow2(image_of(kMiB));
  {
    const auto image = open_qcow2(state).take();
    EXPECT_EQ(write_now(*image, 0, std::vector<u8>(65536, 1)), 0);
    EXPECT_TRUE(image->close().ok());
  }
  MemoryFile file(state);
  const Header header = read_header(file, "memory").take();
  const u64 block = load_big<u64>(&state->content[header.refcount_table_offset]);
  const u64 used = state->content.size() >> 12;
  state->content.resize(state->content.size() + 3 * 4096);
  for (u64 i = 0; i < 3; ++i) write_count(&state->content[block], used + i, 4, 1);
  write_count(&state->content[block], used - 1, 4, 2);
  EXPECT_EQ(check_qcow2(state).take().leaks, 4u);
  const CheckReport repaired = check_qcow2(state, Repair::Leaks).take();
  EXPECT_EQ(repaired.leaks_repaired, 4u);
  EXPECT_TRUE(is_sound(state));

  write_count(&state->content[block], used - 1, 4, 0);
  EXPECT_EQ(check_qcow2(state, Repair::Leaks).take().corruptions_repaired, 0u);
  EXPECT_EQ(check_qcow2(state, Repair::Counts).take().corruptions_repaired, 1u);
  EXPECT_TRUE(is_sound(state));
}

struct BadImages : ::testing::Test {
  std::string refusal(const std::string& name, OpenOptions options = {}) {
    const auto image = open_image(*loop, folder.path(name), options);
    if (image.ok()) return "opened";
    return image.error().message();
  }
  // An image of 1 MiB after `change`.
  template <typename Change>
  std::string refusal_of(Change change) {
    const State state = new_qcow2(image_of(kMiB, 16));
    change(state->content);
    folder.write("image", state->content);
    return refusal("image");
  }
  Folder folder;
  std::unique_ptr<Loop> loop = Loop::create().take();
};

TEST_F(BadImages, end_in_one_sentence) {
  const auto word = [](u32 at, u32 value) {
    return [=](std::vector<u8>& content) { store_big(&content[at], value); };
  };
  const auto quad = [](u32 at, u64 value) {
    return [=](std::vector<u8>& content) { store_big(&content[at], value); };
  };
  const std::vector<std::pair<std::string, std::string>> cases = {
      {refusal_of([](std::vector<u8>& content) { content.resize(40); }), "truncated"},
      {refusal_of([](std::vector<u8>& content) { content.resize(100); }), "truncated"},
      {refusal_of([](std::vector<u8>& content) { content.resize(70000); }), "truncated"},
      {refusal_of(word(Field::version, 4)), "of version 4"},
      {refusal_of(word(Field::cluster_bits, 8)), "clusters"},
      {refusal_of(word(Field::cluster_bits, 60)), "clusters"},
      {refusal_of(quad(Field::size, ~u64{0})), "larger than any"},
      {refusal_of(quad(Field::size, u64{1} << 50)), "L1 table too small"},
      {refusal_of(word(Field::l1_entries, 5'000'000)), "L1 table larger than 32 MiB"},
      {refusal_of(word(Field::l1_entries, 0)), "L1 table too small"},
      {refusal_of(quad(Field::l1_offset, u64{1} << 40)), "outside of the file"},
      {refusal_of(quad(Field::l1_offset, 65537)), "outside of the file"},
      {refusal_of(word(Field::refcount_table_clusters, 1000)), "refcount table larger"},
      {refusal_of(word(Field::refcount_table_clusters, 0)), "no refcount table"},
      {refusal_of(quad(Field::refcount_table_offset, ~u64{0} - 65535)), "outside of the file"},
      {refusal_of(word(Field::crypt, 1)), "encrypted with AES"},
      {refusal_of(word(Field::crypt, 2)), "encrypted with LUKS"},
      {refusal_of(quad(Field::incompatible, Incompatible::external_data)), "external file"},
      {refusal_of(quad(Field::incompatible, Incompatible::extended_l2)), "extended L2"},
      {refusal_of(quad(Field::incompatible, 1 << 20)), "does not know"},
      {refusal_of(word(Field::refcount_order, 7)), "refcounts wider"},
      {refusal_of(word(Field::header_length, 90)), "header length"},
      {refusal_of(word(Field::header_length, 0xfffffff8)), "header length"},
      {refusal_of(word(Field::snapshots, 70000)), "snapshots"},
      {refusal_of([](std::vector<u8>& content) {
         store_big(&content[112], u32{0xe2792aca});
         store_big(&content[116], ~u32{0});
       }),
       "extension"},
      {refusal_of([](std::vector<u8>& content) {
         store_big(&content[Field::backing_offset], u64{70000});
         store_big(&content[Field::backing_length], u32{10});
       }),
       "name of its backing file"},
  };
  for (const auto& [sentence, expected] : cases) {
    EXPECT_NE(sentence.find(expected), std::string::npos) << sentence;
    EXPECT_EQ(sentence.find('.'), sentence.size() - 1)
        << sentence;  // one sentence; the path has no full stop
  }
  folder.write("text", std::vector<u8>(1000, 'x'));
  OpenOptions options;
  options.format = Format::Qcow2;
  EXPECT_NE(refusal("text", options).find("not in the qcow2 format"), std::string::npos);
}

TEST_F(BadImages, chains_that_come_back_or_do_not_end) {
  const auto make = [&](const std::string& name, const std::string& backing, const std::string& format) {
    NewImage wanted = image_of(kMiB);
    wanted.backing_name = backing;
    wanted.backing_format = format;
    folder.write(name, new_qcow2(wanted)->content);
  };
  OpenOptions said;
  said.format = Format::Qcow2;
  make("self", "self", "qcow2");
  EXPECT_NE(refusal("self", said).find("its own backing file"), std::string::npos) << refusal("self", said);
  make("a", "b", "qcow2");
  make("b", "./a", "qcow2");
  EXPECT_NE(refusal("a", said).find("its own backing file"), std::string::npos) << refusal("a", said);
  for (int i = 0; i < 70; ++i) make("chain" + std::to_string(i), "chain" + std::to_string(i + 1), "qcow2");
  EXPECT_NE(refusal("chain0", said).find("longer than 64"), std::string::npos);
  make("far", "nbd://localhost/disk", "raw");
  EXPECT_NE(refusal("far", said).find("not a file of this host"), std::string::npos);
  make("strange", "a", "vmdk");
  EXPECT_NE(refusal("strange", said).find("in the format vmdk"), std::string::npos);
  make("orphan", "gone", "raw");
  EXPECT_NE(refusal("orphan", said).find("No such file"), std::string::npos);
}

}  // namespace
}  // namespace nacre::storage::qcow2
