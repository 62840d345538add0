// A user network without a guest: frames made here go into the real translation, whose sockets meet this
// process's own.
#include "net/user_network.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "net/testing.hpp"

namespace nacre::net {
namespace {

using testing::Bytes;
using testing::Peer;
using testing::tcp;
using testing::udp;

constexpr u8 kSyn = 2, kReset = 4, kAck = 16;

struct Listener {
  int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  u16 port = 0;
  Listener() {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(socket, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(listen(socket, 64), 0);
    socklen_t bytes = sizeof address;
    getsockname(socket, reinterpret_cast<sockaddr*>(&address), &bytes);
    port = ntohs(address.sin_port);
  }
  ~Listener() { close(socket); }
};

UserOptions at_most(usize sockets) {
  UserOptions options;
  options.most_sockets = sockets;
  return options;
}

struct UserNetworkTest : ::testing::Test {
  Peer guest = {{10, 0, 2, 15}}, host = {{10, 0, 2, 2}, {0x52, 0x55, 10, 0, 2, 2}};
  std::unique_ptr<UserNetwork> network;

  void create(const UserOptions& options) {
    auto made = UserNetwork::create(options);
    ASSERT_TRUE(made) << made.error().message();
    network = made.take();
    // Some hosts are such a guest themselves.
    const Plan plan = Plan::beside(network->name_servers());
    guest.address = plan.guest;
    host.address = plan.host;
    Bytes question(42);
    std::fill_n(question.begin(), 6, 0xff);
    std::copy(guest.mac.begin(), guest.mac.end(), question.begin() + 6);
    const u8 arp[] = {8, 6, 0, 1, 8, 0, 6, 4, 0, 1};
    std::copy(std::begin(arp), std::end(arp), question.begin() + 12);
    std::copy(guest.mac.begin(), guest.mac.end(), question.begin() + 22);
    std::copy(guest.address.begin(), guest.address.end(), question.begin() + 28);
    std::copy(host.address.begin(), host.address.end(), question.begin() + 38);
    send(question);
    EXPECT_FALSE(receive().empty()) << "no answer to ARP";
  }
  void send(Bytes frame) {
    const virtio::Segment piece = {frame.data(), 0, static_cast<u32>(frame.size())};
    EXPECT_TRUE(network->send({}, &piece, 1, 0));
  }
  Bytes receive() {
    Bytes frame(kMostPacket);
    Header header;
    for (unsigned turn = 0; turn < 50; ++turn) {
      unsigned pair = virtio::net::Network::kAnyPair;
      const usize bytes = network->receive(frame.data(), header, pair);
      if (bytes != 0) return {frame.begin(), frame.begin() + static_cast<long>(bytes)};
      wait();
    }
    return {};
  }
  void wait() {
    std::vector<pollfd> descriptors;
    static_cast<void>(network->wait_for(descriptors));
    poll(descriptors.data(), descriptors.size(), 10);
    network->happened(descriptors);
  }
  // The flags of what comes for the guest's TCP port `port`; 0: nothing.
  u8 answer_to(u16 port, u32* sequence = nullptr) {
    for (;;) {
      const Bytes frame = receive();
      if (frame.empty()) return 0;
      if (frame.size() < 54 || load16(&frame[12]) != 0x0800 || frame[23] != 6 || load16(&frame[36]) != port)
        continue;
      if (sequence != nullptr) *sequence = load32(&frame[38]);
      return frame[47];
    }
  }
};

TEST_F(UserNetworkTest, ConnectionsBeyondTheLimitAreRefusedUntilOthersEnd) {
  const Listener listener;
  create(at_most(6));
  u32 sequence = 0;
  for (u16 port = 1; port <= 6; ++port) {
    send(tcp(guest, host, port, listener.port, kSyn));
    EXPECT_EQ(answer_to(port, &sequence), kSyn | kAck) << port;
    send(tcp(guest, host, port, listener.port, kAck, 2, sequence + 1));
  }
  EXPECT_EQ(network->socket_count(), 6U);
  for (u16 port = 7; port <= 200; ++port) {
    send(tcp(guest, host, port, listener.port, kSyn));
    ASSERT_EQ(answer_to(port), kReset | kAck) << port;
  }
  EXPECT_EQ(network->socket_count(), 6U);
  send(tcp(guest, host, 3, listener.port, kReset, 2));
  wait();
  EXPECT_EQ(network->socket_count(), 5U);
  send(tcp(guest, host, 300, listener.port, kSyn));
  EXPECT_EQ(answer_to(300), kSyn | kAck);
}

TEST_F(UserNetworkTest, DatagramsAreLimitedTooAndDoNotKeepConnectionsOut) {
  const Listener listener;
  create(at_most(8));
  for (u16 port = 1000; port < 1100; ++port) send(udp(guest, host, port, 9));
  EXPECT_EQ(network->socket_count(), 4U);
  send(tcp(guest, host, 1, listener.port, kSyn));
  EXPECT_EQ(answer_to(1), kSyn | kAck);
}

// No more than allowed come in by a published port, and while they wait the network does not turn in circles.
TEST_F(UserNetworkTest, PublishedPortsWaitWhileThereIsNoRoom) {
  u16 port = 0;
  {
    const Listener free_port;
    port = free_port.port;
  }
  UserOptions options = at_most(3);
  options.publish.emplace_back().host = port;
  options.publish.back().guest = 80;
  create(options);
  int clients[8];
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  for (int& client : clients) {
    client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    static_cast<void>(connect(client, reinterpret_cast<sockaddr*>(&address), sizeof address));
    for (unsigned turn = 0; turn < 3; ++turn) wait();
  }
  EXPECT_EQ(network->socket_count(), 3U);
  std::vector<pollfd> descriptors;
  static_cast<void>(network->wait_for(descriptors));
  EXPECT_EQ(poll(descriptors.data(), descriptors.size(), 0), 0);
  for (const int client : clients) close(client);
}

// Left alone for longer than anything of TCP's lasts, everything would have been given back; here at once.
TEST_F(UserNetworkTest, ThousandsOneAfterTheOtherAreNoTrouble) {
  const Listener listener;
  create(at_most(4));
  for (u16 port = 1; port <= 2000; ++port) {
    send(tcp(guest, host, port, listener.port, kSyn));
    ASSERT_EQ(answer_to(port), kSyn | kAck) << port;
    send(tcp(guest, host, port, listener.port, kReset, 2));
    const int accepted = accept(listener.socket, nullptr, nullptr);
    close(accepted);
  }
  EXPECT_LE(network->socket_count(), 1U);
}

}  // namespace
}  // namespace nacre::net
