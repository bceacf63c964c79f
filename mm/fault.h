/* Debug builds: make an allocation of the current thread fail, to see what its caller does then. */
#pragma once

#include "base/percpu.h"
#include "base/types.h"

/* Of this thread's allocations from now on (pages, objects, stacks) the one with this number fails,
 * counted from 0; then no more do. */
void mm_fault_inject(unsigned number);

/* The same for the allocations of all threads together. */
void mm_fault_inject_any(unsigned number);

/* Ends it. True: it has happened. */
bool mm_fault_end(void);

bool mm_fault_count(void); /* this allocation shall fail */

/* What every allocation asks. */
static inline bool mm_fault_due(void)
{
#if defined(CONFIG_DEBUG)
    return mm_fault_count();
#else
    return false;
#endif
}
