# make rom: the flash image build/orthocone.rom, ROM_SIZE KiB, and build/orthocone-small.rom without guests.
# make run-rom: boot it in QEMU; MACHINE_TYPE=q35, ROM_AS=pflash.

ROM_SIZE ?= 16384

rom-sources := $(addprefix boot/rom/,entry.asm ap.asm main.c kernel.c memory.c fwcfg.c say.c \
	cpus.c pci.c chipset.c acpi.c acpi_build.c) \
	$(addprefix boot/pack/,pack.c lz4.c crc32c.c slots.c elf.c mb2.c text.c) base/memory.asm
rom         := $(build)/rom
rom-objects := $(call objects,$(rom),$(rom-sources))

# As the kernel's, but linked low: addresses fit in 32 bits without a sign.
rom-flags := $(filter-out -mcmodel=kernel,$(common-flags)) -mcmodel=small -I. -isystem $(compiler-headers)

$(rom)/%.o: %.c $(flags-stamp) boot/rom/rom.mk
	$(call say,ROMCC,$<)
	$(quiet)mkdir -p $(@D)
	$(quiet)$(CC) $(rom-flags) -MMD -MP -c -o $@ $<

$(rom)/%.asm.o: %.asm $(flags-stamp)
	$(call say,NASM,$<)
	$(quiet)mkdir -p $(@D)
	$(quiet)$(NASM) $(nasm-flags) -MD $(@:.o=.d) -MP -o $@ $<

$(rom)/loader.elf: $(rom-objects) boot/rom/rom.ld
	$(call say,LD,$@)
	$(quiet)$(LD) -m elf_x86_64 -nostdlib -static -T boot/rom/rom.ld -z noexecstack --build-id=none \
		--gc-sections --no-warn-rwx-segments --fatal-warnings -Map=$(rom)/loader.map -e loader_entry -o $@ $(rom-objects)

$(rom)/loader.bin: $(rom)/loader.elf
	$(quiet)objcopy -O binary $< $@

$(rom)/reset.bin: boot/rom/reset.asm boot/rom/layout.inc
	$(call say,NASM,$<)
	$(quiet)mkdir -p $(@D)
	$(quiet)$(NASM) -f bin -Werror -I./ -o $@ $<

rom-files := $(addprefix vms/,$(addsuffix .json,$(VMS))) $(vm-files) $(addprefix native/,$(native-y))
rom-kernel := $(image-tree)/boot/orthocone.elf

$(build)/orthocone.rom: $(rom)/reset.bin $(rom)/loader.bin $(rom-kernel) $(addprefix $(image-tree)/boot/,$(rom-files)) \
		tools/romtool boot/rom/rom.mk $(build)/iso-text
	$(quiet)tools/romtool create $@ --size $(ROM_SIZE) --reset $(rom)/reset.bin --loader $(rom)/loader.bin \
		--kernel A=$(rom-kernel) --kernel B=$(rom-kernel) --cmdline '$(CMDLINE)' \
		--tree $(image-tree)/boot --files $(rom-files)

$(build)/orthocone-small.rom: $(rom)/reset.bin $(rom)/loader.bin $(rom-kernel) tools/romtool boot/rom/rom.mk $(build)/iso-text
	$(quiet)tools/romtool create $@ --size 512 --reset $(rom)/reset.bin --loader $(rom)/loader.bin \
		--kernel A=$(rom-kernel) --cmdline '$(CMDLINE)'

# All files of a node in one, for roads that carry one: PVH, the UEFI application.
$(build)/orthocone.pack: $(addprefix $(image-tree)/boot/,$(rom-files)) tools/romtool boot/rom/rom.mk $(build)/iso-text
	$(quiet)tools/romtool pack $@ --cmdline '$(CMDLINE)' --tree $(image-tree)/boot --files $(rom-files)

.PHONY: pack
pack: $(build)/orthocone.pack ## all files of a node in one, to go along as a single initrd

.PHONY: rom-images
rom-images: $(build)/orthocone.rom $(build)/orthocone-small.rom $(build)/orthocone.efi

.PHONY: rom
rom: $(build)/orthocone.rom $(build)/orthocone-small.rom ## build the flash images, and say what takes how much
	$(quiet)for rom in $^; do tools/romtool list $$rom; done

MACHINE_TYPE ?= pc
ROM_AS       ?= bios
rom-drive = $(if $(filter pflash,$(ROM_AS)),-M $(MACHINE_TYPE)$(comma)max-fw-size=$(shell expr $(ROM_SIZE) '*' 1024) \
	-drive if=pflash$(comma)format=raw$(comma)readonly=on$(comma)file=$(build)/orthocone.rom,-M $(MACHINE_TYPE) -bios $(build)/orthocone.rom)
comma := ,

.PHONY: run-rom
run-rom: $(build)/orthocone.rom ## boot the flash image; MACHINE_TYPE=q35, ROM_AS=pflash
	@echo 'Booting $(build)/orthocone.rom in QEMU'
	$(quiet)$(QEMU) $(qemu-flags) $(rom-drive)

-include $(patsubst %.o,%.d,$(rom-objects))
