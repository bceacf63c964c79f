/* Every allocation of an operation fails in turn. */
#pragma once

#include "base/types.h"

enum fault_outcome {
    FAULT_REPORTED,  /* a failed allocation must end in -ENOMEM */
    FAULT_TOLERATED, /* or in another error, or be done without */
};

bool fault_possible(void); /* a debug build */

/* `operation` does its work and undoes it: 0, or its error. It is run until no allocation of this
 * thread is left to fail; after each run everything must have been given back. */
void fault_each(const char *name, int (*operation)(void), enum fault_outcome outcome);

/* The same with the allocations of all threads that run meanwhile. */
void fault_each_of_any_thread(const char *name, int (*operation)(void), enum fault_outcome outcome);

/* What is held at this moment, in object caches and in pages that have a holder. */
struct fault_holdings {
    uint64_t objects, large, native, vmm;
};
struct fault_holdings fault_holdings(void);
bool fault_expect_same(const char *name, unsigned number, const struct fault_holdings *before);
