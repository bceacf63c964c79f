/* The command mem: memory, and who holds it. */
#include <string.h>

#include "base/layout.h"
#include "kernel/module.h"
#include "kernel/shell.h"
#include "kernel/shell_cmds.h"
#include "mm/bootmem.h"
#include "mm/buddy.h"
#include "mm/slab.h"
#include "mm/tag.h"

extern const uint8_t _text[], _end[];

static unsigned long long kib(uint64_t bytes)
{
    return bytes >> 10;
}

static void print_node(unsigned node)
{
    struct buddy_stats s;
    buddy_get_stats(node, &s);
    shell_printf("node %u: %llu KiB, %llu KiB free, %llu KiB in one piece; %llu blocks taken, "
                 "%llu given back\n",
                 node, kib(s.total_pages * NK_PAGE_SIZE), kib(s.free_pages * NK_PAGE_SIZE),
                 kib(buddy_largest_run(node) * NK_PAGE_SIZE), (unsigned long long)s.alloc_count,
                 (unsigned long long)s.free_count);
    for (unsigned order = 0; order <= BUDDY_ORDER_MAX; order++) {
        if (s.free_blocks[order]) {
            shell_printf("  %7llu free blocks of %llu KiB\n",
                         (unsigned long long)s.free_blocks[order], kib(NK_PAGE_SIZE << order));
        }
    }
}

static int print_nodes(void)
{
    shell_printf("RAM: %llu KiB\n", kib(bootmem_ram_bytes()));
    for (unsigned node = 0; node < buddy_node_count(); node++) {
        print_node(node);
    }
    return 0;
}

static int print_caches(void)
{
    shell_printf("CACHE                    SIZE       USED      TOTAL   PAGES\n");
    struct slab_stats s;
    for (unsigned i = 0; slab_get_stats(i, &s); i++) {
        shell_printf("%-22s %6zu %10llu %10llu %7llu\n", s.name, s.object_size,
                     (unsigned long long)s.objects_used, (unsigned long long)s.objects_total,
                     (unsigned long long)s.pages);
    }
    return 0;
}

static void print_holder(const char *name, uint64_t page_bytes)
{
    shell_printf("%-40s %12llu\n", name, kib(page_bytes));
}

/* What never was the page allocator's. Returns its bytes. */
static uint64_t print_boot_memory(uint64_t managed)
{
    uint64_t image = (uint64_t)(_end - _text), frames = buddy_table_bytes();
    uint64_t modules = 0, all = bootmem_ram_bytes() - managed;
    struct nk_module m;
    for (unsigned i = 0; nk_module_get(i, &m); i++) {
        modules += nk_align_up(m.size, NK_PAGE_SIZE);
    }
    print_holder("kernel image", image);
    print_holder("frame table", frames);
    print_holder("boot modules", modules);
    print_holder("firmware, first page tables", all - image - frames - modules);
    return all;
}

/* Returns the bytes in pages of all tags. */
static uint64_t print_tags(void)
{
    uint64_t sum = 0;
    for (unsigned tag = MM_TAG_NONE + 1; tag < MM_TAGS_MAX; tag++) {
        struct mm_tag_info info;
        if (mm_tag_get((uint8_t)tag, &info)) {
            shell_printf("%-40s %12llu %12llu\n", info.name, kib(info.page_bytes),
                         kib(info.object_bytes + 1023));
            sum += info.page_bytes;
        }
    }
    return sum;
}

static int print_holders(void)
{
    uint64_t managed = 0, idle = 0, caches = slab_pages() * NK_PAGE_SIZE;
    for (unsigned node = 0; node < buddy_node_count(); node++) {
        struct buddy_stats s;
        buddy_get_stats(node, &s);
        managed += s.total_pages * NK_PAGE_SIZE;
        idle += s.free_pages * NK_PAGE_SIZE;
    }
    shell_printf("HELD BY                                     PAGES KiB  OBJECTS KiB\n");
    uint64_t sum = print_boot_memory(managed);
    sum += print_tags();
    print_holder("object caches", caches);
    sum += caches + idle;
    print_holder("others", bootmem_ram_bytes() > sum ? bootmem_ram_bytes() - sum : 0);
    print_holder("free", idle);
    print_holder("RAM", bootmem_ram_bytes());
    return 0;
}

static int check(void)
{
    buddy_check();
    shell_printf("the page allocator's lists, counts and frame table agree\n");
    return 0;
}

static const struct {
    const char *name;
    int (*run)(void);
} action_table[] = {{"tags", print_holders}, {"caches", print_caches}, {"check", check}};

int cmd_mem(int argc, char **argv)
{
    if (argc == 1) {
        return print_nodes();
    }
    for (unsigned i = 0; argc == 2 && i < NK_ARRAY_COUNT(action_table); i++) {
        if (strcmp(argv[1], action_table[i].name) == 0) {
            return action_table[i].run();
        }
    }
    return shell_usage(argv[0]);
}

const char *mem_candidate(unsigned position, unsigned i)
{
    return position == 1 && i < NK_ARRAY_COUNT(action_table) ? action_table[i].name : NULL;
}
