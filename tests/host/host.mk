# The library as a process, under sanitizers: build/host/test_*, one program per file in host-test-y.

include tests/host/files.mk

host := $(build)/host
# mock_backend.c has the table of back ends; of the hardware ones only what needs no hardware gets linked.
# vector.c: the compiler uses those registers itself.
host-library-sources := $(filter-out vmm/core/backends%.c vmm/core/vector.c,$(filter %.c,$(vmm-sources)))
host-library-objects := $(host-library-sources:%.c=$(host)/%.o)
host-support-objects := $(host-support-y:%.c=$(host)/tests/host/%.o)
host-programs        := $(host-test-y:%.c=$(host)/%)

HOST_SANITIZE ?= address,undefined
host-flags := -std=gnu17 -O1 -g -fno-omit-frame-pointer -fno-strict-aliasing -pthread \
	$(addprefix -fsanitize=,$(HOST_SANITIZE)) $(if $(HOST_SANITIZE),-fno-sanitize-recover=all) \
	$(warnings) -Ivmm/include -Ivmm -Itests/host -Itests/fuzz -I$(gen) -iquote .

$(host)/%.o: %.c $(flags-stamp) tests/host/host.mk | $(generated) $(third-party-headers)
	$(call say,HOSTCC,$<)
	$(quiet)mkdir -p $(@D)
	$(quiet)$(HOSTCC) $(host-flags) $(cflags-$<) -MMD -MP -c -o $@ $<

$(host)/libvmm.a: $(host-library-objects)
	$(quiet)rm -f $@
	$(quiet)$(AR) rcs $@ $^

$(host-programs): $(host)/%: $(host)/tests/host/%.o $(host-support-objects) $(host)/libvmm.a \
		$(zydis-host-library) $(cjson-host-library)
	$(call say,HOSTLD,$@)
	$(quiet)$(HOSTCC) $(host-flags) -o $@ $(filter-out %.a,$^) $(filter %.a,$^) $(host-libs-$(@F)) -lcmocka -lm

.PHONY: host-tests
host-tests: $(host-programs) ## build the library's unit tests for this machine

-include $(host-library-objects:.o=.d) $(host-support-objects:.o=.d) $(host-programs:$(host)/%=$(host)/tests/host/%.d)
