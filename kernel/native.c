#include "kernel/native.h"

#include <errno.h>
#include <string.h>

#include "base/layout.h"
#include "base/platform.h"
#include "base/x86.h"
#include "kernel/console.h"
#include "kernel/format.h"
#include "kernel/native_thread.h"
#include "kernel/shell.h"
#include "kernel/trap.h"
#include "mm/slab.h"
#include "sched/timer.h"

#define FAULT_STATUS      (128 + 64) /* and the exception's number */
#define INTERRUPT_LOOK_NS 100000000  /* how often Ctrl-C is looked for while an application runs */

struct native_app {
    struct native_image image;
    struct native_heap heap;
    struct nk_list link;     /* of apps */
    struct nk_spinlock lock; /* the lists, live, ending, status */
    struct nk_list threads, waiters;
    struct nk_list ended; /* threads that did so while the application was ending */
    unsigned live;
    bool ending;
    int status;
    struct nk_event over;
    struct native_input input;
    int argc;
    char **argv;
};

/* A thread in native_wait(); on its stack. */
struct waiter {
    struct nk_list link; /* of app->waiters; self-linked: woken */
    const uint32_t *word;
    struct nk_thread *thread;
};

static struct {
    struct nk_spinlock lock;
    struct nk_list list;
} apps = {.lock = NK_SPINLOCK_INIT(NK_RANK_CONTROL)};

/* --- threads ---------------------------------------------------------------------------------- */

static void thread_free(struct native_thread *t)
{
    native_stack_free(&t->app->heap, &t->stack);
    kfree(t);
}

/* A thread's last act in the application's name: `app` may be gone when this returns. While the
 * application ends, its stack stays: others run on until their next call, and may look there. */
static void thread_over(struct native_thread *t)
{
    struct native_app *app = t->app;
    *nk_thread_reent_slot() = NULL; /* it was the application's own */
    nk_spin_lock(&app->lock);
    nk_list_remove(&t->link);
    bool ending = app->ending;
    if (ending) {
        nk_list_push_back(&app->ended, &t->link);
    }
    nk_spin_unlock(&app->lock);
    if (!ending) {
        thread_free(t);
    }
    nk_spin_lock(&app->lock);
    bool last = --app->live == 0;
    nk_spin_unlock(&app->lock);
    if (last) {
        nk_event_set(&app->over);
    }
}

static void thread_main(void *arg)
{
    struct native_thread *t = arg;
    t->thread = nk_thread_current();
    native_call(t, (void *)t->stack.top, t->fn, t->arg);
    thread_over(t);
}

static int start_thread(struct native_app *app, const struct nk_thread_attr *attr,
                        size_t stack_size, void (*fn)(struct native_thread *, void *), void *arg)
{
    struct native_thread *t = kzalloc(sizeof(*t));
    if (!t) {
        return -ENOMEM;
    }
    t->app = app;
    t->fn = fn;
    t->arg = arg;
    int err = native_stack_alloc(&app->heap, stack_size, &t->stack);
    if (err < 0) {
        kfree(t);
        return err;
    }
    nk_spin_lock(&app->lock);
    nk_list_push_back(&app->threads, &t->link);
    app->live++;
    nk_spin_unlock(&app->lock);
    struct nk_thread *thread;
    err = nk_thread_create(&thread, attr, thread_main, t);
    if (err == 0) {
        nk_thread_detach(thread);
        err = nk_thread_run(thread);
        nk_assert(err == 0);
        return 0;
    }
    nk_spin_lock(&app->lock);
    nk_list_remove(&t->link);
    app->live--;
    nk_spin_unlock(&app->lock);
    native_stack_free(&app->heap, &t->stack);
    kfree(t);
    return err;
}

void native_leave(struct native_thread *self)
{
    native_unwind(self);
}

static void leave_if_ending(struct native_thread *self)
{
    if (nk_unlikely(__atomic_load_n(&self->app->ending, __ATOMIC_RELAXED))) {
        native_leave(self);
    }
}

