/* Inside kernel/native.c and kernel/native.asm: one thread of an application. */
#pragma once

#include "kernel/native_impl.h"
#include "sched/thread.h"

struct native_thread {
    uint64_t kernel_sp; /* where native_unwind() goes on */
    struct native_app *app;
    struct nk_thread *thread;
    struct nk_list link; /* of app->threads */
    struct native_stack stack;
    void (*fn)(struct native_thread *self, void *arg);
    void *arg;
    struct { /* what native_faulted() reports */
        uint64_t vector, rip, address;
    } fault;
};

void native_call(struct native_thread *t, void *stack_top,
                 void (*fn)(struct native_thread *self, void *arg), void *arg);
NK_NORETURN void native_unwind(struct native_thread *t);
