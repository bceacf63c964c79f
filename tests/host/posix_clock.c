/* Time and timers of the POSIX host. */
#define _GNU_SOURCE
#include "posix_inner.h"

#include <stdlib.h>
#include <time.h>

static uint64_t monotonic_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static uint64_t cycles_of_ns(uint64_t ns)
{
    return (uint64_t)((unsigned __int128)ns * POSIX_CYCLES_KHZ / 1000000);
}

static uint64_t ns_of_cycles(uint64_t cycles) /* rounded up: the deadline is reached */
{
    return (uint64_t)(((unsigned __int128)cycles * 1000000 + POSIX_CYCLES_KHZ - 1) /
                      POSIX_CYCLES_KHZ);
}

uint64_t posix_host_now_ns(struct posix_host *h)
{
    return h->clock == POSIX_CLOCK_REAL ? monotonic_ns() - h->real_start_ns
                                        : atomic_load(&h->virtual_ns);
}

static uint64_t host_cycles(void *host)
{
    return cycles_of_ns(posix_host_now_ns(host));
}

static uint64_t host_thread_cycles(void *host)
{
    struct posix_host *h = host;
    struct timespec t;

    if (h->clock == POSIX_CLOCK_VIRTUAL) {
        return cycles_of_ns(atomic_load(&h->virtual_ns) - atomic_load(&h->stolen_ns));
    }
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return cycles_of_ns((uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec);
}

void posix_host_steal_ns(struct posix_host *h, uint64_t ns)
{
    atomic_fetch_add(&h->stolen_ns, ns);
}

static uint64_t host_wall_clock_ns(void *host)
{
    return POSIX_WALL_BASE_S * NS_PER_S + posix_host_now_ns(host);
}

static struct vmm_host_timer *first_timer(struct posix_host *h)
{
    struct vmm_host_timer *first = NULL;

    for (struct vmm_host_timer *t = h->timers; t != NULL; t = t->next) {
        if (t->armed && (first == NULL || t->deadline < first->deadline)) {
            first = t;
        }
    }
    return first;
}

/* Run one timer's function without the mutex; cancel waits until it is over. */
static void fire(struct posix_host *h, struct vmm_host_timer *t)
{
    t->armed = false;
    h->callback_running = true;
    pthread_mutex_unlock(&h->mutex);
    t->fn(t->arg);
    pthread_mutex_lock(&h->mutex);
    h->callback_running = false;
    pthread_cond_broadcast(&h->timer_change);
}

void posix_host_advance_ns(struct posix_host *h, uint64_t ns)
{
    uint64_t end = atomic_load(&h->virtual_ns) + ns;
    struct vmm_host_timer *t;

    pthread_mutex_lock(&h->mutex);
    while ((t = first_timer(h)) != NULL && ns_of_cycles(t->deadline) <= end) {
        if (ns_of_cycles(t->deadline) > atomic_load(&h->virtual_ns)) {
            atomic_store(&h->virtual_ns, ns_of_cycles(t->deadline));
        }
        fire(h, t);
    }
    pthread_mutex_unlock(&h->mutex);
    atomic_store(&h->virtual_ns, end);
}

bool posix_host_next_timer_ns(struct posix_host *h, uint64_t *ns)
{
    struct vmm_host_timer *t;

    pthread_mutex_lock(&h->mutex);
    t = first_timer(h);
    if (t != NULL) {
        *ns = ns_of_cycles(t->deadline);
    }
    pthread_mutex_unlock(&h->mutex);
    return t != NULL;
}

static void *timer_main(void *arg)
{
    struct posix_host *h = arg;

    pthread_mutex_lock(&h->mutex);
    while (!h->closing) {
        struct vmm_host_timer *t = first_timer(h);
        struct timespec until;
        uint64_t ns;

        if (t == NULL) {
            pthread_cond_wait(&h->timer_change, &h->mutex);
            continue;
        }
        ns = ns_of_cycles(t->deadline);
        if (ns <= posix_host_now_ns(h)) {
            fire(h, t);
            continue;
        }
        ns += h->real_start_ns;
        until.tv_sec = (time_t)(ns / NS_PER_S);
        until.tv_nsec = (long)(ns % NS_PER_S);
        pthread_cond_timedwait(&h->timer_change, &h->mutex, &until);
    }
    pthread_mutex_unlock(&h->mutex);
    return NULL;
}

static int host_timer_create(void *host, void (*fn)(void *arg), void *arg,
                             struct vmm_host_timer **out)
{
    struct posix_host *h = host;
    struct vmm_host_timer *t;

    if (posix_allocation_fails(h)) {
        return -VMM_ENOMEM;
    }
    t = posix_must(calloc(1, sizeof(*t)));
    t->fn = fn;
    t->arg = arg;
    pthread_mutex_lock(&h->mutex);
    t->next = h->timers;
    h->timers = t;
    pthread_mutex_unlock(&h->mutex);
    *out = t;
    return 0;
}

static void host_timer_arm(void *host, struct vmm_host_timer *t, uint64_t deadline_cycles)
{
    struct posix_host *h = host;

    pthread_mutex_lock(&h->mutex);
    t->deadline = deadline_cycles;
    t->armed = true;
    pthread_cond_broadcast(&h->timer_change);
    pthread_mutex_unlock(&h->mutex);
}

static void host_timer_cancel(void *host, struct vmm_host_timer *t)
{
    struct posix_host *h = host;

    pthread_mutex_lock(&h->mutex);
    t->armed = false;
    while (h->clock == POSIX_CLOCK_REAL && h->callback_running &&
           !pthread_equal(pthread_self(), h->timer_thread)) {
        pthread_cond_wait(&h->timer_change, &h->mutex);
    }
    t->armed = false;
    pthread_mutex_unlock(&h->mutex);
}

static void host_timer_destroy(void *host, struct vmm_host_timer *t)
{
    struct posix_host *h = host;
    struct vmm_host_timer **link = &h->timers;

    host_timer_cancel(host, t);
    pthread_mutex_lock(&h->mutex);
    while (*link != t) {
        link = &(*link)->next;
    }
    *link = t->next;
    pthread_mutex_unlock(&h->mutex);
    free(t);
}

void posix_clock_init(struct posix_host *h)
{
    pthread_condattr_t monotonic;

    h->ops.cycles = host_cycles;
    h->ops.thread_cycles = host_thread_cycles;
    h->ops.cycles_khz = POSIX_CYCLES_KHZ;
    h->ops.wall_clock_ns = host_wall_clock_ns;
    h->ops.timer_create = host_timer_create;
    h->ops.timer_arm = host_timer_arm;
    h->ops.timer_cancel = host_timer_cancel;
    h->ops.timer_destroy = host_timer_destroy;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&h->timer_change, &monotonic);
    h->real_start_ns = monotonic_ns();
    if (h->clock == POSIX_CLOCK_REAL &&
        pthread_create(&h->timer_thread, NULL, timer_main, h) != 0) {
        posix_panic(h, "no thread for timers");
    }
}

unsigned posix_clock_exit(struct posix_host *h)
{
    unsigned leaks = 0;

    if (h->clock == POSIX_CLOCK_REAL) {
        pthread_mutex_lock(&h->mutex);
        h->closing = true;
        pthread_cond_broadcast(&h->timer_change);
        pthread_mutex_unlock(&h->mutex);
        pthread_join(h->timer_thread, NULL);
    }
    while (h->timers != NULL) {
        leaks += posix_leak("timer", 1);
        host_timer_destroy(h, h->timers);
    }
    pthread_cond_destroy(&h->timer_change);
    return leaks;
}
