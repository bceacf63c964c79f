/* Where an application begins, and the C library's system calls. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/times.h>
#include <time.h>
#include <unistd.h>

#include "base/percpu.h"
#include "kernel/time.h"
#include "native/lib/runtime.h"
#include "sched/thread.h"
#include "sched/timer.h"

#define NS_PER_S 1000000000

int main(int argc, char **argv);
NK_NORETURN void native_start(struct native_thread *self, int argc, char **argv);

static struct rt_thread main_thread = {.id = 1, .slot = RT_SLOT_MAIN};

struct rt_thread *rt_current(void)
{
    return *nk_thread_reent_slot();
}

struct native_thread *rt_self(void)
{
    return rt_current()->self;
}

struct _reent *__getreent(void)
{
    return &rt_current()->reent;
}

void rt_thread_begin(struct rt_thread *t, struct native_thread *self)
{
    _REENT_INIT_PTR_ZEROED(&t->reent);
    t->self = self;
    *nk_thread_reent_slot() = t;
    if (t->thread_pointer) {
        native_set_thread_pointer(self, t->thread_pointer);
    }
}

void native_start(struct native_thread *self, int argc, char **argv)
{
    rt_thread_begin(&main_thread, self);
    if (!rt_tls_make(&main_thread, self)) { /* malloc() wants a current thread */
        abort();
    }
    native_set_thread_pointer(self, main_thread.thread_pointer);
    exit(main(argc, argv));
}

NK_NORETURN void _exit(int status)
{
    native_exit(rt_self(), status);
}

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
    native_write(rt_self(), data, len);
    return (_READ_WRITE_RETURN_TYPE)len;
}

_READ_WRITE_RETURN_TYPE read(int fd, void *data, size_t len)
{
    if (fd != STDIN_FILENO) {
        return fail(EBADF);
    }
    return (_READ_WRITE_RETURN_TYPE)native_read(rt_self(), data, len);
}

int isatty(int fd)
{
    return fd >= STDIN_FILENO && fd <= STDERR_FILENO ? 1 : fail(EBADF) + 1;
}

int fstat(int fd, struct stat *st)
{
    if (!isatty(fd)) {
        return -1;
    }
    *st = (struct stat){.st_mode = S_IFCHR};
    return 0;
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

int unlink(const char *path)
{
    (void)path;
    return fail(ENOENT);
}

void *sbrk(ptrdiff_t increment)
{
    void *old = native_grow(rt_self(), increment);
    return old ? old : (void *)(intptr_t)fail(ENOMEM);
}

int getpid(void)
{
    return 1;
}

int kill(int pid, int sig)
{
    (void)pid;
    _exit(128 + sig);
}

int gettimeofday(struct timeval *tv, void *zone)
{
    (void)zone;
    uint64_t ns = nk_wall_clock_ns();
    tv->tv_sec = (time_t)(ns / NS_PER_S);
    tv->tv_usec = (suseconds_t)(ns % NS_PER_S / 1000);
    return 0;
}

int clock_gettime(clockid_t clock, struct timespec *ts)
{
    if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC) {
        return fail(EINVAL);
    }
    uint64_t ns = clock == CLOCK_REALTIME ? nk_wall_clock_ns() : nk_now_ns();
    *ts = (struct timespec){.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
    return 0;
}

/* Time since boot, which is not the time this program used. */
clock_t times(struct tms *t)
{
    clock_t now = (clock_t)(nk_now_ns() / (NS_PER_S / CLOCKS_PER_SEC));
    *t = (struct tms){.tms_utime = now};
    return now;
}

/* A wait that nobody wakes, but that the application's end does. */
int nanosleep(const struct timespec *wanted, struct timespec *left)
{
    uint32_t word = 0;
    uint64_t deadline =
        nk_now_ns() + (uint64_t)wanted->tv_sec * NS_PER_S + (uint64_t)wanted->tv_nsec;
    while (nk_now_ns() < deadline) {
        rt_wait(&word, 0, deadline);
    }
    if (left) {
        *left = (struct timespec){0};
    }
    return 0;
}

unsigned sleep(unsigned seconds)
{
    nanosleep(&(struct timespec){.tv_sec = (time_t)seconds}, NULL);
    return 0;
}

int usleep(useconds_t us)
{
    return nanosleep(&(struct timespec){.tv_sec = (time_t)(us / 1000000),
                                        .tv_nsec = (long)(us % 1000000) * 1000},
                     NULL);
}

int sched_yield(void)
{
    native_yield(rt_self());
    return 0;
}

long sysconf(int name)
{
    switch (name) {
    case _SC_NPROCESSORS_ONLN:
    case _SC_NPROCESSORS_CONF:
        return nk_cpu_count;
    case _SC_PAGESIZE:
        return NK_PAGE_SIZE;
    default:
        return fail(EINVAL);
    }
}
