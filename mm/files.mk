mm-y += bootmem.c buddy.c kmalloc.c numa.c paging.c paging_init.c slab.c stacks.c
mm-$(CONFIG_DEBUG) += fault.c slab_debug.c
