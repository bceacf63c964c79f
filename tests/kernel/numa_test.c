/* Tests of mm/numa.c, of the page allocator's nodes, and of kernel/acpi_numa.c. */
#include "mm/numa.h"

#include <errno.h>
#include <string.h>

#include "base/layout.h"
#include "kernel/acpi.h"
#include "mm/buddy.h"
#include "mm/paging.h"
#include "mm/slab.h"
#include "sched/thread.h"
#include "tests/kernel/ktest.h"

static unsigned node_at(pa_t pa)
{
    uint64_t until;
    return numa_node_at(pa, &until);
}

KTEST(numa_order)
{
    unsigned count = numa_node_count();
    EXPECT_EQ(count, buddy_node_count());
    for (unsigned from = 0; from < count; from++) {
        EXPECT_EQ(numa_nearest(from, 0), from);
        unsigned seen = 0;
        for (unsigned i = 0; i < count; i++) {
            unsigned node = numa_nearest(from, i);
            seen |= 1u << node;
            if (i > 1) {
                EXPECT_GE(numa_distance(from, node),
                          numa_distance(from, numa_nearest(from, i - 1)));
            }
        }
        EXPECT_EQ(seen, (1u << count) - 1);
    }
}

KTEST(numa_blocks_of_a_node)
{
    KTEST_SKIP_UNLESS(buddy_node_count() > 1, "one node");
    for (unsigned node = 0; node < buddy_node_count(); node++) {
        for (unsigned order = 0; order < 12; order++) {
            struct buddy_stats before, after;
            buddy_get_stats(node, &before);
            pa_t pa;
            ASSERT_EQ(buddy_alloc(order, (int)node, &pa), 0);
            EXPECT_EQ(node_at(pa), node);
            EXPECT_EQ(node_at(NK_PA(pa.v + (NK_PAGE_SIZE << order) - 1)), node);
            EXPECT_EQ(buddy_node_of(pa), node);
            buddy_get_stats(node, &after);
            EXPECT_EQ(after.free_pages, before.free_pages - (UINT64_C(1) << order));
            buddy_free(pa, order);
        }
        void *stack = paging_stack_alloc((int)node);
        ASSERT(stack != NULL);
        pa_t pa;
        ASSERT_EQ(paging_translate((uint64_t)stack - 1, &pa, NULL), 0);
        EXPECT_EQ(node_at(pa), node);
        paging_stack_free(stack);
    }
    buddy_check();
}

/* A node that has nothing left refuses; "any" goes on to the next nearest. */
KTEST(numa_exhaustion)
{
    KTEST_SKIP_UNLESS(buddy_node_count() > 1, "one node");
    const unsigned order = 8;
    EXPECT_EQ(nk_thread_pin(nk_thread_current(), (int)this_cpu->id), 0);
    unsigned home = this_cpu->node;
    uint64_t chain = 0;
    pa_t pa;
    while (buddy_alloc(order, (int)home, &pa) == 0) {
        EXPECT_EQ(buddy_node_of(pa), home);
        *(uint64_t *)nk_pa_to_va(pa) = chain;
        chain = pa.v;
    }
    EXPECT_NE(chain, 0);
    EXPECT_EQ(buddy_alloc(order, (int)home, &pa), -ENOMEM);
    EXPECT_EQ(buddy_alloc(order, BUDDY_NODE_ANY, &pa), 0);
    EXPECT_EQ(buddy_node_of(pa), numa_nearest(home, 1));
    buddy_free(pa, order);
    while (chain != 0) {
        pa = NK_PA(chain);
        chain = *(uint64_t *)nk_pa_to_va(pa);
        buddy_free(pa, order);
    }
    EXPECT_EQ(buddy_alloc(order, BUDDY_NODE_ANY, &pa), 0);
    EXPECT_EQ(buddy_node_of(pa), home);
    buddy_free(pa, order);
    buddy_check();
    EXPECT_EQ(nk_thread_pin(nk_thread_current(), NK_CPU_ANY), 0);
}

