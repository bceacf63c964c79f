#include "mm/numa.h"

#include "base/platform.h"

#define RANGES_MAX       64
#define DISTANCE_LOCAL   10
#define DISTANCE_DEFAULT 20

static struct {
    uint64_t base, end;
    unsigned node;
} range[RANGES_MAX];

static unsigned range_count;
static unsigned node_count = 1;
static uint8_t distance[NUMA_NODES_MAX][NUMA_NODES_MAX]; /* 0: not said */

void numa_add_node(unsigned node)
{
    nk_assert(node < NUMA_NODES_MAX);
    node_count = node >= node_count ? node + 1 : node_count;
}

void numa_add_memory(pa_t base, uint64_t length, unsigned node)
{
    numa_add_node(node);
    if (range_count == RANGES_MAX) {
        nk_warn("numa: more than %d memory ranges; the one at %#lx counts as node 0's", RANGES_MAX,
                (unsigned long)base.v);
        return;
    }
    range[range_count].base = base.v;
    range[range_count].end = base.v + length;
    range[range_count++].node = node;
}

void numa_set_distance(unsigned from, unsigned to, unsigned value)
{
    nk_assert(from < NUMA_NODES_MAX && to < NUMA_NODES_MAX);
    distance[from][to] = (uint8_t)(value < UINT8_MAX ? value : UINT8_MAX);
}

unsigned numa_node_count(void)
{
    return node_count;
}

unsigned numa_distance(unsigned from, unsigned to)
{
    if (distance[from][to] != 0) {
        return distance[from][to];
    }
    return from == to ? DISTANCE_LOCAL : DISTANCE_DEFAULT;
}

unsigned numa_node_at(pa_t pa, uint64_t *until)
{
    *until = UINT64_MAX;
    for (unsigned i = 0; i < range_count; i++) {
        if (pa.v >= range[i].base && pa.v < range[i].end) {
            *until = range[i].end;
            return range[i].node;
        }
        if (range[i].base > pa.v && range[i].base < *until) {
            *until = range[i].base;
        }
    }
    return 0;
}

/* Sort key: the node itself, then by distance, then by number. */
static unsigned key(unsigned from, unsigned node)
{
    return node == from ? 0 : (numa_distance(from, node) << 8) + node;
}

static unsigned rank(unsigned from, unsigned node)
{
    unsigned before = 0;
    for (unsigned other = 0; other < node_count; other++) {
        before += key(from, other) < key(from, node);
    }
    return before;
}

unsigned numa_nearest(unsigned from, unsigned i)
{
    for (unsigned node = 0; node < node_count; node++) {
        if (rank(from, node) == i) {
            return node;
        }
    }
    return from;
}
