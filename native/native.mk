# Native applications: C programs that the kernel loads from boot modules (docs/native.md).
#
# An application is one relocatable file that holds its own C library; the loader links it against
# the functions of kernel/native_exports.c, and the build fails when one is missing there.

native-compile := $(filter-out -mgeneral-regs-only -ffreestanding -Ivmm/include,$(kernel-flags)) \
	-ftls-model=local-exec -D_UNIX98_THREAD_MUTEX_ATTRIBUTES=1 \
	-D_POSIX_THREADS=200809L -D_POSIX_BARRIERS=200809L -D_POSIX_TIMEOUTS=200809L \
	-D_POSIX_TIMERS=200809L -D_POSIX_MONOTONIC_CLOCK=200809L
native-lib     := $(patsubst %.c,$(obj)/%.o,$(wildcard native/lib/*.c))
native-objects  = $(patsubst %.c,$(obj)/%.o,$(wildcard native/$1/*.c))
native-images  := $(addprefix $(build)/native/,$(native-y) $(native-test-y))
native-folder   = $(word 2,$(subst /, ,$1))

.PHONY: native
native: $(native-images) ## build the native applications

$(obj)/native/%.o: native/%.c $(flags-stamp) | $(generated) $(third-party-headers)
	$(call say,CC,$<)
	$(quiet)mkdir -p $(@D)
	$(quiet)$(CC) $(native-compile) $(native-flags-$(call native-folder,$<)) -MMD -MP -c -o $@ $<

.SECONDEXPANSION:
$(native-images): $(build)/native/%: $$(call native-objects,$$*) $(native-lib) native/native.ld \
		$(newlib-libraries) tools/native-check kernel/native_exports.c
	$(call say,LD,$@)
	$(quiet)mkdir -p $(@D)
	$(quiet)$(LD) -m elf_x86_64 -r -d --gc-sections -z noexecstack -T native/native.ld -o $@ \
		$(call native-objects,$*) $(native-lib) --start-group $(newlib-libraries) --end-group
	$(quiet)tools/native-check $@ || { rm -f $@; exit 1; }

-include $(patsubst %.o,%.d,$(native-lib) $(foreach app,$(native-y) $(native-test-y),$(call native-objects,$(app))))

# What rides in the ISO, without debug information.
$(image-tree)/boot/native/%: $(build)/native/%
	$(quiet)mkdir -p $(@D)
	$(quiet)$(STRIP) --strip-debug -o $@ $<
