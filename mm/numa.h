/* Which memory lies near which CPUs. Said once at boot, before buddy_init(); constant afterwards.
 * Without a word about it there is one node, 0, that has everything. */
#pragma once

#include "base/types.h"

#define NUMA_NODES_MAX 8

/* Memory of a node; what no node claims belongs to node 0. Units: bytes, any alignment. */
void numa_add_memory(pa_t base, uint64_t length, unsigned node);

/* A node exists, also when it has CPUs only. */
void numa_add_node(unsigned node);

/* Relative distance as in ACPI's SLIT: 10 is local, more is farther. Default: 10 and 20. */
void numa_set_distance(unsigned from, unsigned to, unsigned distance);

unsigned numa_node_count(void);
unsigned numa_distance(unsigned from, unsigned to);

/* The node of an address, and in *until the next address where that may change. */
unsigned numa_node_at(pa_t pa, uint64_t *until);

/* The i-th nearest node of `from`, itself first. i < numa_node_count(). */
unsigned numa_nearest(unsigned from, unsigned i);
