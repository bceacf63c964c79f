/* Threads, locks and CPUs of the POSIX host. */
#define _GNU_SOURCE
#include "posix_inner.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

static _Thread_local struct vmm_thread *current_thread;
static _Thread_local unsigned current_cpu;

/* --- threads -----------------------------------------------------------------------------------
 */

static struct vmm_thread *thread_new(struct posix_host *h, const char *name, int cpu)
{
    struct vmm_thread *t = posix_must(calloc(1, sizeof(*t)));

    snprintf(t->name, sizeof(t->name), "%s", name);
    t->cpu = cpu;
    pthread_mutex_init(&t->mutex, NULL);
    pthread_cond_init(&t->wake, NULL);
    pthread_mutex_lock(&h->mutex);
    t->next = h->threads;
    h->threads = t;
    pthread_mutex_unlock(&h->mutex);
    return t;
}

static void thread_release(struct posix_host *h, struct vmm_thread *t)
{
    struct vmm_thread **link = &h->threads;

    pthread_mutex_lock(&h->mutex);
    while (*link != t) {
        link = &(*link)->next;
    }
    *link = t->next;
    pthread_mutex_unlock(&h->mutex);
    pthread_mutex_destroy(&t->mutex);
    pthread_cond_destroy(&t->wake);
    free(t);
}

static void *thread_main(void *arg)
{
    struct vmm_thread *t = arg;

    current_thread = t;
    current_cpu = t->cpu < 0 ? 0 : (unsigned)t->cpu;
    t->fn(t->arg);
    return NULL;
}

static int host_thread_create(void *host, const char *name, int cpu, void (*fn)(void *arg),
                              void *arg, struct vmm_thread **out)
{
    struct posix_host *h = host;
    struct vmm_thread *t;

    if (posix_allocation_fails(h)) {
        return -VMM_ENOMEM;
    }
    t = thread_new(h, name, cpu);
    t->fn = fn;
    t->arg = arg;
    t->created = true;
    *out = t;
    return 0;
}

static int host_thread_run(void *host, struct vmm_thread *t)
{
    (void)host;
    if (t->started || pthread_create(&t->id, NULL, thread_main, t) != 0) {
        return -VMM_EAGAIN;
    }
    t->started = true;
    return 0;
}

static int host_thread_join(void *host, struct vmm_thread *t)
{
    if (t->started) {
        pthread_join(t->id, NULL);
    }
    thread_release(host, t);
    return 0;
}

/* A thread that the host did not make (a test's main thread) is adopted on first use. */
static struct vmm_thread *host_thread_current(void *host)
{
    if (current_thread == NULL) {
        current_thread = thread_new(host, "main", -1);
    }
    return current_thread;
}

static void host_thread_park(void *host)
{
    struct vmm_thread *t = host_thread_current(host);

    pthread_mutex_lock(&t->mutex);
    while (!t->token) {
        pthread_cond_wait(&t->wake, &t->mutex);
    }
    t->token = false;
    pthread_mutex_unlock(&t->mutex);
}

static void host_thread_wake(void *host, struct vmm_thread *t)
{
    (void)host;
    pthread_mutex_lock(&t->mutex);
    t->token = true;
    pthread_cond_signal(&t->wake);
    pthread_mutex_unlock(&t->mutex);
}

static void host_thread_yield(void *host)
{
    (void)host;
    sched_yield();
}

static void host_thread_set_xcr0(void *host, uint64_t xcr0)
{
    (void)host;
    (void)xcr0;
}

/* --- locks: opaque[0] is the owner, so that recursion and foreign unlocks are found --------------
 */

static void host_lock(void *host, struct vmm_lock *lock)
{
    uint64_t self = (uint64_t)&current_thread; /* differs between threads */
    uint64_t expected = 0;

    if (__atomic_load_n(&lock->opaque[0], __ATOMIC_RELAXED) == self) {
        posix_panic(host, "lock taken twice by one thread");
    }
    while (!__atomic_compare_exchange_n(&lock->opaque[0], &expected, self, false, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED)) {
        expected = 0;
        sched_yield();
    }
}

static void host_unlock(void *host, struct vmm_lock *lock)
{
    if (__atomic_load_n(&lock->opaque[0], __ATOMIC_RELAXED) != (uint64_t)&current_thread) {
        posix_panic(host, "lock released by a thread that does not hold it");
    }
    __atomic_store_n(&lock->opaque[0], 0, __ATOMIC_RELEASE);
}

/* --- CPUs --------------------------------------------------------------------------------------
 */

static unsigned host_cpu_count(void *host)
{
    struct posix_host *h = host;

    return h->cpu_count;
}

static unsigned host_cpu_current(void *host)
{
    (void)host;
    return current_cpu;
}

static void host_cpu_kick(void *host, unsigned cpu)
{
    struct posix_host *h = host;

    atomic_fetch_add(&h->kicks[cpu % CPUS_MAX], 1);
}

static int host_cpu_call(void *host, unsigned cpu, void (*fn)(void *arg), void *arg)
{
    struct posix_host *h = host;
    unsigned before = current_cpu;

    if (cpu >= h->cpu_count) {
        return -VMM_EINVAL;
    }
    current_cpu = cpu;
    fn(arg);
    current_cpu = before;
    return 0;
}

unsigned posix_host_kicks(const struct posix_host *h, unsigned cpu)
{
    return atomic_load(&h->kicks[cpu % CPUS_MAX]);
}

void posix_host_set_cpu(unsigned cpu)
{
    current_cpu = cpu;
}

/* --- life --------------------------------------------------------------------------------------
 */

void posix_threads_init(struct posix_host *h)
{
    h->ops.thread_create = host_thread_create;
    h->ops.thread_run = host_thread_run;
    h->ops.thread_join = host_thread_join;
    h->ops.thread_park = host_thread_park;
    h->ops.thread_wake = host_thread_wake;
    h->ops.thread_yield = host_thread_yield;
    h->ops.thread_current = host_thread_current;
    h->ops.thread_set_xcr0 = host_thread_set_xcr0;
    h->ops.xcr0_supported = 7;
    h->ops.lock = host_lock;
    h->ops.unlock = host_unlock;
    h->ops.cpu_count = host_cpu_count;
    h->ops.cpu_current = host_cpu_current;
    h->ops.cpu_kick = host_cpu_kick;
    h->ops.cpu_call = host_cpu_call;
}

unsigned posix_threads_exit(struct posix_host *h)
{
    unsigned leaked = 0;

    while (h->threads != NULL) {
        if (h->threads->created) {
            leaked += posix_leak(h->threads->name, 1);
        }
        if (h->threads == current_thread) {
            current_thread = NULL;
        }
        thread_release(h, h->threads);
    }
    return leaked;
}
