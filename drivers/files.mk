drivers-y += uart16550.c uart_debug.c
drivers-y += screen.c vga_text.c framebuffer.c font.c keyboard.c

drivers-y += pci/config.c pci/scan.c pci/interrupt.c pci/class.c
drivers-y += devices.c block.c net.c char.c
drivers-y += virtio/virtio.c virtio/queue.c virtio/blk.c virtio/net.c virtio/console.c
drivers-y += ahci.c e1000.c hpet.c rtc.c
