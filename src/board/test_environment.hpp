// For tests of the board: an Environment whose time is stated, and that remembers what reached it.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "board/board.hpp"

namespace nacre::board {

struct TestEnvironment final : Environment {
  static constexpr u64 kTscHz = 2'000'000'000;

  u64 time = 0;
  std::vector<unsigned> kicks, nmis, inits, unhalts;
  std::vector<std::pair<unsigned, u8>> startups;
  std::vector<PowerEvent> power;
  std::string serial[kMaxSerialPorts], debug[kMaxDebugPorts];
  std::vector<u8> post;
  unsigned room[kMaxSerialPorts] = {};
  unsigned deadline_moves = 0;

  u64 now() override { return time; }
  u64 wall_clock() override { return u64{1'700'000'000} * 1'000'000'000 + time; }
  u64 tsc() override { return 2 * time; }
  time::Instant instant() override { return {2 * time, time}; }
  u64 random() override { return 4; }
  void kick(unsigned processor) override { kicks.push_back(processor); }
  void non_maskable(unsigned processor) override { nmis.push_back(processor); }
  void init(unsigned processor) override { inits.push_back(processor); }
  void start_up(unsigned processor, u8 page) override { startups.emplace_back(processor, page); }
  void unhalt(unsigned processor) override { unhalts.push_back(processor); }
  void deadline_moved(unsigned) override { ++deadline_moves; }
  void power_event(PowerEvent event) override { power.push_back(event); }
  void serial_output(unsigned port, u8 byte) override { serial[port] += static_cast<char>(byte); }
  void serial_input_room(unsigned port) override { ++room[port]; }
  void debug_output(unsigned which, u8 byte) override { debug[which] += static_cast<char>(byte); }
  void post_code(u8 code) override { post.push_back(code); }
};

// A board with RAM of its own.
class TestBoard {
 public:
  explicit TestBoard(Options options = {}) : options_(with_ram(options)), board_(options_, environment) {
    const Status status = board_.assemble();
    NACRE_CHECK(status.ok());
  }
  Board* operator->() { return &board_; }
  Board& operator*() { return board_; }
  cpu::Platform& cpu(unsigned i = 0) { return board_.processor(i); }

  TestEnvironment environment;

 private:
  Options with_ram(Options options) {
    if (options.memory_bytes == 0) options.memory_bytes = 4 * kMiB;
    ram_.resize(options.memory_bytes);
    flags_.resize(options.memory_bytes / kPageSize);
    options.ram = ram_.data();
    options.page_flags = flags_.data();
    options.tsc_hz = TestEnvironment::kTscHz;
    return options;
  }

  std::vector<u8> ram_, flags_;
  Options options_;
  Board board_;
};

}  // namespace nacre::board
