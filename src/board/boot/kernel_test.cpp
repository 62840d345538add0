// The loaders on Debian's own kernels, when scripts/fetch-guest has fetched them.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

#include "board/boot/elf.hpp"
#include "board/boot/linux_payload.hpp"
#include "board/boot/test_machine.hpp"

namespace nacre::board::boot {
namespace {

Image read_kernel(const std::string& name) {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  const std::string folder = cache != nullptr ? cache : std::string(home != nullptr ? home : "") + "/.cache";
  std::ifstream file(folder + "/nacre/" + name, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class DebianKernel : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    kernel_ = read_kernel(GetParam());
    if (kernel_.empty()) GTEST_SKIP() << GetParam() << " is not in the cache; scripts/fetch-guest fetches it";
  }
  Image kernel_;
};

TEST_P(DebianKernel, is_a_bzimage_and_is_loaded) {
  ASSERT_EQ(detect(kernel_), Format::BzImage);
  TestMachine machine(256 * kMiB);
  const Image initrd(3 * kMiB + 5, 0xd1);
  cpu::State state;
  const Status status =
      load(machine.machine(), {.kernel = kernel_, .command_line = "console=ttyS0", .initrd = initrd}, state);
  ASSERT_TRUE(status.ok()) << status.error().message();
  EXPECT_EQ(state.rip, 16 * kMiB + 0x200);
  EXPECT_EQ(machine.at<u8>(state.rip), 0xfc);  // startup_64 begins with CLD
  EXPECT_EQ(machine.at<u32>(state.gpr[x86::RSI] + 0x21c), initrd.size());
}

TEST_P(DebianKernel, cut_anywhere_it_is_refused) {
  TestMachine machine(256 * kMiB);
  cpu::State state;
  for (usize size = 0; size < kernel_.size() - 4096; size += kernel_.size() / 50) {
    EXPECT_FALSE(load(machine.machine(), {.kernel = Bytes(kernel_).first(size)}, state).ok()) << size;
  }
}

TEST_P(DebianKernel, names_its_payload) {
  const Result<Payload> payload = find_payload(kernel_);
  ASSERT_TRUE(payload.ok()) << payload.error().message();
  EXPECT_NE(payload.value().compression, Compression::Unknown);
  EXPECT_GT(payload.value().unpacked_bytes, 30 * kMiB);
}

TEST_P(DebianKernel, unpacked_it_is_an_elf_that_can_be_moved) {
  const Result<Payload> payload = find_payload(kernel_);
  ASSERT_TRUE(payload.ok());
  if (payload.value().compression != Compression::Lz4) {  // the hosted layer's matter
    EXPECT_EQ(payload.value().compression, Compression::Xz);
    return;
  }
  Image vmlinux(payload.value().unpacked_bytes);
  ASSERT_TRUE(unpack_lz4(payload.value().bytes, vmlinux));
  TestMachine machine(256 * kMiB);
  cpu::State state;
  const Status status = load_unpacked(machine.machine(), {.kernel = kernel_}, vmlinux, 42, state);
  ASSERT_TRUE(status.ok()) << status.error().message();
  EXPECT_NE(state.rip, 16 * kMiB);
  EXPECT_EQ(machine.at<u8>(state.gpr[x86::RSI] + 0x211) & 2, 2);  // KASLR_FLAG
}

INSTANTIATE_TEST_SUITE_P(Boot, DebianKernel,
                         ::testing::Values("vmlinuz-cloud", "vmlinuz-amd64", "vmlinuz-rt"));

}  // namespace
}  // namespace nacre::board::boot
