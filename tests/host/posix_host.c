#define _GNU_SOURCE
#include "posix_host.h"

#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define CPUS_MAX    64
#define FILES_MAX   16
#define STREAMS_MAX 8
#define MSRS_MAX    32
#define NS_PER_S    UINT64_C(1000000000)
#define FILL_LIMIT  1024 /* pages of one allocation that are filled with garbage */

struct vmm_thread {
    struct vmm_thread *next;
    char name[32];
    int cpu;
    void (*fn)(void *arg);
    void *arg;
    pthread_t id;
    bool started, created; /* created: by thread_create, not adopted */
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    bool token;
};

struct vmm_host_timer {
    struct vmm_host_timer *next;
    void (*fn)(void *arg);
    void *arg;
    uint64_t deadline; /* cycles */
    bool armed;
};

struct posix_file {
    const char *name;
    const void *data;
    uint64_t size;
    unsigned opened;
};

struct posix_stream {
    struct posix_host *host;
    char name[64];
    bool open;
    void (*input)(void *arg, const char *bytes, size_t count);
    void *arg;
    char *text;
    size_t length;
};

struct posix_host {
    struct vmm_host_ops ops;
    enum posix_clock clock;
    unsigned cpu_count;
    pthread_mutex_t mutex; /* protects: everything below but the atomics */

    uint8_t *arena;
    uint64_t page_count;
    uint8_t *page_used;
    uint64_t pages_used;
    _Atomic uint64_t small_used;
    _Atomic long alloc_calls, fail_from;

    _Atomic uint64_t virtual_ns;
    uint64_t real_start_ns;
    struct vmm_host_timer *timers;
    pthread_t timer_thread;
    pthread_cond_t timer_change;
    bool closing, callback_running;

    struct vmm_thread *threads;
    struct posix_file file[FILES_MAX];
    unsigned file_count;
    struct posix_stream stream[STREAMS_MAX];
    struct {
        uint32_t number;
        uint64_t value;
    } msr[MSRS_MAX];
    unsigned msr_count;
    char *log;
    size_t log_length;
    struct posix_event event;
    _Atomic unsigned kicks[CPUS_MAX];
};

static _Thread_local struct vmm_thread *current_thread;
static _Thread_local unsigned current_cpu;
static _Thread_local int preempt_depth;

static void *must(void *p)
{
    if (p == NULL) {
        perror("posix_host");
        abort();
    }
    return p;
}

static void append(char **text, size_t *length, const char *bytes, size_t count)
{
    *text = must(realloc(*text, *length + count + 1));
    memcpy(*text + *length, bytes, count);
    *length += count;
    (*text)[*length] = '\0';
}

/* --- print ------------------------------------------------------------------------------------- */

static void host_print(void *host, enum vmm_log_level level, const char *line)
{
    struct posix_host *h = host;

    pthread_mutex_lock(&h->mutex);
    append(&h->log, &h->log_length, line, strlen(line));
    append(&h->log, &h->log_length, "\n", 1);
    pthread_mutex_unlock(&h->mutex);
    if (getenv("POSIX_HOST_VERBOSE") != NULL) {
        fprintf(stderr, "[%d] %s\n", (int)level, line);
    }
}

static int host_format(void *host, char *out, size_t size, const char *fmt, va_list ap)
{
    (void)host;
    return vsnprintf(out, size, fmt, ap);
}

static void VMM_NORETURN host_panic(void *host, const char *why)
{
    (void)host;
    fprintf(stderr, "library panic: %s\n", why);
    abort();
}

/* --- memory ------------------------------------------------------------------------------------ */

static bool allocation_fails(struct posix_host *h)
{
    long call = atomic_fetch_add(&h->alloc_calls, 1);
    long from = atomic_load(&h->fail_from);

    return from >= 0 && call >= from;
}

