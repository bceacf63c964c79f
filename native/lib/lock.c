/* Locks in one word, and the C library's own locks made of them. */
#include <errno.h>
#include <stdlib.h>
#include <sys/lock.h>

#include "native/lib/runtime.h"

bool rt_lock_try(uint32_t *lock)
{
    uint32_t expected = RT_LOCK_FREE;
    return __atomic_compare_exchange_n(lock, &expected, RT_LOCK_HELD, false, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED);
}

bool rt_lock_until(uint32_t *lock, uint64_t deadline_ns)
{
    if (rt_lock_try(lock)) {
        return true;
    }
    /* Who has waited once takes the lock as contended: others may wait that it knows nothing of. */
    while (__atomic_exchange_n(lock, RT_LOCK_CONTENDED, __ATOMIC_ACQUIRE) != RT_LOCK_FREE) {
        if (rt_wait(lock, RT_LOCK_CONTENDED, deadline_ns) == -ETIMEDOUT) {
            return false;
        }
    }
    return true;
}

void rt_lock(uint32_t *lock)
{
    rt_lock_until(lock, NATIVE_FOREVER);
}

void rt_unlock(uint32_t *lock)
{
    if (__atomic_exchange_n(lock, RT_LOCK_FREE, __ATOMIC_RELEASE) == RT_LOCK_CONTENDED) {
        native_wake(rt_self(), lock, 1);
    }
}

struct __lock {
    uint32_t word;
    struct rt_thread *owner; /* atomic */
    unsigned depth;
};
#define LOCK_INIT                                                                                  \
    {                                                                                              \
        .word = RT_LOCK_FREE                                                                       \
    }

/* The names are newlib's (libc/misc/lock.c, which this replaces). */
struct __lock __lock___sinit_recursive_mutex = LOCK_INIT;
struct __lock __lock___sfp_recursive_mutex = LOCK_INIT;
struct __lock __lock___atexit_recursive_mutex = LOCK_INIT;
struct __lock __lock___at_quick_exit_mutex = LOCK_INIT;
struct __lock __lock___malloc_recursive_mutex = LOCK_INIT;
struct __lock __lock___env_recursive_mutex = LOCK_INIT;
struct __lock __lock___tz_mutex = LOCK_INIT;
struct __lock __lock___dd_hash_mutex = LOCK_INIT;
struct __lock __lock___arc4random_mutex = LOCK_INIT;

void __retarget_lock_init(_LOCK_T *lock)
{
    *lock = malloc(sizeof(**lock));
    if (!*lock) {
        abort(); /* newlib has no way to hear of it */
    }
    **lock = (struct __lock)LOCK_INIT;
}

void __retarget_lock_init_recursive(_LOCK_T *lock)
{
    __retarget_lock_init(lock);
}

void __retarget_lock_close(_LOCK_T lock)
{
    free(lock);
}

void __retarget_lock_close_recursive(_LOCK_T lock)
{
    free(lock);
}

static bool owned(_LOCK_T lock)
{
    if (__atomic_load_n(&lock->owner, __ATOMIC_RELAXED) != rt_current()) {
        return false;
    }
    lock->depth++;
    return true;
}

static void own(_LOCK_T lock)
{
    __atomic_store_n(&lock->owner, rt_current(), __ATOMIC_RELAXED);
    lock->depth = 1;
}

/* One kind serves both: recursive. */
void __retarget_lock_acquire(_LOCK_T lock)
{
    if (!owned(lock)) {
        rt_lock(&lock->word);
        own(lock);
    }
}

void __retarget_lock_acquire_recursive(_LOCK_T lock)
{
    __retarget_lock_acquire(lock);
}

int __retarget_lock_try_acquire(_LOCK_T lock)
{
    if (!owned(lock)) {
        if (!rt_lock_try(&lock->word)) {
            return 0;
        }
        own(lock);
    }
    return 1;
}

int __retarget_lock_try_acquire_recursive(_LOCK_T lock)
{
    return __retarget_lock_try_acquire(lock);
}

void __retarget_lock_release(_LOCK_T lock)
{
    if (--lock->depth == 0) {
        __atomic_store_n(&lock->owner, NULL, __ATOMIC_RELAXED);
        rt_unlock(&lock->word);
    }
}

void __retarget_lock_release_recursive(_LOCK_T lock)
{
    __retarget_lock_release(lock);
}
