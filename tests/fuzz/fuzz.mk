# make fuzz: every target of tests/fuzz under libFuzzer, one after the other, FUZZ_SECONDS each; FUZZ="devices manifest"
# chooses. tests/fuzz/run says what it leaves where.

# Every X(name) of fuzz.h.
fuzz-targets := $(shell sed -n 's/^ *X(\([a-z0-9]*\)).*/\1/p' tests/fuzz/fuzz.h)

FUZZ_SECONDS ?= 60
FUZZ_CC      ?= clang
FUZZ         ?= $(fuzz-targets)

fuzz         := $(build)/fuzz
fuzz-cover   := $(fuzz)/coverage
fuzz-plain   := $(filter-out -fsanitize=% -fno-sanitize-recover=% -O1,$(host-flags)) -O2 -Wno-unused-command-line-argument \
	-Itests/fuzz
fuzz-flags   := $(fuzz-plain) -fsanitize=address,undefined -fno-sanitize-recover=all
cover-flags  := $(fuzz-plain) -fprofile-instr-generate -fcoverage-mapping
fuzz-library := $(host-library-sources:%.c=$(fuzz)/%.o)
fuzz-support := $(host-support-y:%.c=$(fuzz)/tests/host/%.o)
cover-library := $(fuzz-library:$(fuzz)/%=$(fuzz-cover)/%)
cover-support := $(fuzz-support:$(fuzz)/%=$(fuzz-cover)/%) $(fuzz-cover)/tests/host/test_fuzz.o

$(fuzz)/%.o: %.c $(flags-stamp) tests/fuzz/fuzz.mk | $(generated) $(third-party-headers)
	$(call say,FUZZCC,$<)
	$(quiet)mkdir -p $(@D)
	$(quiet)$(FUZZ_CC) $(fuzz-flags) -fsanitize=fuzzer-no-link $(cflags-$<) -MMD -MP -c -o $@ $<

$(fuzz)/libvmm.a: $(fuzz-library)
$(fuzz-cover)/libvmm.a: $(cover-library)
$(fuzz)/libvmm.a $(fuzz-cover)/libvmm.a:
	$(quiet)rm -f $@
	$(quiet)$(AR) rcs $@ $^

$(fuzz)/run-%: tests/fuzz/entry.c $(fuzz-support) $(fuzz)/libvmm.a $(zydis-host-library) $(cjson-host-library)
	$(call say,FUZZLD,$@)
	$(quiet)$(FUZZ_CC) $(fuzz-flags) -fsanitize=fuzzer -DFUZZ_TARGET=fuzz_$* -o $@ $^ -lcmocka -lm

.PHONY: fuzz fuzz-keep fuzz-coverage
fuzz: $(FUZZ:%=$(fuzz)/run-%) ## run the library's fuzz targets under libFuzzer: FUZZ_SECONDS=, FUZZ="<target>..."
	$(quiet)nice tests/fuzz/run $(FUZZ_SECONDS) $(FUZZ)

fuzz-keep: $(FUZZ:%=$(fuzz)/run-%) # what the targets found becomes the committed corpora
	$(quiet)nice tests/fuzz/run --keep $(FUZZ)

# How much of each file of vmm/ the targets reach with the corpora there are, committed ones and others.
fuzz-coverage: $(fuzz-cover)/replay
	$(quiet)LLVM_PROFILE_FILE=$(fuzz-cover)/profile nice $< $(fuzz)/corpus >$(fuzz-cover)/log 2>&1
	$(quiet)llvm-profdata merge -o $(fuzz-cover)/profile.data $(fuzz-cover)/profile
	$(quiet)llvm-cov report $< -instr-profile=$(fuzz-cover)/profile.data -show-branch-summary=false vmm | \
		awk '/%/ { printf "%-24s %6u lines %6u not reached %8s\n", $$1, $$8, $$9, $$10 }' | sort

$(fuzz-cover)/replay: $(cover-support) $(fuzz-cover)/libvmm.a $(zydis-host-library) $(cjson-host-library)
	$(quiet)$(FUZZ_CC) $(cover-flags) -o $@ $^ -lcmocka -lm

$(fuzz-cover)/%.o: %.c $(flags-stamp) tests/fuzz/fuzz.mk | $(generated) $(third-party-headers)
	$(call say,COVERCC,$<)
	$(quiet)mkdir -p $(@D)
	$(quiet)$(FUZZ_CC) $(cover-flags) $(cflags-$<) -MMD -MP -c -o $@ $<

.SECONDARY: $(fuzz-support) $(fuzz-library) $(cover-support) $(cover-library)

-include $(patsubst %.o,%.d,$(fuzz-library) $(fuzz-support) $(cover-library) $(cover-support))
