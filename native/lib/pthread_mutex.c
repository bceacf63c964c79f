/* POSIX threads: mutexes, each in the 32 bits newlib's type has.
 *
 * A normal mutex is a lock of lock.c: relocking it deadlocks, as POSIX says. One that knows its
 * owner has bit 31 clear and KIND_OWNED set, which no value of those locks has: the owner's slot,
 * how often it has locked it, and whether somebody waits. */
#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "kernel/time.h"
#include "native/lib/runtime.h"
#include "sched/timer.h"

#define KIND_OWNED    (1u << 30)
#define KIND_CHECKING (1u << 29) /* relocking is an error, not counted */
#define CONTENDED     (1u << 28)
#define DEPTH_ONE     (1u << 10)
#define DEPTH_MASK    (0x3ffffu << 10)
#define OWNER_MASK    0x3ffu

_Static_assert(RT_SLOTS <= OWNER_MASK, "an owner's slot fits");

uint64_t rt_deadline(const struct timespec *t)
{
    uint64_t wanted = (uint64_t)t->tv_sec * 1000000000 + (uint64_t)t->tv_nsec;
    uint64_t now = nk_wall_clock_ns();
    return nk_now_ns() + (wanted > now ? wanted - now : 0);
}

/* --- attributes ------------------------------------------------------------------------------- */

int pthread_mutexattr_init(pthread_mutexattr_t *attr)
{
    *attr = (pthread_mutexattr_t){.is_initialized = 1, .type = PTHREAD_MUTEX_DEFAULT};
    return 0;
}

int pthread_mutexattr_destroy(pthread_mutexattr_t *attr)
{
    attr->is_initialized = 0;
    return 0;
}

int pthread_mutexattr_settype(pthread_mutexattr_t *attr, int type)
{
    if (type < PTHREAD_MUTEX_NORMAL || type > PTHREAD_MUTEX_DEFAULT) {
        return EINVAL;
    }
    attr->type = type;
    return 0;
}

int pthread_mutexattr_gettype(const pthread_mutexattr_t *attr, int *type)
{
    *type = attr->type;
    return 0;
}

/* --- mutexes that know their owner ------------------------------------------------------------ */

static bool is_owned_kind(const pthread_mutex_t *mutex)
{
    uint32_t word = __atomic_load_n(mutex, __ATOMIC_RELAXED);
    return (word & (1u << 31 | KIND_OWNED)) == KIND_OWNED;
}

static bool change(pthread_mutex_t *mutex, uint32_t *word, uint32_t to)
{
    return __atomic_compare_exchange_n(mutex, word, to, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

static int lock_again(pthread_mutex_t *mutex, uint32_t word)
{
    if (word & KIND_CHECKING) {
        return EDEADLK;
    }
    if ((word & DEPTH_MASK) == DEPTH_MASK) {
        return EAGAIN;
    }
    __atomic_fetch_add(mutex, DEPTH_ONE, __ATOMIC_RELAXED); /* others only set CONTENDED */
    return 0;
}

/* deadline_ns 0: do not wait. Who has waited takes it as contended: others may wait, too. */
static int owned_lock(pthread_mutex_t *mutex, uint64_t deadline_ns)
{
    const uint32_t self = rt_current()->slot;
    uint32_t word = __atomic_load_n(mutex, __ATOMIC_RELAXED), waited = 0;
    if ((word & OWNER_MASK) == self) {
        int err = lock_again(mutex, word);
        return err == EDEADLK && deadline_ns == 0 ? EBUSY : err;
    }
    for (;;) {
        if ((word & OWNER_MASK) == RT_SLOT_NONE) {
            if (change(mutex, &word, word | waited | DEPTH_ONE | self)) {
                return 0;
            }
        } else if (deadline_ns == 0) {
            return EBUSY;
        } else if (word & CONTENDED || change(mutex, &word, word | CONTENDED)) {
            waited = CONTENDED;
            if (rt_wait(mutex, word | CONTENDED, deadline_ns) == -ETIMEDOUT) {
                return ETIMEDOUT;
            }
            word = __atomic_load_n(mutex, __ATOMIC_RELAXED);
        }
    }
}

static int owned_unlock(pthread_mutex_t *mutex)
{
    uint32_t word = __atomic_load_n(mutex, __ATOMIC_RELAXED);
    if ((word & OWNER_MASK) != rt_current()->slot) {
        return EPERM;
    }
    if ((word & DEPTH_MASK) > DEPTH_ONE) {
        __atomic_fetch_sub(mutex, DEPTH_ONE, __ATOMIC_RELAXED);
        return 0;
    }
    uint32_t was =
        __atomic_exchange_n(mutex, word & (KIND_OWNED | KIND_CHECKING), __ATOMIC_RELEASE);
    if (was & CONTENDED) {
        native_wake(rt_self(), mutex, 1);
    }
    return 0;
}

/* --- all kinds -------------------------------------------------------------------------------- */

int pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attr)
{
    int type = attr ? attr->type : PTHREAD_MUTEX_DEFAULT;
    *mutex = type == PTHREAD_MUTEX_RECURSIVE    ? KIND_OWNED
             : type == PTHREAD_MUTEX_ERRORCHECK ? KIND_OWNED | KIND_CHECKING
                                                : RT_LOCK_FREE;
    return 0;
}

int pthread_mutex_destroy(pthread_mutex_t *mutex)
{
    uint32_t word = __atomic_load_n(mutex, __ATOMIC_RELAXED);
    bool is_free = is_owned_kind(mutex) ? (word & OWNER_MASK) == 0 : word == RT_LOCK_FREE;
    return is_free ? 0 : EBUSY;
}

int pthread_mutex_lock(pthread_mutex_t *mutex)
{
    if (is_owned_kind(mutex)) {
        return owned_lock(mutex, NATIVE_FOREVER);
    }
    rt_lock(mutex);
    return 0;
}

int pthread_mutex_trylock(pthread_mutex_t *mutex)
{
    if (is_owned_kind(mutex)) {
        return owned_lock(mutex, 0);
    }
    return rt_lock_try(mutex) ? 0 : EBUSY;
}

int pthread_mutex_timedlock(pthread_mutex_t *mutex, const struct timespec *deadline)
{
    if (is_owned_kind(mutex)) {
        return owned_lock(mutex, rt_deadline(deadline));
    }
    return rt_lock_until(mutex, rt_deadline(deadline)) ? 0 : ETIMEDOUT;
}

int pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    if (is_owned_kind(mutex)) {
        return owned_unlock(mutex);
    }
    rt_unlock(mutex);
    return 0;
}
