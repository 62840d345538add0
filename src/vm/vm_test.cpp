#include <gtest/gtest.h>

#include <thread>

#include "vm/board_lock.hpp"
#include "vm/byte_ring.hpp"
#include "vm/processor_wake.hpp"
#include "vm/trace.hpp"

namespace nacre::vm {
namespace {

TEST(BoardLock, ExcludesAndWakes) {
  BoardLock lock;
  u64 counter = 0;
  const auto work = [&] {
    for (int i = 0; i < 20000; ++i) {
      lock.lock();
      counter = counter + 1;
      lock.unlock();
    }
  };
  std::thread first(work), second(work);
  first.join();
  second.join();
  EXPECT_EQ(counter, 40000U);
}

TEST(ByteRing, KeepsOrderAcrossTheEndAndRefusesWhenFull) {
  ByteRing<8> ring;
  for (u8 i = 0; i < 6; ++i) ASSERT_TRUE(ring.put(i));
  ring.take(4);
  for (u8 i = 6; i < 12; ++i) ASSERT_TRUE(ring.put(i));
  EXPECT_FALSE(ring.put(12));
  EXPECT_EQ(ring.size(), 8U);
  ASSERT_EQ(ring.front().size(), 4U);
  EXPECT_EQ(ring.front()[0], 4);
  ring.take(4);
  ASSERT_EQ(ring.front().size(), 4U);
  EXPECT_EQ(ring.front()[3], 11);
}

TEST(ProcessorWake, AWakeBeforeTheSleepIsKept) {
  ProcessorWake wake;
  wake.wake();
  wake.sleep(kForever);  // would hang
}

TEST(ProcessorWake, WakesASleeper) {
  ProcessorWake wake;
  std::thread sleeper([&] { wake.sleep(kForever); });
  timespec pause = {0, 10'000'000};
  nanosleep(&pause, nullptr);
  wake.wake();
  sleeper.join();
}

TEST(Trace, TopicsAreReadOrRefused) {
  EXPECT_EQ(trace_topics("exec"), TraceTopic::exec);
  EXPECT_EQ(trace_topics("io,mmio"), TraceTopic::port | TraceTopic::mmio);
  EXPECT_EQ(trace_topics("control,block,msr"), TraceTopic::control | TraceTopic::block | TraceTopic::msr);
  EXPECT_EQ(trace_topics("all") & (TraceTopic::block | TraceTopic::last), 0U);
  EXPECT_EQ(trace_topics("ex"), 0U);
  EXPECT_EQ(trace_topics("exec,"), 0U);
  EXPECT_EQ(trace_topics(""), 0U);
}

}  // namespace
}  // namespace nacre::vm