static int host_pages_alloc(void *host, uint64_t count, uint64_t align, int node, hpa_t *out)
{
    struct posix_host *h = host;
    uint64_t step = align > VMM_PAGE_SIZE ? align / VMM_PAGE_SIZE : 1;
    int result = -VMM_ENOMEM;

    (void)node;
    if (count == 0 || (align & (align - 1)) != 0) {
        host_panic(host, "pages_alloc: bad arguments");
    }
    if (allocation_fails(h)) {
        return -VMM_ENOMEM;
    }
    pthread_mutex_lock(&h->mutex);
    for (uint64_t first = 0; first + count <= h->page_count; first += step) {
        if (memchr(h->page_used + first, 1, count) != NULL) {
            continue;
        }
        memset(h->page_used + first, 1, count);
        h->pages_used += count;
        ASAN_UNPOISON_MEMORY_REGION(h->arena + first * VMM_PAGE_SIZE, count * VMM_PAGE_SIZE);
        if (count <= FILL_LIMIT) {
            memset(h->arena + first * VMM_PAGE_SIZE, 0xa5, count * VMM_PAGE_SIZE);
        }
        out->v = POSIX_HPA_BASE + first * VMM_PAGE_SIZE;
        result = 0;
        break;
    }
    pthread_mutex_unlock(&h->mutex);
    return result;
}

static void host_pages_free(void *host, hpa_t base, uint64_t count)
{
    struct posix_host *h = host;
    uint64_t first = (base.v - POSIX_HPA_BASE) / VMM_PAGE_SIZE;

    pthread_mutex_lock(&h->mutex);
    if (base.v % VMM_PAGE_SIZE != 0 || first >= h->page_count || count > h->page_count - first ||
        memchr(h->page_used + first, 0, count) != NULL) {
        host_panic(host, "pages_free: not allocated");
    }
    memset(h->page_used + first, 0, count);
    h->pages_used -= count;
    ASAN_POISON_MEMORY_REGION(h->arena + first * VMM_PAGE_SIZE, count * VMM_PAGE_SIZE);
    pthread_mutex_unlock(&h->mutex);
}

static uint64_t host_pages_available(void *host)
{
    struct posix_host *h = host;

    return (h->page_count - h->pages_used) * VMM_PAGE_SIZE;
}

static void *host_alloc(void *host, size_t size)
{
    struct posix_host *h = host;
    void *p;

    if (allocation_fails(h)) {
        return NULL;
    }
    p = must(aligned_alloc(16, (size + 15) & ~(size_t)15));
    memset(p, 0, size);
    atomic_fetch_add(&h->small_used, 1);
    return p;
}

static void host_free(void *host, void *p)
{
    struct posix_host *h = host;

    if (p != NULL) {
        atomic_fetch_sub(&h->small_used, 1);
        free(p);
    }
}

/* Addresses outside the arena (small memory) stand for themselves. */
static void *host_hpa_to_va(void *host, hpa_t hpa)
{
    struct posix_host *h = host;
    uint64_t offset = hpa.v - POSIX_HPA_BASE;

    return offset < h->page_count * VMM_PAGE_SIZE ? h->arena + offset : (void *)hpa.v;
}

static hpa_t host_va_to_hpa(void *host, const void *va)
{
    struct posix_host *h = host;
    uint64_t offset = (uint64_t)va - (uint64_t)h->arena;

    return offset < h->page_count * VMM_PAGE_SIZE ? VMM_HPA(offset + POSIX_HPA_BASE) : VMM_HPA(va);
}

/* --- threads ----------------------------------------------------------------------------------- */

static struct vmm_thread *thread_new(struct posix_host *h, const char *name, int cpu)
{
    struct vmm_thread *t = must(calloc(1, sizeof(*t)));

    snprintf(t->name, sizeof(t->name), "%s", name);
    t->cpu = cpu;
    pthread_mutex_init(&t->mutex, NULL);
    pthread_cond_init(&t->wake, NULL);
    pthread_mutex_lock(&h->mutex);
    t->next = h->threads;
    h->threads = t;
    pthread_mutex_unlock(&h->mutex);
    return t;
}

static void thread_release(struct posix_host *h, struct vmm_thread *t)
{
    struct vmm_thread **link = &h->threads;

    pthread_mutex_lock(&h->mutex);
    while (*link != t) {
        link = &(*link)->next;
    }
    *link = t->next;
    pthread_mutex_unlock(&h->mutex);
    pthread_mutex_destroy(&t->mutex);
    pthread_cond_destroy(&t->wake);
    free(t);
}

