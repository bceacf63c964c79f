/* From the boot record to the boot allocator: which memory is ours. */
#pragma once

#include "boot/bootinfo.h"

/* Context: boot CPU, before paging_init(). */
void memory_init(const struct bootinfo *info);
