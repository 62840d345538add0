// What every guest test program shares: checks that report and go on, and a last line "PASS name" or "FAIL
// name".
#pragma once
#include <stdio.h>

static volatile int failed_checks;  // volatile: it must keep its place around stores that fault

#define CHECK(condition)                                                    \
  do {                                                                      \
    if (!(condition)) {                                                     \
      failed_checks++;                                                      \
      printf("%s:%d: not true: %s\n", __FILE_NAME__, __LINE__, #condition); \
    }                                                                       \
  } while (0)

#define CHECK_EQUAL(got, wanted)                                                                 \
  do {                                                                                           \
    unsigned long long got_ = (unsigned long long)(got), wanted_ = (unsigned long long)(wanted); \
    if (got_ != wanted_) {                                                                       \
      failed_checks++;                                                                           \
      printf("%s:%d: %s is %#llx, not %#llx\n", __FILE_NAME__, __LINE__, #got, got_, wanted_);   \
    }                                                                                            \
  } while (0)

static inline int verdict(const char* name) {
  printf("%s %s\n", failed_checks ? "FAIL" : "PASS", name);
  return failed_checks != 0;
}
