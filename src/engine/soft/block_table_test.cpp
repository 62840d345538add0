#include "engine/soft/block_table.hpp"

#include <gtest/gtest.h>

#include <random>

namespace nacre::soft {
namespace {

// A small table, so that runs of full slots wrap and gaps are closed everywhere, against a plain list.
TEST(BlockTable, FindsWhatWasEnteredAndNotRemoved) {
  std::mt19937_64 random(7);
  BlockTable table(6);
  std::vector<Block> blocks;
  std::vector<bool> there;
  const auto of = [&](BlockIndex n) -> const Block& { return blocks[n]; };
  const auto find = [&](const Block& key) {
    return table.find(key.linear, key.physical, key.mode, [&](BlockIndex n) {
      return blocks[n].linear == key.linear && blocks[n].physical == key.physical &&
             blocks[n].mode == key.mode;
    });
  };
  for (int step = 0; step < 20000; step++) {
    Block key;
    key.linear = random() % 16;
    key.physical = random() % 4 * kPageSize + key.linear;
    key.mode = static_cast<u32>(random() % 2);
    const BlockIndex known = find(key);
    if (known != kNone) {
      ASSERT_TRUE(there[known]);
      table.remove(known, of);
      there[known] = false;
      ASSERT_EQ(find(key), kNone);
    } else if (!table.full()) {
      blocks.push_back(key);
      there.push_back(true);
      table.enter(key.linear, key.physical, key.mode, static_cast<BlockIndex>(blocks.size() - 1));
    }
    if (step % 64 == 0) {
      for (BlockIndex i = 0; i < blocks.size(); i++) {
        if (there[i]) {
          ASSERT_EQ(find(blocks[i]), i);
        }
      }
    }
  }
  EXPECT_GT(blocks.size(), 5000U);
  table.clear();
  for (const Block& b : blocks) ASSERT_EQ(find(b), kNone);
}

TEST(BlockTable, IsFullBeforeASearchWouldNotEnd) {
  BlockTable table(6);
  u64 entered = 0;
  for (; !table.full(); entered++) table.enter(entered, 0, 0, static_cast<BlockIndex>(entered));
  EXPECT_EQ(entered, 48U);
  EXPECT_EQ(table.find(1000, 0, 0, [](BlockIndex) { return false; }), kNone);
}

}  // namespace
}  // namespace nacre::soft
