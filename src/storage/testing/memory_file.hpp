// MemoryFile: a host file that is not there. Completes its requests in an order that a seed decides, keeps a
// log of what it was asked, and builds what a crash at any point of that log can leave behind; or fails as
// told.
#pragma once

#include <algorithm>
#include <cerrno>
#include <map>
#include <memory>
#include <random>

#include <vector>

#include "storage/block_file.hpp"
#include "storage/buffers.hpp"

namespace nacre::storage::testing {

// What happened to the file. A write counts from when it was submitted (it may reach the disk from then on)
// and is safe once a flush is complete that was submitted after the write was complete.
struct Log {
  enum class What : u8 { Write, Hole, Resize, Complete, FlushBegin, FlushEnd };
  struct Event {
    What what;
    u64 id = 0;      // of the write or flush
    u64 offset = 0;  // Resize: the new size
    std::vector<u8> bytes;
    u64 length = 0;  // Hole
  };
  std::vector<Event> events;
  std::vector<u8> before;  // the file's content when the log began

  // The file after a crash behind `events[0, point)`: all that is safe, and of the rest what the seed says.
  // `safe`: of safe_from().
  [[nodiscard]] std::vector<u8> crashed(const std::vector<usize>& safe, usize point, u32 seed) const;
  [[nodiscard]] std::vector<usize> safe_from() const;
};

class MemoryFile final : public BlockFile {
 public:
  // Shared, so that a test can look at it when the image is gone.
  struct State {
    std::vector<u8> content;
    Log log;
    bool logs = false;
    u64 most_bytes = ~u64{0};  // ENOSPC for what would lie behind
    u64 fail_after = ~u64{0};  // requests, then EIO
    int fail_error = EIO;
    bool supports_holes = true;
    u64 biggest_resize = u64{1} << 32;
  };
  explicit MemoryFile(std::shared_ptr<State> state, u32 seed = 0)
      : state_(std::move(state)), random_(seed), scrambles_(seed != 0) {}

  bool submit(Request& request) override {
    request.error = 0;
    State& state = *state_;
    if (state.fail_after != ~u64{0} && state.fail_after-- == 0) {
      state.fail_after = 0;
      request.error = state.fail_error;
      return true;
    }
    const u64 id = ++ids_;
    if (state.logs) note(request, id);
    // Some at once, as what is in the page cache.
    if (!scrambles_ || (request.kind == Request::Kind::Read && random_() % 2 == 0)) {
      carry_out(request, id);
      return true;
    }
    waiting_.push_back({&request, id});
    return false;
  }
  void wait() override {
    NACRE_CHECK(!waiting_.empty());  // nothing would ever come
    const usize chosen = random_() % waiting_.size();
    const Waiting next = waiting_[chosen];
    waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(chosen));
    carry_out(*next.request, next.id);
    next.request->completed();
  }
  [[nodiscard]] bool is_idle() const { return waiting_.empty(); }
  [[nodiscard]] u64 size() const override { return state_->content.size(); }
  [[nodiscard]] int resize(u64 bytes) override {
    if (bytes > state_->biggest_resize) return EFBIG;
    if (state_->logs) state_->log.events.push_back({Log::What::Resize, 0, bytes, {}, 0});
    state_->content.resize(bytes);
    return 0;
  }

