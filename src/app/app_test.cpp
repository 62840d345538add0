#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "app/console.hpp"
#include "app/escape_keys.hpp"
#include "app/exit_status.hpp"
#include "app/guest_assets.hpp"
#include "app/life/stat_command.hpp"
#include "app/run_channel.hpp"

namespace nacre::app {
namespace {

std::vector<u8> bytes_of(const std::string& text) {
  return {text.begin(), text.end()};
}

TEST(Stat, has_a_column_for_each_processor_and_no_row_of_nothing) {
  const std::string table = table_of({"exits\t12\nhalt\t0\nsignal\t3\n", "exits\t4\nhalt\t0\nnew\t9\n", "broken"});
  EXPECT_EQ(table,
            "exits                          12              4              0\n"
            "signal                          3              0              0\n"
            "new                             0              9              0\n");
}

TEST(EscapeKeys, PassesEverythingButItsCommands) {
  EscapeKeys keys;
  std::vector<u8> guest;
  for (const char byte : {'a', '\x01', '\x01', 'b', '\x01', 'z', 'c', '\x03'}) {
    EXPECT_EQ(keys.take(static_cast<u8>(byte), guest), KeyCommand::None);
  }
  EXPECT_EQ(guest, bytes_of("a\x01"
                            "bc\x03"));
  EXPECT_EQ(keys.take(1, guest), KeyCommand::None);
  EXPECT_EQ(keys.take('x', guest), KeyCommand::Quit);
  EXPECT_EQ(keys.take('x', guest), KeyCommand::None);
  EXPECT_EQ(keys.take(1, guest), KeyCommand::None);
  EXPECT_EQ(keys.take('h', guest), KeyCommand::Help);
}

TEST(ExitStatus, DebugExitIsQemus) {
  EXPECT_EQ(debug_exit_status(0x10), 33);
  EXPECT_EQ(debug_exit_status(0), 1);
  EXPECT_EQ(debug_exit_status(0xffffffff), 255);
}

// Nacre's own statuses are even, so that no debug exit can be taken for one.
TEST(ExitStatus, OwnStatusesAreEven) {
  for (const int status :
       {ExitStatus::power_off, ExitStatus::bad_input, ExitStatus::reset, ExitStatus::triple_fault,
        ExitStatus::engine_failure, ExitStatus::output_failed, ExitStatus::quit, ExitStatus::diverged,
        ExitStatus::time_limit}) {
    EXPECT_EQ(status % 2, 0);
  }
}

struct Pipe {
  Pipe() {
    int ends[2] = {};
    EXPECT_EQ(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    reader = host::UniqueFd(ends[0]);
    writer = host::UniqueFd(ends[1]);
  }
  std::string content() const {
    char text[4096];
    const ssize_t got = read(reader.number(), text, sizeof text);
    return got > 0 ? std::string(text, static_cast<usize>(got)) : std::string();
  }
  host::UniqueFd reader, writer;
};

TEST(OutputStream, NeverBlocksAndNoticesAGoneReader) {
  Pipe pipe;
  OutputStream stream(pipe.writer.number());
  const std::vector<u8> much(1 << 20, 'x');
  const usize first = stream.write_some(much);
  EXPECT_GT(first, 0U);
  EXPECT_LT(first, much.size());
  signal(SIGPIPE, SIG_IGN);
  pipe.reader = host::UniqueFd();
  EXPECT_EQ(stream.write_some(much), much.size());
  EXPECT_TRUE(stream.reader_gone());
}

TEST(RunChannel, TakesFramesApartHoweverTheyAreCut) {
  for (usize piece = 1; piece < 12; ++piece) {
    Pipe out, error;
    RunChannel channel(-1, out.writer.number(), error.writer.number());
    const auto frames =
        bytes_of(std::string("r\0\0o\5\0hello"
                             "e\3\0errq\1\0?o\0\0x\2\0\0\7",
                             29));
    for (usize at = 0; at < frames.size(); at += piece) {
      const auto part = std::span(frames).subspan(at, std::min(piece, frames.size() - at));
      EXPECT_EQ(channel.output(part), part.size());
    }
    EXPECT_EQ(out.content(), "hello");
    EXPECT_EQ(error.content(), "err");
    ASSERT_TRUE(channel.finished());
    EXPECT_EQ(channel.status(), 7);
  }
}

TEST(RunChannel, DeathBySignalIs128PlusIt) {
  RunChannel channel(-1, -1, -1);
  const auto frame = bytes_of(std::string("x\2\0\1\x0f", 5));
  EXPECT_EQ(channel.output(frame), frame.size());
  EXPECT_EQ(channel.status(), 128 + 15);
}

TEST(RunChannel, InputWaitsForTheGuestAndItsCredit) {
  Pipe in;
  const std::vector<u8> much(40000, 'y');
  ASSERT_EQ(write(in.writer.number(), much.data(), much.size()), static_cast<ssize_t>(much.size()));
  RunChannel channel(in.reader.number(), -1, -1);
  const auto pump = [&] {
    usize total = 0;
    for (int i = 0; i < 100; ++i) {
      std::vector<pollfd> entries;
      channel.wait_for(entries);
      poll(entries.data(), entries.size(), 0);
      channel.ready(entries);
      total += channel.input().size();
      channel.input_taken(channel.input().size());
    }
    return total;
  };
  EXPECT_EQ(pump(), 0U);
  EXPECT_EQ(channel.output(bytes_of(std::string("r\0\0", 3))), 3U);
  EXPECT_EQ(pump(), channel::kWindow + 3 * (channel::kWindow / channel::kMostPayload));
  // 1000 bytes more have gone; a hostile credit gives no more than the window.
  EXPECT_EQ(channel.output(bytes_of(std::string("c\4\0\xe8\3\0\0", 7))), 7U);
  EXPECT_EQ(pump(), 1003U);
  EXPECT_EQ(channel.output(bytes_of(std::string("c\4\0\xff\xff\xff\xff", 7))), 7U);
  EXPECT_LE(pump(), channel::kWindow + 16);
}

TEST(RunChannel, EndOfInputIsAnEmptyFrame) {
  RunChannel channel(-1, -1, -1);
  EXPECT_EQ(channel.output(bytes_of(std::string("r\0\0", 3))), 3U);
  const auto input = channel.input();
  EXPECT_EQ(std::string(input.begin(), input.end()), std::string("i\0\0", 3));
}

TEST(AddedFile, WantsAnAbsolutePlaceInTheGuest) {
  EXPECT_EQ(parse_added_file("./a:/b").take().guest_path, "/b");
  EXPECT_EQ(parse_added_file("/etc/hosts").take().guest_path, "/etc/hosts");
  EXPECT_FALSE(parse_added_file("a").ok());
  EXPECT_FALSE(parse_added_file("a:b").ok());
  EXPECT_FALSE(parse_added_file(":/b").ok());
}

TEST(CachedFile, FollowsXdg) {
  setenv("XDG_CACHE_HOME", "/c", 1);
  EXPECT_EQ(cached_file("x").take(), "/c/nacre/x");
  setenv("XDG_CACHE_HOME", "relative", 1);
  setenv("HOME", "/h", 1);
  EXPECT_EQ(cached_file("x").take(), "/h/.cache/nacre/x");
  unsetenv("HOME");
  EXPECT_FALSE(cached_file("x").ok());
}

}  // namespace
}  // namespace nacre::app
