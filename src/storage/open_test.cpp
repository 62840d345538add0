// Which format a file is opened in. What a guest can write on its raw disk must never decide it.
#include "storage/open.hpp"

#include <gtest/gtest.h>

#include "storage/testing/folder.hpp"
#include "storage/tools.hpp"

namespace nacre::storage {
namespace {

struct WhichFormat : ::testing::Test {
  testing::Folder folder;
  std::unique_ptr<Loop> loop = Loop::create().take();

  void raw(const std::string& name) { folder.write(name, std::vector<u8>(kMiB, 7)); }
  // What a guest may have written on its disk: an image over a file of the host.
  void qcow2(const std::string& name, const std::string& backing = "", bool says_format = true) {
    CreateRequest request;
    request.path = folder.path(name);
    request.format = Format::Qcow2;
    request.size = kMiB;
    if (!backing.empty()) {
      request.backing = folder.path(backing);
      request.backing_format = Format::Raw;
    }
    const Status created = create_image(*loop, request);
    ASSERT_TRUE(created) << created.error().message();
    if (says_format || backing.empty()) return;
    // Without the extension that names the backing file's format: its type becomes one that nobody knows.
    std::vector<u8> bytes = folder.read(name);
    const std::vector<u8> type = {0xe2, 0x79, 0x2a, 0xca};
    const auto at = std::search(bytes.begin(), bytes.end(), type.begin(), type.end());
    ASSERT_NE(at, bytes.end());
    *at = 0x11;
    folder.write(name, bytes);
  }
  std::string opened_as(const std::string& name, Unsaid unsaid, Format format = Format::Detect,
                        Access access = Access::ReadOnly) {
    OpenOptions options;
    options.access = access;
    options.unsaid = unsaid;
    options.format = format;
    const auto image = open_image(*loop, folder.path(name), options);
    return image ? name_of(image.value()->format()) : image.error().message();
  }
  static bool says(const std::string& sentence, const char* what) {
    return sentence.find(what) != std::string::npos;
  }
};

TEST_F(WhichFormat, a_disk_is_what_its_name_says) {
  raw("disk.img");
  qcow2("disk.qcow2");
  qcow2("DISK.QCOW2");
  EXPECT_EQ(opened_as("disk.img", Unsaid::ByName), "raw");
  EXPECT_EQ(opened_as("disk.qcow2", Unsaid::ByName), "qcow2");
  EXPECT_EQ(opened_as("DISK.QCOW2", Unsaid::ByName), "qcow2");
  raw("raw.qcow2");
  EXPECT_TRUE(says(opened_as("raw.qcow2", Unsaid::ByName), "is not in the qcow2 format"));
}

TEST_F(WhichFormat, a_disk_that_looks_otherwise_than_its_name_is_refused_until_somebody_says) {
  raw("secret");
  qcow2("disk.img", "secret");
  qcow2("alone.img");
  for (const char* name : {"disk.img", "alone.img"}) {
    EXPECT_TRUE(says(opened_as(name, Unsaid::ByName), "say format=qcow2")) << opened_as(name, Unsaid::ByName);
    EXPECT_EQ(opened_as(name, Unsaid::ByName, Format::Qcow2), "qcow2");
    EXPECT_EQ(opened_as(name, Unsaid::ByName, Format::Raw), "raw");
  }
}

TEST_F(WhichFormat, tools_look_but_do_not_follow_what_nobody_vouches_for) {
  raw("secret");
  qcow2("disk.img", "secret");
  qcow2("alone.img");
  qcow2("disk.qcow2", "secret");
  EXPECT_EQ(opened_as("alone.img", Unsaid::ByContent), "qcow2");
  EXPECT_EQ(opened_as("disk.qcow2", Unsaid::ByContent), "qcow2");
  EXPECT_TRUE(says(opened_as("disk.img", Unsaid::ByContent), "nobody has said"));
  EXPECT_EQ(opened_as("disk.img", Unsaid::ByContent, Format::Qcow2), "qcow2");
}

TEST_F(WhichFormat, neither_do_overlays_that_do_not_say_what_is_below_them) {
  raw("secret");
  qcow2("below.img", "secret");
  qcow2("top.qcow2", "below.img", false);
  EXPECT_TRUE(says(opened_as("top.qcow2", Unsaid::ByName), "nobody has said"));
  raw("plain.img");
  qcow2("good.qcow2", "plain.img", false);
  EXPECT_EQ(opened_as("good.qcow2", Unsaid::ByName), "qcow2");
}

TEST_F(WhichFormat, a_guest_makes_no_qcow2_of_its_raw_disk) {
  const std::vector<u8> header = {'Q', 'F', 'I', 0xfb, 0, 0, 0, 3};
  const auto written = [&](const std::string& name, Format format) {
    raw(name);
    OpenOptions options;
    options.access = Access::ReadWrite;
    options.unsaid = Unsaid::ByName;
    options.format = format;
    const auto image = open_image(*loop, folder.path(name), options).take();
    return write_now(*image, 0, header);
  };
  EXPECT_EQ(written("disk.img", Format::Detect), EPERM);
  EXPECT_EQ(written("said.img", Format::Raw), 0);
  EXPECT_EQ(written("said.qcow2", Format::Raw), EPERM);  // the next start would go by its name
}

}  // namespace
}  // namespace nacre::storage
