#include <gtest/gtest.h>
#include <lzma.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "board/boot/test_machine.hpp"
#include "unpack/decompress.hpp"
#include "unpack/kernel_cache.hpp"

namespace nacre::unpack {
namespace {

using board::boot::Bytes;
using board::boot::Compression;
using board::boot::Image;
using board::boot::Payload;
using board::boot::put;

Image plain_text() {
  Image plain(300'000);
  for (usize i = 0; i < plain.size(); ++i) plain[i] = static_cast<u8>(i * i / 700);
  return plain;
}

// As the kernel's build does it: x86 filter, CRC32, LZMA2.
Image xz(const Image& plain) {
  lzma_options_lzma options;
  lzma_lzma_preset(&options, 1);
  lzma_filter filters[] = {
      {LZMA_FILTER_X86, nullptr}, {LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, nullptr}};
  Image packed(plain.size() + 1000);
  usize size = 0;
  EXPECT_EQ(lzma_stream_buffer_encode(filters, LZMA_CHECK_CRC32, nullptr, plain.data(), plain.size(),
                                      packed.data(), &size, packed.size()),
            LZMA_OK);
  packed.resize(size);
  return packed;
}

Image zstd(const Image& plain) {
  Image packed(ZSTD_compressBound(plain.size()));
  packed.resize(ZSTD_compress(packed.data(), packed.size(), plain.data(), plain.size(), 3));
  return packed;
}

Image gzip(const Image& plain) {
  Image packed(plain.size() + 1000);
  z_stream z = {};
  deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  z.next_in = const_cast<Bytef*>(plain.data());
  z.avail_in = static_cast<uInt>(plain.size());
  z.next_out = packed.data();
  z.avail_out = static_cast<uInt>(packed.size());
  EXPECT_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
  packed.resize(z.total_out);
  deflateEnd(&z);
  return packed;
}

TEST(Decompress, every_kind_gives_back_what_was_packed) {
  const Image plain = plain_text();
  for (const auto& [kind, packed] : {std::pair{Compression::Xz, xz(plain)},
                                     {Compression::Zstd, zstd(plain)},
                                     {Compression::Gzip, gzip(plain)},
                                     {Compression::None, plain}}) {
    const Payload payload = {packed, kind, plain.size()};
    auto unpacked = decompress(payload);
    ASSERT_TRUE(unpacked.ok()) << static_cast<int>(kind);
    EXPECT_TRUE(std::equal(plain.begin(), plain.end(), unpacked->data())) << static_cast<int>(kind);
  }
}

TEST(Decompress, refuses_damage_truncation_and_wrong_sizes) {
  const Image plain = plain_text();
  for (const auto& [kind, packed] : {std::pair{Compression::Xz, xz(plain)},
                                     {Compression::Zstd, zstd(plain)},
                                     {Compression::Gzip, gzip(plain)},
                                     {Compression::None, plain}}) {
    EXPECT_FALSE(decompress({packed, kind, plain.size() + 1}).ok());
    EXPECT_FALSE(decompress({packed, kind, plain.size() - 1}).ok());
    EXPECT_FALSE(decompress({Bytes(packed).first(packed.size() / 2), kind, plain.size()}).ok());
    EXPECT_FALSE(decompress({{}, kind, plain.size()}).ok());
  }
  EXPECT_FALSE(decompress({plain, Compression::Unknown, plain.size()}).ok());
}

TEST(Decompress, whole_files_packed_by_gzip) {
  const Image plain = plain_text(), packed = gzip(plain);
  EXPECT_FALSE(is_gzip(plain));
  EXPECT_FALSE(is_gzip(Bytes(packed).first(10)));
  ASSERT_TRUE(is_gzip(packed));
  auto whole = gunzip(packed, plain.size());
  ASSERT_TRUE(whole.ok());
  EXPECT_TRUE(std::equal(plain.begin(), plain.end(), whole->data()));
  EXPECT_FALSE(gunzip(packed, plain.size() - 1).ok());
  EXPECT_FALSE(gunzip(Bytes(packed).first(packed.size() - 1), 16 * kMiB).ok());
}

// A bzImage whose payload is `packed`, with the unpacked length behind it.
Image bzimage_with(const Image& packed, usize unpacked_bytes) {
  Image image = board::boot::make_bzimage((packed.size() + 0x1000) & ~usize{15});
  put<u32>(image, 0x248, 0x300);
  put<u32>(image, 0x24c, static_cast<u32>(packed.size() + 4));
  std::copy(packed.begin(), packed.end(), image.begin() + 1024 + 0x300);
  put<u32>(image, 1024 + 0x300 + packed.size(), static_cast<u32>(unpacked_bytes));
  return image;
}

struct KernelCache : ::testing::Test {
  std::string folder = std::filesystem::temp_directory_path() / ("nacre-unpack-" + std::to_string(getpid()));
  std::string kernel_file = folder + "/vmlinuz";
  Image plain = plain_text(), kernel = bzimage_with(zstd(plain), plain.size());

  void SetUp() override {
    std::filesystem::create_directories(folder);
    write(kernel_file, kernel);
  }
  void TearDown() override { std::filesystem::remove_all(folder); }

  static void write(const std::string& file, const Image& bytes) {
    std::ofstream(file, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<long>(bytes.size()));
  }
  std::vector<std::string> entries() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      if (entry.path().filename() != "vmlinuz") names.push_back(entry.path());
    }
    return names;
  }
  bool is_plain(const UnpackedKernel& unpacked) const {
    return unpacked &&
           std::equal(plain.begin(), plain.end(), unpacked.vmlinux().begin(), unpacked.vmlinux().end()) &&
           std::equal(unpacked.header().begin(), unpacked.header().end(), kernel.begin());
  }
};

TEST_F(KernelCache, keeps_what_it_unpacked) {
  EXPECT_FALSE(find_unpacked(kernel_file.c_str(), folder));
  EXPECT_TRUE(is_plain(unpack_kernel(kernel, kernel_file.c_str(), folder)));
  EXPECT_EQ(entries().size(), 1u);
  EXPECT_TRUE(is_plain(find_unpacked(kernel_file.c_str(), folder)));
}

TEST_F(KernelCache, a_changed_kernel_is_another_kernel) {
  EXPECT_TRUE(is_plain(unpack_kernel(kernel, kernel_file.c_str(), folder)));
  const std::string other = folder + "/other";
  write(other, kernel);
  std::filesystem::rename(other, kernel_file);
  EXPECT_FALSE(find_unpacked(kernel_file.c_str(), folder));
}

TEST_F(KernelCache, an_entry_cut_short_or_not_its_own_is_not_there) {
  static_cast<void>(unpack_kernel(kernel, kernel_file.c_str(), folder));
  ASSERT_EQ(entries().size(), 1u);
  const std::string entry = entries().front();
  const auto size = std::filesystem::file_size(entry);
  std::filesystem::resize_file(entry, size - 16);
  EXPECT_FALSE(find_unpacked(kernel_file.c_str(), folder));
  std::filesystem::resize_file(entry, size);  // zeros where the seal was
  EXPECT_FALSE(find_unpacked(kernel_file.c_str(), folder));
  for (const usize small : {usize{0}, usize{1}, board::boot::kSetupBytes + 16}) {
    std::filesystem::resize_file(entry, small);
    EXPECT_FALSE(find_unpacked(kernel_file.c_str(), folder));
  }
  EXPECT_TRUE(is_plain(unpack_kernel(kernel, kernel_file.c_str(), folder)));
  EXPECT_TRUE(is_plain(find_unpacked(kernel_file.c_str(), folder)));
}

TEST_F(KernelCache, works_without_a_folder_and_leaves_what_it_cannot_unpack_to_the_guest) {
  EXPECT_TRUE(is_plain(unpack_kernel(kernel, kernel_file.c_str(), "")));
  EXPECT_TRUE(is_plain(unpack_kernel(kernel, kernel_file.c_str(), "/proc/nonexistent")));
  EXPECT_TRUE(is_plain(unpack_kernel(kernel, "/dev/null", folder)));
  EXPECT_TRUE(entries().empty());
  EXPECT_FALSE(unpack_kernel(plain, kernel_file.c_str(), folder));
  const Image odd = bzimage_with(Image(500, 0x33), 1000);
  EXPECT_FALSE(unpack_kernel(odd, kernel_file.c_str(), folder));
}

TEST_F(KernelCache, keeps_only_a_few) {
  for (int i = 0; i < 8; ++i) {
    const std::string file = folder + "/vmlinuz";
    write(file + ".new", kernel);
    std::filesystem::rename(file + ".new", file);
    EXPECT_TRUE(is_plain(unpack_kernel(kernel, file.c_str(), folder)));
  }
  EXPECT_LE(entries().size(), 4u);
}

// Debian's own kernels, when scripts/fetch-guest has fetched them: unpacked, placed at random, entered.
TEST(DebianKernels, are_unpacked_here) {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  const std::string folder =
      (cache != nullptr ? cache : std::string(home != nullptr ? home : "") + "/.cache") + "/nacre/";
  unsigned found = 0;
  for (const char* name : {"vmlinuz-cloud", "vmlinuz-amd64", "vmlinuz-rt"}) {
    std::ifstream file(folder + name, std::ios::binary);
    const Image kernel{std::istreambuf_iterator<char>(file), {}};
    if (kernel.empty()) continue;
    ++found;
    const UnpackedKernel vmlinux = unpack_kernel(kernel, name, "");
    ASSERT_TRUE(static_cast<bool>(vmlinux)) << name;
    board::boot::TestMachine machine(256 * kMiB);
    cpu::State state;
    const board::boot::Request request = {
        .kernel = vmlinux.header(), .unpacked = vmlinux.vmlinux(), .random = 42};
    const Status status = load(machine.machine(), request, state);
    ASSERT_TRUE(status.ok()) << name << ": " << status.error().message();
    EXPECT_NE(state.rip % (2 * kMiB), 0x200u) << name;  // not the bzImage's own entry
    EXPECT_NE(state.rip, 16 * kMiB) << name;
  }
  if (found == 0) GTEST_SKIP() << "no kernel in " << folder << "; scripts/fetch-guest fetches them";
}

}  // namespace
}  // namespace nacre::unpack
