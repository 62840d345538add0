#include <gtest/gtest.h>

#include <sys/mman.h>
#include <unistd.h>

#include <string>
#include <thread>

#include "host/plain_lock.hpp"
#include "vm/byte_ring.hpp"
#include "vm/processor_wake.hpp"
#include "vm/trace.hpp"
#include "vm/vm.hpp"

namespace nacre::vm {
namespace {

TEST(PlainLock, ExcludesAndWakes) {
  host::PlainLock lock;
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
  wake.sleep(host::kForever);  // would hang
}

TEST(ProcessorWake, WakesASleeper) {
  ProcessorWake wake;
  std::thread sleeper([&] { wake.sleep(host::kForever); });
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

// What --log direct says when a guest is made.
std::string said_about_direct(unsigned processors, cpu::Level level, engine::DirectMode direct) {
  const int log = memfd_create("log", 0);
  Config config;
  config.memory_bytes = 16 * kMiB;
  config.engine = engine::Kind::Soft;
  config.processors = processors;
  config.cpu_level = level;
  config.direct = direct;
  config.trace_topics = TraceTopic::direct;
  config.trace_file = log;
  EXPECT_TRUE(Vm::create(config).ok());
  char text[256] = {};
  const ssize_t bytes = pread(log, text, sizeof text - 1, 0);
  close(log);
  return bytes > 0 ? text : "";
}

TEST(Vm, SaysWhyProgramsAreNotRunAsThemselves) {
  using cpu::Level;
  using engine::DirectMode;
  EXPECT_NE(said_about_direct(1, Level::V2, DirectMode::Auto).find("CPU model"), std::string::npos);
  EXPECT_EQ(said_about_direct(1, Level::Host, DirectMode::Auto), "");
  EXPECT_EQ(said_about_direct(2, Level::Host, DirectMode::Auto), "");
  EXPECT_EQ(said_about_direct(2, Level::Host, DirectMode::Off), "");
}

}  // namespace
}  // namespace nacre::vm
