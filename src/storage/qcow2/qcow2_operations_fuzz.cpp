// No sequence of operations, in whatever order their parts complete, reads something else than was written,
// or leaves an image that is not sound.
#include <cstdlib>
#include <list>

#include "storage/qcow2/check.hpp"
#include "storage/qcow2/create.hpp"
#include "storage/qcow2/qcow2.hpp"
#include "storage/raw.hpp"
#include "storage/testing/memory_file.hpp"

namespace nacre::storage::qcow2 {
namespace {

using testing::MemoryFile;
using State = std::shared_ptr<MemoryFile::State>;

constexpr u64 kDisk = 512 * kKiB + 512, kBacking = 300 * kKiB + 77;

void require(bool condition) {
  if (!condition) std::abort();
}

struct Submitted final : Request {
  std::vector<u8> bytes;
  iovec piece = {};
  bool is_complete = false;
  void completed() override { is_complete = true; }
};

struct Fuzzed {
  State state = std::make_shared<MemoryFile::State>();
  bool has_backing;
  u64 cache;
  u32 seed;
  std::vector<u8> model = std::vector<u8>(kDisk);
  std::unique_ptr<Qcow2> image;
  std::list<Submitted> under_way;

  void open() {
    std::unique_ptr<Image> backing;
    if (has_backing) {
      auto below = std::make_shared<MemoryFile::State>();
      below->content.assign(kBacking, 0x42);
      backing =
          std::make_unique<Raw>(std::make_unique<MemoryFile>(below), Access::ReadOnly, Raw::Said::ByUser);
    }
    auto file = std::make_unique<MemoryFile>(state, ++seed);
    const Header header = read_header(*file, "fuzz").take();
    Options options;
    options.access = Access::ReadWrite;
    options.cache_bytes = cache;
    image = Qcow2::open(std::move(file), header, std::move(backing), options, "fuzz").take();
  }
  void wait_for_all() {
    for (Submitted& request : under_way) {
      while (!request.is_complete) image->wait();
      require(request.error == 0);
      if (request.kind != Request::Kind::Read) continue;
      require(std::equal(request.bytes.begin(), request.bytes.end(),
                         model.begin() + static_cast<i64>(request.offset)));
    }
    under_way.clear();
  }
  void close() {
    wait_for_all();
    require(image->close().ok());
    image.reset();
    MemoryFile file(state);
    const Header header = read_header(file, "fuzz").take();
    const CheckReport report = check(file, header, "fuzz", Repair::Nothing).take();
    require(report.corruptions == 0 && report.leaks == 0);
  }
  void step(u8 what, u64 offset, u64 length) {
    offset %= kDisk;
    length = std::min(1 + length % 40000, kDisk - offset);
    // What is under way together does not overlap: then there is one right answer.
    for (const Submitted& other : under_way) {
      if (other.kind == Request::Kind::Flush || offset >= other.offset + other.length ||
          other.offset >= offset + length)
        continue;
      wait_for_all();
      break;
    }
    Submitted& request = under_way.emplace_back();
    request.offset = offset;
    request.length = length;
    const auto range = std::span(model).subspan(offset, length);
    switch (what % 5) {
      case 0:
      case 1:
        request.kind = Request::Kind::Write;
        request.bytes.assign(length, what);
        std::fill(range.begin(), range.end(), what);
        break;
      case 2:
        request.kind = Request::Kind::WriteZeroes;
        request.space = what % 2 == 0 ? Request::Space::Keep : Request::Space::Release;
        std::fill(range.begin(), range.end(), u8{0});
        break;
      case 3:
        request.kind = Request::Kind::Flush;
        break;
      default:
        request.kind = Request::Kind::Read;
        request.bytes.resize(length);
    }
    request.piece = piece_of(request.bytes);
    request.buffers = {&request.piece, 1};
    request.is_complete = image->submit(request);
  }
};

void run(std::span<const u8> input) {
  if (input.size() < 4) return;
  Fuzzed fuzzed;
  fuzzed.has_backing = (input[0] & 1) != 0;
  fuzzed.cache = (input[0] & 2) != 0 ? 8 * kKiB : kMiB;
  fuzzed.seed = input[1] + 1u;
  if (fuzzed.has_backing) std::fill_n(fuzzed.model.begin(), kBacking, u8{0x42});
  NewImage wanted;
  wanted.size = kDisk;
  wanted.version = (input[0] & 4) != 0 ? 2 : 3;
  wanted.cluster_bits = 9 + input[2] % 8;
  wanted.refcount_order = wanted.version == 2 ? 4 : input[3] % 7;
  {
    MemoryFile file(fuzzed.state);
    require(format_file(file, wanted, "fuzz").ok());
  }
  fuzzed.open();
  for (input = input.subspan(4); input.size() >= 6; input = input.subspan(6)) {
    if (input[0] == 0xff) {
      fuzzed.close();
      fuzzed.open();
      continue;
    }
    fuzzed.step(input[0], u64{input[1]} << 16 | u64{input[2]} << 8 | input[3], u64{input[4]} << 8 | input[5]);
    if (fuzzed.under_way.size() > 12) fuzzed.wait_for_all();
  }
  fuzzed.close();
}

}  // namespace
}  // namespace nacre::storage::qcow2

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  nacre::storage::qcow2::run({data, size});
  return 0;
}
