// Against the field's own tools: images that they make and write, read and written by us by turns, and the
// other way round. Skipped where qemu-utils is not installed.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "storage/open.hpp"
#include "storage/qcow2/check.hpp"
#include "storage/qcow2/create.hpp"
#include "storage/testing/folder.hpp"

namespace nacre::storage {
namespace {

using namespace nacre::storage::testing;

struct Oracle : ::testing::Test {
  void SetUp() override { NACRE_NEEDS_QEMU_TOOLS(); }
  std::unique_ptr<Image> open(const std::string& name, Access access = Access::ReadWrite) {
    auto image = open_image(*loop, folder.path(name), {.access = access, .format = Format::Qcow2, .cache_bytes = 64 * kKiB});
    EXPECT_TRUE(image.ok()) << (image.ok() ? "" : image.error().message());
    return image.ok() ? image.take() : nullptr;
  }
  void qemu_img(const std::string& arguments) {
    const Outcome outcome = run("cd " + folder.path("") + " && qemu-img " + arguments);
    EXPECT_EQ(outcome.status, 0) << "qemu-img " << arguments << "\n" << outcome.output;
  }
  void close(std::unique_ptr<Image> image) { EXPECT_TRUE(image->close().ok()); }
  // Both think that it is sound and without leaks.
  void check(const std::string& name) {
    qemu_img("check " + name);
    auto file = HostFile::open(*loop, folder.path(name), Access::ReadOnly).take();
    const auto header = qcow2::read_header(*file, name).take();
    const auto report = qcow2::check(*file, header, name, qcow2::Repair::Nothing).take();
    EXPECT_EQ(report.corruptions, 0u) << report.findings.front();
    EXPECT_EQ(report.leaks, 0u) << report.findings.front();
  }
  std::vector<u8> read_all(Image& image) {
    std::vector<u8> bytes(image.size());
    EXPECT_EQ(read_now(image, 0, bytes), 0);
    return bytes;
  }

