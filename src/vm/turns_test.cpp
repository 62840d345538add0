#include "vm/turns.hpp"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace nacre::vm {
namespace {

using Asked = Turns::Asked;
constexpr u64 kMillisecond = 1'000'000;  // ns

// A clock that stands still until it is told.
struct Bench {
  std::atomic<u64> now = 1'000 * kMillisecond;
  std::atomic<int> kicked = -1;
  Turns turns;
  Bench(unsigned members, unsigned count)
      : turns(
            members, count, [this] { return now.load(); },
            [this](unsigned i) { kicked = static_cast<int>(i); }) {}
  // From a thread of its own, as take() waits.
  std::thread wants(unsigned i) {
    return std::thread([this, i] { static_cast<void>(turns.take(i)); });
  }
  void wait_for_kick() {
    while (kicked == -1) std::this_thread::yield();
  }
};

TEST(Turns, nobody_waits_where_there_are_enough) {
  Bench bench(4, 4);
  EXPECT_FALSE(bench.turns.scarce());
  for (unsigned i = 0; i < 4; i++) EXPECT_TRUE(bench.turns.has(i));
}

TEST(Turns, as_many_run_as_there_are_turns) {
  constexpr unsigned kMembers = 8, kTurns = 3;
  std::atomic<unsigned> running = 0, most = 0;
  std::atomic<bool> asked[kMembers] = {};
  const auto clock = [] {
    return static_cast<u64>(std::chrono::steady_clock::now().time_since_epoch() /
                            std::chrono::nanoseconds(1));
  };
  Turns turns(kMembers, kTurns, clock, [&](unsigned i) { asked[i] = true; });
  std::vector<std::thread> threads;
  u64 rounds[kMembers] = {};
  for (unsigned i = 0; i < kMembers; i++) {
    threads.emplace_back([&, i] {
      for (unsigned n = 0; n < 200; n++) {
        static_cast<void>(turns.take(i));
        const unsigned now = ++running;
        for (unsigned seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
        }
        // Some give it soon, some when they are asked.
        for (unsigned m = 0; m < (i % 2 == 0 ? 10 : 1000) && !asked[i].exchange(false); m++)
          std::this_thread::yield();
        --running;
        turns.give(i);
        rounds[i]++;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(most, kTurns);
  for (const u64 done : rounds) EXPECT_EQ(done, 200u);
}

TEST(Turns, who_has_computed_is_asked_by_who_has_slept_and_more_urgently_as_time_passes) {
  Bench bench(2, 1);
  EXPECT_EQ(bench.turns.take(0), 0u);
  bench.now += 50 * kMillisecond;
  EXPECT_EQ(bench.turns.asked(0), Asked::No);
  std::thread other = bench.wants(1);
  bench.wait_for_kick();
  EXPECT_EQ(bench.kicked, 0);
  EXPECT_EQ(bench.turns.asked(0), Asked::InUserMode);
  bench.now += kMillisecond;
  EXPECT_EQ(bench.turns.asked(0), Asked::WithInterruptsOn);
  bench.now += 10 * kMillisecond;
  EXPECT_EQ(bench.turns.asked(0), Asked::AtOnce);
  bench.turns.give(0);
  other.join();
  EXPECT_TRUE(bench.turns.has(1));
  EXPECT_FALSE(bench.turns.has(0));
}

// 1 had its turn last, so 0 gets the next one although both wait.
TEST(Turns, who_has_had_least_is_next_and_is_told_how_long_it_waited) {
  Bench bench(3, 1);
  for (unsigned i = 0; i < 3; i++) {
    EXPECT_EQ(bench.turns.take(i), 0u);
    bench.now += (i == 1 ? 9 : 4) * kMillisecond;
    bench.turns.give(i);
  }
  static_cast<void>(bench.turns.take(2));
  u64 waited = 0;
  std::vector<unsigned> order;
  std::mutex lock;
  const auto wants = [&](unsigned i) {
    return std::thread([&, i] {
      const u64 ns = bench.turns.take(i);
      {
        const std::lock_guard held(lock);
        if (order.empty()) waited = ns;
        order.push_back(i);
      }
      bench.turns.give(i);
    });
  };
  std::thread first = wants(1), second = wants(0);
  while (bench.turns.waiting() != 2) std::this_thread::yield();
  bench.now += 20 * kMillisecond;
  bench.turns.give(2);
  first.join();
  second.join();
  EXPECT_EQ(order, (std::vector<unsigned>{0, 1}));
  EXPECT_GE(waited, 20 * kMillisecond);
}

}  // namespace
}  // namespace nacre::vm
