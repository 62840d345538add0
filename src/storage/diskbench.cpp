// Times an image as `qemu-img bench` does, for benchmarks/disk.py: COUNT requests of SIZE bytes, DEPTH at
// once, each STEP bytes behind the one before, around the end of the disk. Prints seconds.
//
//   diskbench FILE read|write COUNT DEPTH SIZE STEP [uring|threads]
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "storage/buffers.hpp"
#include "storage/open.hpp"

namespace nacre::storage {
namespace {

struct Bench;

struct Slot final : Request {
  Bench* bench = nullptr;
  PageBuffer memory;
  iovec piece = {};
  void completed() override;
};

struct Bench {
  Image& image;
  u64 left, size, step;
  Request::Kind kind;
  u64 offset = 0;
  u64 under_way = 0;
  int error = 0;

  void next(Slot& slot) {
    while (left > 0 && error == 0) {
      --left;
      slot.kind = kind;
      slot.offset = offset;
      slot.length = size;
      slot.buffers = {&slot.piece, 1};
      offset = (offset + step) % image.size();
      if (offset + size > image.size()) offset = 0;
      ++under_way;
      if (!image.submit(slot)) return;
      done(slot);
    }
  }
  void done(const Slot& slot) {
    --under_way;
    if (slot.error != 0) error = slot.error;
  }
};

void Slot::completed() {
  bench->done(*this);
  bench->next(*this);
}

int fail(const Error& error) {
  std::fprintf(stderr, "diskbench: %s\n", error.message());
  return 1;
}

int run(char** argv) {
  const bool writes = strcmp(argv[2], "write") == 0;
  const u64 depth = strtoull(argv[4], nullptr, 10);
  const Loop::Kind kind = argv[7] == nullptr              ? Loop::Kind::Best
                          : strcmp(argv[7], "uring") == 0 ? Loop::Kind::IoUring
                                                          : Loop::Kind::Threads;
  auto loop = Loop::create(kind);
  if (!loop) return fail(loop.error());
  OpenOptions options;
  options.access = writes ? Access::ReadWrite : Access::ReadOnly;
  auto opened = open_image(**loop, argv[1], options);
  if (!opened) return fail(opened.error());
  const auto image = opened.take();
  Bench bench = {*image, strtoull(argv[3], nullptr, 10), strtoull(argv[5], nullptr, 10),
                 strtoull(argv[6], nullptr, 10), writes ? Request::Kind::Write : Request::Kind::Read};
  std::vector<Slot> slots(depth);
  for (Slot& slot : slots) {
    slot.bench = &bench;
    slot.memory = PageBuffer(bench.size);
    memset(slot.memory.data(), 0x5a, bench.size);
    slot.piece = piece_of(slot.memory.bytes());
  }
  const auto began = std::chrono::steady_clock::now();
  for (Slot& slot : slots) bench.next(slot);
  while (bench.under_way > 0) image->wait();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  if (bench.error != 0) return fail(Error(strerror(bench.error)));
  std::printf("%.4f\n", took.count());
  const Status closed = image->close();
  return closed ? 0 : fail(closed.error());
}

}  // namespace
}  // namespace nacre::storage

int main(int argc, char** argv) {
  if (argc >= 7) return nacre::storage::run(argv);
  std::fprintf(stderr, "usage: diskbench FILE read|write COUNT DEPTH SIZE STEP [uring|threads]\n");
  return 2;
}
