#include "guest/cpio.hpp"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace nacre::guest {
namespace {

std::string text(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
std::span<const std::byte> bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

constexpr std::string_view trailer =
    "07070100000001000000000000000000000000000000010000000000000000000000000000000000000000000000000000000b00"
    "000000"
    "TRAILER!!!";

TEST(Cpio, EmptyArchiveIsTheTrailer) {
  CpioWriter writer;
  EXPECT_EQ(text(writer.finish()), std::string(trailer) + std::string(4, '\0'));
}

TEST(Cpio, FileHasHeaderNameAndContentPaddedToFour) {
  CpioWriter writer;
  ASSERT_TRUE(writer.file("/init", 0755, bytes("hello")));
  const auto archive = text(writer.finish());
  // inode 1, mode 0100755, no owner, one link, no time, five bytes, no devices, name of five with its zero,
  // no checksum
  EXPECT_EQ(archive.substr(0, 110),
            "07070100000001000081ed000000000000000000000001000000000000000500000000000000000000000000000000"
            "0000000500000000");
  EXPECT_EQ(archive.substr(110, 6), std::string("init\0\0", 6));
  EXPECT_EQ(archive.substr(116, 8), std::string("hello\0\0\0", 8));
  EXPECT_EQ(archive.substr(124, 6), "070701");
}

TEST(Cpio, DeviceNodeCarriesItsNumber) {
  CpioWriter writer;
  ASSERT_TRUE(writer.directory("dev"));
  ASSERT_TRUE(writer.character_device("dev/ttyS0", 0600, {4, 64}));
  const auto archive = text(writer.finish());
  const auto header = archive.substr(archive.find("dev/ttyS0") - 110, 110);
  EXPECT_EQ(header.substr(14, 8), "00002180");
  EXPECT_EQ(header.substr(78, 16), "0000000400000040");
}

TEST(Cpio, ParentsComeFirstAndOnce) {
  CpioWriter writer;
  ASSERT_TRUE(writer.symlink("/usr/bin/awk", "/bin/busybox"));
  ASSERT_TRUE(writer.symlink("/usr/bin/cut", "/bin/busybox"));
  const auto archive = text(writer.finish());
  const auto usr = archive.find(std::string("usr\0", 4));
  const auto usr_bin = archive.find(std::string("usr/bin\0", 8));
  EXPECT_LT(usr, usr_bin);
  EXPECT_LT(usr_bin, archive.find("usr/bin/awk"));
  EXPECT_EQ(archive.find(std::string("usr/bin\0", 8), usr_bin + 1), std::string::npos);
  EXPECT_NE(archive.find("/bin/busybox"), std::string::npos);
}

TEST(Cpio, RefusesWhatTheKernelWouldLose) {
  CpioWriter writer;
  ASSERT_TRUE(writer.file("a", 0644, bytes("1")));
  EXPECT_FALSE(writer.file("/a", 0644, bytes("2")));   // taken
  EXPECT_FALSE(writer.file("a/b", 0644, bytes("2")));  // below a file
  EXPECT_FALSE(writer.file("//", 0644, {}));           // no name
  EXPECT_FALSE(writer.symlink("b", ""));
  EXPECT_FALSE(writer.file(std::string(CpioWriter::max_name + 1, 'x'), 0644, {}));
  EXPECT_FALSE(writer.contains("b"));
  EXPECT_TRUE(writer.directory("c"));
  EXPECT_TRUE(writer.directory("/c/"));  // again: no harm
}

TEST(Cpio, FinishLeavesAnEmptyWriter) {
  CpioWriter writer;
  ASSERT_TRUE(writer.file("a", 0644, {}));
  const auto first = writer.finish();
  EXPECT_FALSE(writer.contains("a"));
  ASSERT_TRUE(writer.file("a", 0644, {}));
  EXPECT_EQ(writer.finish(), first);
}

}  // namespace
}  // namespace nacre::guest