 private:
  struct Waiting {
    Request* request;
    u64 id;
  };
  void note(const Request& request, u64 id) {
    auto& events = state_->log.events;
    switch (request.kind) {
      case Request::Kind::Read:
        return;
      case Request::Kind::Write: {
        Log::Event event = {Log::What::Write, id, request.offset, std::vector<u8>(request.length), 0};
        copy_out(request.buffers, 0, event.bytes);
        events.push_back(std::move(event));
        return;
      }
      case Request::Kind::Discard:
      case Request::Kind::WriteZeroes:
        events.push_back({Log::What::Hole, id, request.offset, {}, request.length});
        return;
      case Request::Kind::Flush:
        events.push_back({Log::What::FlushBegin, id, 0, {}, 0});
    }
  }
  void carry_out(Request& request, u64 id) {
    std::vector<u8>& content = state_->content;
    const u64 end = request.offset + request.length;
    switch (request.kind) {
      case Request::Kind::Read: {
        const u64 there =
            request.offset < content.size() ? std::min(end, content.size()) - request.offset : 0;
        if (there > 0) copy_into(request.buffers, 0, std::span(content).subspan(request.offset, there));
        fill_zero(request.buffers, there, request.length - there);
        return;
      }
      case Request::Kind::Write:
        if (end > std::min(state_->most_bytes, state_->biggest_resize)) {
          request.error = ENOSPC;
          break;
        }
        if (end > content.size()) content.resize(end);
        copy_out(request.buffers, 0, std::span(content).subspan(request.offset, request.length));
        break;
      case Request::Kind::Discard:
        if (!state_->supports_holes) break;
        [[fallthrough]];
      case Request::Kind::WriteZeroes:
        if (request.space == Request::Space::Keep && end > state_->most_bytes) {
          request.error = ENOSPC;
          break;
        }
        if (request.offset < content.size())
          std::fill(content.begin() + static_cast<std::ptrdiff_t>(request.offset),
                    content.begin() + static_cast<std::ptrdiff_t>(std::min(end, content.size())), u8{0});
        break;
      case Request::Kind::Flush:
        break;
    }
    if (state_->logs) {
      const auto what = request.kind == Request::Kind::Flush ? Log::What::FlushEnd : Log::What::Complete;
      state_->log.events.push_back({what, id, 0, {}, 0});
    }
  }

  std::shared_ptr<State> state_;
  std::mt19937 random_;
  bool scrambles_;
  u64 ids_ = 0;
  std::vector<Waiting> waiting_;
};

// For each event, the end of the first flush that makes it safe: one that began after it was complete.
inline std::vector<usize> Log::safe_from() const {
  std::vector<usize> result(events.size(), ~usize{0});
  std::map<u64, usize> complete_at, flush_ends;
  for (usize i = 0; i < events.size(); ++i) {
    if (events[i].what == What::Complete) complete_at[events[i].id] = i;
    if (events[i].what == What::FlushEnd) flush_ends[events[i].id] = i;
  }
  for (usize i = 0; i < events.size(); ++i) {
    const What what = events[i].what;
    if (what != What::Write && what != What::Hole && what != What::Resize) continue;
    usize complete = i;
    if (what != What::Resize) {
      const auto found = complete_at.find(events[i].id);
      if (found == complete_at.end()) continue;
      complete = found->second;
    }
    for (usize j = complete + 1; j < events.size(); ++j) {
      if (events[j].what != What::FlushBegin) continue;
      const auto end = flush_ends.find(events[j].id);
      if (end != flush_ends.end()) result[i] = std::min(result[i], end->second);
    }
  }
  return result;
}

inline std::vector<u8> Log::crashed(const std::vector<usize>& safe, usize point, u32 seed) const {
  std::mt19937 random(seed);
  // seed 0: all that was asked for got there; 1: nothing that is not safe; then any part of it.
  const auto reaches = [&] { return seed == 0 || (seed > 1 && random() % 2 == 0); };
  std::vector<u8> content = before;
  bool resizes = true;
  for (usize i = 0; i < point; ++i) {
    const Event& event = events[i];
    const bool is_safe = safe[i] < point;
    if (event.what == What::Write) {
      for (u64 at = 0; at < event.bytes.size();) {
        const u64 sector = std::min<u64>(512 - (event.offset + at) % 512, event.bytes.size() - at);
        if (is_safe || reaches()) {
          const u64 end = event.offset + at + sector;
          if (end > content.size()) content.resize(end);
          std::copy_n(event.bytes.begin() + static_cast<std::ptrdiff_t>(at), sector,
                      content.begin() + static_cast<std::ptrdiff_t>(event.offset + at));
        }
        at += sector;
      }
    } else if (event.what == What::Hole) {
      if (!is_safe && !reaches()) continue;
      const u64 end = std::min<u64>(event.offset + event.length, content.size());
      for (u64 at = event.offset; at < end; ++at) content[at] = 0;
    } else if (event.what == What::Resize) {
      // A file system keeps the changes of one file's length in order.
      if (!is_safe && resizes && !reaches()) resizes = false;
      if (resizes) content.resize(event.offset);
    }
  }
  return content;
}

}  // namespace nacre::storage::testing
