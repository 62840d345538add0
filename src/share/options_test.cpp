#include "share/options.hpp"

#include <gtest/gtest.h>

namespace nacre::share {
namespace {

TEST(ShareOptions, AreTakenFromTheEnd) {
  const ShareConfig config = parse("/home/me/a,b,readonly,tag=code,at=/srv/code,user=1000,group=100").take();
  EXPECT_EQ(config.path, "/home/me/a,b");
  EXPECT_TRUE(config.read_only);
  EXPECT_EQ(config.tag, "code");
  EXPECT_EQ(config.at, "/srv/code");
  EXPECT_EQ(config.user, 1000u);
  EXPECT_EQ(config.group, 100u);
  EXPECT_FALSE(parse(".").take().read_only);
}

TEST(ShareOptions, WhatCannotBeIsAnError) {
  for (const char* text : {"", ",readonly", ".,tag=", ".,tag=0123456789012345678901234567890123456",
                           ".,at=work", ".,user=me", ".,user=4294967295", ".,group="})
    EXPECT_FALSE(parse(text).ok()) << text;
}

TEST(ShareOptions, TheTagIsTheFoldersName) {
  EXPECT_EQ(tag_of({.path = "/usr/share/"}).take(), "share");
  EXPECT_EQ(tag_of({.path = "/"}).take(), "root");
  EXPECT_EQ(tag_of({.path = "/usr", .tag = "mine"}).take(), "mine");
  EXPECT_FALSE(tag_of({.path = "/no/such/folder"}).ok());
}

TEST(ShareOptions, TheMountPointIsTheHostsUnlessItWouldHideTheGuest) {
  EXPECT_EQ(mount_point_of({.path = "/usr/share/"}).take(), "/usr/share");
  EXPECT_EQ(mount_point_of({.path = "/", .at = "/srv/./x/../code/"}).take(), "/srv/code");
  for (const char* at : {"/", "/usr", "/dev/shm", "/srv/../etc", "/proc", "/bin/"})
    EXPECT_FALSE(mount_point_of({.path = "/usr", .at = at}).ok()) << at;
  EXPECT_FALSE(mount_point_of({.path = "/"}).ok());
}

}  // namespace
}  // namespace nacre::share
