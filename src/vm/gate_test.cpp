#include "vm/gate.hpp"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace nacre::vm {
namespace {

// Threads run in and out; a holder has the plain counter to itself, though nobody but the gate guards it.
TEST(Gate, WhoHoldsItClosedIsAlone) {
  Gate gate;
  constexpr unsigned kThreads = 4;
  std::array<std::atomic<bool>, kThreads> kicked = {};
  u64 counter = 0;
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      for (unsigned n = 0; n < 300; ++n) {
        gate.enter(i);
        gate.close(i, [&](unsigned j) { kicked[j] = true; });
        counter = counter + 1;
        gate.open();
        for (unsigned m = 0; m < 50 && !kicked[i].exchange(false); ++m) std::this_thread::yield();
        gate.leave(i);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(counter, kThreads * 300u);
}

}  // namespace
}  // namespace nacre::vm
