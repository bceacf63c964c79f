base-y += memory.asm string.c
