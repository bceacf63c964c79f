#include "mm/fault.h"

#define ANYBODY ((struct nk_thread *)-1)

static struct nk_thread *volatile victim; /* NULL: nobody's allocations fail */
static uint32_t left;                     /* atomic: allocations until the one that fails */

static void inject(unsigned number, struct nk_thread *whose)
{
    __atomic_store_n(&left, number, __ATOMIC_RELEASE);
    victim = whose;
}

void mm_fault_inject(unsigned number)
{
    inject(number, this_cpu->current);
}

void mm_fault_inject_any(unsigned number)
{
    inject(number, ANYBODY);
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
    if (victim == NULL || this_cpu->irq_depth != 0 ||
        (victim != ANYBODY && victim != this_cpu->current)) {
        return false;
    }
    if (__atomic_fetch_sub(&left, 1, __ATOMIC_ACQ_REL) != 0) {
        return false;
    }
    victim = NULL;
    return true;
}