static void *thread_main(void *arg)
{
    struct vmm_thread *t = arg;

    current_thread = t;
    current_cpu = t->cpu < 0 ? 0 : (unsigned)t->cpu;
    t->fn(t->arg);
    return NULL;
}

static int host_thread_create(void *host, const char *name, int cpu, void (*fn)(void *arg),
                              void *arg, struct vmm_thread **out)
{
    struct posix_host *h = host;
    struct vmm_thread *t;

    if (allocation_fails(h)) {
        return -VMM_ENOMEM;
    }
    t = thread_new(h, name, cpu);
    t->fn = fn;
    t->arg = arg;
    t->created = true;
    *out = t;
    return 0;
}

static int host_thread_run(void *host, struct vmm_thread *t)
{
    (void)host;
    if (t->started || pthread_create(&t->id, NULL, thread_main, t) != 0) {
        return -VMM_EAGAIN;
    }
    t->started = true;
    return 0;
}

static int host_thread_join(void *host, struct vmm_thread *t)
{
    if (t->started) {
        pthread_join(t->id, NULL);
    }
    thread_release(host, t);
    return 0;
}

/* A thread that the host did not make (a test's main thread) is adopted on first use. */
static struct vmm_thread *host_thread_current(void *host)
{
    if (current_thread == NULL) {
        current_thread = thread_new(host, "main", -1);
    }
    return current_thread;
}

static void host_thread_park(void *host)
{
    struct vmm_thread *t = host_thread_current(host);

    pthread_mutex_lock(&t->mutex);
    while (!t->token) {
        pthread_cond_wait(&t->wake, &t->mutex);
    }
    t->token = false;
    pthread_mutex_unlock(&t->mutex);
}

static void host_thread_wake(void *host, struct vmm_thread *t)
{
    (void)host;
    pthread_mutex_lock(&t->mutex);
    t->token = true;
    pthread_cond_signal(&t->wake);
    pthread_mutex_unlock(&t->mutex);
}

static void host_thread_yield(void *host)
{
    (void)host;
    sched_yield();
}

static void host_thread_set_xcr0(void *host, uint64_t xcr0)
{
    (void)host;
    (void)xcr0;
}

/* --- locks: opaque[0] is the owner, so that recursion and foreign unlocks are found -------------- */

static void host_lock(void *host, struct vmm_lock *lock)
{
    uint64_t self = (uint64_t)&current_thread; /* differs between threads */
    uint64_t expected = 0;

    if (__atomic_load_n(&lock->opaque[0], __ATOMIC_RELAXED) == self) {
        host_panic(host, "lock taken twice by one thread");
    }
    while (!__atomic_compare_exchange_n(&lock->opaque[0], &expected, self, false, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED)) {
        expected = 0;
        sched_yield();
    }
}

static void host_unlock(void *host, struct vmm_lock *lock)
{
    if (__atomic_load_n(&lock->opaque[0], __ATOMIC_RELAXED) != (uint64_t)&current_thread) {
        host_panic(host, "lock released by a thread that does not hold it");
    }
    __atomic_store_n(&lock->opaque[0], 0, __ATOMIC_RELEASE);
}

/* --- CPU --------------------------------------------------------------------------------------- */

static unsigned host_cpu_count(void *host)
{
    struct posix_host *h = host;

    return h->cpu_count;
}

static unsigned host_cpu_current(void *host)
{
    (void)host;
    return current_cpu;
}

static void host_cpu_kick(void *host, unsigned cpu)
{
    struct posix_host *h = host;

    atomic_fetch_add(&h->kicks[cpu % CPUS_MAX], 1);
}

static int host_cpu_call(void *host, unsigned cpu, void (*fn)(void *arg), void *arg)
{
    struct posix_host *h = host;
    unsigned before = current_cpu;

    if (cpu >= h->cpu_count) {
        return -VMM_EINVAL;
    }
    current_cpu = cpu;
    fn(arg);
    current_cpu = before;
    return 0;
}

static void host_preempt_disable(void *host)
{
    (void)host;
    preempt_depth++;
}

static void host_preempt_enable(void *host)
{
    if (--preempt_depth < 0) {
        host_panic(host, "preempt_enable without preempt_disable");
    }
}

/* --- time -------------------------------------------------------------------------------------- */

