/* From the boot record to the boot allocator: which memory is ours, and near which CPUs it is. */
#pragma once

#include "boot/bootinfo.h"

/* Context: boot CPU, before paging_init(). */
void memory_init(const struct bootinfo *info);

/* Context: boot CPU, after acpi_init(), before buddy_init(). */
void memory_init_nodes(void);
