# The kernel's own tests of the x86 architecture, static, 32 and 64 bits wide:
#
#   make -f selftests.mk SOURCE="$(../scripts/fetch-selftests)" OUT=FOLDER
#
# The kernel's Makefiles link most of them to shared libraries; the lists are theirs.
TESTS = $(SOURCE)/tools/testing/selftests
BOTH = single_step_syscall sysret_ss_attrs syscall_nt test_mremap_vdso check_initial_reg_state sigreturn iopl ioperm test_vsyscall \
       mov_ss_trap sigtrap_loop syscall_arg_fault fsgsbase_restore sigaltstack ldt_gdt ptrace_syscall
ONLY_32 = entry_from_vm86 test_syscall_vdso unwind_vdso test_FCMOV test_FCOMI test_FISTTP vdso_restorer
ONLY_64 = fsgsbase sysret_rip syscall_numbering corrupt_xstate_header amx
VDSO = vdso_test_gettimeofday vdso_test_getcpu vdso_test_abi vdso_test_clock_getres vdso_test_correctness

CC = gcc
# Warnings in other people's code help nobody here.
CFLAGS = -O2 -g0 -std=gnu99 -static -no-pie -pthread -w -DCAN_BUILD_32 -DCAN_BUILD_64 -I$(TESTS)
BINARIES = $(BOTH:%=$(OUT)/%_32) $(BOTH:%=$(OUT)/%_64) $(ONLY_32:%=$(OUT)/%_32) $(ONLY_64:%=$(OUT)/%_64) \
           $(OUT)/protection_keys_32 $(OUT)/protection_keys_64 $(VDSO:%=$(OUT)/%_32) $(VDSO:%=$(OUT)/%_64)

all: $(BINARIES)
.PHONY: all
.DELETE_ON_ERROR:

$(OUT)/sysret_ss_attrs_64: EXTRA = $(TESTS)/x86/thunks.S
$(OUT)/ptrace_syscall_32: EXTRA = $(TESTS)/x86/raw_syscall_helper_32.S
$(OUT)/test_syscall_vdso_32: EXTRA = $(TESTS)/x86/thunks_32.S
$(OUT)/check_initial_reg_state_32 $(OUT)/check_initial_reg_state_64: EXTRA = -Wl,-ereal_start
$(OUT)/vdso_test_gettimeofday_% $(OUT)/vdso_test_getcpu_% $(OUT)/vdso_test_abi_%: EXTRA = $(TESTS)/vDSO/parse_vdso.c

source_of = $(wildcard $(TESTS)/x86/$(1).c $(TESTS)/vDSO/$(1).c $(TESTS)/vm/$(1).c)
.SECONDEXPANSION:
# -mxsave: what protection_keys uses without saying so.
$(OUT)/%_32: $$(call source_of,$$*) selftests.mk
	@mkdir -p $(@D)
	$(CC) -m32 -mxsave $(CFLAGS) -o $@ $< $(EXTRA) -lrt -ldl -lm 2>$@.log || { cat $@.log; false; }
	@rm $@.log
$(OUT)/%_64: $$(call source_of,$$*) selftests.mk
	@mkdir -p $(@D)
	$(CC) -m64 -mxsave $(CFLAGS) -o $@ $< $(EXTRA) -lrt -ldl -lm 2>$@.log || { cat $@.log; false; }
	@rm $@.log
