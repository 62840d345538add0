// ExtentSet: a set of clusters, kept as runs. Which clusters of a file are free.
#pragma once

#include <map>

#include "base/types.hpp"

namespace nacre::storage::qcow2 {

class ExtentSet {
 public:
  struct Extent {
    u64 first = 0, count = 0;
  };
  // What is in the set already may be inserted again.
  void insert(u64 first, u64 count);
  // Takes a run of at most `count` out: a whole one if there is any among the lowest runs, else part of it.
  // Count 0: the set is empty.
  Extent take(u64 count);
  // Takes out the run that ends at `end`; count 0: none does.
  Extent take_tail(u64 end);
  [[nodiscard]] bool empty() const { return runs_.empty(); }
  [[nodiscard]] u64 count() const { return count_; }

 private:
  std::map<u64, u64> runs_;  // first -> count; apart from each other
  u64 count_ = 0;
};

}  // namespace nacre::storage::qcow2
