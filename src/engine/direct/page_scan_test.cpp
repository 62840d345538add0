#include "engine/direct/page_scan.hpp"

#include <gtest/gtest.h>

#include <array>
#include <random>
#include <vector>

namespace nacre::direct {
namespace {

using Bytes = std::vector<u8>;

// A page of plausible code (mov %rbx, %rcx), with `bytes` in it.
std::array<u8, kPageSize> page_with(const Bytes& bytes, usize at) {
  std::array<u8, kPageSize> page = {};
  for (usize i = 0; i < kPageSize; i++) page[i] = Bytes{0x48, 0x89, 0xd9}[i % 3];
  for (usize i = 0; i < bytes.size(); i++) page[at + i] = bytes[i];
  for (usize i = at + bytes.size(); i % 3 != 0; i++) page[i] = 0x90;
  return page;
}
PageVerdict verdict(const Bytes& bytes, usize at = 600) {
  return scan_page(page_with(bytes, at));
}

TEST(PageScan, replaces_what_shows_the_host) {
  for (const Bytes& bytes : {Bytes{0x0f, 0xa2}, Bytes{0x0f, 0x01, 0xd0}, Bytes{0x0f, 0x01, 0xf9},
                             Bytes{0x0f, 0x34}, Bytes{0x0f, 0x01, 0xef}, Bytes{0x0f, 0x01, 0xc1},
                             Bytes{0x0f, 0x01, 0x00}, Bytes{0x0f, 0x00, 0xc8}, Bytes{0x0f, 0x03, 0xc0}}) {
    const PageVerdict found = verdict(bytes);
    EXPECT_TRUE(found.may_run) << unsigned{bytes[1]};
    ASSERT_EQ(found.patches, 1U) << unsigned{bytes[1]};
    EXPECT_EQ(found.patch[0], 601U);
  }
  const PageVerdict prefixed = verdict({0xf3, 0x48, 0x0f, 0xc7, 0xf8});  // rdpid %rax
  ASSERT_EQ(prefixed.patches, 1U);
  EXPECT_EQ(prefixed.patch[0], 603U);
}

TEST(PageScan, lets_ordinary_code_pass) {
  for (const Bytes& bytes : {Bytes{0x0f, 0x05}, Bytes{0x0f, 0x31}, Bytes{0x48, 0x0f, 0xc7, 0x0f},
                             Bytes{0x0f, 0x1f, 0x44, 0, 0}, Bytes{0x0f, 0x84, 0x0f, 0, 0, 0}}) {
    const PageVerdict found = verdict(bytes);
    EXPECT_TRUE(found.may_run && found.patches == 0) << unsigned{bytes[1]};
  }
}

// Replacing a byte there would change another instruction.
TEST(PageScan, refuses_pages_with_a_grave_one_inside_another_instruction) {
  EXPECT_FALSE(verdict({0xb8, 0x0f, 0xa2, 0, 0}).may_run);    // mov $0xa20f, %eax
  EXPECT_TRUE(verdict({0xb8, 0x0f, 0x00, 0xc8, 0}).may_run);  // str, which says little
  EXPECT_EQ(verdict({0xb8, 0x0f, 0x00, 0xc8, 0}).patches, 0U);
}

TEST(PageScan, refuses_where_nothing_before_tells) {
  EXPECT_FALSE(verdict({0x0f, 0xa2}, 9).may_run);
}

// Whatever data looks like, none of its bytes is replaced.
TEST(PageScan, never_replaces_bytes_of_data) {
  std::mt19937_64 random(7);
  std::array<u8, kPageSize> page = {};
  unsigned refused = 0;
  for (int round = 0; round < 2000; round++) {
    for (u8& byte : page) byte = static_cast<u8>(random());
    if (round % 2 != 0) page[1000] = 0x0f, page[1001] = 0xa2;
    const PageVerdict found = scan_page(page);
    EXPECT_EQ(found.may_run ? found.patches : 0U, 0U) << round;
    refused += found.may_run ? 0 : 1;
  }
  EXPECT_GT(refused, 999U);
  page.fill(0);
  page[1000] = 0x0f, page[1001] = 0xa2;
  EXPECT_FALSE(scan_page(page).may_run);
}

TEST(PageScan, sees_what_lies_across_two_pages) {
  const auto seam = [](u8 a, u8 b, u8 c, u8 d) {
    const std::array<u8, 2> last = {a, b}, first = {c, d};
    return seam_holds_refused(last, first);
  };
  EXPECT_TRUE(seam(0x90, 0x0f, 0xa2, 0x90));
  EXPECT_TRUE(seam(0x0f, 0x01, 0xd0, 0x90));
  EXPECT_TRUE(seam(0x90, 0x0f, 0x01, 0xf9));
  EXPECT_FALSE(seam(0x90, 0x0f, 0x05, 0x90));
  EXPECT_FALSE(seam(0x90, 0x90, 0x0f, 0xa2));
}

}  // namespace
}  // namespace nacre::direct
