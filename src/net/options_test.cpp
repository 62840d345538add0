#include "net/options.hpp"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

namespace nacre::net {
namespace {

using ::testing::HasSubstr;

TEST(NetOptions, AreUnderstood) {
  const auto config = parse(
      "user,publish=8080:80,publish=0.0.0.0:5353:53/udp,publish=22:22/"
      "tcp,hostname=web-1,host=no,mac=02:00:00:00:00:ff,mtu=9000");
  ASSERT_TRUE(config);
  const UserOptions& user = config.value().user;
  ASSERT_EQ(user.publish.size(), 3U);
  EXPECT_EQ(user.publish[0].address, (Address4{127, 0, 0, 1}));
  EXPECT_EQ(user.publish[0].host, 8080);
  EXPECT_EQ(user.publish[0].guest, 80);
  EXPECT_FALSE(user.publish[0].udp || user.publish[2].udp);
  EXPECT_TRUE(user.publish[1].udp);
  EXPECT_EQ(user.publish[1].address, Address4{});
  EXPECT_EQ(user.hostname, "web-1");
  EXPECT_FALSE(user.host_reachable);
  EXPECT_EQ(mac_of(config.value(), 3), (Mac{2, 0, 0, 0, 0, 0xff}));
  EXPECT_EQ(mtu_of(config.value()), 9000);
}

TEST(NetOptions, GuestsHaveAddressesOfTheirOwn) {
  const auto config = parse("user");
  ASSERT_TRUE(config);
  EXPECT_NE(mac_of(config.value(), 0), mac_of(config.value(), 1));
  EXPECT_EQ(mac_of(config.value(), 0)[0] & 3, 2);  // locally administered, of one station
}

TEST(NetOptions, OtherKinds) {
  const auto tap = parse("tap=tap0,mtu=9000"), lan = parse("switch=/run/lan,capture=a.pcap");
  ASSERT_TRUE(tap && lan);
  EXPECT_EQ(tap.value().kind, NetConfig::Kind::Tap);
  EXPECT_EQ(tap.value().place, "tap0");
  EXPECT_EQ(mtu_of(tap.value()), 9000);
  EXPECT_EQ(tap.value().queues, 1U);
  EXPECT_EQ(parse("tap=tap0,queues=4").value().queues, 4U);
  EXPECT_EQ(lan.value().kind, NetConfig::Kind::Switch);
  EXPECT_EQ(lan.value().place, "/run/lan");
  EXPECT_EQ(lan.value().capture, "a.pcap");
  // Guests that meet there do not know of each other.
  EXPECT_NE(mac_of(lan.value(), 0), mac_of(lan.value(), 0));
}

TEST(NetOptions, WhatIsWrongIsQuotedAndExplained) {
  const struct {
    const char *text, *quoted, *advice;
  } cases[] = {{"", "\"\"", "there are user"},
               {"wifi", "\"wifi\"", "there are user"},
               {"user,publish=80", "\"80\"", "HOST:GUEST"},
               {"user,publish=0:80", "\"0:80\"", "HOST:GUEST"},
               {"user,publish=80:65536", "\"80:65536\"", "HOST:GUEST"},
               {"user,publish=80:80/sctp", "\"80:80/sctp\"", "HOST:GUEST"},
               {"user,publish=[::]:80:80", "\"[::]:80:80\"", "HOST:GUEST"},
               {"user,publish=1.2.3:80:80", "\"1.2.3:80:80\"", "HOST:GUEST"},
               {"user,mac=02:00:00:00:00", "\"02:00:00:00:00\"", "six bytes"},
               {"user,mac=02:00:00:00:00:00:", "mac", "six bytes"},
               {"user,mac=03:00:00:00:00:01", "mac", "even"},
               {"user,mac=00:00:00:00:00:00", "mac", "six bytes"},
               {"user,mac=02:00:00:00:00:gg", "mac", "six bytes"},
               {"user,mtu=100", "\"100\"", "1280 to 65520"},
               {"tap=tap0,queues=0", "\"0\"", "1 to 8"},
               {"tap=tap0,queues=9", "\"9\"", "1 to 8"},
               {"user,hostname=-x", "\"-x\"", "letters"},
               {"user,host=maybe", "\"maybe\"", "yes or no"},
               {"user=1", "\"user=1\"", "tap=NAME"},
               {"tap", "\"tap\"", "tap=NAME"},
               {"tap=tap0,publish=80:80", "\"publish\"", "mac, mtu, queues and capture"},
               {"switch=/x,host=no", "\"host\"", "mac, mtu, queues and capture"},
               {"user,capture=", "capture", "a file"},
               {"user,colour=red", "\"colour\"", "publish"}};
  for (const auto& one : cases) {
    const auto config = parse(one.text);
    ASSERT_FALSE(config) << one.text;
    EXPECT_THAT(config.error().message(), HasSubstr(one.quoted));
    EXPECT_THAT(config.error().message(), HasSubstr(one.advice));
  }
}

TEST(UserNetwork, SaysWhyAPortCannotBePublished) {
  const int other = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(bind(other, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(other, 1), 0);
  socklen_t length = sizeof address;
  ASSERT_EQ(getsockname(other, reinterpret_cast<sockaddr*>(&address), &length), 0);
  UserOptions options;
  options.publish = {{.host = ntohs(address.sin_port), .guest = 80}};
  const auto taken = UserNetwork::create(options);
  ASSERT_FALSE(taken);
  EXPECT_THAT(taken.error().message(), HasSubstr("another program has it"));
  close(other);
  options.publish[0].address = {192, 0, 2, 1};
  const auto elsewhere = UserNetwork::create(options);
  ASSERT_FALSE(elsewhere);
  EXPECT_THAT(elsewhere.error().message(), HasSubstr("does not have that address"));
}

}  // namespace
}  // namespace nacre::net
