/* Offsets for the assembly of sched/. */
#include "sched/thread_impl.h"

void nk_sched_offsets(void);
void nk_sched_offsets(void)
{
    OFFSETS_MEMBER(THREAD_SP, struct nk_thread, sp);
    OFFSETS_MEMBER(THREAD_ON_CPU, struct nk_thread, on_cpu);
}
