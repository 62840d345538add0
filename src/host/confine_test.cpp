#include "host/confine.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>

#include "base/sanitizer.hpp"
#include "host/mapping.hpp"
#include "host/signals.hpp"

namespace nacre::host {
namespace {

#if !defined(NACRE_ADDRESS_SANITIZER) && !defined(NACRE_THREAD_SANITIZER)  // confine() does nothing there

class ConfineDeathTest : public testing::TestWithParam<ThreadRole> {
 protected:
  void SetUp() override {
    testing::FLAGS_gtest_death_test_style = "threadsafe";
    ASSERT_TRUE(SignalDispatcher::install().ok());
  }
};

TEST_P(ConfineDeathTest, OpeningAFileEndsTheProcess) {
  const auto act = [] {
    if (confine(GetParam()).ok()) open("/etc/passwd", O_RDONLY | O_CLOEXEC);
  };
  EXPECT_EXIT(act(), testing::KilledBySignal(SIGSYS), "system call 0x0*101 is not one");
}

TEST_P(ConfineDeathTest, ASocketEndsTheProcess) {
  const auto act = [] {
    if (confine(GetParam()).ok()) socket(AF_INET, SOCK_STREAM, 0);
  };
  EXPECT_EXIT(act(), testing::KilledBySignal(SIGSYS), "system call");
}

TEST_P(ConfineDeathTest, NewExecutableMemoryEndsTheProcess) {
  const auto act = [] {
    if (confine(GetParam()).ok())
      mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  };
  EXPECT_EXIT(act(), testing::KilledBySignal(SIGSYS), "system call");
}

TEST_P(ConfineDeathTest, TracingAProcessEndsTheProcess) {
  const auto act = [] {
    if (confine(GetParam()).ok()) ptrace(PTRACE_ATTACH, 1, nullptr, nullptr);
  };
  EXPECT_EXIT(act(), testing::KilledBySignal(SIGSYS), "system call 0x0*65 is not one");
}

TEST_P(ConfineDeathTest, WhatAGuestNeedsGoesOn) {
  const auto act = [] {
    const bool confined = confine(GetParam()).ok();
    auto memory = Mapping::anonymous(1 << 20, Mapping::Guard::Below);
    [[maybe_unused]] const auto written = write(2, "on\n", 3);
    _exit(confined && memory.ok() ? 7 : 1);
  };
  EXPECT_EXIT(act(), testing::ExitedWithCode(7), "on");
}

// libslirp's thread: what it may not, it is told, so that a library's idle curiosity does not end the machine.
TEST(ConfineNetworkDeathTest, InternetSocketsAndNoFiles) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto act = [] {
    if (!confine(ThreadRole::Network).ok()) _exit(1);
    if (socket(AF_INET, SOCK_STREAM, 0) < 0 || socket(AF_INET6, SOCK_DGRAM, 0) < 0) _exit(2);
    if (open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0 || errno != EACCES) _exit(3);
    _exit(7);
  };
  EXPECT_EXIT(act(), testing::ExitedWithCode(7), "");
}

TEST(ConfineNetworkDeathTest, UnixSocketsEndTheProcess) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto act = [] {
    if (SignalDispatcher::install().ok() && confine(ThreadRole::Network).ok()) socket(AF_UNIX, SOCK_STREAM, 0);
  };
  EXPECT_EXIT(act(), testing::KilledBySignal(SIGSYS), "system call");
}

INSTANTIATE_TEST_SUITE_P(Roles, ConfineDeathTest,
                         testing::Values(ThreadRole::Processor, ThreadRole::InputOutput, ThreadRole::Device,
                                         ThreadRole::Sockets, ThreadRole::Broker, ThreadRole::Channel));

TEST(ConfineDeathTest, SocketsOfADeviceAreNotConnected) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  ASSERT_TRUE(SignalDispatcher::install().ok());
  const auto act = [] {
    const sockaddr address = {};
    if (confine(ThreadRole::Sockets).ok()) connect(1000, &address, sizeof address);
  };
  EXPECT_EXIT(act(), testing::KilledBySignal(SIGSYS), "system call 0x0*2a is not one");
}

// The server of a shared folder opens files, and that is all.
TEST(ConfineShareDeathTest, FilesAndNothingElse) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  ASSERT_TRUE(SignalDispatcher::install().ok());
  const auto files = [] {
    if (!confine(ThreadRole::Share).ok() || open("/dev/null", O_RDONLY | O_CLOEXEC) < 0) _exit(1);
    _exit(7);
  };
  EXPECT_EXIT(files(), testing::ExitedWithCode(7), "");
  const auto confined = [](auto act) {
    if (confine(ThreadRole::Share).ok()) act();
  };
  EXPECT_EXIT(confined([] { socket(AF_UNIX, SOCK_STREAM, 0); }), testing::KilledBySignal(SIGSYS), "system call");
  EXPECT_EXIT(confined([] { fork(); }), testing::KilledBySignal(SIGSYS), "system call");
  EXPECT_EXIT(confined([] { ptrace(PTRACE_ATTACH, 1, nullptr, nullptr); }), testing::KilledBySignal(SIGSYS), "system call");
  EXPECT_EXIT(confined([] { chroot("."); }), testing::KilledBySignal(SIGSYS), "system call");
  EXPECT_EXIT(confined([] { mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }), testing::KilledBySignal(SIGSYS), "system call");
}

#endif

}  // namespace
}  // namespace nacre::host
