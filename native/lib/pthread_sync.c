/* POSIX threads: mutexes, condition variables, barriers, each in the 32 bits newlib's types have.
 * Mutexes are of the normal kind: relocking deadlocks, as POSIX says. */
#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "kernel/time.h"
#include "native/lib/runtime.h"
#include "sched/timer.h"

/* A time of CLOCK_REALTIME in nk_now_ns(). */
static uint64_t deadline_of(const struct timespec *t)
{
    uint64_t wanted = (uint64_t)t->tv_sec * 1000000000 + (uint64_t)t->tv_nsec;
    uint64_t now = nk_wall_clock_ns();
    return nk_now_ns() + (wanted > now ? wanted - now : 0);
}

/* --- mutexes ---------------------------------------------------------------------------------- */

int pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attr)
{
    if (attr && attr->recursive) {
        return ENOTSUP;
    }
    *mutex = RT_LOCK_FREE;
    return 0;
}

int pthread_mutex_destroy(pthread_mutex_t *mutex)
{
    return __atomic_load_n(mutex, __ATOMIC_RELAXED) == RT_LOCK_FREE ? 0 : EBUSY;
}

int pthread_mutex_lock(pthread_mutex_t *mutex)
{
    rt_lock(mutex);
    return 0;
}

int pthread_mutex_trylock(pthread_mutex_t *mutex)
{
    return rt_lock_try(mutex) ? 0 : EBUSY;
}

int pthread_mutex_timedlock(pthread_mutex_t *mutex, const struct timespec *deadline)
{
    return rt_lock_until(mutex, deadline_of(deadline)) ? 0 : ETIMEDOUT;
}

int pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    rt_unlock(mutex);
    return 0;
}

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
    rt_unlock(mutex);
    int err = rt_wait(cond, seen, deadline_ns);
    rt_lock(mutex);
    return err == -ETIMEDOUT ? ETIMEDOUT : 0;
}

int pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    return cond_wait(cond, mutex, NATIVE_FOREVER);
}

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                           const struct timespec *deadline)
{
    return cond_wait(cond, mutex, deadline_of(deadline));
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
