mm-y += bootmem.c buddy.c fault.c kmalloc.c numa.c paging.c paging_init.c slab.c stacks.c
mm-$(CONFIG_DEBUG) += slab_debug.c
