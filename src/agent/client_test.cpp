// The host's side against the agent itself, which serves one connection as a process of the host.
#include "agent/client.hpp"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

namespace nacre::agent {
namespace {

namespace fs = std::filesystem;

struct Ended {
  Frame how = Frame::Failed;
  u32 code = 0;
  std::string out, error;
};

struct ClientTest : ::testing::Test {
  pid_t process = 0;
  std::string folder = [] {
    char name[] = "/tmp/nacre-client-XXXXXX";
    return std::string(mkdtemp(name));
  }();
  const std::string me = std::to_string(getuid());

  ~ClientTest() override {
    finish();
    fs::remove_all(folder);
  }
  void finish() {
    if (process != 0) waitpid(process, nullptr, 0);
    process = 0;
  }
  Client connect() {
    finish();
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    process = fork();
    if (process == 0) {
      dup2(ends[1], 0);
      execl(NACRE_AGENT_FILE, "nacre-agent", "--connection", nullptr);
      _exit(99);
    }
    close(ends[1]);
    return Client::greet(host::UniqueFd(ends[0])).take();
  }
  static Ended collect(Client& client) {
    Ended result;
    while (client.wire().receive(20'000)) {
      const std::string bytes(reinterpret_cast<const char*>(client.wire().payload()), client.wire().bytes());
      if (client.wire().type() == Frame::Output) result.out += bytes;
      if (client.wire().type() == Frame::Error) result.error += bytes;
      if (client.wire().type() != Frame::Exited && client.wire().type() != Frame::Killed) continue;
      result.how = client.wire().type();
      result.code = Payload(client.wire()).value<u32>();
    }
    return result;
  }
  ExecOptions shell(const std::string& script) const {
    ExecOptions options;
    options.user = me;
    options.folder = "/";
    options.words = {"/bin/sh", "-c", script};
    return options;
  }
  Ended run(const ExecOptions& options, const std::string& input = "") {
    Client client = connect();
    if (const auto started = client.exec(options); !started)
      return {Frame::Failed, static_cast<u32>(started.error().code), "", started.error().error.message()};
    if (!input.empty()) client.wire().send(Frame::Input, {input.data(), input.size()});
    client.wire().send(Frame::Input);
    return collect(client);
  }
};

TEST_F(ClientTest, IsThere) {
  Client client = connect();
  EXPECT_TRUE(client.ping());
}

TEST_F(ClientTest, StreamsAreApartAndTheStatusIsTheCommands) {
  const Ended ended = run(shell("cat; echo err >&2; exit 7"), "some input");
  EXPECT_EQ(ended.how, Frame::Exited);
  EXPECT_EQ(ended.code, 7u);
  EXPECT_EQ(ended.out, "some input");
  EXPECT_EQ(ended.error, "err\n");
}

TEST_F(ClientTest, MuchOutputComesWhole) {
  const Ended ended = run(shell("head -c 5000000 /dev/zero; head -c 1000000 /dev/zero >&2"));
  EXPECT_EQ(ended.out.size(), 5'000'000u);
  EXPECT_EQ(ended.error.size(), 1'000'000u);
}

TEST_F(ClientTest, EnvironmentFolderAndWords) {
  ExecOptions options = shell("printf '%s|' \"$MINE\" \"$PWD\" \"$PATH\" \"$1\" \"$2\"");
  options.words.insert(options.words.end(), {"sh", "two words", ""});
  options.environment = {"MINE=is this"};
  options.folder = "/usr";
  EXPECT_EQ(run(options).out,
            "is this|/usr|/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin|two words||");
}

TEST_F(ClientTest, CommandsAreLookedForInPath) {
  ExecOptions options;
  options.user = me;
  options.folder = "/";
  options.words = {"true"};
  EXPECT_EQ(run(options).how, Frame::Exited);
  options.words = {"no-such-command"};
  EXPECT_EQ(run(options).code, 127u);
  options.words = {"/etc"};
  EXPECT_EQ(run(options).code, 126u);
  options.folder = "/no/such/folder";
  EXPECT_EQ(run(options).code, 255u);
  EXPECT_NE(run(options).error.find("/no/such/folder"), std::string::npos);
  options.user = "no-such-user";
  EXPECT_NE(run(options).error.find("no-such-user"), std::string::npos);
}

TEST_F(ClientTest, SignalsReachTheCommandAndItsDeathIsTold) {
  Client client = connect();
  ASSERT_TRUE(client.exec(shell("echo on; sleep 100")).ok());
  ASSERT_TRUE(client.wire().receive());
  client.wire().send_value(Frame::Signal, u32{SIGTERM});
  const Ended ended = collect(client);
  EXPECT_EQ(ended.how, Frame::Killed);
  EXPECT_EQ(ended.code, static_cast<u32>(SIGTERM));
}

TEST_F(ClientTest, InputThatIsNotReadDoesNotHoldUpASignal) {
  Client client = connect();
  ASSERT_TRUE(client.exec(shell("echo on; sleep 100")).ok());
  const std::string much(kDataBytes, 'x');
  for (unsigned i = 0; i < kWindow / kDataBytes; ++i)
    client.wire().send(Frame::Input, {much.data(), much.size()});
  client.wire().send_value(Frame::Signal, u32{SIGKILL});
  EXPECT_EQ(collect(client).code, static_cast<u32>(SIGKILL));
}

TEST_F(ClientTest, ATerminalHasASizeThatChanges) {
  if (access("/dev/ptmx", R_OK | W_OK) != 0) GTEST_SKIP() << "no terminals here";
  ExecOptions options =
      shell("stty size; read line; stty size; test -t 0 && test -t 1 && echo terminal; exit 3");
  options.terminal = true;
  options.size = {30, 100};
  Client client = connect();
  ASSERT_TRUE(client.exec(options).ok());
  ASSERT_TRUE(client.wire().receive());
  std::string first(reinterpret_cast<const char*>(client.wire().payload()), client.wire().bytes());
  client.wire().send_value(Frame::Resize, WindowSize{40, 120});
  client.wire().send(Frame::Input, {"x\n", 2});
  const Ended ended = collect(client);
  EXPECT_NE((first + ended.out).find("30 100"), std::string::npos) << ended.out;
  EXPECT_NE(ended.out.find("40 120"), std::string::npos) << ended.out;
  EXPECT_NE(ended.out.find("terminal"), std::string::npos) << ended.out;
  EXPECT_EQ(ended.code, 3u);
}

TEST_F(ClientTest, OthersWhoKeepTheStreamsAreNotWaitedFor) {
  const Ended ended = run(shell("sleep 30 & echo done"));
  EXPECT_EQ(ended.out, "done\n");
  EXPECT_EQ(ended.how, Frame::Exited);
}

TEST_F(ClientTest, WhoGoesAwayHangsUp) {
  {
    Client client = connect();
    ASSERT_TRUE(
        client
            // The shell says of a killed sleep that it was, which must not be to a pipe that nobody reads.
            .exec(shell("exec 2> /dev/null; trap 'echo > " + folder +
                        "/hung-up; exit' HUP; echo on; while :; do sleep 0.01; done"))
            .ok());
    ASSERT_TRUE(client.wire().receive());
  }
  finish();
  for (int i = 0; i < 2000 && !fs::exists(folder + "/hung-up"); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_TRUE(fs::exists(folder + "/hung-up"));
}

TEST_F(ClientTest, CopiesGoBothWays) {
  fs::create_directories(folder + "/tree/deep");
  std::ofstream(folder + "/tree/deep/file") << std::string(1'000'000, 'x');
  const auto there = connect().put(folder + "/tree", folder + "/there", false, me);
  ASSERT_TRUE(there) << there.error().message();
  EXPECT_EQ(there.value().problems, 0u);
  EXPECT_EQ(fs::file_size(folder + "/there/deep/file"), 1'000'000u);
  fs::create_directories(folder + "/back");
  const auto back = connect().get(folder + "/there", folder + "/back", true, me);
  ASSERT_TRUE(back) << back.error().message();
  EXPECT_EQ(fs::file_size(folder + "/back/there/deep/file"), 1'000'000u);

  EXPECT_NE(
      std::string(connect().put(folder + "/absent", folder, true, me).error().message()).find("No such file"),
      std::string::npos);
  EXPECT_NE(std::string(connect().put(folder + "/tree", "/no/such/place", true, me).error().message())
                .find("/no/such/place"),
            std::string::npos);
  EXPECT_NE(
      std::string(connect().get("/no/such/file", folder, true, me).error().message()).find("/no/such/file"),
      std::string::npos);
}

TEST_F(ClientTest, WhatIsNoFileIsLeftOutAndSaid) {
  fs::create_directories(folder + "/tree");
  ASSERT_EQ(mkfifo((folder + "/tree/pipe").c_str(), 0600), 0);
  const auto there = connect().put(folder + "/tree", folder + "/there", false, me);
  ASSERT_TRUE(there);
  EXPECT_EQ(there.value().problems, 1u);
  EXPECT_NE(there.value().first.find("pipe"), std::string::npos);
}

TEST(Client, TextsOfAGuestAreHarmless) {
  EXPECT_EQ(printable("a\x1b[2J\r\nb\xff"), "a?[2J??b?");
}

TEST(Client, WhereNothingListensASentenceSaysSo) {
  EXPECT_NE(std::string(Client::connect("/no/such/socket").error().message()).find("/no/such/socket"),
            std::string::npos);
}

}  // namespace
}  // namespace nacre::agent