static const char far_cache[] = "kmalloc-96";
#define FAR_OBJECTS 1000

static uint64_t pages_of_far_cache(void)
{
    struct slab_stats stats;
    unsigned i = 0;
    while (slab_get_stats(i, &stats) && strcmp(stats.name, far_cache) != 0) {
        i++;
    }
    return stats.pages;
}

/* All that a node has, as a chain of blocks through their first words. */
static uint64_t take_whole_node(int node)
{
    uint64_t chain = 0;
    pa_t pa;
    for (unsigned order = BUDDY_ORDER_MAX + 1; order-- > 0;) {
        while (buddy_alloc(order, node, &pa) == 0) {
            ((uint64_t *)nk_pa_to_va(pa))[0] = chain;
            ((uint64_t *)nk_pa_to_va(pa))[1] = order;
            chain = pa.v;
        }
    }
    return chain;
}

static void give_chain_back(uint64_t chain)
{
    while (chain != 0) {
        const uint64_t *words = nk_pa_to_va(NK_PA(chain));
        uint64_t next = words[0];
        buddy_free(NK_PA(chain), (unsigned)words[1]);
        chain = next;
    }
}

/* Objects of a node without memory lie close together on another one. */
KTEST(numa_objects_from_afar)
{
    KTEST_SKIP_UNLESS(buddy_node_count() > 1, "one node");
    static void *object[FAR_OBJECTS];
    EXPECT_EQ(nk_thread_pin(nk_thread_current(), (int)this_cpu->id), 0);
    slab_drain();
    uint64_t chain = take_whole_node((int)this_cpu->node), before = pages_of_far_cache();
    unsigned count = 0;
    while (count < FAR_OBJECTS && (object[count] = kmalloc(96)) != NULL) {
        count++;
    }
    uint64_t taken = pages_of_far_cache() - before;
    EXPECT_EQ(count, FAR_OBJECTS);
    EXPECT_LE(taken, FAR_OBJECTS * 2 * 96 / NK_PAGE_SIZE);
    while (count > 0) {
        kfree(object[--count]);
    }
    give_chain_back(chain);
    buddy_check();
    EXPECT_EQ(nk_thread_pin(nk_thread_current(), NK_CPU_ANY), 0);
}

static void page_is_near(void *arg)
{
    (void)arg;
    pa_t pa;
    ASSERT_EQ(buddy_alloc(0, BUDDY_NODE_ANY, &pa), 0);
    EXPECT_EQ(buddy_node_of(pa), this_cpu->node);
    buddy_free(pa, 0);
    int on_stack;
    ASSERT_EQ(paging_translate((uint64_t)&on_stack, &pa, NULL), 0);
    EXPECT_EQ(node_at(pa), this_cpu->node);
}

KTEST(numa_memory_is_near)
{
    for (unsigned cpu = 0; cpu < nk_cpu_count; cpu++) {
        struct nk_thread *t;
        struct nk_thread_attr attr = {.name = "near", .cpu = (int)cpu};
        EXPECT_EQ(nk_cpu_table[cpu].node, acpi_node_of_apic(nk_cpu_table[cpu].apic_id));
        ASSERT_EQ(nk_thread_start(&t, &attr, page_is_near, NULL), 0);
        EXPECT_EQ(nk_thread_join(t), 0);
        EXPECT_EQ(nk_thread_destroy(t), 0);
    }
}

/* --- the tables ------------------------------------------------------------------------------- */

static struct acpi_info saved;
static union {
    struct acpi_header header;
    uint8_t byte[1024];
} table;

static void begin(uint32_t length)
{
    saved = acpi;
    memset(&acpi, 0, sizeof(acpi));
    memset(&table, 0, sizeof(table));
    table.header.length = length;
}

static void end(void)
{
    acpi = saved;
}

static void put(uint32_t at, uint64_t value, uint32_t size)
{
    memcpy(table.byte + at, &value, size);
}

static uint32_t new_entry(uint8_t type, uint8_t size)
{
    uint32_t at = table.header.length;
    put(at, type, 1);
    put(at + 1, size, 1);
    table.header.length += size;
    return at;
}

