#include <fcntl.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <termios.h>
#include <time.h>

#include "host/fd.hpp"
#include "host/file_bytes.hpp"
#include "host/guest_ram.hpp"
#include "host/kick_timer.hpp"
#include "host/signals.hpp"
#include "host/terminal.hpp"
#include "host/tsc_clock.hpp"

namespace nacre::host {
namespace {

TEST(UniqueFd, ClosesOnce) {
  int number = -1;
  {
    UniqueFd first(dup(2));
    number = first.number();
    const UniqueFd second = std::move(first);
    EXPECT_FALSE(first);  // NOLINT(bugprone-use-after-move): that is what is tested
    EXPECT_EQ(fcntl(number, F_GETFD), FD_CLOEXEC * 0);
  }
  EXPECT_EQ(fcntl(number, F_GETFD), -1);
}

TEST(FileBytes, SaysWhatIsWrong) {
  auto missing = FileBytes::read("/nonexistent/kernel", "kernel", kGiB, "the guest's memory");
  ASSERT_FALSE(missing.ok());
  EXPECT_STREQ(missing.error().message(), "Cannot open /nonexistent/kernel: No such file or directory.");
  auto folder = FileBytes::read("/", "kernel", kGiB, "the guest's memory");
  ASSERT_FALSE(folder.ok());
  EXPECT_STREQ(folder.error().message(), "Cannot read /: Is a directory.");
  auto large = FileBytes::read("/proc/self/exe", "kernel", 1000, "the guest's memory");
  ASSERT_FALSE(large.ok());
  auto endless = FileBytes::read("/dev/zero", "kernel", kMiB, "the guest's memory");
  ASSERT_FALSE(endless.ok());
  EXPECT_STREQ(endless.error().message(), "The kernel /dev/zero is larger than the guest's memory (1 MiB).");
}

TEST(FileBytes, ReadsAll) {
  auto whole = FileBytes::read("/proc/self/exe", "program", kGiB, "reason");
  ASSERT_TRUE(whole.ok());
  ASSERT_GT(whole->bytes().size(), 1000U);
  EXPECT_EQ(whole->bytes()[1], 'E');
  auto empty = FileBytes::read("/dev/null", "program", kGiB, "reason");
  ASSERT_TRUE(empty.ok());
  EXPECT_EQ(empty->bytes().size(), 0U);
}

TEST(GuestRam, RefusesWhatCannotBe) {
  EXPECT_FALSE(GuestRam::create(0).ok());
  EXPECT_FALSE(GuestRam::create(4097).ok());
  EXPECT_FALSE(GuestRam::create(u64{1} << 52).ok());
}

TEST(GuestRam, IsZeroedAndMapsTheFile) {
  auto ram = GuestRam::create(16 * kMiB);
  ASSERT_TRUE(ram.ok());
  EXPECT_EQ(ram->data()[16 * kMiB - 1], 0);
  EXPECT_EQ(ram->page_flags()[16 * kMiB / kPageSize - 1], 0);
  ram->data()[5000] = 42;
  u8 byte = 0;
  ASSERT_EQ(pread(ram->file(), &byte, 1, 5000), 1);
  EXPECT_EQ(byte, 42);
}

TEST(ParseSize, TakesUnitsAndRefusesTheRest) {
  EXPECT_EQ(parse_size("512M").take(), 512 * kMiB);
  EXPECT_EQ(parse_size("2GiB").take(), 2 * kGiB);
  EXPECT_EQ(parse_size("65536k").take(), 64 * kMiB);
  EXPECT_EQ(parse_size("4096").take(), 4096U);
  EXPECT_EQ(parse_size("0").take(), 0U);
  for (const char* wrong :
       {"", "M", "-1", "12X", "1MM", "1.5G", "18446744073709551616", "99999999999999T", " 1", "1 M"}) {
    EXPECT_FALSE(parse_size(wrong).ok()) << wrong;
  }
}

TEST(TscClock, RunsLikeTheKernelsClock) {
  const ClockPair early = ClockPair::read();
  const u64 hz = tsc_frequency(early);
  const TscClock clock(hz);
  const ClockPair start = ClockPair::read();
  const u64 first = clock.now();
  timespec pause = {0, 20'000'000};
  nanosleep(&pause, nullptr);
  const ClockPair end = ClockPair::read();
  const double passed = static_cast<double>(clock.now() - first);
  const double truth = static_cast<double>(end.monotonic_ns - start.monotonic_ns);
  EXPECT_NEAR(passed / truth, 1.0, 0.01);
}

TEST(KickTimer, InterruptsASleepOnTime) {
  ASSERT_TRUE(SignalDispatcher::install().ok());
  auto timer = KickTimer::create();
  ASSERT_TRUE(timer.ok());
  const u64 start = ClockPair::read().monotonic_ns;
  timer->arm_after(10'000'000);
  timespec pause = {5, 0};
  EXPECT_EQ(nanosleep(&pause, nullptr), -1);
  const u64 passed = ClockPair::read().monotonic_ns - start;
  EXPECT_GE(passed, 10'000'000U);
  EXPECT_LT(passed, 2'000'000'000U);
}

TEST(RawTerminal, IsPutBack) {
  int controller = -1, terminal = -1;
  ASSERT_EQ(openpty(&controller, &terminal, nullptr, nullptr, nullptr), 0);
  const UniqueFd close_controller(controller), close_terminal(terminal);
  termios before = {}, now = {};
  tcgetattr(terminal, &before);
  {
    auto raw = RawTerminal::enter(terminal);
    ASSERT_TRUE(raw.ok());
    tcgetattr(terminal, &now);
    EXPECT_EQ(now.c_lflag & (ICANON | ECHO | ISIG), 0U);
    EXPECT_FALSE(RawTerminal::enter(terminal).ok());
    SignalDispatcher::run_last_words();
    tcgetattr(terminal, &now);
    EXPECT_EQ(now.c_lflag, before.c_lflag);
    RawTerminal::again();
  }
  tcgetattr(terminal, &now);
  EXPECT_EQ(now.c_lflag, before.c_lflag);
  EXPECT_FALSE(RawTerminal::enter(open("/dev/null", O_RDONLY | O_CLOEXEC)).ok());
}

}  // namespace
}  // namespace nacre::host
