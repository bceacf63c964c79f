/* POSIX threads: threads, thread-specific data, once. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "native/lib/runtime.h"
#include "sched/thread.h"

#define DESTRUCTOR_ROUNDS 4 /* _POSIX_THREAD_DESTRUCTOR_ITERATIONS */

static struct {
    uint32_t lock;
    uint32_t last_id; /* the main thread is 1 */
    struct rt_thread *list;
} threads = {.lock = RT_LOCK_FREE, .last_id = 1};

static struct {
    uint32_t lock;
    bool used[RT_KEYS_MAX];
    void (*destructor[RT_KEYS_MAX])(void *);
} keys = {.lock = RT_LOCK_FREE};

/* --- attributes ------------------------------------------------------------------------------- */

int pthread_attr_init(pthread_attr_t *attr)
{
    *attr = (pthread_attr_t){.is_initialized = 1,
                             .stacksize = (int)NATIVE_STACK_DEFAULT,
                             .detachstate = PTHREAD_CREATE_JOINABLE};
    return 0;
}

int pthread_attr_destroy(pthread_attr_t *attr)
{
    attr->is_initialized = 0;
    return 0;
}

int pthread_attr_setstacksize(pthread_attr_t *attr, size_t size)
{
    if (size < NK_PAGE_SIZE || size > NATIVE_STACK_MAX) {
        return EINVAL;
    }
    attr->stacksize = (int)size;
    return 0;
}

int pthread_attr_getstacksize(const pthread_attr_t *attr, size_t *size)
{
    *size = (size_t)attr->stacksize;
    return 0;
}

int pthread_attr_setdetachstate(pthread_attr_t *attr, int state)
{
    if (state != PTHREAD_CREATE_JOINABLE && state != PTHREAD_CREATE_DETACHED) {
        return EINVAL;
    }
    attr->detachstate = state;
    return 0;
}

int pthread_attr_getdetachstate(const pthread_attr_t *attr, int *state)
{
    *state = attr->detachstate;
    return 0;
}

/* --- threads ---------------------------------------------------------------------------------- */

/* Where the list points at the thread; NULL: there is none of that id. Lock held. */
static struct rt_thread **find(pthread_t id)
{
    struct rt_thread **link = &threads.list;
    while (*link && (*link)->id != id) {
        link = &(*link)->next;
    }
    return *link ? link : NULL;
}

/* The lowest number that is free: the kernel allows no more threads than it has bits. Lock held. */
static uint32_t free_slot(void)
{
    uint64_t used[NATIVE_THREADS_MAX / 64 + 1] = {1u << RT_SLOT_NONE | 1u << RT_SLOT_MAIN};
    for (const struct rt_thread *t = threads.list; t; t = t->next) {
        used[t->slot / 64] |= UINT64_C(1) << t->slot % 64;
    }
    uint32_t slot = 0;
    while (slot < 64 * NK_ARRAY_COUNT(used) && used[slot / 64] >> slot % 64 & 1) {
        slot++;
    }
    return slot;
}

static void thread_free(struct rt_thread *t)
{
    rt_tls_free(t);
    free(t);
}

static void thread_main(struct native_thread *self, void *arg)
{
    struct rt_thread *t = arg;
    rt_thread_begin(t, self);
    pthread_exit(t->start(t->arg));
}

int pthread_create(pthread_t *id, const pthread_attr_t *attr, void *(*start)(void *), void *arg)
{
    struct rt_thread *t = calloc(1, sizeof(*t));
    if (!t) {
        return EAGAIN;
    }
    if (!rt_tls_make(t, rt_self())) {
        free(t);
        return EAGAIN;
    }
    t->start = start;
    t->arg = arg;
    t->detached = attr && attr->detachstate == PTHREAD_CREATE_DETACHED;
    rt_lock(&threads.lock);
    t->slot = free_slot();
    if (t->slot >= RT_SLOTS) { /* of threads that nobody has joined */
        rt_unlock(&threads.lock);
        thread_free(t);
        return EAGAIN;
    }
    *id = t->id = ++threads.last_id;
    t->next = threads.list;
    threads.list = t;
    rt_unlock(&threads.lock);
    size_t stack = attr ? (size_t)attr->stacksize : NATIVE_STACK_DEFAULT;
    int err = native_thread_create(rt_self(), thread_main, t, stack, NK_CPU_ANY);
    if (err < 0) {
        rt_lock(&threads.lock);
        *find(t->id) = t->next;
        rt_unlock(&threads.lock);
        thread_free(t);
        return err == -EINVAL ? EINVAL : EAGAIN;
    }
    return 0;
}

