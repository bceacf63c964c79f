/* Inside native/lib: the C runtime of applications. */
#pragma once

#include <reent.h>

#include "base/types.h"
#include "kernel/native_abi.h"

#define RT_KEYS_MAX  64
#define RT_SLOT_NONE 0
#define RT_SLOT_MAIN 1
#define RT_SLOTS     (NATIVE_THREADS_MAX + 64)

/* A thread of the application. Its place is kept in the kernel thread's slot for C library state,
 * so `reent` comes first. */
struct rt_thread {
    struct _reent reent;
    struct native_thread *self;
    struct rt_thread *next; /* on the list of all, under threads.lock */
    void *(*start)(void *);
    void *arg, *result;
    void *tls, *thread_pointer; /* its __thread variables, and their end */
    uint32_t id;
    uint32_t slot; /* a number that no other living thread has, from 1 */
    uint32_t done; /* 1: it will not touch this record again */
    bool detached;
    void *specific[RT_KEYS_MAX];
};

struct rt_thread *rt_current(void);
struct native_thread *rt_self(void); /* what calls of the kernel want */
void rt_thread_begin(struct rt_thread *t, struct native_thread *self);
void rt_run_destructors(struct rt_thread *t); /* of thread-specific data */

/* A time of CLOCK_REALTIME in nk_now_ns(). */
struct timespec;
uint64_t rt_deadline(const struct timespec *t);

bool rt_tls_make(struct rt_thread *t, struct native_thread *self); /* false: no memory */
void rt_tls_free(struct rt_thread *t);

static inline int rt_wait(const uint32_t *word, uint32_t value, uint64_t deadline_ns)
{
    return native_wait(rt_self(), word, UINT32_MAX, value, deadline_ns);
}

/* A lock in one word, with the values of pthread's static initialisers. */
#define RT_LOCK_FREE      UINT32_MAX
#define RT_LOCK_HELD      1
#define RT_LOCK_CONTENDED 2

bool rt_lock_try(uint32_t *lock);
bool rt_lock_until(uint32_t *lock, uint64_t deadline_ns); /* false: the deadline passed */
void rt_lock(uint32_t *lock);
void rt_unlock(uint32_t *lock);