static uint64_t monotonic_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static uint64_t cycles_of_ns(uint64_t ns)
{
    return (uint64_t)((unsigned __int128)ns * POSIX_CYCLES_KHZ / 1000000);
}

static uint64_t ns_of_cycles(uint64_t cycles) /* rounded up: the deadline is reached */
{
    return (uint64_t)(((unsigned __int128)cycles * 1000000 + POSIX_CYCLES_KHZ - 1) /
                      POSIX_CYCLES_KHZ);
}

uint64_t posix_host_now_ns(struct posix_host *h)
{
    return h->clock == POSIX_CLOCK_REAL ? monotonic_ns() - h->real_start_ns
                                        : atomic_load(&h->virtual_ns);
}

static uint64_t host_cycles(void *host)
{
    return cycles_of_ns(posix_host_now_ns(host));
}

static uint64_t host_wall_clock_ns(void *host)
{
    return POSIX_WALL_BASE_S * NS_PER_S + posix_host_now_ns(host);
}

static struct vmm_host_timer *first_timer(struct posix_host *h)
{
    struct vmm_host_timer *first = NULL;

    for (struct vmm_host_timer *t = h->timers; t != NULL; t = t->next) {
        if (t->armed && (first == NULL || t->deadline < first->deadline)) {
            first = t;
        }
    }
    return first;
}

/* Run one timer's function without the mutex; cancel waits until it is over. */
static void fire(struct posix_host *h, struct vmm_host_timer *t)
{
    t->armed = false;
    h->callback_running = true;
    pthread_mutex_unlock(&h->mutex);
    t->fn(t->arg);
    pthread_mutex_lock(&h->mutex);
    h->callback_running = false;
    pthread_cond_broadcast(&h->timer_change);
}

void posix_host_advance_ns(struct posix_host *h, uint64_t ns)
{
    uint64_t end = atomic_load(&h->virtual_ns) + ns;
    struct vmm_host_timer *t;

    pthread_mutex_lock(&h->mutex);
    while ((t = first_timer(h)) != NULL && ns_of_cycles(t->deadline) <= end) {
        if (ns_of_cycles(t->deadline) > atomic_load(&h->virtual_ns)) {
            atomic_store(&h->virtual_ns, ns_of_cycles(t->deadline));
        }
        fire(h, t);
    }
    pthread_mutex_unlock(&h->mutex);
    atomic_store(&h->virtual_ns, end);
}

bool posix_host_next_timer_ns(struct posix_host *h, uint64_t *ns)
{
    struct vmm_host_timer *t;

    pthread_mutex_lock(&h->mutex);
    t = first_timer(h);
    if (t != NULL) {
        *ns = ns_of_cycles(t->deadline);
    }
    pthread_mutex_unlock(&h->mutex);
    return t != NULL;
}

static void *timer_main(void *arg)
{
    struct posix_host *h = arg;

    pthread_mutex_lock(&h->mutex);
    while (!h->closing) {
        struct vmm_host_timer *t = first_timer(h);
        struct timespec until;
        uint64_t ns;

        if (t == NULL) {
            pthread_cond_wait(&h->timer_change, &h->mutex);
            continue;
        }
        ns = ns_of_cycles(t->deadline);
        if (ns <= posix_host_now_ns(h)) {
            fire(h, t);
            continue;
        }
        ns += h->real_start_ns;
        until.tv_sec = (time_t)(ns / NS_PER_S);
        until.tv_nsec = (long)(ns % NS_PER_S);
        pthread_cond_timedwait(&h->timer_change, &h->mutex, &until);
    }
    pthread_mutex_unlock(&h->mutex);
    return NULL;
}

static int host_timer_create(void *host, void (*fn)(void *arg), void *arg,
                             struct vmm_host_timer **out)
{
    struct posix_host *h = host;
    struct vmm_host_timer *t;

    if (allocation_fails(h)) {
        return -VMM_ENOMEM;
    }
    t = must(calloc(1, sizeof(*t)));
    t->fn = fn;
    t->arg = arg;
    pthread_mutex_lock(&h->mutex);
    t->next = h->timers;
    h->timers = t;
    pthread_mutex_unlock(&h->mutex);
    *out = t;
    return 0;
}

