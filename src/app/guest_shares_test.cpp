#include "app/guest_shares.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

namespace nacre::app {
namespace {

struct GuestSharesTest : ::testing::Test {
  std::string path = [] {
    char name[] = "/tmp/nacre-shares-XXXXXX";
    return std::string(mkdtemp(name));
  }();
  std::filesystem::path before = std::filesystem::current_path();

  void SetUp() override { std::filesystem::create_directories(path + "/it's here/inner"); }
  void TearDown() override {
    std::filesystem::current_path(before);
    std::filesystem::remove_all(path);
  }
};

TEST_F(GuestSharesTest, AreMountedWhereTheyAre) {
  const auto shares = parse_shares({path + "/it's here,readonly"}).take();
  const GuestShares guest = guest_shares(shares, true).take();
  const std::string quoted = "'" + path + "/it'\\''s here'";
  EXPECT_EQ(guest.set_up, "set -e\nmkdir -p " + quoted + "\nmount -t virtiofs -o ro 'it'\\''s here' " + quoted + "\n");
  EXPECT_EQ(guest.directory, "");
}

TEST_F(GuestSharesTest, TheCommandStartsWhereTheUserIsIfThatIsShared) {
  std::filesystem::current_path(path + "/it's here/inner");
  EXPECT_EQ(guest_shares(parse_shares({"."}).take(), true).take().directory, path + "/it's here/inner");
  EXPECT_EQ(guest_shares(parse_shares({"..,at=/srv"}).take(), true).take().directory, "/srv/inner");
  EXPECT_EQ(guest_shares(parse_shares({path + ",at=/srv"}).take(), true).take().directory, "/srv/it's here/inner");
  EXPECT_EQ(guest_shares(parse_shares({"/usr/share"}).take(), true).take().directory, "");
}

TEST_F(GuestSharesTest, UnitsHaveTheNamesThatSystemdWants) {
  const auto units = mount_units(parse_shares({path + ",tag=100%,at=/srv/my-files/.a b"}).take()).take();
  ASSERT_EQ(units.size(), 1u);
  EXPECT_EQ(units[0].name, "srv-my\\x2dfiles-.a\\x20b.mount");  // systemd-escape --path --suffix=mount
  EXPECT_NE(units[0].text.find("\nWhat=100%%\nWhere=/srv/my-files/.a b\n"), std::string::npos);
}

TEST_F(GuestSharesTest, WhatCannotBeIsSaid) {
  EXPECT_NE(std::string(parse_shares({path, path}).error().message()).find("Two shared folders"), std::string::npos);
  EXPECT_FALSE(parse_shares({path + "/none"}).ok());
  EXPECT_NE(std::string(guest_shares(parse_shares({path + ",at=/usr"}).take(), true).error().message()).find("would hide"), std::string::npos);
  EXPECT_FALSE(guest_shares(parse_shares({path + ",at=/a\nb"}).take(), true).ok());
}

}  // namespace
}  // namespace nacre::app
