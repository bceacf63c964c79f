# make fuzz: every target of tests/fuzz under libFuzzer, FUZZ_SECONDS each; FUZZ="devices manifest" chooses.
# What it finds lies in build/fuzz/<target>-crash-*; a new input worth keeping goes to tests/fuzz/corpus/<target>/.

# Every X(name) of fuzz.h.
fuzz-targets := $(shell sed -n 's/^ *X(\([a-z0-9]*\)).*/\1/p' tests/fuzz/fuzz.h)

FUZZ_SECONDS ?= 60
FUZZ_CC      ?= clang
FUZZ         ?= $(fuzz-targets)

fuzz         := $(build)/fuzz
fuzz-flags   := $(filter-out -fsanitize=% -fno-sanitize-recover=% -O1,$(host-flags)) -O2 -Wno-unused-command-line-argument \
	-Itests/fuzz -fsanitize=address,undefined -fno-sanitize-recover=all
fuzz-library := $(host-library-sources:%.c=$(fuzz)/%.o)
fuzz-support := $(host-support-y:%.c=$(fuzz)/tests/host/%.o)

$(fuzz)/%.o: %.c $(flags-stamp) tests/fuzz/fuzz.mk | $(generated) $(third-party-headers)
	$(call say,FUZZCC,$<)
	$(quiet)mkdir -p $(@D)
	$(quiet)$(FUZZ_CC) $(fuzz-flags) -fsanitize=fuzzer-no-link $(cflags-$<) -MMD -MP -c -o $@ $<

$(fuzz)/libvmm.a: $(fuzz-library)
	$(quiet)rm -f $@
	$(quiet)$(AR) rcs $@ $^

$(fuzz)/run-%: tests/fuzz/entry.c $(fuzz-support) $(fuzz)/libvmm.a $(zydis-host-library) $(cjson-host-library)
	$(call say,FUZZLD,$@)
	$(quiet)$(FUZZ_CC) $(fuzz-flags) -fsanitize=fuzzer -DFUZZ_TARGET=fuzz_$* -o $@ $^ -lcmocka -lm

.SECONDARY: $(fuzz-support) $(fuzz-library)
.PHONY: fuzz $(FUZZ:%=fuzz-%)
fuzz: $(FUZZ:%=fuzz-%) ## run the library's fuzz targets under libFuzzer
$(FUZZ:%=fuzz-%): fuzz-%: $(fuzz)/run-%
	$(quiet)mkdir -p $(fuzz)/corpus/$* tests/fuzz/corpus/$*
	$(quiet)$< -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=20 -artifact_prefix=$(fuzz)/$*- \
		$(fuzz)/corpus/$* tests/fuzz/corpus/$* >$(fuzz)/$*.log 2>&1 || { tail -40 $(fuzz)/$*.log; exit 1; }
	$(quiet)tail -2 $(fuzz)/$*.log

-include $(fuzz-library:.o=.d) $(fuzz-support:.o=.d)
