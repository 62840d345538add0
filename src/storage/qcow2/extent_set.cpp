#include "storage/qcow2/extent_set.hpp"

#include <algorithm>

namespace nacre::storage::qcow2 {

void ExtentSet::insert(u64 first, u64 count) {
  if (count == 0) return;
  u64 end = first + count;
  auto run = runs_.upper_bound(first);
  if (run != runs_.begin()) {
    const auto before = std::prev(run);
    if (before->first + before->second >= first) run = before;
  }
  while (run != runs_.end() && run->first <= end) {
    first = std::min(first, run->first);
    end = std::max(end, run->first + run->second);
    count_ -= run->second;
    run = runs_.erase(run);
  }
  runs_.emplace(first, end - first);
  count_ += end - first;
}

ExtentSet::Extent ExtentSet::take(u64 count) {
  if (runs_.empty()) return {};
  constexpr int kLookAt = 32;  // runs; then what there is will do
  auto chosen = runs_.begin();
  auto run = chosen;
  for (int i = 0; i < kLookAt && run != runs_.end() && chosen->second < count; ++i, ++run) {
    if (run->second > chosen->second) chosen = run;
  }
  const Extent taken = {chosen->first, std::min(count, chosen->second)};
  const u64 rest = chosen->second - taken.count;
  runs_.erase(chosen);
  if (rest != 0) runs_.emplace(taken.first + taken.count, rest);
  count_ -= taken.count;
  return taken;
}

ExtentSet::Extent ExtentSet::take_tail(u64 end) {
  if (runs_.empty()) return {};
  const auto last = std::prev(runs_.end());
  if (last->first + last->second < end) return {};
  const Extent taken = {last->first, last->second};
  count_ -= taken.count;
  runs_.erase(last);
  return taken;
}

}  // namespace nacre::storage::qcow2
