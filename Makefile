# Orthocone's build. "make help" lists what it can do; HACKING.md explains it.
#
# Each folder lists its sources in files.mk; objects go to build/obj/<path>. With KTEST=test or
# KTEST=bench the same rules build the kernel's test images beside the normal one, each from its own
# configuration (configs/$(KTEST).config on top) and into its own object folder.

ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(shell nproc) # -j on the command line prevails
endif
MAKEFLAGS += --no-builtin-rules --no-print-directory
.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

ifeq ($(origin CC),default)
CC := gcc
endif
HOSTCC  ?= gcc
LD      := ld
AR      := ar
NM      := nm
STRIP   := strip
NASM    ?= nasm
IASL    ?= iasl
PYTHON  := /usr/bin/python3
QEMU    ?= qemu-system-x86_64
V       ?= 0

build       := build
variant     := $(addprefix -,$(KTEST))
obj         := $(build)/obj$(variant)
config      := $(build)/config$(variant)
gen         := $(build)/gen$(variant)
third-party := $(build)/third-party
image       := $(build)/orthocone$(variant).elf

quiet := $(if $(filter 1,$(V)),,@)
# $(call say,STEP,object): one line per step, unless V=1 shows the commands.
say    = $(if $(quiet),@printf '  %-8s%s\n' '$1' '$2')

ifneq ($(and $(filter %clean,$(MAKECMDGOALS)),$(filter-out %clean,$(MAKECMDGOALS))),)
$(error clean and distclean go alone: jobs run in parallel)
endif

# Goals that must work before anything is installed or configured.
unconfigured := help clean distclean bootstrap
ifneq ($(or $(if $(MAKECMDGOALS),,all),$(filter-out $(unconfigured),$(MAKECMDGOALS))),)
include $(config)/auto.conf
endif

include tools/third-party.mk

# ---------------------------------------------------------------- sources

kernel-folders := base boot kernel mm sched drivers
-include $(addsuffix /files.mk,$(kernel-folders)) vmm/files.mk
ifdef CONFIG_KTEST
-include tests/kernel/files.mk
endif

kernel-sources := $(foreach folder,$(kernel-folders),$(addprefix $(folder)/,$($(folder)-y)))
# What the kernel is for: node-y starts the node's virtual machines, ktest-y runs the kernel's tests
# instead.
kernel-sources += $(if $(KTEST),\
	$(addprefix tests/kernel/,$(ktest-y)),$(addprefix kernel/,$(node-y)))
vmm-sources    := $(addprefix vmm/,$(vmm-y))

# $(call objects,folder,sources)
objects        = $(patsubst %.c,$1/%.o,$(filter %.c,$2)) \
	$(patsubst %.asm,$1/%.asm.o,$(filter %.asm,$2))
kernel-objects := $(call objects,$(obj),$(kernel-sources))
vmm-objects    := $(call objects,$(obj),$(vmm-sources))

# ---------------------------------------------------------------- flags

warnings := -Wall -Wextra -Wshadow -Wmissing-prototypes -Wvla -Werror
compiler-headers := $(shell $(CC) -print-file-name=include)

# Kernel and library keep to general registers, so that entering them costs no FPU state.
common-flags := -std=gnu17 -ffreestanding -O2 -g -mcmodel=kernel -mno-red-zone -mgeneral-regs-only \
	-fno-pic -fno-pie -fno-stack-protector -fno-omit-frame-pointer -fno-asynchronous-unwind-tables \
	-fcf-protection=none -fno-strict-aliasing -fno-common -ffunction-sections -fdata-sections \
	-ffile-prefix-map=$(CURDIR)=. -nostdinc -U__linux__ -Ulinux -Uunix $(warnings)
# The compiler's <limits.h> is complete: it shall not look for a second one.
common-flags += -D_LIBC_LIMITS_H_

# this_cpu is at address 0 of GS: the compiler shall not take a store there for one that cannot be.
kernel-flags := $(common-flags) -fno-delete-null-pointer-checks -I. -Ivmm/include -I$(config) -include $(config)/config.h \
	$(newlib-flags) -isystem $(compiler-headers)
