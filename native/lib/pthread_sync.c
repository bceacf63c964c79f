/* POSIX threads: condition variables and barriers, each in the 32 bits newlib's types have. */
#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "native/lib/runtime.h"

/* --- condition variables ---------------------------------------------------------------------- */

/* The word counts signals: a waiter sleeps only while none came since it looked, under the mutex.
 */
int pthread_cond_init(pthread_cond_t *cond, const pthread_condattr_t *attr)
{
    (void)attr;
    *cond = 0;
    return 0;
}

int pthread_cond_destroy(pthread_cond_t *cond)
{
    (void)cond;
    return 0;
}

static int cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, uint64_t deadline_ns)
{
    uint32_t seen = __atomic_load_n(cond, __ATOMIC_RELAXED);
    int err = pthread_mutex_unlock(mutex);
    if (err != 0) {
        return err;
    }
    err = rt_wait(cond, seen, deadline_ns);
    pthread_mutex_lock(mutex);
    return err == -ETIMEDOUT ? ETIMEDOUT : 0;
}

int pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    return cond_wait(cond, mutex, NATIVE_FOREVER);
}

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                           const struct timespec *deadline)
{
    return cond_wait(cond, mutex, rt_deadline(deadline));
}

static int cond_wake(pthread_cond_t *cond, unsigned max)
{
    __atomic_add_fetch(cond, 1, __ATOMIC_RELEASE);
    native_wake(rt_self(), cond, max);
    return 0;
}

int pthread_cond_signal(pthread_cond_t *cond)
{
    return cond_wake(cond, 1);
}

int pthread_cond_broadcast(pthread_cond_t *cond)
{
    return cond_wake(cond, UINT32_MAX);
}

/* --- barriers --------------------------------------------------------------------------------- */

/* The word: how many threads it is for, how many have come, and a count of its openings. */
#define BARRIER_MAX  1023u
#define BARRIER_COME (1u << 10)
#define BARRIER_OPEN (1u << 20)

int pthread_barrier_init(pthread_barrier_t *barrier, const pthread_barrierattr_t *attr,
                         unsigned count)
{
    (void)attr;
    if (count == 0 || count > BARRIER_MAX) {
        return EINVAL;
    }
    *barrier = count;
    return 0;
}

int pthread_barrier_destroy(pthread_barrier_t *barrier)
{
    *barrier = 0;
    return 0;
}

int pthread_barrier_wait(pthread_barrier_t *barrier)
{
    uint32_t old = __atomic_load_n(barrier, __ATOMIC_RELAXED), new;
    bool last;
    do {
        last = (old / BARRIER_COME & BARRIER_MAX) + 1 == (old & BARRIER_MAX);
        new = last ? (old / BARRIER_OPEN + 1) * BARRIER_OPEN + (old & BARRIER_MAX)
                   : old + BARRIER_COME;
    } while (
        !__atomic_compare_exchange_n(barrier, &old, new, true, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
    if (last) {
        native_wake(rt_self(), barrier, UINT32_MAX);
        return PTHREAD_BARRIER_SERIAL_THREAD;
    }
    const uint32_t openings = ~(BARRIER_OPEN - 1);
    while ((__atomic_load_n(barrier, __ATOMIC_ACQUIRE) & openings) == (old & openings)) {
        native_wait(rt_self(), barrier, openings, old & openings, NATIVE_FOREVER);
    }
    return 0;
}
