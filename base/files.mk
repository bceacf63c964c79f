base-y += memory.asm string.c
base-$(CONFIG_DEBUG) += spinlock_debug.c