static void host_timer_arm(void *host, struct vmm_host_timer *t, uint64_t deadline_cycles)
{
    struct posix_host *h = host;

    pthread_mutex_lock(&h->mutex);
    t->deadline = deadline_cycles;
    t->armed = true;
    pthread_cond_broadcast(&h->timer_change);
    pthread_mutex_unlock(&h->mutex);
}

static void host_timer_cancel(void *host, struct vmm_host_timer *t)
{
    struct posix_host *h = host;

    pthread_mutex_lock(&h->mutex);
    t->armed = false;
    while (h->clock == POSIX_CLOCK_REAL && h->callback_running &&
           !pthread_equal(pthread_self(), h->timer_thread)) {
        pthread_cond_wait(&h->timer_change, &h->mutex);
    }
    t->armed = false;
    pthread_mutex_unlock(&h->mutex);
}

static void host_timer_destroy(void *host, struct vmm_host_timer *t)
{
    struct posix_host *h = host;
    struct vmm_host_timer **link = &h->timers;

    host_timer_cancel(host, t);
    pthread_mutex_lock(&h->mutex);
    while (*link != t) {
        link = &(*link)->next;
    }
    *link = t->next;
    pthread_mutex_unlock(&h->mutex);
    free(t);
}

/* --- MSRs and events --------------------------------------------------------------------------- */

static int host_rdmsr_safe(void *host, uint32_t msr, uint64_t *value)
{
    struct posix_host *h = host;

    for (unsigned i = 0; i < h->msr_count; i++) {
        if (h->msr[i].number == msr) {
            *value = h->msr[i].value;
            return 0;
        }
    }
    return -VMM_EINVAL;
}

static int host_wrmsr_safe(void *host, uint32_t msr, uint64_t value)
{
    struct posix_host *h = host;

    for (unsigned i = 0; i < h->msr_count; i++) {
        if (h->msr[i].number == msr) {
            h->msr[i].value = value;
            return 0;
        }
    }
    return -VMM_EINVAL;
}

void posix_host_set_msr(struct posix_host *h, uint32_t msr, uint64_t value)
{
    if (host_wrmsr_safe(h, msr, value) != 0 && h->msr_count < MSRS_MAX) {
        h->msr[h->msr_count].number = msr;
        h->msr[h->msr_count++].value = value;
    }
}

static void host_vm_event(void *host, void *vm_cookie, int state, int reason)
{
    struct posix_host *h = host;

    pthread_mutex_lock(&h->mutex);
    h->event = (struct posix_event){h->event.count + 1, vm_cookie, state, reason};
    pthread_mutex_unlock(&h->mutex);
}

/* --- files and streams --------------------------------------------------------------------------- */

static int files_open(void *host, const char *name, const void **data, uint64_t *size)
{
    struct posix_host *h = host;

    for (unsigned i = 0; i < h->file_count; i++) {
        if (strcmp(h->file[i].name, name) == 0) {
            h->file[i].opened++;
            *data = h->file[i].data;
            *size = h->file[i].size;
            return 0;
        }
    }
    return -VMM_ENOENT;
}

static void files_close(void *host, const char *name, const void *data)
{
    struct posix_host *h = host;

    for (unsigned i = 0; i < h->file_count; i++) {
        if (strcmp(h->file[i].name, name) == 0 && h->file[i].data == data &&
            h->file[i].opened > 0) {
            h->file[i].opened--;
            return;
        }
    }
    host_panic(host, "close of a file that is not open");
}

void posix_host_add_file(struct posix_host *h, const char *name, const void *data, uint64_t size)
{
    if (h->file_count == FILES_MAX) {
        host_panic(h, "too many files");
    }
    h->file[h->file_count++] = (struct posix_file){.name = name, .data = data, .size = size};
}

static struct posix_stream *find_stream(struct posix_host *h, const char *name)
{
    for (unsigned i = 0; i < STREAMS_MAX; i++) {
        if (h->stream[i].name[0] != '\0' && strcmp(h->stream[i].name, name) == 0) {
            return &h->stream[i];
        }
    }
    return NULL;
}

