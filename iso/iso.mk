# The ISO and the disk image: GRUB for BIOS and UEFI, the kernel, and the virtual machines named in VMS.
#
#   make iso VMS="linux other"   configs/vms/linux.json and configs/vms/other.json ride in the image
#   make disk CMDLINE="..."      the kernel's command line
#
# A boot module's command line begins with its name: the path by which a manifest finds it.

VMS     ?= linux
CMDLINE ?=

image-tree := $(build)/image

# Debian's kernel and busybox, for the Linux guest.
linux   := $(third-party)/linux/vmlinuz
modules := $(third-party)/linux/modules
busybox := $(third-party)/busybox/busybox

# One package, so that drivers and kernel fit.
$(linux) $(modules) &: | $(build)/.packages
	$(quiet)tools/bootstrap kernel linux-image-cloud-amd64 $(@D)

$(busybox): | $(build)/.packages
	$(quiet)tools/bootstrap extract busybox-static bin/busybox $@

# What the manifests refer to, and where it comes from.
vm-files := linux/vmlinuz linux/initrd
iso-modules := $(foreach vm,$(VMS),vms/$(vm).json) $(vm-files) $(addprefix native/,$(native-y))

# Only what boots: GRUB's full set of modules, fonts and translations is ten times as large. The
# start of GRUB for UEFI names every kind of partition table and complains about those that are missing.
grub-modules := multiboot2 normal serial terminal echo boot fat configfile test ls reboot halt
iso-grub-modules := $(grub-modules) iso9660 search search_fs_file all_video \
	$(addprefix part_,acorn amiga apple bsd dfly dvh gpt msdos plan sun sunpc)
disk-grub-modules := $(grub-modules) part_msdos

# Equal input gives an equal image: all dates are that of the last commit.
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 1577836800)

# The loaded image needs no debug information; its segments stay as they are.
$(image-tree)/boot/orthocone.elf: $(build)/orthocone.elf
	$(quiet)mkdir -p $(@D)
	$(quiet)$(STRIP) -o $@ $<

$(image-tree)/boot/vms/%.json: configs/vms/%.json
	$(quiet)mkdir -p $(@D)
	$(quiet)cp $< $@

$(image-tree)/boot/linux/vmlinuz: $(linux)
	$(quiet)mkdir -p $(@D)
	$(quiet)cp $< $@

$(image-tree)/boot/linux/initrd: tools/mkinitramfs $(busybox) $(modules) $(shell find iso/initramfs -type f)
	$(call say,INITRD,$@)
	$(quiet)mkdir -p $(@D)
	$(quiet)tools/mkinitramfs $@ $(busybox) iso/initramfs $(modules)

iso-inputs := $(image-tree)/boot/orthocone.elf $(addprefix $(image-tree)/boot/,$(iso-modules))

iso-text := $(iso-modules) $(CMDLINE)
ifneq ($(strip $(iso-text)),$(strip $(file <$(build)/iso-text)))
$(shell mkdir -p $(build))
$(file >$(build)/iso-text,$(iso-text))
endif

# Built anew each time, so that no file of an earlier choice of VMS rides along.
$(build)/orthocone.iso: tools/mkiso
$(build)/orthocone.img: tools/mkdisk
$(build)/orthocone.iso $(build)/orthocone.img: $(iso-inputs) iso/grub.cfg.in iso/iso.mk \
		tools/grub-config $(build)/iso-text
	$(call say,$(if $(filter %.iso,$@),ISO,DISK),$@)
	$(quiet)$(filter tools/mk%,$^) $@ iso/grub.cfg.in '$(CMDLINE)' \
		'$(if $(filter %.iso,$@),$(iso-grub-modules),$(disk-grub-modules))' \
		$(image-tree)/boot $(iso-modules)