int native_thread_create(struct native_thread *self, void (*fn)(struct native_thread *, void *),
                         void *arg, size_t stack_size, int cpu)
{
    leave_if_ending(self);
    const struct nk_thread_attr attr = {
        .name = nk_thread_name(self->thread), .cpu = cpu, .fp = true};
    return start_thread(self->app, &attr, stack_size, fn, arg);
}

/* --- waiting ---------------------------------------------------------------------------------- */

/* Take up to max waiters off the list, those of the word or all, and wake them. */
static void wake(struct native_app *app, const uint32_t *word, unsigned max)
{
    uint64_t flags = nk_spin_lock_irqsave(&app->lock);
    struct nk_list *pos, *next;
    nk_list_for_each_safe(pos, next, &app->waiters)
    {
        struct waiter *w = nk_list_entry(pos, struct waiter, link);
        if (max && (!word || w->word == word)) {
            nk_list_remove(&w->link);
            nk_thread_wake(w->thread); /* under the lock: `w` is gone once its thread sees it */
            max--;
        }
    }
    nk_spin_unlock_irqrestore(&app->lock, flags);
}

/* False: it was woken meanwhile. */
static bool stop_waiting(struct native_app *app, struct waiter *w)
{
    uint64_t flags = nk_spin_lock_irqsave(&app->lock);
    bool waiting = !nk_list_empty(&w->link);
    nk_list_remove(&w->link);
    nk_spin_unlock_irqrestore(&app->lock, flags);
    return waiting;
}

static bool is_waiting(struct native_app *app, const struct waiter *w)
{
    uint64_t flags = nk_spin_lock_irqsave(&app->lock);
    bool waiting = !nk_list_empty(&w->link);
    nk_spin_unlock_irqrestore(&app->lock, flags);
    return waiting;
}

int native_wait(struct native_thread *self, const uint32_t *word, uint32_t mask, uint32_t value,
                uint64_t deadline_ns)
{
    struct native_app *app = self->app;
    struct waiter w = {.word = word, .thread = self->thread};
    uint64_t flags = nk_spin_lock_irqsave(&app->lock);
    bool wait = !app->ending && (__atomic_load_n(word, __ATOMIC_RELAXED) & mask) == value;
    if (wait) {
        nk_list_push_back(&app->waiters, &w.link);
    }
    nk_spin_unlock_irqrestore(&app->lock, flags);
    int result = wait ? 0 : -EAGAIN;
    uint64_t now = nk_now_ns();
    uint64_t deadline = x86_rdtsc() + nk_ns_to_tsc(deadline_ns > now ? deadline_ns - now : 0);
    while (wait) {
        bool woken = true;
        if (deadline_ns == NATIVE_FOREVER) {
            nk_thread_park();
        } else {
            woken = nk_thread_park_until(deadline);
        }
        if (!woken) {
            result = stop_waiting(app, &w) ? -ETIMEDOUT : 0;
        }
        wait = woken && is_waiting(app, &w); /* a token may be left of an earlier wake */
    }
    leave_if_ending(self);
    return result;
}

void native_wake(struct native_thread *self, const uint32_t *word, unsigned max)
{
    wake(self->app, word, max);
}

/* --- memory, text, end ------------------------------------------------------------------------ */

void *native_grow(struct native_thread *self, ptrdiff_t increment)
{
    leave_if_ending(self);
    return native_heap_grow(&self->app->heap, increment);
}

void native_write(struct native_thread *self, const char *s, size_t len)
{
    leave_if_ending(self);
    console_write(s, len);
}

static void end(struct native_app *app, int status)
{
    uint64_t flags = nk_spin_lock_irqsave(&app->lock);
    bool first = !app->ending;
    if (first) {
        app->status = status;
        __atomic_store_n(&app->ending, true, __ATOMIC_RELEASE);
    }
    nk_spin_unlock_irqrestore(&app->lock, flags);
    if (first) {
        wake(app, NULL, UINT32_MAX);
    }
}