/* The main thread's end by this call leaves the others running, as POSIX has it. */
void pthread_exit(void *result)
{
    struct rt_thread *t = rt_current();
    struct native_thread *self = t->self;
    rt_run_destructors(t);
    _reclaim_reent(&t->reent);
    struct rt_thread last = {0}; /* the thread's own record goes first, and locks want one */
    rt_thread_begin(&last, self);
    rt_lock(&threads.lock);
    uint32_t *done = &t->done;
    bool detached = t->detached;
    if (detached) {
        *find(t->id) = t->next;
    }
    t->result = result;
    __atomic_store_n(done, 1, __ATOMIC_RELEASE); /* unlocked, the record is the joiner's */
    rt_unlock(&threads.lock);
    if (detached) {
        thread_free(t);
    } else {
        native_wake(self, done, UINT32_MAX);
    }
    native_leave(self);
}

int pthread_join(pthread_t id, void **result)
{
    if (id == pthread_self()) {
        return EDEADLK;
    }
    rt_lock(&threads.lock);
    struct rt_thread **link = find(id);
    struct rt_thread *t = link ? *link : NULL;
    bool joinable = t && !t->detached;
    rt_unlock(&threads.lock);
    if (!joinable) {
        return t ? EINVAL : ESRCH;
    }
    while (!__atomic_load_n(&t->done, __ATOMIC_ACQUIRE)) {
        rt_wait(&t->done, 0, NATIVE_FOREVER);
    }
    if (result) {
        *result = t->result;
    }
    rt_lock(&threads.lock);
    *find(id) = t->next;
    rt_unlock(&threads.lock);
    thread_free(t);
    return 0;
}

int pthread_detach(pthread_t id)
{
    rt_lock(&threads.lock);
    struct rt_thread **link = find(id);
    struct rt_thread *t = link ? *link : NULL;
    bool done = t && __atomic_load_n(&t->done, __ATOMIC_ACQUIRE);
    int err = !t ? ESRCH : t->detached ? EINVAL : 0;
    if (err == 0) {
        t->detached = true;
        if (done) {
            *link = t->next;
        }
    }
    rt_unlock(&threads.lock);
    if (err == 0 && done) {
        thread_free(t);
    }
    return err;
}

pthread_t pthread_self(void)
{
    return rt_current()->id;
}

int pthread_equal(pthread_t a, pthread_t b)
{
    return a == b;
}

/* --- once ------------------------------------------------------------------------------------- */

enum once_state { ONCE_NEW, ONCE_RUNNING, ONCE_DONE };

int pthread_once(pthread_once_t *once, void (*init)(void))
{
    uint32_t *state = (uint32_t *)&once->init_executed;
    uint32_t expected = ONCE_NEW;
    if (__atomic_compare_exchange_n(state, &expected, ONCE_RUNNING, false, __ATOMIC_ACQUIRE,
                                    __ATOMIC_ACQUIRE)) {
        init();
        __atomic_store_n(state, ONCE_DONE, __ATOMIC_RELEASE);
        native_wake(rt_self(), state, UINT32_MAX);
        return 0;
    }
    while (__atomic_load_n(state, __ATOMIC_ACQUIRE) != ONCE_DONE) {
        rt_wait(state, ONCE_RUNNING, NATIVE_FOREVER);
    }
    return 0;
}

/* --- thread-specific data --------------------------------------------------------------------- */

int pthread_key_create(pthread_key_t *key, void (*destructor)(void *))
{
    int err = EAGAIN;
    rt_lock(&keys.lock);
    for (unsigned i = 0; i < RT_KEYS_MAX; i++) {
        if (!keys.used[i]) {
            keys.used[i] = true;
            keys.destructor[i] = destructor;
            *key = i;
            err = 0;
            break;
        }
    }
    rt_unlock(&keys.lock);
    return err;
}

/* The key's next user must find NULL in every thread. */
int pthread_key_delete(pthread_key_t key)
{
    if (key >= RT_KEYS_MAX || !keys.used[key]) {
        return EINVAL;
    }
    rt_lock(&threads.lock);
    for (struct rt_thread *t = threads.list; t; t = t->next) {
        t->specific[key] = NULL;
    }
    rt_unlock(&threads.lock);
    rt_current()->specific[key] = NULL; /* the main thread is not on the list */
    rt_lock(&keys.lock);
    keys.used[key] = false;
    keys.destructor[key] = NULL;
    rt_unlock(&keys.lock);
    return 0;
}

int pthread_setspecific(pthread_key_t key, const void *value)
{
    if (key >= RT_KEYS_MAX || !keys.used[key]) {
        return EINVAL;
    }
    rt_current()->specific[key] = (void *)value;
    return 0;
}

void *pthread_getspecific(pthread_key_t key)
{
    return key < RT_KEYS_MAX ? rt_current()->specific[key] : NULL;
}

/* A destructor may set other keys: they get their turn in the next round. */
void rt_run_destructors(struct rt_thread *t)
{
    bool again = true;
    for (unsigned round = 0; again && round < DESTRUCTOR_ROUNDS; round++) {
        again = false;
        for (unsigned i = 0; i < RT_KEYS_MAX; i++) {
            void *value = t->specific[i];
            void (*destructor)(void *) = keys.destructor[i];
            t->specific[i] = NULL;
            if (value && destructor) {
                destructor(value);
                again = true;
            }
        }
    }
}
