#include "guest/initramfs.hpp"

#include <gtest/gtest.h>

#include <string>

namespace nacre::guest {
namespace {

std::span<const std::byte> bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

TEST(Initramfs, HoldsBusyBoxUnderAllNamesAndTheConsole) {
  CpioWriter archive;
  ASSERT_TRUE(add_base_tree(archive, {bytes("ELF"), "bin/busybox\nbin/sh\nusr/bin/awk"}));
  for (const auto path :
       {"/init", "/bin/busybox", "/bin/sh", "/usr/bin/awk", "/dev/console", "/dev/null", "/proc", "/tmp"})
    EXPECT_TRUE(archive.contains(path)) << path;
}

TEST(Initramfs, AFileOfTheUsersKeepsItsPlaceFromAnApplet) {
  CpioWriter archive;
  ASSERT_TRUE(archive.file("/usr/bin/awk", 0755, bytes("mine")));
  ASSERT_TRUE(add_base_tree(archive, {bytes("ELF"), "bin/sh\nusr/bin/awk\n"}));
  EXPECT_TRUE(archive.contains("bin/sh"));
}

TEST(Initramfs, AFileOfTheUsersCannotBeInit) {
  CpioWriter archive;
  ASSERT_TRUE(archive.file("/init", 0755, bytes("mine")));
  EXPECT_FALSE(add_base_tree(archive, {bytes("ELF"), ""}));
}

TEST(Initramfs, InitAnnouncesItselfFirst) {
  const auto script = init_script();
  EXPECT_TRUE(script.starts_with("#!/bin/sh\n"));
  const auto first_output = script.find("\necho ");
  ASSERT_NE(first_output, script.npos);
  EXPECT_TRUE(script.substr(first_output).starts_with("\necho \"NACRE-INIT $uptime\"\n"));
}

}  // namespace
}  // namespace nacre::guest