# The library sees its own headers and the compiler's, nothing else.
vmm-flags    := $(common-flags) -Ivmm/include -Ivmm -I$(gen) -isystem $(compiler-headers)

# Flags of one source: its side's, then cflags-<source> from a files.mk. Sources in fp-y use
# floating point.
flags-of   = $(filter-out $(if $(filter $1,$(fp-y)),-mgeneral-regs-only),$(side-flags)) $(cflags-$1)
side-flags = $(if $(filter vmm/%,$1),$(vmm-flags),$(kernel-flags))

nasm-flags := -f elf64 -g -F dwarf -Werror -I$(gen)/ -I$(config)/ -I./

ld-flags := -m elf_x86_64 -nostdlib -static -T boot/kernel.ld -z max-page-size=4096 -z noexecstack \
	--build-id=none --gc-sections --fatal-warnings

# Everything is rebuilt when a compiler or flag changes.
flags-stamp := $(obj)/flags
flags-text  := $(strip $(CC) $(kernel-flags) $(vmm-flags) $(NASM) $(nasm-flags) $(fp-y) \
	$(foreach source,$(kernel-sources) $(vmm-sources),$(cflags-$(source))))
ifneq ($(flags-text),$(strip $(file <$(flags-stamp))))
$(shell mkdir -p $(obj))
$(file >$(flags-stamp),$(flags-text))
endif

# ---------------------------------------------------------------- goals

.PHONY: all
all: $(image) $(build)/libvmm.a native ## build the kernel image

.PHONY: run
run: all $(build)/orthocone.iso ## build all and boot the ISO; MACHINE=qemu, bochs-vmx or bochs-svm
	@echo 'Booting $(build)/orthocone.iso in $(MACHINE)'
	$(quiet)$(run-command)

MACHINE ?= qemu
run-command = $(if $(filter qemu,$(MACHINE)),$(QEMU) $(qemu-flags) -cdrom,tools/bochs $(MACHINE)) \
	$(build)/orthocone.iso

.PHONY: guest
guest: $(build)/image/boot/orthocone.elf ## run one kernel in a VM until it ends: KERNEL=file [ARGS="..."] [MODULE=file]
	$(if $(KERNEL),,$(error which one? make guest KERNEL=file))
	$(quiet)QEMU='$(QEMU)' tools/guest --args='$(ARGS)' --cpus=$(or $(CPUS),1) --memory=$(or $(MEM),256M) \
		$(MODULE:%=--module='%') $(PROTOCOL:%=--protocol=%) $(ADDRESS:%=--address=%) \
		--machine=$(MACHINE) '$(KERNEL)'

.PHONY: debug
debug: all $(build)/orthocone.iso ## like run, but QEMU waits for a debugger
	@echo 'QEMU waits. In another terminal: gdb $(image) -ex "target remote :1234"'
	@echo '(break with "hbreak kernel_main", then "continue")'
	$(quiet)$(QEMU) $(qemu-flags) -cdrom $(build)/orthocone.iso -s -S

# -serial stdio without a multiplexer, and no signals from the terminal: every key reaches the
# guest.
qemu-flags := -accel tcg -cpu max -smp 2 -m 1G -nic none -no-reboot -display none -monitor none \
	-chardev stdio,id=console,signal=off -serial chardev:console

.PHONY: iso
iso: $(build)/orthocone.iso ## build the ISO image for BIOS and UEFI

.PHONY: disk
disk: $(build)/orthocone.img ## build a raw image for USB sticks and disks, for BIOS and UEFI

.PHONY: coreboot
coreboot: $(build)/coreboot.rom ## build coreboot for QEMU with the kernel as its payload

.PHONY: ktest-image
ktest-image: | $(third-party-headers) ## build the kernel with its own tests linked in
	$(quiet)$(MAKE) KTEST=test $(build)/orthocone-test.elf

.PHONY: kbench-image
kbench-image: | $(third-party-headers) # the same without debug checks, for figures
	$(quiet)$(MAKE) KTEST=bench $(build)/orthocone-bench.elf

