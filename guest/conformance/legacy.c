// Protected mode of 32 and 16 bits. Segment limits at length and task switches: guest tests of ROMs.
#include "legacy.h"
#define GROUP "legacy"

CASE(protected_mode_runs, "SDM 3A 9.8") {
  prepare_legacy();
  LEGACY(32, "mov $0x12345678, %%ecx\n push %%ecx\n pop %%edx");
  SEEN_DONE();
  EQUAL(legacy_seen.edx, 0x12345678);
  EQUAL(legacy_seen.cs, kernel_code_32);
}
CASE(real_mode_runs, "SDM 3A 20.1") {
  prepare_legacy();
  LEGACY(16, "mov $0x1234, %%cx\n push %%cx\n pop %%dx\n mov %%cs, %%bx", .real = 1);
  SEEN_DONE();
  EQUAL(legacy_seen.edx, 0x1234);
  EQUAL(legacy_seen.ebx, 0x2000);
}
CASE(v86_mode_runs, "SDM 3A 20.2") {
  prepare_legacy();
  LEGACY(16, "mov $0x1234, %%cx\n push %%cx\n pop %%dx\n mov %%cs, %%bx\n hlt", .eflags = VM);
  EQUAL(legacy_seen.vector, GP);
  EQUAL(legacy_seen.edx, 0x1234);
  EQUAL(legacy_seen.ebx, 0x2000);
  EQUAL(legacy_seen.eflags & VM, VM);
}
