# Kernels, boot loaders and tools of Debian that the system tests run as guests: build/stock/<name>. What comes
# from the package servers is kept in build/third-party.

stock-cache := $(third-party)/stock
stock       := $(build)/stock
stock-names := linux-amd64 linux-686-pae linux-686 initrd-amd64 initrd-686-pae initrd-686 memtest ipxe xen grub

.PHONY: stock-guests
stock-guests: $(stock-names:%=$(stock)/%) # Debian's kernels and tools for the system tests

$(stock-cache)/linux-amd64/vmlinuz: | $(build)/.packages
	$(quiet)tools/bootstrap kernel linux-image-amd64 $(@D)
$(stock-cache)/linux-686-pae/vmlinuz $(stock-cache)/linux-686/vmlinuz: $(stock-cache)/linux-%/vmlinuz: | $(build)/.packages
	$(quiet)tools/bootstrap kernel linux-image-$*:i386 $(@D)
$(stock-cache)/busybox-i386: | $(build)/.packages
	$(quiet)tools/bootstrap extract busybox-static:i386 bin/busybox $@
$(stock-cache)/memtest: | $(build)/.packages
	$(quiet)tools/bootstrap extract memtest86+ boot/memtest86+x64.bin $@
$(stock-cache)/ipxe: | $(build)/.packages
	$(quiet)tools/bootstrap extract ipxe boot/ipxe.lkrn $@
$(stock-cache)/xen.gz: | $(build)/.packages
	$(quiet)tools/bootstrap extract xen-hypervisor-4.17-amd64 boot/xen-4.17-amd64.gz $@

$(stock)/linux-%: $(stock-cache)/linux-%/vmlinuz
	$(quiet)mkdir -p $(@D)
	$(quiet)cp $< $@

$(stock)/memtest $(stock)/ipxe: $(stock)/%: $(stock-cache)/%
	$(quiet)mkdir -p $(@D)
	$(quiet)cp $< $@

$(stock)/xen: $(stock-cache)/xen.gz
	$(quiet)mkdir -p $(@D)
	$(quiet)gzip -dc $< >$@

# As the ISO's, with each kernel's own drivers and a busybox of its architecture.
$(stock)/initrd-amd64: $(busybox)
$(stock)/initrd-686-pae $(stock)/initrd-686: $(stock-cache)/busybox-i386
$(stock)/initrd-%: tools/mkinitramfs $(stock-cache)/linux-%/vmlinuz $(shell find iso/initramfs -type f)
	$(quiet)mkdir -p $(@D)
	$(quiet)tools/mkinitramfs $@ $(filter %busybox %busybox-i386,$^) iso/initramfs $(stock-cache)/linux-$*/modules

# GRUB's core image for BIOS has a multiboot header, by which other boot loaders chain to it.
$(stock)/grub: | $(build)/.packages
	$(quiet)mkdir -p $(@D)
	$(quiet)grub-mkimage -O i386-pc -o $@ -p / normal minicmd echo lsmmap reboot
