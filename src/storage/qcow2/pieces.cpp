#include "storage/qcow2/pieces.hpp"

namespace nacre::storage::qcow2 {
namespace {

constexpr usize kMostAtOnce = 64, kMostNeighbours = 256;

Task<int> write_one(Target* file, u64 offset, u64 length, std::vector<iovec> memory) {
  co_return co_await Io(*file, Request::Kind::Write, offset, length, memory);
}

}  // namespace

Task<int> write_all(Target* file, const std::vector<Piece>* pieces) {
  std::vector<Task<int>> parts;
  int error = 0;
  for (usize i = 0; i < pieces->size() && error == 0;) {
    std::vector<iovec> memory;
    const u64 offset = (*pieces)[i].offset;
    u64 length = 0;
    for (; i < pieces->size() && (*pieces)[i].offset == offset + length && memory.size() < kMostNeighbours;
         ++i) {
      memory.push_back(piece_of((*pieces)[i].bytes.bytes()));
      length += (*pieces)[i].bytes.size();
    }
    parts.push_back(write_one(file, offset, length, std::move(memory)));
    if (parts.size() == kMostAtOnce) error = co_await all(&parts);
  }
  const int failed = co_await all(&parts);
  co_return error != 0 ? error : failed;
}

}  // namespace nacre::storage::qcow2