  Folder folder;
  std::unique_ptr<Loop> loop = Loop::create().take();
};

// qemu-io's commands for random operations, carried out on the model too.
std::string random_commands(std::mt19937& random, std::vector<u8>& model, int count) {
  std::string commands;
  for (int i = 0; i < count; ++i) {
    const u64 sectors = model.size() / 512;
    const u64 first = random() % sectors;
    const u64 length = 1 + random() % std::min<u64>(sectors - first, random() % 5 == 0 ? 400 : 20);
    const auto range = std::span(model).subspan(first * 512, length * 512);
    const std::string where = " " + std::to_string(first * 512) + " " + std::to_string(length * 512);
    switch (random() % 5) {
      case 0:
        commands += " -c 'write -z -u" + where + "'";
        std::fill(range.begin(), range.end(), u8{0});
        break;
      case 1:
        commands += " -c flush";
        break;
      default: {
        const u32 pattern = 1 + static_cast<u32>(random() % 255);
        commands += " -c 'write -P " + std::to_string(pattern) + where + "'";
        std::fill(range.begin(), range.end(), static_cast<u8>(pattern));
      }
    }
  }
  return commands;
}

void random_operations(std::mt19937& random, Image& image, std::vector<u8>& model, int count) {
  for (int i = 0; i < count; ++i) {
    const u64 first = random() % model.size();
    const u64 length =
        1 + random() % std::min<u64>(model.size() - first, random() % 5 == 0 ? 200'000 : 10'000);
    const auto range = std::span(model).subspan(first, length);
    switch (random() % 5) {
      case 0:
        ASSERT_EQ(do_now(image, Request::Kind::WriteZeroes, first, length,
                         random() % 2 == 0 ? Request::Space::Keep : Request::Space::Release),
                  0);
        std::fill(range.begin(), range.end(), u8{0});
        break;
      case 1:
        ASSERT_EQ(do_now(image, Request::Kind::Flush, 0, 0), 0);
        break;
      default: {
        const std::vector<u8> bytes(length, static_cast<u8>(1 + random() % 255));
        ASSERT_EQ(write_now(image, first, bytes), 0);
        std::copy(bytes.begin(), bytes.end(), range.begin());
      }
    }
  }
}

struct Made {
  const char* name;
  const char* options;
};

class EachMade : public Oracle, public ::testing::WithParamInterface<Made> {};

TEST_P(EachMade, by_turns) {
  constexpr u64 kDisk = 5 * kMiB + 512;
  std::mt19937 random(11);
  std::vector<u8> model(kDisk);
  const bool overlay = std::string(GetParam().options).find("-b ") != std::string::npos;
  if (overlay) {
    for (u64 i = 0; i < 3 * kMiB; ++i) model[i] = static_cast<u8>(random());
    folder.write("below.raw", std::span(model).first(3 * kMiB));
  }
  qemu_img(std::string("create -q -f qcow2 ") + GetParam().options + " disk " + std::to_string(kDisk));
  for (int turn = 0; turn < 3; ++turn) {
    const Outcome theirs =
        run("qemu-io -f qcow2" + random_commands(random, model, 40) + " " + folder.path("disk"));
    ASSERT_EQ(theirs.status, 0) << theirs.output;
    {
      auto image = open("disk");
      ASSERT_TRUE(image);
      ASSERT_TRUE(read_all(*image) == model) << "we misread what qemu-io wrote";
      random_operations(random, *image, model, 60);
      close(std::move(image));
    }
    check("disk");
    folder.write("model", model);
    qemu_img("compare -f qcow2 -F raw disk model");
  }
}

INSTANTIATE_TEST_SUITE_P(Images, EachMade,
                         ::testing::Values(Made{"usual", ""}, Made{"version2", "-o compat=0.10"},
                                           Made{"overlay", "-b below.raw -F raw"},
                                           Made{"overlay_version2",
                                                "-b below.raw -F raw -o compat=0.10,cluster_size=4096"},
                                           Made{"cluster512", "-b below.raw -F raw -o cluster_size=512"},
                                           Made{"cluster2M", "-o cluster_size=2M"},
                                           Made{"refcount1", "-o refcount_bits=1,cluster_size=4096"},
                                           Made{"refcount64", "-o refcount_bits=64,cluster_size=1024"},
                                           Made{"lazy", "-o lazy_refcounts=on"},
                                           Made{"preallocated", "-o preallocation=metadata"}),
                         [](const auto& about) { return about.param.name; });

struct Compressed : Oracle, ::testing::WithParamInterface<const char*> {};

TEST_P(Compressed, clusters_are_read_and_replaced) {
  std::vector<u8> model(4 * kMiB);
  std::mt19937 random(3);
  for (u64 at = 0; at < model.size(); at += 1024)
    std::fill_n(model.begin() + static_cast<i64>(at), 700, static_cast<u8>(random()));
  folder.write("plain", model);
  qemu_img(std::string("convert -c -f raw -O qcow2 -o compression_type=") + GetParam() + " plain disk");
  ASSERT_LT(std::filesystem::file_size(folder.path("disk")), 2 * kMiB);
  {
    auto image = open("disk");
    ASSERT_TRUE(read_all(*image) == model);
    random_operations(random, *image, model, 50);
    ASSERT_TRUE(read_all(*image) == model);
    close(std::move(image));
  }
  check("disk");
  folder.write("model", model);
  qemu_img("compare -f qcow2 -F raw disk model");
}

INSTANTIATE_TEST_SUITE_P(Types, Compressed, ::testing::Values("zlib", "zstd"),
                         [](const auto& about) { return std::string(about.param); });

TEST_F(Oracle, snapshots_are_kept_and_read) {
  constexpr u64 kDisk = 4 * kMiB;
  std::mt19937 random(4);
  std::vector<u8> model(kDisk);
  qemu_img("create -q -f qcow2 -o cluster_size=4096 disk 4M");
  std::vector<std::vector<u8>> states;
  for (const char* name : {"first", "second"}) {
    const Outcome theirs =
        run("qemu-io -f qcow2" + random_commands(random, model, 30) + " " + folder.path("disk"));
    ASSERT_EQ(theirs.status, 0) << theirs.output;
    qemu_img(std::string("snapshot -c ") + name + " disk");
    states.push_back(model);
    auto image = open("disk");
    random_operations(random, *image, model, 60);
    close(std::move(image));
    check("disk");
  }
  folder.write("model", model);
  qemu_img("compare -f qcow2 -F raw disk model");
  for (const usize i : {0u, 1u}) {
    OpenOptions options;
    options.snapshot = i == 0 ? "first" : "2";
    const auto image = open_image(*loop, folder.path("disk"), options).take();
    EXPECT_TRUE(read_all(*image) == states[i]);
    folder.write("model", states[i]);
  }
  qemu_img("snapshot -a first disk");
  folder.write("model", states[0]);
  qemu_img("compare -f qcow2 -F raw disk model");
  qemu_img("snapshot -d first disk");
  qemu_img("snapshot -d second disk");
  check("disk");
}

TEST_F(Oracle, ours_are_theirs) {
  std::mt19937 random(5);
  for (const u32 version : {2u, 3u}) {
    for (const u32 bits : {9u, 12u, 16u, 21u}) {
      qcow2::NewImage wanted;
      wanted.version = version;
      wanted.cluster_bits = bits;
      wanted.size = 3 * kMiB;
      wanted.backing_name = "below.raw";
      wanted.backing_format = "raw";
      std::vector<u8> model(wanted.size);
      std::fill_n(model.begin(), kMiB, u8{0x44});
      folder.write("below.raw", std::span(model).first(kMiB));
      const std::string name = "disk" + std::to_string(version) + "_" + std::to_string(bits);
      auto file = HostFile::create(*loop, folder.path(name)).take();
      ASSERT_TRUE(qcow2::format_file(*file, wanted, name).ok());
      file.reset();
      check(name);
      const Outcome theirs =
          run("qemu-io -f qcow2" + random_commands(random, model, 20) + " " + folder.path(name));
      ASSERT_EQ(theirs.status, 0) << theirs.output;
      file = HostFile::open(*loop, folder.path(name), Access::ReadWrite).take();
      ASSERT_TRUE(qcow2::grow(*file, 40 * kMiB, name).ok());
      file.reset();
      check(name);
      model.resize(40 * kMiB);
      auto image = open(name);
      random_operations(random, *image, model, 30);
      close(std::move(image));
      check(name);
      folder.write("model", model);
      qemu_img("compare -f qcow2 -F raw " + name + " model");
    }
  }
}

TEST_F(Oracle, locks_are_understood_by_both) {
  qemu_img("create -q -f qcow2 disk 1M");
  {
    auto image = open("disk");
    const Outcome theirs = run("qemu-io -f qcow2 -c 'write 0 512' " + folder.path("disk"));
    EXPECT_NE(theirs.status, 0);
    EXPECT_NE(theirs.output.find("lock"), std::string::npos) << theirs.output;
    EXPECT_NE(run("qemu-img info " + folder.path("disk")).status, 0);
    EXPECT_EQ(run("qemu-img info -U " + folder.path("disk")).status, 0);
    close(std::move(image));
  }
  {
    const auto reader = open("disk", Access::ReadOnly);
    EXPECT_EQ(run("qemu-img info " + folder.path("disk")).status, 0);
    EXPECT_NE(run("qemu-io -f qcow2 -c 'write 0 512' " + folder.path("disk")).status, 0);
  }
  // And when they have it. qemu-io ends with its standard input.
  FILE* theirs = popen(("qemu-io -f qcow2 -c 'write 0 512' " + folder.path("disk") + " -c 'sleep 3000' >" +
                        folder.path("out") + " 2>&1")
                           .c_str(),
                       "r");
  bool refused = false;
  for (int i = 0; i < 400 && !refused; ++i) {
    refused = !open_image(*loop, folder.path("disk"), {.access = Access::ReadWrite}).ok();
    usleep(5000);
  }
  pclose(theirs);
  EXPECT_TRUE(refused);
}

// What a killed qemu leaves with lazy refcounts: counts that were never written.
TEST_F(Oracle, a_dirty_image_is_repaired_when_it_is_opened_for_writing) {
  qemu_img("create -q -f qcow2 -o lazy_refcounts=on disk 8M");
  static_cast<void>(run("qemu-io -f qcow2 -c 'write -P 7 0 5M' -c flush -c abort " + folder.path("disk")));
  const auto header = [&] {
    const auto file = HostFile::open(*loop, folder.path("disk"), Access::ReadOnly).take();
    return qcow2::read_header(*file, "disk").take();
  };
  ASSERT_TRUE(header().is_dirty());
  {
    const auto reader = open("disk", Access::ReadOnly);
    std::vector<u8> bytes(5 * kMiB);
    EXPECT_EQ(read_now(*reader, 0, bytes), 0);
    EXPECT_EQ(bytes, std::vector<u8>(5 * kMiB, 7));
  }
  ASSERT_TRUE(header().is_dirty());
  auto image = open("disk");
  ASSERT_TRUE(image);
  close(std::move(image));
  EXPECT_FALSE(header().is_dirty());
  check("disk");
}

TEST_F(Oracle, bitmaps_are_counted_and_then_dropped) {
  qemu_img("create -q -f qcow2 disk 8M");
  qemu_img("bitmap --add disk changes");
  const Outcome theirs = run("qemu-io -f qcow2 -c 'write 0 3M' " + folder.path("disk"));
  ASSERT_EQ(theirs.status, 0) << theirs.output;
  check("disk");
  auto image = open("disk");
  EXPECT_EQ(write_now(*image, 0, std::vector<u8>(4096, 1)), 0);
  close(std::move(image));
  const Outcome checked = run("qemu-img check " + folder.path("disk"));
  EXPECT_EQ(checked.output.find("ERROR"), std::string::npos) << checked.output;
}

}  // namespace
}  // namespace nacre::storage
