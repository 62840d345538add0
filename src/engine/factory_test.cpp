#include "engine/factory.hpp"

#include <gtest/gtest.h>

namespace nacre::engine {
namespace {

TEST(Factory, NamesAreReadBack) {
  EXPECT_EQ(kind_of("interp"), Kind::Interp);
  EXPECT_EQ(kind_of("auto"), std::nullopt);
  EXPECT_EQ(kind_of(""), std::nullopt);
  EXPECT_EQ(kind_of("interp "), std::nullopt);
}

TEST(Factory, TheChoiceExistsAndIsExplained) {
  const Choice choice = choose();
  EXPECT_EQ(kind_of(name_of(choice.kind)), choice.kind);
  EXPECT_NE(choice.reason, "");
}

}  // namespace
}  // namespace nacre::engine
