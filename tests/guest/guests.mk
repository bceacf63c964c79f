# Test guests: tests/guest/<name>.c + lib -> build/guests/<name>.bz, a bzImage that our loader and
# QEMU's -kernel take. A guest of several files lists the others in <name>-files.
guests := hello exits timers interrupts smp para ending fuzzlet wild bench writer steady pages survivor modes messages \
	ipi lapic events debug fpu tsc
exits-files := exits_pio.c exits_mmio.c exits_prefix.c
smp-files   := lib/ap.asm lib/smp.c
pages-files := lib/ap.asm lib/smp.c
wild-files  := lib/ap.asm lib/smp.c
messages-files := lib/ap.asm lib/smp.c
ipi-files   := lib/ap.asm lib/smp.c
events-files := lib/user.c
fpu-files   := lib/ap.asm lib/smp.c
tsc-files   := lib/ap.asm lib/smp.c
modes-files := modes_low.asm modes_tasks.asm

guest-out := $(build)/guests
guest-flags := -std=gnu17 -O2 -g -ffreestanding -fno-pic -fno-pie -mno-red-zone -mgeneral-regs-only \
	-fno-stack-protector -fno-asynchronous-unwind-tables -fcf-protection=none -I. -MMD -MP \
	$(warnings)
guest-lib := $(addprefix $(guest-out)/lib/,entry.o main.o print.o check.o trap.o apic.o clock.o task.o)
guest-images := $(guests:%=$(guest-out)/%.bz) $(guest-out)/sector.bin $(guest-out)/image.bin

.PHONY: guests
guests: $(guest-images) ## build the test guests

$(guest-out)/%.o: tests/guest/%.c tests/guest/guests.mk
	$(quiet)mkdir -p $(@D)
	$(quiet)$(CC) $(guest-flags) -c -o $@ $<

$(guest-out)/modes_low.o $(guest-out)/modes_tasks.o: $(guest-out)/%.o: tests/guest/%.asm tests/guest/modes.inc
	$(quiet)mkdir -p $(@D)
	$(quiet)$(NASM) -f elf64 -I./ -o $@ $<

$(guest-out)/lib/%.o: tests/guest/lib/%.asm tests/guest/lib/layout.inc
	$(quiet)mkdir -p $(@D)
	$(quiet)$(NASM) -f elf64 -I./ -o $@ $<

define guest-rule
$(guest-out)/$1.elf: $(guest-out)/$1.o $(guest-lib) \
		$(addprefix $(guest-out)/,$(patsubst %.c,%.o,$(patsubst %.asm,%.o,$($1-files)))) tests/guest/lib/guest.ld
	$$(quiet)$$(LD) -m elf_x86_64 -nostdlib -static -z noexecstack --no-warn-rwx-segments \
		-T tests/guest/lib/guest.ld -o $$@ $$(filter %.o,$$^)
endef
$(foreach guest,$(guests),$(eval $(call guest-rule,$(guest))))

$(guest-out)/%.bin: $(guest-out)/%.elf
	$(quiet)objcopy -O binary $< $@

$(guest-out)/%.bz: $(guest-out)/%.bin tests/guest/lib/setup.asm tests/guest/lib/layout.inc
	$(call say,GUEST,$@)
	$(quiet)$(NASM) -f bin -I./ -DPAYLOAD_FILE='"$<"' -o $@ tests/guest/lib/setup.asm

# Without the library: what they need is that nobody has prepared anything.
$(guest-out)/sector.bin $(guest-out)/image.bin: $(guest-out)/%.bin: tests/guest/%.asm
	$(quiet)mkdir -p $(@D)
	$(quiet)$(NASM) -f bin -Werror -o $@ $<

.SECONDARY: $(guest-lib) $(guests:%=$(guest-out)/%.o) $(guests:%=$(guest-out)/%.bin) $(guests:%=$(guest-out)/%.elf)
-include $(wildcard $(guest-out)/*.d $(guest-out)/lib/*.d)
