drivers-y += uart16550.c uart_debug.c

drivers-y += pci/config.c pci/scan.c pci/interrupt.c pci/class.c
