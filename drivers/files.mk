drivers-y += uart16550.c
