#include "app/disk_option.hpp"

#include <gtest/gtest.h>

namespace nacre::app {
namespace {

using storage::Format;

vm::DiskConfig parsed(const char* text) {
  auto disk = parse_disk(text);
  EXPECT_TRUE(disk) << text;
  return disk ? disk.take() : vm::DiskConfig{};
}

TEST(DiskOption, ANameAlone) {
  const vm::DiskConfig disk = parsed("disk.qcow2");
  EXPECT_EQ(disk.path, "disk.qcow2");
  EXPECT_FALSE(disk.read_only);
  EXPECT_EQ(disk.format, Format::Detect);
}

TEST(DiskOption, WordsBehindTheNameInAnyOrder) {
  for (const char* text : {"a.img,readonly,format=raw", "a.img,format=raw,readonly"}) {
    const vm::DiskConfig disk = parsed(text);
    EXPECT_EQ(disk.path, "a.img");
    EXPECT_TRUE(disk.read_only);
    EXPECT_EQ(disk.format, Format::Raw);
  }
  EXPECT_EQ(parsed("x,format=qcow2").format, Format::Qcow2);
}

TEST(DiskOption, OtherCommasBelongToTheName) {
  EXPECT_EQ(parsed("one,two").path, "one,two");
  const vm::DiskConfig disk = parsed("readonly,format=raw,b.img,readonly");
  EXPECT_EQ(disk.path, "readonly,format=raw,b.img");
  EXPECT_TRUE(disk.read_only);
  EXPECT_EQ(disk.format, Format::Detect);
}

TEST(DiskOption, Limits) {
  const vm::DiskConfig disk = parsed("a.img,iops=200,bandwidth=20M");
  EXPECT_EQ(disk.path, "a.img");
  EXPECT_EQ(disk.limits.operations, 200u);
  EXPECT_EQ(disk.limits.bytes, 20 * kMiB);
  EXPECT_FALSE(parsed("a.img").limits.any());
}

TEST(DiskOption, Refusals) {
  for (const char* text : {"", ",readonly", "a,format=vmdk", "a,format=", "a,iops=0",
                           "a,iops=", "a,iops=fast", "a,bandwidth=-1"})
    EXPECT_FALSE(parse_disk(text)) << text;
}

}  // namespace
}  // namespace nacre::app
