/* Debug builds: make an allocation of the current thread fail, to see what its caller does then. */
#pragma once

#include "base/percpu.h"
#include "base/types.h"

#if defined(CONFIG_DEBUG)

/* Of this thread's allocations from now on (pages, objects, stacks) the one with this number fails,
 * counted from 0; then no more do. */
void mm_fault_inject(unsigned number);

/* Ends it. True: it has happened. */
bool mm_fault_end(void);

bool mm_fault_due(void); /* asked by every allocation */

#else
static inline bool mm_fault_due(void)
{
    return false;
}
#endif
