#include "vsock/broker.hpp"

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <filesystem>
#include <fstream>

namespace nacre::vsock {
namespace {

struct BrokerTest : ::testing::Test {
  std::string folder = [] {
    char name[] = "/tmp/nacre-vsock-XXXXXX";
    return std::string(mkdtemp(name));
  }();
  std::string path = folder + "/vm";

  void TearDown() override { std::filesystem::remove_all(folder); }
  static host::UniqueFd answer(Broker& broker) {
    pollfd entry = {broker.descriptor(), POLLIN, 0};
    poll(&entry, 1, -1);
    host::UniqueFd socket;
    EXPECT_TRUE(broker.answer(socket));
    return socket;
  }
};

TEST_F(BrokerTest, ConnectsToThePathsOfPortsAndToNothingElse) {
  auto listener = Listener::create(path).take();
  auto at_52 = Listener::create(path + "_52").take();
  auto broker = Broker::start(path, listener).take();
  ASSERT_TRUE(broker->ask(52));
  ASSERT_TRUE(broker->ask(53));
  const auto reached = answer(*broker);
  ASSERT_TRUE(reached);
  EXPECT_FALSE(answer(*broker));
  ASSERT_EQ(write(reached.number(), "hello", 5), 5);
  const host::UniqueFd taken(accept(at_52.socket.number(), nullptr, nullptr));
  char bytes[8];
  EXPECT_EQ(read(taken.number(), bytes, sizeof bytes), 5);
  host::UniqueFd none;
  EXPECT_FALSE(broker->answer(none));
}

TEST_F(BrokerTest, TheFileIsTheOwnersAloneAndGoesWithTheBroker) {
  auto listener = Listener::create(path).take();
  struct stat status = {};
  ASSERT_EQ(stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  { auto broker = Broker::start(path, listener).take(); }
  EXPECT_NE(stat(path.c_str(), &status), 0);
}

TEST_F(BrokerTest, AnothersFileStays) {
  auto listener = Listener::create(path).take();
  auto broker = Broker::start(path, listener).take();
  std::filesystem::remove(path);
  std::ofstream(path) << "mine";
  broker.reset();
  EXPECT_TRUE(std::filesystem::exists(path));
}

TEST_F(BrokerTest, TheFileGoesWhenTheMachineIsKilled) {
  const pid_t machine = fork();
  if (machine == 0) {
    auto listener = Listener::create(path).take();
    auto broker = Broker::start(path, listener).take();
    kill(getpid(), SIGKILL);
  }
  waitpid(machine, nullptr, 0);
  while (std::filesystem::exists(path)) usleep(1000);
}

TEST_F(BrokerTest, WhatIsInTheWayIsSaid) {
  const auto why = [&] { return std::string(Listener::create(path).error().message()); };
  std::ofstream(path) << "a file";
  EXPECT_NE(why().find("There is a file at"), std::string::npos);
  std::filesystem::remove(path);
  auto listener = Listener::create(path).take();
  EXPECT_NE(why().find("Another program listens at"), std::string::npos);
  listener.socket = host::UniqueFd();
  EXPECT_NE(why().find("remove it"), std::string::npos);
  path = folder + "/" + std::string(100, 'x');
  EXPECT_NE(why().find("bytes long"), std::string::npos);
  path = folder + "/no/such/folder";
  EXPECT_NE(why().find("No such file"), std::string::npos);
}

}  // namespace
}  // namespace nacre::vsock
