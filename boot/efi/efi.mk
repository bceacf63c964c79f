# make efi: build/orthocone.efi, kernel and files of a node as one UEFI application.

efi         := $(build)/efi
efi-sources := boot/efi/main.c boot/efi/enter.asm $(addprefix boot/pack/,pack.c lz4.c crc32c.c elf.c mb2.c text.c) \
	base/memory.asm
efi-objects := $(call objects,$(efi),$(efi-sources))
efi-flags   := $(filter-out -mcmodel=kernel -fno-pic -fno-pie,$(common-flags)) -fpie -fvisibility=hidden \
	-fno-jump-tables -I. -isystem $(compiler-headers)

$(efi)/%.o: %.c $(flags-stamp) boot/efi/efi.mk
	$(call say,EFICC,$<)
	$(quiet)mkdir -p $(@D)
	$(quiet)$(CC) $(efi-flags) -MMD -MP -c -o $@ $<

$(efi)/%.asm.o: %.asm $(flags-stamp)
	$(call say,NASM,$<)
	$(quiet)mkdir -p $(@D)
	$(quiet)$(NASM) $(nasm-flags) -MD $(@:.o=.d) -MP -o $@ $<

$(efi)/stub.elf: $(efi-objects) boot/efi/efi.ld
	$(call say,LD,$@)
	$(quiet)$(LD) -m elf_x86_64 -nostdlib -pie --no-dynamic-linker -z text -T boot/efi/efi.ld -z noexecstack \
		--build-id=none --fatal-warnings -o $@ $(efi-objects)

$(efi)/node.pack: $(rom-kernel) $(addprefix $(image-tree)/boot/,$(rom-files)) tools/romtool $(build)/iso-text
	$(quiet)mkdir -p $(@D)
	$(quiet)tools/romtool pack $@ --kernel A=$(rom-kernel) --cmdline '$(CMDLINE)' --tree $(image-tree)/boot --files $(rom-files)

$(build)/orthocone.efi: $(efi)/stub.elf $(efi)/node.pack tools/mkefi
	$(call say,EFI,$@)
	$(quiet)tools/mkefi $@ $(efi)/stub.elf $(efi)/node.pack

.PHONY: efi
efi: $(build)/orthocone.efi ## build the UEFI application

-include $(patsubst %.o,%.d,$(efi-objects))
