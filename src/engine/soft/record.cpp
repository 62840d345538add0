#include "engine/soft/record.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "engine/soft/block_store.hpp"

namespace nacre::soft {

namespace {

constexpr const char* kNames[] = {"fill read", "fill write", "fill stack", "fill group", "crossing",
                                  "denied",    "twin",       "interpret",  "link",       "indirect",
                                  "lookup",    "fault",      "async",      "flush",      "code write"};
static_assert(std::size(kNames) == static_cast<usize>(Help::count));
constexpr usize kTop = 25;  // instructions listed for each kind

int open_file(const std::string& name) {
  return open(name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
}

}  // namespace

const char* name_of(Help help) { return kNames[static_cast<usize>(help)]; }

// The files are opened now: later the vCPU's thread may open none.
std::unique_ptr<Record> Record::create(unsigned processor) {
  const char* prefix = std::getenv("NACRE_SOFT_RECORD");
  if (prefix == nullptr) return nullptr;
  const std::string name = prefix + (processor == 0 ? std::string() : "." + std::to_string(processor));
  return std::unique_ptr<Record>(
      new Record(open_file(name + ".txt"), open_file(name + ".code"), open_file(name + ".blocks")));
}

Record::~Record() {
  for (const int file : {text_, code_, blocks_}) {
    if (file >= 0) close(file);
  }
}

void Record::write(int file, const std::string& text) {
  usize done = 0;
  while (done < text.size()) {
    const ssize_t n = ::write(file, text.data() + done, text.size() - done);
    if (n <= 0) return;
    done += static_cast<usize>(n);
  }
}

void Record::finish(std::initializer_list<const BlockStore*> stores, const CodeCache& code) {
  char line[160];
  std::string text;
  for (usize i = 0; i < static_cast<usize>(Help::count); i++) {
    std::snprintf(line, sizeof line, "%-12s %llu\n", kNames[i], static_cast<unsigned long long>(totals_[i]));
    text += line;
  }
  for (const BlockStore* blocks : stores) {
    std::snprintf(line, sizeof line, "blocks made  %llu, cleared %llu times, code %llu KiB\n",
                  static_cast<unsigned long long>(blocks->translated()), static_cast<unsigned long long>(blocks->cleared()),
                  static_cast<unsigned long long>((blocks->code_end() - blocks->code_first()) / kKiB));
    text += line;
  }
  for (usize i = 0; i < static_cast<usize>(Help::count); i++) {
    std::vector<std::pair<u64, u64>> sorted;
    for (const auto& [rip, n] : by_rip_[i]) sorted.emplace_back(n, rip);
    std::sort(sorted.rbegin(), sorted.rend());
    for (usize k = 0; k < sorted.size() && k < kTop; k++) {
      std::snprintf(line, sizeof line, "  %-12s %10llu at %llx\n", kNames[i],
                    static_cast<unsigned long long>(sorted[k].first),
                    static_cast<unsigned long long>(sorted[k].second));
      text += line;
    }
  }
  write(text_, text);
  // Up to the end of the last; what lies between two is zeros.
  write(code_, std::string(reinterpret_cast<const char*>(code.writable(0)), (*(stores.end() - 1))->code_end()));
  std::string table;
  std::snprintf(line, sizeof line, "base %llx\n", static_cast<unsigned long long>(code.executable(0)));
  table += line;
  for (const BlockStore* blocks : stores) {
    for (usize i = 0; i < blocks->block_count(); i++) {
      const Block& b = blocks->block(static_cast<BlockIndex>(i));
      std::snprintf(line, sizeof line, "%x %x %x %llx %x %x %d\n", b.code, b.hot_bytes, b.total_bytes,
                    static_cast<unsigned long long>(b.linear), b.mode, unsigned{b.guest_bytes}, b.valid ? 1 : 0);
      table += line;
    }
  }
  write(blocks_, table);
}

}  // namespace nacre::soft
