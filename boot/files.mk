# multiboot.asm first: the headers must lie in the first 8 KiB of the image.
boot-y += multiboot.asm entry.asm ap.asm bootinfo.c multiboot1.c multiboot2.c pack/slots.c
