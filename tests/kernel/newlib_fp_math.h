/* Functions with floating point, for threads that own FPU state. */
#pragma once

#include "base/types.h"

struct fp_job {
    unsigned seed;
    bool ok;
};

void fp_print(void *job);
void fp_sum(void *job);
