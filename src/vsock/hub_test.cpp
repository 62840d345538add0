#include "vsock/hub.hpp"

#include <gtest/gtest.h>

#include "vsock/hub_sequence.hpp"

namespace nacre::vsock {
namespace {

using testing::stream_pair;
using virtio::vsock::Operation;
using virtio::vsock::PacketHeader;

struct Packet {
  PacketHeader header;
  std::string bytes;
  Operation operation() const { return static_cast<Operation>(header.operation); }
};

struct HubTest : ::testing::Test {
  std::vector<host::UniqueFd> reached;
  std::unique_ptr<Hub> hub = Hub::create({}, std::make_unique<testing::Directory>(reached)).take();
  u32 guest_buffer = 65536, guest_forwarded = 0;

  bool send(Operation operation, u32 host_port, u32 guest_port, std::string bytes = "", u32 flags = 0) {
    const PacketHeader header = {.source_cid = 3,
                                 .target_cid = 2,
                                 .source_port = guest_port,
                                 .target_port = host_port,
                                 .bytes = static_cast<u32>(bytes.size()),
                                 .type = 1,
                                 .operation = static_cast<u16>(operation),
                                 .flags = flags,
                                 .buffer_bytes = guest_buffer,
                                 .forwarded = guest_forwarded};
    const virtio::Segment piece = {reinterpret_cast<u8*>(bytes.data()), 0, static_cast<u32>(bytes.size())};
    const bool taken = hub->send(header, &piece, bytes.empty() ? 0 : 1);
    return taken;
  }
  // What the guest gets next; Invalid: nothing.
  Packet next() {
    hub->dispatch();
    Packet packet;
    static std::vector<u8> to(virtio::vsock::kMostPayload);
    if (hub->receive(packet.header, to.data(), virtio::vsock::kMostPayload))
      packet.bytes.assign(reinterpret_cast<char*>(to.data()), packet.header.bytes);
    return packet;
  }
  static std::string take(const host::UniqueFd& file, usize most = 65536) {
    std::string bytes(most, 0);
    const ssize_t got = read(file.number(), bytes.data(), most);
    if (got < 0) return errno == ECONNRESET ? "" : "(nothing)";
    bytes.resize(static_cast<usize>(got));
    return bytes;
  }
  static void put(const host::UniqueFd& file, const std::string& bytes) {
    ASSERT_EQ(write(file.number(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }
  host::UniqueFd arrive(const std::string& line) {
    auto [near, far] = stream_pair();
    EXPECT_TRUE(hub->adopt(std::move(near)));
    put(far, line);
    return std::move(far);
  }
  // A program of the host connected to the guest's port 52.
  struct Open {
    host::UniqueFd program;
    u32 host_port;
  };
  Open open() {
    Open result{arrive("CONNECT 52\n"), 0};
    result.host_port = next().header.source_port;
    EXPECT_TRUE(send(Operation::Response, result.host_port, 52));
    EXPECT_EQ(take(result.program), "OK " + std::to_string(result.host_port) + "\n");
    return result;
  }
};

TEST_F(HubTest, AProgramReachesAPortOfTheGuest) {
  const auto program = arrive("CONNECT 52\nhello");
  const Packet request = next();
  EXPECT_EQ(request.operation(), Operation::Request);
  EXPECT_EQ(request.header.target_port, 52u);
  EXPECT_EQ(request.header.buffer_bytes, kWindow);
  EXPECT_EQ(next().operation(), Operation::Invalid);  // nothing before the guest has agreed
  send(Operation::Response, request.header.source_port, 52);
  EXPECT_EQ(take(program), "OK " + std::to_string(request.header.source_port) + "\n");
  const Packet data = next();
  EXPECT_EQ(data.operation(), Operation::ReadWrite);
  EXPECT_EQ(data.bytes, "hello");
  send(Operation::ReadWrite, request.header.source_port, 52, "and back");
  EXPECT_EQ(take(program), "and back");
}

TEST_F(HubTest, ALineMayComeInPieces) {
  const auto program = arrive("CONN");
  EXPECT_EQ(next().operation(), Operation::Invalid);
  put(program, "ECT 7\n");
  EXPECT_EQ(next().header.target_port, 7u);
}

TEST_F(HubTest, WhatIsNotTheConventionIsClosed) {
  for (const char* line :
       {"GET / HTTP/1.0\n", "CONNECT \n", "CONNECT 4294967295\n", "CONNECT 12x\n", "CONNECT -1\n",
        "CONNECT 1                                        \n", "CONNECT 99999999999\n", "\n"}) {
    const auto program = arrive(line);
    EXPECT_EQ(next().operation(), Operation::Invalid);
    EXPECT_EQ(take(program), "") << line;
  }
  EXPECT_EQ(hub->connections(), 0u);
}

TEST_F(HubTest, APortThatTheGuestRefusesIsClosed) {
  const auto program = arrive("CONNECT 9\n");
  send(Operation::Reset, next().header.source_port, 9);
  EXPECT_EQ(take(program), "");
}

TEST_F(HubTest, TheGuestReachesAProgram) {
  send(Operation::Request, 1000, 2000);
  const Packet response = next();
  EXPECT_EQ(response.operation(), Operation::Response);
  EXPECT_EQ(response.header.source_port, 1000u);
  EXPECT_EQ(response.header.target_port, 2000u);
  ASSERT_EQ(reached.size(), 1u);
  send(Operation::ReadWrite, 1000, 2000, "hi");
  EXPECT_EQ(take(reached[0]), "hi");
}

TEST_F(HubTest, WhereNobodyListensTheGuestIsRefused) {
  send(Operation::Request, 1001, 2000);
  EXPECT_EQ(next().operation(), Operation::Reset);
  EXPECT_EQ(hub->connections(), 0u);
}

TEST_F(HubTest, PacketsOfNoConnectionAreAnsweredWithAReset) {
  for (const Operation operation : {Operation::Response, Operation::Shutdown, Operation::ReadWrite,
                                    Operation::CreditUpdate, Operation::CreditRequest}) {
    send(operation, 5, 6);
    EXPECT_EQ(next().operation(), Operation::Reset);
  }
  send(Operation::Reset, 5, 6);
  EXPECT_EQ(next().operation(), Operation::Invalid);
}

TEST_F(HubTest, AnswersThatAreNotFetchedDoNotHeapUp) {
  unsigned taken = 0;
  while (send(Operation::ReadWrite, 5, 6)) ASSERT_LT(++taken, 1000u);
  EXPECT_EQ(next().operation(), Operation::Reset);
  EXPECT_TRUE(send(Operation::ReadWrite, 5, 6));
}

TEST_F(HubTest, NoMoreIsSentThanTheGuestHasRoomFor) {
  guest_buffer = 10;
  const Open one = open();
  put(one.program, "0123456789abcdef");
  EXPECT_EQ(next().bytes, "0123456789");
  EXPECT_EQ(next().operation(), Operation::CreditRequest);
  EXPECT_EQ(next().operation(), Operation::Invalid);
  guest_forwarded = 4;
  send(Operation::CreditUpdate, one.host_port, 52);
  EXPECT_EQ(next().bytes, "abcd");
  guest_forwarded = 9;
  send(Operation::CreditUpdate, one.host_port, 52);
  while (true) {
    const Packet packet = next();
    if (packet.operation() == Operation::CreditRequest) continue;
    EXPECT_EQ(packet.bytes, "ef");
    break;
  }
  guest_forwarded = 1000;  // more than was ever sent: a lie, which gives no room
  send(Operation::CreditUpdate, one.host_port, 52);
  put(one.program, "x");
  EXPECT_NE(next().operation(), Operation::ReadWrite);
}

TEST_F(HubTest, AProgramThatDoesNotReadHoldsUpItsOwnConnectionAlone) {
  const Open slow = open(), quick = open();
  u32 sent = 0;
  const std::string piece(32 * 1024, 'x');
  // Until no credit is left: what the socket has taken is credited, what waits here is not.
  u32 forwarded = 0;
  while (sent - forwarded + piece.size() <= kWindow) {
    ASSERT_TRUE(send(Operation::ReadWrite, slow.host_port, 52, piece));
    sent += static_cast<u32>(piece.size());
    send(Operation::CreditRequest, slow.host_port, 52);
    for (Packet packet = next(); packet.operation() != Operation::Invalid; packet = next()) {
      EXPECT_EQ(packet.operation(), Operation::CreditUpdate);
      forwarded = packet.header.forwarded;
    }
    ASSERT_LT(sent, 64u << 20);
  }
  send(Operation::ReadWrite, quick.host_port, 52, "quick");
  EXPECT_EQ(take(quick.program), "quick");
  // All of it is there once the program reads, and the guest hears of the room.
  usize read_ = 0;
  bool told = false;
  while (read_ < sent) {
    const std::string some = take(slow.program);
    if (some != "(nothing)") read_ += some.size();
    told = next().operation() == Operation::CreditUpdate || told;
  }
  EXPECT_EQ(read_, sent);
  EXPECT_TRUE(told);
}

TEST_F(HubTest, AGuestThatSendsMoreThanItMayIsReset) {
  const Open one = open();
  std::string piece(60'000, 'x');
  for (unsigned i = 0; i < 100 && hub->connections() == 1; ++i)
    send(Operation::ReadWrite, one.host_port, 52, piece);
  EXPECT_EQ(hub->connections(), 0u);
  EXPECT_EQ(next().operation(), Operation::Reset);
}

TEST_F(HubTest, HalfClosesGoBothWays) {
  const Open one = open();
  put(one.program, "last words");
  shutdown(one.program.number(), SHUT_WR);
  EXPECT_EQ(next().bytes, "last words");
  const Packet end = next();
  EXPECT_EQ(end.operation(), Operation::Shutdown);
  EXPECT_EQ(end.header.flags, Closed::send);
  send(Operation::ReadWrite, one.host_port, 52, "answer");
  send(Operation::Shutdown, one.host_port, 52, "", Closed::send);
  EXPECT_EQ(take(one.program), "answer");
  EXPECT_EQ(take(one.program), "");
  send(Operation::Shutdown, one.host_port, 52, "", Closed::both);
  EXPECT_EQ(next().operation(), Operation::Reset);
  EXPECT_EQ(hub->connections(), 0u);
}

TEST_F(HubTest, AProgramThatIsGoneIsTold) {
  Open one = open();
  one.program = host::UniqueFd();
  const Packet end = next();
  EXPECT_EQ(end.operation(), Operation::Shutdown);
  EXPECT_EQ(end.header.flags, Closed::both);
  send(Operation::ReadWrite, one.host_port, 52, "to nobody");
  send(Operation::Shutdown, one.host_port, 52, "", Closed::both);
  EXPECT_EQ(next().operation(), Operation::Reset);
}

TEST_F(HubTest, WhatTheGuestSentBeforeItsEndIsWrittenAfterIt) {
  const Open one = open();
  const std::string piece(50'000, 'x');
  usize sent = 0;
  // More than the socket takes, so that some waits here.
  for (u32 forwarded = 0; sent - forwarded + piece.size() <= kWindow;) {
    ASSERT_TRUE(send(Operation::ReadWrite, one.host_port, 52, piece));
    sent += piece.size();
    send(Operation::CreditRequest, one.host_port, 52);
    forwarded = next().header.forwarded;
  }
  send(Operation::Shutdown, one.host_port, 52, "", Closed::both);
  EXPECT_EQ(next().operation(), Operation::Invalid);  // not before it is written
  send(Operation::Reset, one.host_port, 52);          // the guest does not wait for ever
  usize read_ = 0;
  for (std::string some = take(one.program); !some.empty(); some = take(one.program)) {
    if (some != "(nothing)") read_ += some.size();
    hub->dispatch();
  }
  EXPECT_EQ(read_, sent);
  EXPECT_EQ(hub->connections(), 0u);
}

TEST_F(HubTest, ThereIsAnEndOfConnections) {
  std::vector<host::UniqueFd> programs;
  for (unsigned i = 0; i < kMostConnections; ++i) programs.push_back(arrive("CONNECT 5\n"));
  auto [near, far] = stream_pair();
  EXPECT_FALSE(hub->adopt(std::move(near)));
  send(Operation::Request, 1000, 2000);
  unsigned resets = 0, requests = 0;
  for (Packet packet = next(); packet.operation() != Operation::Invalid; packet = next()) {
    (packet.operation() == Operation::Reset ? resets : requests) += 1;
  }
  EXPECT_EQ(resets, 1u);
  EXPECT_EQ(requests, kMostConnections);
  programs.clear();
  hub->dispatch();
  EXPECT_EQ(hub->connections(), 0u);
}

TEST_F(HubTest, ADriverThatStartsAnewHasNoConnections) {
  const Open one = open();
  hub->reset();
  EXPECT_EQ(take(one.program), "");
  EXPECT_EQ(next().operation(), Operation::Invalid);
}

TEST_F(HubTest, ItMayBeAskedAgainWhileAnAnswerIsAwaited) {
  send(Operation::Request, 1000, 2000);
  send(Operation::Request, 1000, 2000);  // the same: an error, both are over
  EXPECT_EQ(next().operation(), Operation::Reset);
  EXPECT_EQ(hub->connections(), 0u);
  send(Operation::Request, 1002, 2000);
  EXPECT_EQ(next().operation(), Operation::Response);
}

TEST(Hub, SurvivesRandomSequences) {
  nacre::testing::run_random_sequences(testing::hub_sequence, 300);
}

}  // namespace
}  // namespace nacre::vsock
