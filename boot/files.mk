# multiboot.asm first: the headers must lie in the first 8 KiB of the image.
boot-y += multiboot.asm entry.asm ap.asm bootinfo.c coreboot.c multiboot1.c multiboot2.c \
	pvh.c unfold.c pack/slots.c pack/pack.c pack/lz4.c pack/crc32c.c