.PHONY: test
test: all iso disk coreboot rom-images ktest-image host-tests guests stock-guests ## run all tests; TESTS= and MACHINE= choose
	$(quiet)QEMU='$(QEMU)' tests/run $(TESTS)

.PHONY: check
check: all ## format, headers, include edges, library's symbols, sizes, clang-tidy
	$(quiet)CC='$(CC)' KERNEL_FLAGS='$(kernel-flags)' \
		VMM_FLAGS='$(vmm-flags) $(zydis-flags) $(cjson-flags)' \
		NATIVE_FLAGS='$(native-compile)' VMM_OBJECTS='$(vmm-objects)' \
		HOST_FLAGS='$(filter-out -fsanitize=%,$(host-flags))' tools/check

.PHONY: bench
bench: all iso rom-images kbench-image guests ## measure under -icount and print the figures
	$(quiet)QEMU='$(QEMU)' tools/bench

.PHONY: menuconfig
menuconfig: $(build)/.packages ## change the configuration
	$(quiet)test -e .config || cp configs/defconfig .config
	$(quiet)KCONFIG_CONFIG=.config $(PYTHON) -m menuconfig configs/Kconfig

.PHONY: size
size: all iso rom-images ## what of the image is whose, and the images' sizes
	$(quiet)tools/size.py $(build) $(obj)/$(notdir $(image)).map

.PHONY: bootstrap
bootstrap: ## install the Debian packages the build needs
	$(quiet)tools/bootstrap packages

