#include "mm/fault.h"

static struct nk_thread *volatile victim; /* NULL: nobody's allocations fail */
static unsigned left;

void mm_fault_inject(unsigned number)
{
    left = number;
    victim = this_cpu->current;
}

bool mm_fault_end(void)
{
    bool happened = victim == NULL;
    victim = NULL;
    return happened;
}

bool mm_fault_count(void)
{
    /* An interrupt's allocations are not the thread's. */
    if (victim == NULL || victim != this_cpu->current || this_cpu->irq_depth != 0) {
        return false;
    }
    if (left-- > 0) {
        return false;
    }
    victim = NULL;
    return true;
}
