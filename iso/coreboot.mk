# A flash image of coreboot's for QEMU, with the kernel as its payload and the modules in its files.

coreboot     := $(third-party)/coreboot
coreboot-rom := $(coreboot)/coreboot.rom

coreboot-stamp := $(coreboot)/.built-$(call recipe-sum,tools/build-coreboot)
$(coreboot-stamp): | $(build)/.packages
	$(quiet)tools/bootstrap source coreboot $(coreboot)/src
	@echo 'Building coreboot for QEMU (once, about a minute)'
	$(quiet)tools/build-coreboot $(coreboot)/src $(coreboot-rom)
	$(quiet)rm -rf $(coreboot)/src
	$(quiet)touch $@
$(coreboot-rom): $(coreboot-stamp) ;

$(build)/coreboot.rom: $(coreboot-rom) $(iso-inputs) $(build)/iso-text iso/coreboot.mk
	$(call say,CBFS,$@)
	$(quiet)cp $(coreboot-rom) $@.new
	$(quiet)printf '%s\n' '$(CMDLINE)' >$(build)/cmdline
	$(quiet){ cbfstool $@.new add-payload -f $(image-tree)/boot/orthocone.elf -n fallback/payload -c lzma && \
		$(foreach file,$(iso-modules),cbfstool $@.new add -t raw -f $(image-tree)/boot/$(file) \
			-n orthocone/$(file) &&) \
		cbfstool $@.new add -t raw -f $(build)/cmdline -n orthocone/cmdline; } >$@.log 2>&1 || \
		{ tail -n 3 $@.log >&2; exit 1; }
	$(quiet)mv $@.new $@
