// The version, from the build.
#pragma once

namespace nacre::app {

inline constexpr const char* kVersion = NACRE_VERSION;

}  // namespace nacre::app