.PHONY: clean
clean: ## remove what was built, but keep third-party parts
	$(quiet)rm -rf $(filter-out %/third-party %/apt,$(wildcard $(build)/*)) $(build)/.packages

.PHONY: distclean
distclean: ## remove all that was built, fetched and configured
	$(quiet)rm -rf $(build) .config .config.old

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1\t\2/p' $(filter Makefile %.mk,$(MAKEFILE_LIST)) | expand -t 16
	@echo 'Variables: V=1 shows commands; CC=clang; QEMU=<binary>; VMS="<manifest of configs/vms>...";'
	@echo '  for guest CPUS=<n>; MEM=<size>; PROTOCOL=<as in a manifest>; ADDRESS=<of a flat image>; MACHINE=;'
	@echo '  CMDLINE="<of the kernel>"; TESTS="<tier or part of a test name>..."'

# ---------------------------------------------------------------- configuration

# .config is written by menuconfig only; without it the default configuration is used.
configuration := $(or $(wildcard .config),configs/defconfig) $(KTEST:%=configs/%.config)
ifneq ($(strip $(configuration)),$(strip $(file <$(config)/source)))
$(shell mkdir -p $(config) && rm -f $(config)/auto.conf)
$(file >$(config)/source,$(configuration))
endif

# Rewritten whenever the set of packages grows; the check itself takes some hundredths of a second.
$(build)/.packages: tools/bootstrap
	$(quiet)mkdir -p $(@D)
	$(quiet)tools/bootstrap packages
	$(quiet)touch $@

$(config)/auto.conf: configs/Kconfig $(configuration) tools/kconfig.py | $(build)/.packages
	$(quiet)mkdir -p $(@D)
	$(quiet)tools/kconfig.py configs/Kconfig $(config) $(configuration)

# ---------------------------------------------------------------- generated sources

# Numbers of C for nasm: base/offsets.c -> build/gen/base_offsets.inc
offset-sources  := $(wildcard $(addsuffix /offsets.c,$(kernel-folders) vmm/core vmm/svm))
offset-include   = $(gen)/$(subst /,_,$(patsubst %/offsets.c,%,$1))_offsets.inc
offset-includes := $(foreach source,$(offset-sources),$(call offset-include,$(source)))
define offsets-rule
$(call offset-include,$1): $1 tools/offsets.h tools/offsets.py $(flags-stamp) \
		| $(third-party-headers)
	$$(call say,GEN,$$@)
	$$(quiet)mkdir -p $$(@D) $(obj)/$(dir $1)
	$$(quiet)$(CC) $$(call flags-of,$1) -include tools/offsets.h \
		-MMD -MP -MF $(obj)/$1.d -MT $$@ -S -o $(obj)/$1.s $1
	$$(quiet)tools/offsets.py $(obj)/$1.s $$@
endef
$(foreach source,$(offset-sources),$(eval $(call offsets-rule,$(source))))

# The guests' ACPI namespace: vmm/dev/dsdt.asl -> build/gen/dsdt_aml.h
ifneq ($(wildcard vmm/dev/dsdt.asl),)
dsdt := $(gen)/dsdt_aml.h
endif
$(gen)/dsdt_aml.h: vmm/dev/dsdt.asl
	$(call say,IASL,$<)
	$(quiet)mkdir -p $(@D)
	$(quiet)$(IASL) -p $(gen)/dsdt $< >$(gen)/dsdt.log 2>&1 || { cat $(gen)/dsdt.log; exit 1; }
	$(quiet)tools/bin2c.py dsdt_aml $(gen)/dsdt.aml $@

# Real-mode code for guests: vmm/load/services.asm -> build/gen/services_bin.h
services := $(gen)/services_bin.h
$(services): vmm/load/services.asm
	$(call say,NASM,$<)
	$(quiet)mkdir -p $(@D)
	$(quiet)$(NASM) -f bin -Werror -o $(gen)/services.bin $<
	$(quiet)tools/bin2c.py services_bin $(gen)/services.bin $@

generated := $(offset-includes) $(dsdt) $(services)

# ---------------------------------------------------------------- objects, library, image

$(obj)/%.o: %.c $(flags-stamp) | $(generated) $(third-party-headers)
	$(call say,CC,$<)
	$(quiet)mkdir -p $(@D)
	$(quiet)$(CC) $(call flags-of,$<) -MMD -MP -c -o $@ $<

$(obj)/%.asm.o: %.asm tools/nasm-dwarf.py $(flags-stamp) | $(generated)
	$(call say,NASM,$<)
	$(quiet)mkdir -p $(@D)
	$(quiet)$(NASM) $(nasm-flags) -MD $(@:.o=.d) -MP -o $@ $<
	$(quiet)tools/nasm-dwarf.py $@ $(realpath .)

$(obj)/%.o: $(obj)/%.S $(flags-stamp)
	$(quiet)$(CC) -c -o $@ $<

libvmm := $(if $(KTEST),$(obj)/libvmm.a,$(build)/libvmm.a)
$(libvmm): $(vmm-objects) $(flags-stamp)
	$(call say,AR,$@)
	$(quiet)rm -f $@
	$(quiet)$(AR) rcsP $@ $(vmm-objects)

# Linked twice: the symbol table for backtraces needs the addresses of the first link.
libraries  := $(libvmm) $(zydis-library) $(cjson-library) $(newlib-libraries)
link-image  = $(LD) $(ld-flags) -Map=$(obj)/$(notdir $@).map -o $@ $(kernel-objects) $1 \
	--start-group $(libraries) --end-group

$(obj)/symtab-empty.S: tools/symtab.py
	$(quiet)mkdir -p $(@D)
	$(quiet)tools/symtab.py empty $@

$(obj)/first.elf: $(kernel-objects) $(libraries) $(obj)/symtab-empty.o boot/kernel.ld $(flags-stamp)
	$(quiet)$(call link-image,$(obj)/symtab-empty.o)

$(obj)/symtab.S: $(obj)/first.elf tools/symtab.py
	$(quiet)tools/symtab.py table $< $@

$(image): $(obj)/first.elf $(obj)/symtab.o
	$(call say,LD,$@)
	$(quiet)$(call link-image,$(obj)/symtab.o)
	$(quiet)tools/symtab.py verify $< $@

-include $(kernel-objects:.o=.d) $(vmm-objects:.o=.d) $(offset-sources:%=$(obj)/%.d)

include native/files.mk
include iso/iso.mk
include iso/coreboot.mk
include native/native.mk
include boot/rom/rom.mk
include boot/efi/efi.mk
-include tests/host/host.mk
-include tests/fuzz/fuzz.mk
include tests/guest/guests.mk
include tests/system/stock.mk