static int chars_open(void *host, const char *name,
                      void (*input)(void *arg, const char *bytes, size_t count), void *arg,
                      void **stream)
{
    struct posix_host *h = host;
    struct posix_stream *s = find_stream(h, name);

    for (unsigned i = 0; s == NULL && i < STREAMS_MAX; i++) {
        if (h->stream[i].name[0] == '\0') {
            s = &h->stream[i];
            snprintf(s->name, sizeof(s->name), "%s", name);
        }
    }
    if (s == NULL || s->open) {
        return -VMM_EBUSY;
    }
    s->host = h;
    s->open = true;
    s->input = input;
    s->arg = arg;
    *stream = s;
    return 0;
}

static void chars_write(void *host, void *stream, const char *bytes, size_t count)
{
    struct posix_host *h = host;
    struct posix_stream *s = stream;

    pthread_mutex_lock(&h->mutex);
    append(&s->text, &s->length, bytes, count);
    pthread_mutex_unlock(&h->mutex);
}

static void chars_close(void *host, void *stream)
{
    struct posix_stream *s = stream;

    (void)host;
    s->open = false;
}

const char *posix_host_output(struct posix_host *h, const char *name)
{
    struct posix_stream *s = find_stream(h, name);

    return s != NULL && s->text != NULL ? s->text : "";
}

void posix_host_clear_output(struct posix_host *h, const char *name)
{
    struct posix_stream *s = find_stream(h, name);

    if (s != NULL && s->text != NULL) {
        s->length = 0;
        s->text[0] = '\0';
    }
}

void posix_host_type(struct posix_host *h, const char *name, const char *bytes, size_t count)
{
    struct posix_stream *s = find_stream(h, name);

    if (s == NULL || !s->open) {
        host_panic(h, "typing at a stream that is not open");
    }
    s->input(s->arg, bytes, count);
}

static const struct vmm_host_files files_table = {.open = files_open, .close = files_close};
static const struct vmm_host_chars chars_table = {
    .open = chars_open, .write = chars_write, .close = chars_close};

/* --- life ------------------------------------------------------------------------------------------ */

static const struct vmm_host_ops ops_template = {
    .abi_size = sizeof(struct vmm_host_ops),
    .print = host_print,
    .format = host_format,
    .panic = host_panic,
    .pages_alloc = host_pages_alloc,
    .pages_free = host_pages_free,
    .pages_available = host_pages_available,
    .alloc = host_alloc,
    .free = host_free,
    .hpa_to_va = host_hpa_to_va,
    .va_to_hpa = host_va_to_hpa,
    .thread_create = host_thread_create,
    .thread_run = host_thread_run,
    .thread_join = host_thread_join,
    .thread_park = host_thread_park,
    .thread_wake = host_thread_wake,
    .thread_yield = host_thread_yield,
    .thread_current = host_thread_current,
    .thread_set_xcr0 = host_thread_set_xcr0,
    .xcr0_supported = 7,
    .lock = host_lock,
    .unlock = host_unlock,
    .cpu_count = host_cpu_count,
    .cpu_current = host_cpu_current,
    .cpu_kick = host_cpu_kick,
    .cpu_call = host_cpu_call,
    .preempt_disable = host_preempt_disable,
    .preempt_enable = host_preempt_enable,
    .cycles = host_cycles,
    .cycles_khz = POSIX_CYCLES_KHZ,
    .wall_clock_ns = host_wall_clock_ns,
    .timer_create = host_timer_create,
    .timer_arm = host_timer_arm,
    .timer_cancel = host_timer_cancel,
    .timer_destroy = host_timer_destroy,
    .rdmsr_safe = host_rdmsr_safe,
    .wrmsr_safe = host_wrmsr_safe,
    .vm_event = host_vm_event,
    .files = &files_table,
    .chars = &chars_table,
};

struct posix_host *posix_host_create(uint64_t arena_bytes, unsigned cpu_count,
                                     enum posix_clock clock)
{
    struct posix_host *h = must(calloc(1, sizeof(*h)));
    pthread_condattr_t monotonic;
    uint64_t reserve = arena_bytes + VMM_MIB(1024);
    uint8_t *base;