void native_tls_layout(struct native_thread *self, struct native_tls *out)
{
    *out = self->app->image.tls;
}

void native_set_thread_pointer(struct native_thread *self, void *pointer)
{
    (void)self;
    nk_thread_set_fs_base((uint64_t)pointer);
}

void native_yield(struct native_thread *self)
{
    leave_if_ending(self);
    nk_thread_yield();
}

size_t native_read(struct native_thread *self, char *out, size_t max)
{
    struct native_app *app = self->app;
    size_t count;
    leave_if_ending(self);
    if (!native_input_read(&app->input, &app->ending, out, max, &count)) {
        end(app, NATIVE_INTERRUPTED);
    }
    leave_if_ending(self);
    return count;
}

void native_exit(struct native_thread *self, int status)
{
    end(self->app, status);
    native_leave(self);
}

/* --- faults ----------------------------------------------------------------------------------- */

static const uint8_t fault_vector_table[] = {0, 4, 5, 6, 12, 13, 14, 16, 17, 19};
static nk_trap_handler next_handler[NK_EXCEPTION_COUNT];

/* On the thread's kernel stack, as if native_call() were about to return. */
static void native_faulted(struct native_thread *t)
{
    const struct native_image *image = &t->app->image;
    uint64_t offset;
    const char *symbol = native_image_symbol(image, t->fault.rip, &offset);
    char access[40] = "";
    if (t->fault.vector == NK_EXCEPTION_PF) {
        nk_snprintf(access, sizeof(access), " at 0x%llx", (unsigned long long)t->fault.address);
    }
    nk_error("%s: %s%s, in %s+0x%llx (0x%llx)", nk_thread_name(t->thread),
             trap_name((unsigned)t->fault.vector), access, symbol ? symbol : "?",
             symbol ? (unsigned long long)offset : 0, (unsigned long long)t->fault.rip);
    native_exit(t, FAULT_STATUS + (int)t->fault.vector);
}

static struct native_thread *find_thread(const struct nk_thread *thread)
{
    struct native_thread *found = NULL;
    nk_spinlock_acquire(&apps.lock);
    struct nk_list *a, *pos;
    nk_list_for_each(a, &apps.list)
    {
        struct native_app *app = nk_list_entry(a, struct native_app, link);
        nk_spinlock_acquire(&app->lock);
        nk_list_for_each(pos, &app->threads)
        {
            struct native_thread *t = nk_list_entry(pos, struct native_thread, link);
            found = t->thread == thread ? t : found;
        }
        nk_spinlock_release(&app->lock);
    }
    nk_spinlock_release(&apps.lock);
    return found;
}

/* An exception in an application's code: the interrupted instruction is not the kernel's, so no
 * lock of ours is held, and the thread can go on elsewhere. */
static bool fault(struct nk_trap_frame *f)
{
    if (f->rip >= NK_NATIVE_IMAGES_BASE && f->rip < NK_NATIVE_IMAGES_END) {
        uint64_t address = x86_read_cr2();
        struct native_thread *t = find_thread(nk_thread_current());
        if (t) {
            t->fault.vector = f->vector;
            t->fault.rip = f->rip;
            t->fault.address = address;
            f->rip = (uint64_t)native_faulted;
            f->rsp = t->kernel_sp; /* aligned as at a function's entry: native_call() pushed 6 */
            f->rdi = (uint64_t)t;
            f->rflags &= ~X86_RFLAGS_DF;
            return true;
        }
    }
    return next_handler[f->vector] && next_handler[f->vector](f);
}

/* --- run -------------------------------------------------------------------------------------- */

/* argv and its strings in one piece. */
static char **copy_words(int argc, char **argv)
{
    size_t bytes = (size_t)(argc + 1) * sizeof(char *);
    for (int i = 0; i < argc; i++) {
        bytes += strlen(argv[i]) + 1;
    }
    char **copy = kmalloc(bytes);
    if (!copy) {
        return NULL;
    }
    char *text = (char *)&copy[argc + 1];
    for (int i = 0; i < argc; i++) {
        copy[i] = strcpy(text, argv[i]);
        text += strlen(text) + 1;
    }
    copy[argc] = NULL;
    return copy;
}

