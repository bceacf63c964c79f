mm-y += bootmem.c buddy.c buddy_runs.c buddy_split.c fault.c kmalloc.c numa.c paging.c paging_init.c slab.c stacks.c tag.c
mm-$(CONFIG_DEBUG) += slab_debug.c