    h->ops = ops_template;
    h->clock = clock;
    h->cpu_count = cpu_count;
    h->page_count = arena_bytes / VMM_PAGE_SIZE;
    h->page_used = must(calloc(h->page_count, 1));
    /* Alignment of addresses up to 1 GiB must hold for pointers too, as in a real direct map. */
    base = mmap(NULL, reserve, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                -1, 0);
    if (base == MAP_FAILED) {
        must(NULL);
    }
    h->arena = (uint8_t *)(((uint64_t)base + VMM_MIB(1024) - 1) & ~(VMM_MIB(1024) - 1));
    if (h->arena != base) {
        munmap(base, (size_t)(h->arena - base));
    }
    munmap(h->arena + arena_bytes, reserve - arena_bytes - (size_t)(h->arena - base));
    ASAN_POISON_MEMORY_REGION(h->arena, arena_bytes);
    atomic_store(&h->fail_from, -1);
    h->log = must(calloc(1, 1));
    pthread_mutex_init(&h->mutex, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&h->timer_change, &monotonic);
    h->real_start_ns = monotonic_ns();
    if (clock == POSIX_CLOCK_REAL &&
        pthread_create(&h->timer_thread, NULL, timer_main, h) != 0) {
        must(NULL);
    }
    return h;
}

static unsigned leak(const char *what, uint64_t count)
{
    if (count != 0) {
        fprintf(stderr, "posix_host: %llu %s leaked\n", (unsigned long long)count, what);
    }
    return count != 0;
}

static unsigned release_threads(struct posix_host *h)
{
    unsigned leaked = 0;

    while (h->threads != NULL) {
        if (h->threads->created) {
            leaked += leak(h->threads->name, 1);
        }
        if (h->threads == current_thread) {
            current_thread = NULL;
        }
        thread_release(h, h->threads);
    }
    return leaked;
}

unsigned posix_host_destroy(struct posix_host *h)
{
    unsigned leaks = leak("pages", h->pages_used) + leak("allocations", h->small_used);

    if (h->clock == POSIX_CLOCK_REAL) {
        pthread_mutex_lock(&h->mutex);
        h->closing = true;
        pthread_cond_broadcast(&h->timer_change);
        pthread_mutex_unlock(&h->mutex);
        pthread_join(h->timer_thread, NULL);
    }
    leaks += leak("timers", h->timers != NULL);
    leaks += release_threads(h);
    for (unsigned i = 0; i < h->file_count; i++) {
        leaks += leak(h->file[i].name, h->file[i].opened);
    }
    for (unsigned i = 0; i < STREAMS_MAX; i++) {
        leaks += leak("streams", h->stream[i].open);
        free(h->stream[i].text);
    }
    ASAN_UNPOISON_MEMORY_REGION(h->arena, h->page_count * VMM_PAGE_SIZE);
    munmap(h->arena, h->page_count * VMM_PAGE_SIZE);
    pthread_mutex_destroy(&h->mutex);
    pthread_cond_destroy(&h->timer_change);
    free(h->page_used);
    free(h->log);
    free(h);
    return leaks;
}

/* --- for tests ------------------------------------------------------------------------------------- */

struct vmm_host_ops *posix_host_ops(struct posix_host *h)
{
    return &h->ops;
}

void posix_host_fail_alloc(struct posix_host *h, long n)
{
    atomic_store(&h->fail_from, n < 0 ? -1 : atomic_load(&h->alloc_calls) + n);
}

long posix_host_alloc_calls(const struct posix_host *h)
{
    return atomic_load(&h->alloc_calls);
}

uint64_t posix_host_pages_used(const struct posix_host *h)
{
    return h->pages_used;
}

uint64_t posix_host_small_used(const struct posix_host *h)
{
    return h->small_used;
}

const char *posix_host_log(const struct posix_host *h)
{
    return h->log;
}

void posix_host_clear_log(struct posix_host *h)
{
    h->log_length = 0;
    h->log[0] = '\0';
}

struct posix_event posix_host_event(const struct posix_host *h)
{
    return h->event;
}

unsigned posix_host_kicks(const struct posix_host *h, unsigned cpu)
{
    return atomic_load(&h->kicks[cpu % CPUS_MAX]);
}

int posix_host_preempt_depth(void)
{
    return preempt_depth;
}

void posix_host_set_cpu(unsigned cpu)
{
    current_cpu = cpu;
}
