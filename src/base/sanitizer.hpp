// Whether this is a build with AddressSanitizer or ThreadSanitizer: their runtime, which instrumented code calls at any place,
// makes system calls and uses vector registers. Freestanding.
#pragma once

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define NACRE_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define NACRE_ADDRESS_SANITIZER 1
#endif
#endif

namespace nacre {

#ifdef NACRE_ADDRESS_SANITIZER
inline constexpr bool kAddressSanitizer = true;
#else
inline constexpr bool kAddressSanitizer = false;
#endif

}  // namespace nacre
