/* Inside kernel/: the paths of cross-CPU calls that are not for everybody. */
#pragma once

#include "base/types.h"

/* paging_shootdown of a node with more than one CPU: every CPU drops [va, va+size) from its TLB. */
void smp_shootdown(uint64_t va, uint64_t size);

void smp_call_interrupt(uint64_t vector); /* of NK_VECTOR_CALL */
