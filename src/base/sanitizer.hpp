// Whether this is a build with AddressSanitizer or ThreadSanitizer: their runtime, which instrumented code calls at any place,
// makes system calls and uses vector registers. Freestanding.
#pragma once

// NACRE_THREAD_SANITIZER is also defined by the preset, for the files that are not instrumented themselves.
#if defined(NACRE_THREAD_SANITIZER)
#elif defined(__SANITIZE_THREAD__)
#define NACRE_THREAD_SANITIZER 1
#elif defined(__SANITIZE_ADDRESS__)
#define NACRE_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define NACRE_THREAD_SANITIZER 1
#elif __has_feature(address_sanitizer)
#define NACRE_ADDRESS_SANITIZER 1
#endif
#endif

// Of a function that must call nothing of ThreadSanitizer's runtime: on the way to and from translated code.
#ifdef NACRE_THREAD_SANITIZER
#define NACRE_NOT_INSTRUMENTED __attribute__((no_sanitize("thread"), noinline))
#else
#define NACRE_NOT_INSTRUMENTED
#endif

namespace nacre {

#ifdef NACRE_THREAD_SANITIZER
inline constexpr bool kThreadSanitizer = true;
#else
inline constexpr bool kThreadSanitizer = false;
#endif
#ifdef NACRE_ADDRESS_SANITIZER
inline constexpr bool kSanitizer = true;
#else
inline constexpr bool kSanitizer = kThreadSanitizer;
#endif

}  // namespace nacre
