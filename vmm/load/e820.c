/* The memory map that a guest kernel gets, in the BIOS's E820 form. Spec: ACPI 6.5 section 15. */
#include "load/load.h"

#define E820_RAM      1
#define E820_RESERVED 2

/* The PC's hole between conventional and extended memory: EBDA, video memory, ROMs. The ACPI tables
 * lie in it. */
#define ISA_HOLE_BASE UINT64_C(0x9fc00)
#define ISA_HOLE_END  UINT64_C(0x100000)

struct e820_map {
    struct vmm_e820 *entry;
    unsigned count, room;
};

/* Entries ascend whatever the order of the regions. */
static void add(struct e820_map *map, uint64_t base, uint64_t end, uint32_t type)
{
    unsigned at = map->count;

    if (end <= base || map->count == map->room) {
        return;
    }
    for (; at > 0 && map->entry[at - 1].base > base; at--) {
        map->entry[at] = map->entry[at - 1];
    }
    map->entry[at] = (struct vmm_e820){base, end - base, type};
    map->count++;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

unsigned vmm_e820_build(struct vm *vm, struct vmm_e820 *out, unsigned room)
{
    struct e820_map map = {.entry = out, .room = room};

    const struct vmm_region *r;

    for (unsigned i = 0; (r = vmm_memory_region(vm, i)) != NULL; i++) {
        uint64_t base = r->base.v, end = r->base.v + r->size;

        if (r->kind != VMM_REGION_RAM) {
            add(&map, base, end, E820_RESERVED);
            continue;
        }
        add(&map, base, min_u64(end, ISA_HOLE_BASE), E820_RAM);
        add(&map, max_u64(base, ISA_HOLE_BASE), min_u64(end, ISA_HOLE_END), E820_RESERVED);
        add(&map, max_u64(base, ISA_HOLE_END), end, E820_RAM);
    }
    return map.count;
}
