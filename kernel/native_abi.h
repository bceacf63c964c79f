/* What a native application's runtime (native/lib) asks of the kernel. Applications run in kernel
 * mode and are linked against these and the other functions of kernel/native_exports.c when they
 * are loaded.
 *
 * Threading: from the application's own threads only, with the `self` they were started with. Once
 * the application is ending, the functions marked (ends) do not come back: the thread is over. */
#pragma once

#include "base/types.h"

#define NATIVE_STACK_DEFAULT NK_KIB(256)
#define NATIVE_STACK_MAX     NK_MIB(32)
#define NATIVE_THREADS_MAX   512
#define NATIVE_FOREVER       UINT64_MAX

struct native_thread;

/* The initial contents of a thread's variables: `filled` bytes at `image`, zeros up to `size`,
 * which is a multiple of `align`. The thread pointer is the block's end (AMD64 ABI supplement,
 * variant II), where its own address stands. */
struct native_tls {
    const void *image;
    uint64_t filled, size, align;
};

/* (ends) Text to the console. */
void native_write(struct native_thread *self, const char *s, size_t len);

/* (ends) A line of what is typed, or the rest of one; 0: the end of the input. Ctrl-C ends the
 * application. */
size_t native_read(struct native_thread *self, char *out, size_t max);

/* The application's thread-local storage; and the calling thread's own block. */
void native_tls_layout(struct native_thread *self, struct native_tls *out);
void native_set_thread_pointer(struct native_thread *self, void *pointer);

/* (ends) Let others run. */
void native_yield(struct native_thread *self);

/* (ends) Move the end of the heap; returns where it was, NULL: no memory. Memory is zeroed when it
 * is given first and stays the application's until it has ended. */
void *native_grow(struct native_thread *self, ptrdiff_t increment) NK_MUST_CHECK;

/* (ends) A thread with FPU state that runs fn(its self, arg), which must not return. cpu: pinned
 * there, or NK_CPU_ANY. Errors: -EAGAIN too many, -ENOMEM, -EINVAL no such CPU or stack. */
int native_thread_create(struct native_thread *self, void (*fn)(struct native_thread *, void *),
                         void *arg, size_t stack_size, int cpu) NK_MUST_CHECK;

/* (ends) Wait while the bits `mask` of *word are `value`, until woken or until nk_now_ns() reaches
 * the deadline. May return early. Errors: -EAGAIN they are not, -ETIMEDOUT. */
int native_wait(struct native_thread *self, const uint32_t *word, uint32_t mask, uint32_t value,
                uint64_t deadline_ns);

/* Wake up to max threads that wait on the word, which is not read. */
void native_wake(struct native_thread *self, const uint32_t *word, unsigned max);

NK_NORETURN void native_leave(struct native_thread *self); /* the thread's end */
/* The application's end, too: its other threads end at their next call marked (ends). */
NK_NORETURN void native_exit(struct native_thread *self, int status);
