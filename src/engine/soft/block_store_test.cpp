#include "engine/soft/block_store.hpp"

#include <gtest/gtest.h>

namespace nacre::soft {
namespace {

// The list of live cells has room for each cell once, and growing it would use vector registers, which hold
// the guest's values then.
TEST(BlockStore, ACellIsListedOnceHoweverOftenItsTargetIsMadeAgain) {
  CodeCache code = CodeCache::create().take();
  BlockStore store(code, CodeCache::part(false, kPageSize));
  Stubs stubs;
  stubs.link = stubs.indirect = stubs.lookup = stubs.interpret = stubs.fill_read = stubs.fill_write =
      stubs.fill_group = stubs.twin_or_group = stubs.write_back = code.executable(0);
  for (unsigned v = 0; v < kViews; v++) {
    stubs.bounce_read[v] = stubs.bounce_write[v] = stubs.twin_or_stack[v] = code.executable(0);
  }
  Translator translator(stubs, {});
  constexpr u64 kCaller = 0x10000, kCallee = 0x20000;
  static u8 caller[kPageSize] = {0xe9, 0xfb, 0xff, 0};  // jmp kCallee
  static u8 callee[kPageSize] = {0xc3};
  const auto add = [&](u64 at, const u8* bytes) {
    TranslationInput input;
    input.bytes = bytes;
    input.available = kPageSize;
    input.linear = at;
    return store.add(translator, input, at);
  };
  ASSERT_NE(add(kCaller, caller), nullptr);
  ASSERT_EQ(store.exit_count(), 1U);
  ASSERT_TRUE(store.exit(0).is_cell);
  for (const Lasting lasting : {Lasting::Global, Lasting::Space, Lasting::Steady, Lasting::Global}) {
    for (int i = 0; i < 100; i++) {
      Block* target = add(kCallee, callee);
      store.link(0, *target, lasting);
      EXPECT_EQ(store.exit(0).to, store.index(*target));
      EXPECT_TRUE(store.invalidate_page(kCallee, [](const Block&) {}));
    }
    EXPECT_LE(store.live_cells(), 3U);
  }
  // A flush takes it off the lists, and it can be put on again.
  store.suspend_links(Lasting::Steady);
  EXPECT_EQ(store.live_cells(), 0U);
  store.link(0, *add(kCallee, callee), Lasting::Space);
  EXPECT_EQ(store.live_cells(), 1U);
  store.suspend_links_to(kCallee, kPageSize);
  EXPECT_EQ(store.live_cells(), 0U);
}

}  // namespace
}  // namespace nacre::soft