static void add_memory(uint32_t domain, uint64_t base, uint64_t length, uint32_t flags)
{
    uint32_t at = new_entry(1, 40);
    put(at + 2, domain, 4);
    put(at + 8, base, 8);
    put(at + 16, length, 8);
    put(at + 28, flags, 4);
}

static void add_x2apic(uint32_t domain, uint32_t id, uint32_t flags)
{
    uint32_t at = new_entry(2, 24);
    put(at + 4, domain, 4);
    put(at + 8, id, 4);
    put(at + 12, flags, 4);
}

KTEST(acpi_srat)
{
    begin(48);
    add_memory(5, 0, NK_MIB(640), 1);
    add_memory(0x12345678, NK_GIB(4), NK_GIB(1), 3);
    add_memory(9, NK_GIB(8), NK_GIB(1), 0);              /* not enabled */
    add_memory(9, UINT64_MAX - NK_MIB(1), NK_GIB(1), 1); /* goes round */
    uint32_t at = new_entry(0, 16);                      /* a LAPIC of domain 0x12345678 */
    put(at + 2, 0x78, 1);
    put(at + 3, 7, 1);
    put(at + 4, 1, 4);
    put(at + 9, 0x123456, 3);
    add_x2apic(5, 300, 1);
    add_x2apic(5, 301, 0);
    new_entry(77, 4); /* unknown */
    acpi_read_srat(&table.header);
    EXPECT_EQ(acpi.numa.node_count, 2);
    EXPECT_EQ(acpi.numa.memory_count, 2);
    EXPECT_EQ(acpi.numa.memory[1].base, NK_GIB(4));
    EXPECT_EQ(acpi.numa.memory[1].node, 1);
    EXPECT_EQ(acpi.numa.cpu_count, 2);
    EXPECT_EQ(acpi_node_of_apic(7), 1);
    EXPECT_EQ(acpi_node_of_apic(300), 0);
    EXPECT_EQ(acpi_node_of_apic(301), 0);
    end();
}

KTEST(acpi_srat_malformed)
{
    begin(48);
    add_memory(0, 0, NK_GIB(1), 1);
    put(new_entry(1, 20) + 2, 1, 4); /* too short for its type */
    new_entry(2, 24);
    table.header.length -= 8; /* the last one ends behind the table */
    acpi_read_srat(&table.header);
    EXPECT_EQ(acpi.numa.node_count, 1);
    EXPECT_EQ(acpi.numa.memory_count, 1);
    EXPECT_EQ(acpi.numa.cpu_count, 0);
    end();

    begin(48);
    for (uint32_t domain = 0; domain < ACPI_NODES_MAX + 3; domain++) {
        add_memory(domain, NK_GIB(domain), NK_GIB(1), 1);
    }
    acpi_read_srat(&table.header);
    EXPECT_EQ(acpi.numa.node_count, ACPI_NODES_MAX);
    EXPECT_EQ(acpi.numa.memory_count, ACPI_NODES_MAX);
    end();
}

KTEST(acpi_slit)
{
    begin(48);
    add_memory(1, 0, NK_GIB(1), 1); /* node 0 is domain 1 */
    add_memory(0, NK_GIB(4), NK_GIB(1), 1);
    acpi_read_srat(&table.header);
    memset(&table, 0, sizeof(table));
    table.header.length = 48;
    put(36, 2, 8);
    put(44, 0x0a1f1e0a, 4); /* rows 10 30, 31 10 */
    acpi_read_slit(&table.header);
    EXPECT_EQ(acpi.numa.distance[0][0], 10);
    EXPECT_EQ(acpi.numa.distance[0][1], 31);
    EXPECT_EQ(acpi.numa.distance[1][0], 30);
    put(36, 200, 8); /* does not fit */
    memset(acpi.numa.distance, 0, sizeof(acpi.numa.distance));
    acpi_read_slit(&table.header);
    EXPECT_EQ(acpi.numa.distance[0][1], 0);
    end();
}
