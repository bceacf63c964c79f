/* Memory bandwidth by four simple loops over arrays larger than any cache: copy, scale, add, and
 * the triad a = b + s * c. One thread per CPU, each on its own part; the best of several rounds
 * counts. Arguments: MiB of each array (default 16), threads (default: one per CPU). */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "sched/thread.h"

#define ROUNDS      5
#define THREADS_MAX 64
#define SCALE       3.0

enum kernel { COPY, SCALED, ADD, TRIAD, KERNELS };
static const char *const name_table[KERNELS] = {"copy", "scale", "add", "triad"};
static const int arrays_table[KERNELS] = {2, 2, 3, 3}; /* read or written by each */

static double *a, *b, *c;
static size_t elements;
static int threads;
static pthread_barrier_t barrier;
static double best[KERNELS];

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void work(enum kernel kernel, size_t from, size_t to)
{
    double *restrict x = a;
    double *restrict y = b;
    double *restrict z = c;
    switch (kernel) {
    case COPY:
        for (size_t i = from; i < to; i++) {
            z[i] = x[i];
        }
        break;
    case SCALED:
        for (size_t i = from; i < to; i++) {
            y[i] = SCALE * z[i];
        }
        break;
    case ADD:
        for (size_t i = from; i < to; i++) {
            z[i] = x[i] + y[i];
        }
        break;
    default:
        for (size_t i = from; i < to; i++) {
            x[i] = y[i] + SCALE * z[i];
        }
    }
}

static void *worker(void *arg)
{
    int me = (int)(long)arg;
    if (nk_thread_pin(nk_thread_current(), me % (int)sysconf(_SC_NPROCESSORS_ONLN)) < 0) {
        fprintf(stderr, "thread %d cannot be pinned\n", me);
    }
    size_t from = elements * (size_t)me / (size_t)threads;
    size_t to = elements * (size_t)(me + 1) / (size_t)threads;
    for (size_t i = from; i < to; i++) {
        a[i] = 1;
        b[i] = 2;
        c[i] = 0;
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (int k = 0; k < KERNELS; k++) {
            pthread_barrier_wait(&barrier);
            double start = now();
            work((enum kernel)k, from, to);
            pthread_barrier_wait(&barrier);
            double taken = now() - start;
            if (me == 0 && (round == 0 || taken < best[k])) {
                best[k] = taken;
            }
        }
    }
    return NULL;
}

/* What the loops leave in a[] after all rounds, computed for one element. */
static int check(void)
{
    double x = 1, y = 2, z = 0;
    for (int round = 0; round < ROUNDS; round++) {
        z = x;
        y = SCALE * z;
        z = x + y;
        x = y + SCALE * z;
    }
    for (size_t i = 0; i < elements; i++) {
        if (fabs(a[i] - x) > 1e-9 * x) {
            printf("wrong: a[%zu] is %g, not %g\n", i, a[i], x);
            return EXIT_FAILURE;
        }
    }
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    size_t mib = argc > 1 ? strtoul(argv[1], NULL, 10) : 16;
    threads = argc > 2 ? atoi(argv[2]) : (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (mib == 0 || mib > 1 << 20 || threads < 1 || threads > THREADS_MAX) {
        fprintf(stderr, "usage: %s [MiB of each array] [threads]\n", argv[0]);
        return EXIT_FAILURE;
    }
    elements = (mib << 20) / sizeof(*a);
    a = malloc(elements * sizeof(*a));
    b = malloc(elements * sizeof(*b));
    c = malloc(elements * sizeof(*c));
    if (!a || !b || !c || pthread_barrier_init(&barrier, NULL, (unsigned)threads) != 0) {
        fprintf(stderr, "no memory for 3 arrays of %zu MiB\n", mib);
        return EXIT_FAILURE;
    }
    pthread_t thread[THREADS_MAX];
    for (int i = 0; i < threads; i++) {
        if (pthread_create(&thread[i], NULL, worker, (void *)(long)i) != 0) {
            fprintf(stderr, "cannot start thread %d\n", i);
            exit(EXIT_FAILURE);
        }
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(thread[i], NULL);
    }
    printf("%zu MiB per array, %d threads\n", mib, threads);
    for (int k = 0; k < KERNELS; k++) {
        double bytes = (double)arrays_table[k] * (double)elements * sizeof(*a);
        printf("%-6s %10.1f MB/s\n", name_table[k], bytes / best[k] * 1e-6);
    }
    return check();
}
