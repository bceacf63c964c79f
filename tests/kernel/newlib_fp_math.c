/* What newlib_fp_test.c runs in threads that own FPU state. Compiled with floating point, so
 * nothing here may run in any other thread. */
#include "tests/kernel/newlib_fp_math.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sched/thread.h"

void fp_print(void *arg)
{
    struct fp_job *job = arg;
    char text[64];
    snprintf(text, sizeof(text), "%.3f %g %e", 3.14159, 1e100, -0.5);
    job->ok = strcmp(text, "3.142 1e+100 -5.000000e-01") == 0;
    double parsed = strtod("2.5e3", NULL);
    job->ok = job->ok && parsed == 2500.0 && fabs(sqrt(2.0) * sqrt(2.0) - 2.0) < 1e-12;
}

/* A sum that needs the registers to survive every switch in between. */
void fp_sum(void *arg)
{
    struct fp_job *job = arg;
    double step = (double)job->seed, sum = 0;
    for (unsigned i = 0; i < 2000; i++) {
        sum += step * 0.5;
        if (i % 16 == 0) {
            nk_thread_yield();
        }
    }
    char text[32], expected[32];
    snprintf(text, sizeof(text), "%.1f", sum);
    snprintf(expected, sizeof(expected), "%u.0", job->seed * 1000);
    job->ok = strcmp(text, expected) == 0;
}
