#include "kernel/newlib.h"

#include <errno.h>
#include <fcntl.h>
#include <reent.h>
#include <signal.h>
#include <sys/lock.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/times.h>
#include <unistd.h>

#include "base/platform.h"
#include "kernel/console.h"
#include "kernel/time.h"
#include "mm/slab.h"
#include "sched/sync.h"
#include "sched/thread.h"
#include "sched/timer.h"

static bool live; /* threads exist */

/* --- locks ------------------------------------------------------------------------------------ */

/* Kernel mutexes can be taken again by their owner, so one kind serves newlib's two. */
struct __lock {
    struct nk_mutex mutex;
};

/* The names are newlib's (libc/misc/lock.c, which this replaces). */
struct __lock __lock___sinit_recursive_mutex;
struct __lock __lock___sfp_recursive_mutex;
struct __lock __lock___atexit_recursive_mutex;
struct __lock __lock___at_quick_exit_mutex;
struct __lock __lock___malloc_recursive_mutex;
struct __lock __lock___env_recursive_mutex;
struct __lock __lock___tz_mutex;
struct __lock __lock___dd_hash_mutex;
struct __lock __lock___arc4random_mutex;

static struct __lock *const static_lock_table[] = {
    &__lock___sinit_recursive_mutex,
    &__lock___sfp_recursive_mutex,
    &__lock___atexit_recursive_mutex,
    &__lock___at_quick_exit_mutex,
    &__lock___malloc_recursive_mutex,
    &__lock___env_recursive_mutex,
    &__lock___tz_mutex,
    &__lock___dd_hash_mutex,
    &__lock___arc4random_mutex,
};

void __retarget_lock_init(_LOCK_T *lock)
{
    /* newlib has no way to hear of a failure; a stream without a lock would be a silent bug. */
    *lock = kmalloc(sizeof(**lock));
    nk_assert(*lock);
    nk_mutex_init(&(*lock)->mutex);
}

void __retarget_lock_init_recursive(_LOCK_T *lock)
{
    __retarget_lock_init(lock);
}

void __retarget_lock_close(_LOCK_T lock)
{
    kfree(lock);
}

void __retarget_lock_close_recursive(_LOCK_T lock)
{
    kfree(lock);
}

void __retarget_lock_acquire(_LOCK_T lock)
{
    if (live) {
        nk_mutex_lock(&lock->mutex);
    }
}

void __retarget_lock_acquire_recursive(_LOCK_T lock)
{
    __retarget_lock_acquire(lock);
}

int __retarget_lock_try_acquire(_LOCK_T lock)
{
    return !live || nk_mutex_try_lock(&lock->mutex);
}

int __retarget_lock_try_acquire_recursive(_LOCK_T lock)
{
    return __retarget_lock_try_acquire(lock);
}

void __retarget_lock_release(_LOCK_T lock)
{
    if (live) {
        nk_mutex_unlock(&lock->mutex);
    }
}

void __retarget_lock_release_recursive(_LOCK_T lock)
{
    __retarget_lock_release(lock);
}

/* --- per-thread state ------------------------------------------------------------------------- */

struct _reent *__getreent(void)
{
    if (!live) {
        return _GLOBAL_REENT;
    }
    void **slot = nk_thread_reent_slot();
    if (!*slot) {
        struct _reent *reent = kzalloc(sizeof(*reent));
        if (!reent) {
            return _GLOBAL_REENT;
        }
        _REENT_INIT_PTR_ZEROED(reent);
        *slot = reent;
    }
    return *slot;
}

void nk_platform_reent_free(void *reent)
{
    _reclaim_reent(reent);
    kfree(reent);
}

void newlib_init(void)
{
    for (unsigned i = 0; i < NK_ARRAY_COUNT(static_lock_table); i++) {
        nk_mutex_init(&static_lock_table[i]->mutex);
    }
    live = true;
}

/* --- system calls ----------------------------------------------------------------------------- */

static int fail(int error)
{
    errno = error;
    return -1;
}

_READ_WRITE_RETURN_TYPE write(int fd, const void *data, size_t len)
{
    if (fd != STDOUT_FILENO && fd != STDERR_FILENO) {
        return fail(EBADF);
    }
    console_write(data, len);
    return (_READ_WRITE_RETURN_TYPE)len;
}

/* Standard input is at its end: what is typed belongs to the shell. */
_READ_WRITE_RETURN_TYPE read(int fd, void *data, size_t len)
{
    (void)data;
    (void)len;
    return fd == STDIN_FILENO ? 0 : fail(EBADF);
}

int fstat(int fd, struct stat *st)
{
    if (!isatty(fd)) {
        return -1;
    }
    *st = (struct stat){.st_mode = S_IFCHR};
    return 0;
}

int isatty(int fd)
{
    return fd >= STDIN_FILENO && fd <= STDERR_FILENO ? 1 : fail(EBADF) + 1;
}

off_t lseek(int fd, off_t offset, int whence)
{
    (void)offset;
    (void)whence;
    return isatty(fd) ? fail(ESPIPE) : -1;
}

int close(int fd)
{
    return isatty(fd) ? 0 : -1;
}

int open(const char *path, int flags, ...)
{
    (void)path;
    (void)flags;
    return fail(ENOENT);
}

int gettimeofday(struct timeval *tv, void *zone)
{
    (void)zone;
    uint64_t ns = nk_wall_clock_ns();
    tv->tv_sec = (time_t)(ns / 1000000000);
    tv->tv_usec = (suseconds_t)(ns % 1000000000 / 1000);
    return 0;
}

/* All time is the kernel's own; clock() is time since boot. */
clock_t times(struct tms *t)
{
    clock_t now = (clock_t)(nk_now_ns() / (1000000000 / CLOCKS_PER_SEC));
    *t = (struct tms){.tms_stime = now};
    return now;
}

int getpid(void)
{
    return 1;
}

/* abort() and a failed assert() of C library code end here, and so does exit(). */
int kill(int pid, int sig)
{
    nk_panic("C library: signal %d to process %d", sig, pid);
}

NK_NORETURN void _exit(int status)
{
    nk_panic("C library: exit(%d)", status);
}