/* The runtime's native_start(self, argc, argv) takes one argument more than other threads' start.
 */
static void enter(struct native_thread *self, void *arg)
{
    (void)arg;
    const struct native_app *app = self->app;
    void (*entry)(struct native_thread *, int, char **) = (void *)app->image.entry;
    entry(self, app->argc, app->argv);
    __builtin_unreachable();
}

static uint64_t interrupt_look(void)
{
    return x86_rdtsc() + nk_ns_to_tsc(INTERRUPT_LOOK_NS);
}

static int run(struct native_app *app, int argc, char **argv)
{
    app->argc = argc;
    app->argv = copy_words(argc, argv);
    if (!app->argv) {
        return -ENOMEM;
    }
    nk_spin_lock(&apps.lock);
    nk_list_push_back(&apps.list, &app->link);
    nk_spin_unlock(&apps.lock);
    const struct nk_thread_attr attr = {.name = argv[0], .cpu = NK_CPU_ANY, .fp = true};
    int err = start_thread(app, &attr, NATIVE_STACK_DEFAULT, enter, NULL);
    while (err == 0 && !nk_event_wait_until(&app->over, interrupt_look())) {
        if (console_take_interrupt()) {
            end(app, NATIVE_INTERRUPTED);
        }
    }
    struct nk_list *link;
    while ((link = nk_list_pop_front(&app->ended)) != NULL) {
        thread_free(nk_list_entry(link, struct native_thread, link));
    }
    nk_spin_lock(&apps.lock);
    nk_list_remove(&app->link);
    nk_spin_unlock(&apps.lock);
    kfree(app->argv);
    return err;
}

static int load_and_run(struct native_app *app, const struct nk_module *module, int argc,
                        char **argv)
{
    char why[NATIVE_WHY_MAX];
    int err = native_image_load(&app->image, module, why);
    if (err < 0) {
        shell_printf("%s: cannot be run: %s\n", module->name, why);
        return err;
    }
    err = native_heap_init(&app->heap);
    if (err == 0) {
        err = run(app, argc, argv);
        native_heap_destroy(&app->heap);
    }
    native_image_unload(&app->image);
    if (err < 0) {
        shell_printf("%s: cannot be run: %s\n", module->name,
                     err == -ENOMEM ? "no memory" : "too many applications run");
    }
    return err;
}

static bool find_module(const char *name, struct nk_module *out)
{
    char path[80] = "native/";
    if (strlen(name) >= sizeof(path) - strlen(path)) {
        return false;
    }
    return nk_module_find(strcat(path, name), out) || nk_module_find(name, out);
}

int native_run(int argc, char **argv, int *status)
{
    struct nk_module module;
    if (!find_module(argv[0], &module)) {
        return -ENOENT; /* the caller knows what it might have been */
    }
    struct native_app *app = kzalloc(sizeof(*app));
    if (!app) {
        shell_printf("%s: cannot be run: no memory\n", argv[0]);
        return -ENOMEM;
    }
    app->lock = (struct nk_spinlock)NK_SPINLOCK_INIT(NK_RANK_VCPU);
    nk_list_init(&app->threads);
    nk_list_init(&app->waiters);
    nk_list_init(&app->ended);
    nk_event_init(&app->over);
    native_input_init(&app->input);
    int err = load_and_run(app, &module, argc, argv);
    *status = app->status;
    kfree(app);
    return err;
}

void native_init(void)
{
    native_images_init();
    nk_list_init(&apps.list);
    for (unsigned i = 0; i < NK_ARRAY_COUNT(fault_vector_table); i++) {
        unsigned vector = fault_vector_table[i];
        next_handler[vector] = nk_trap_set_handler(vector, fault);
    }
}
