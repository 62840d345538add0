#include "engine/direct/page_scan.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace nacre::direct {
namespace {

using Bytes = std::vector<u8>;

TEST(PageScan, refuses_what_shows_the_host) {
  EXPECT_TRUE(holds_refused(Bytes{0x90, 0x0f, 0xa2}));              // cpuid
  EXPECT_TRUE(holds_refused(Bytes{0x0f, 0x01, 0xd0}));              // xgetbv
  EXPECT_TRUE(holds_refused(Bytes{0x0f, 0x01, 0x00}));              // sgdt [rax]
  EXPECT_FALSE(holds_refused(Bytes{0x0f, 0x01, 0x00}, true));       // … traps under UMIP
  EXPECT_TRUE(holds_refused(Bytes{0xf3, 0x48, 0x0f, 0xc7, 0xf8}));  // rdpid rax
  EXPECT_TRUE(holds_refused(Bytes{0x0f, 0x34}));                    // sysenter
  EXPECT_TRUE(holds_refused(Bytes{0x0f, 0x0f, 0xa2}));              // in the middle of something else
}

TEST(PageScan, lets_ordinary_code_pass) {
  EXPECT_FALSE(holds_refused(Bytes{}));
  EXPECT_FALSE(holds_refused(Bytes{0x0f}));
  EXPECT_FALSE(holds_refused(Bytes{0x0f, 0x05}));              // syscall traps by itself
  EXPECT_FALSE(holds_refused(Bytes{0x0f, 0x31}));              // so does rdtsc
  EXPECT_FALSE(holds_refused(Bytes{0x0f, 0x01, 0xf9}));        // and rdtscp
  EXPECT_FALSE(holds_refused(Bytes{0x48, 0x0f, 0xc7, 0x0f}));  // cmpxchg16b [rdi]
  EXPECT_FALSE(holds_refused(Bytes{0x0f, 0x1f, 0x44, 0, 0}));  // nop
}

}  // namespace
}  // namespace nacre::direct
