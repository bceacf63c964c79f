/* The boot allocator: hands out physical memory from the memory map before the buddy allocator
 * exists, and then gives it everything that is left.
 * Threading: boot CPU only, before other CPUs start. */
#pragma once

#include "base/types.h"

#define BOOTMEM_RANGES_MAX 256

/* Record [base, base+length) as usable RAM. Units: bytes, any alignment (trimmed to pages). */
void bootmem_add(pa_t base, uint64_t length);

/* Record memory that the kernel only reads, through the direct map: ACPI tables. Never handed out.
 */
void bootmem_map_only(pa_t base, uint64_t length);

/* Take [base, base+length) out of the usable memory: kernel image, modules, firmware tables. */
void bootmem_reserve(pa_t base, uint64_t length);

/* size bytes aligned to align (power of two, at least a page), zeroed, below `limit` (0: anywhere
 * mapped). Panics when there is none: nothing can go on without it. */
pa_t bootmem_alloc(uint64_t size, uint64_t align, uint64_t limit) NK_MUST_CHECK;

uint64_t bootmem_ram_bytes(void); /* all RAM recorded, reserved parts included */
uint64_t bootmem_ram_end(void);   /* first byte above the highest RAM */

/* The i-th range that is free, or that belongs into the direct map; false past the last. */
bool bootmem_free_range(unsigned i, pa_t *base, uint64_t *length);
bool bootmem_mapped_range(unsigned i, pa_t *base, uint64_t *length);

/* All RAM is reachable through the direct map from now on, not only the low 4 GiB. */
void bootmem_set_all_mapped(void);
