// No bytes in an image make us crash, hang, or write outside of it: a sound image with patches, or no image
// at all, is opened, checked, read, written, and repaired.
#include <cstdlib>

#include "storage/qcow2/check.hpp"
#include "storage/qcow2/create.hpp"
#include "storage/qcow2/qcow2.hpp"
#include "storage/testing/memory_file.hpp"

namespace nacre::storage::qcow2 {
namespace {

using testing::MemoryFile;
using State = std::shared_ptr<MemoryFile::State>;

constexpr u64 kDisk = 256 * kKiB;

State fresh(std::vector<u8> content) {
  auto state = std::make_shared<MemoryFile::State>();
  state->content = std::move(content);
  state->biggest_resize = 64 * kMiB;
  return state;
}

Result<std::unique_ptr<Qcow2>> open(const State& state, Access access, u32 seed) {
  auto file = std::make_unique<MemoryFile>(state, seed);
  const Header header = TRY(read_header(*file, "fuzz"));
  Options options;
  options.access = access;
  options.cache_bytes = 64 * kKiB;
  return Qcow2::open(std::move(file), header, nullptr, options, "fuzz");
}

std::vector<u8> base(u32 cluster_bits, u32 refcount_order) {
  const State state = fresh({});
  {
    MemoryFile file(state);
    NewImage wanted;
    wanted.size = kDisk;
    wanted.cluster_bits = cluster_bits;
    wanted.refcount_order = refcount_order;
    static_cast<void>(format_file(file, wanted, "fuzz"));
  }
  auto image = open(state, Access::ReadWrite, 0).take();
  for (u64 at = 0; at < kDisk; at += 20000)
    static_cast<void>(write_now(*image, at, std::vector<u8>(5000, 7)));
  static_cast<void>(image->close());
  return state->content;
}

void use(Image& image, bool writes) {
  const u64 size = image.size();
  std::vector<u8> bytes(8192);
  for (const u64 at : {u64{0}, size / 2, size > 8192 ? size - 8192 : 0, u64{20000}}) {
    if (at > size) continue;
    const auto part = std::span(bytes).first(std::min<u64>(bytes.size(), size - at));
    static_cast<void>(read_now(image, at, part));
    if (!writes) continue;
    static_cast<void>(write_now(image, at, part));
    static_cast<void>(do_now(image, Request::Kind::Discard, at, part.size()));
    static_cast<void>(do_now(image, Request::Kind::WriteZeroes, at, part.size(), Request::Space::Keep));
    static_cast<void>(write_now(image, at, part.first(part.size() / 3)));
    static_cast<void>(do_now(image, Request::Kind::Flush, 0, 0));
  }
}

void run(std::span<const u8> input) {
  if (input.empty()) return;
  const u8 choice = input[0];
  input = input.subspan(1);
  static const std::vector<u8> bases[] = {base(9, 4), base(12, 4), base(9, 0), base(9, 6)};
  std::vector<u8> content = bases[choice & 3];
  if ((choice & 4) != 0) {
    content.assign(input.begin(), input.end());
  } else {
    // Patches: where (16 bits), how many bytes, which.
    while (input.size() >= 4) {
      const u64 at = (u64{input[0]} << 8 | input[1]) % content.size();
      const u64 length = std::min({u64{input[2]} % 16 + 1, content.size() - at, input.size() - 3});
      std::copy_n(input.begin() + 3, length, content.begin() + static_cast<i64>(at));
      input = input.subspan(3 + length);
    }
  }
  {
    const State state = fresh(content);
    if (auto image = open(state, Access::ReadOnly, 0)) use(**image, false);
    MemoryFile file(state);
    if (const auto header = read_header(file, "fuzz")) {
      static_cast<void>(read_snapshots(file, header.value(), "fuzz"));
      static_cast<void>(check(file, header.value(), "fuzz", Repair::Nothing));
      if (state->content != content) std::abort();
    }
  }
  {
    const State state = fresh(content);
    if (auto image = open(state, Access::ReadWrite, choice)) {
      use(**image, true);
      static_cast<void>((*image)->close());
    }
  }
  const State state = fresh(content);
  MemoryFile file(state);
  if (const auto header = read_header(file, "fuzz")) {
    static_cast<void>(repair_dirty(file, header.value(), "fuzz"));
    static_cast<void>(check(file, header.value(), "fuzz", Repair::Counts));
    static_cast<void>(grow(file, kDisk * 4, "fuzz"));
  }
}

}  // namespace
}  // namespace nacre::storage::qcow2

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  nacre::storage::qcow2::run({data, size});
  return 0;
}
