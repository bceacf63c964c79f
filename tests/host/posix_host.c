#define _GNU_SOURCE
#include "posix_inner.h"

#include <sanitizer/asan_interface.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define FILL_LIMIT 1024 /* pages of one allocation that are filled with garbage */

void *posix_must(void *p)
{
    if (p == NULL) {
        perror("posix_host");
        abort();
    }
    return p;
}

void posix_append(char **text, size_t *length, const char *bytes, size_t count)
{
    *text = posix_must(realloc(*text, *length + count + 1));
    memcpy(*text + *length, bytes, count);
    *length += count;
    (*text)[*length] = '\0';
}

/* --- print -------------------------------------------------------------------------------------
 */

static void host_print(void *host, enum vmm_log_level level, const char *line)
{
    struct posix_host *h = host;

    pthread_mutex_lock(&h->mutex);
    posix_append(&h->log, &h->log_length, line, strlen(line));
    posix_append(&h->log, &h->log_length, "\n", 1);
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

void posix_panic(void *host, const char *why)
{
    (void)host;
    fprintf(stderr, "library panic: %s\n", why);
    abort();
}

/* --- memory ------------------------------------------------------------------------------------
 */

bool posix_allocation_fails(struct posix_host *h)
{
    long call = atomic_fetch_add(&h->alloc_calls, 1);
    long from = atomic_load(&h->fail_from);

    return from >= 0 && call >= from && call < atomic_load(&h->fail_to);
}

static int host_pages_alloc(void *host, uint64_t count, uint64_t align, int node, hpa_t *out)
{
    struct posix_host *h = host;
    uint64_t step = align > VMM_PAGE_SIZE ? align / VMM_PAGE_SIZE : 1;
    int result = -VMM_ENOMEM;

    if (count == 0 || (align & (align - 1)) != 0) {
        posix_panic(host, "pages_alloc: bad arguments");
    }
    if (posix_allocation_fails(h)) {
        return -VMM_ENOMEM;
    }
    pthread_mutex_lock(&h->mutex);
    for (uint64_t first = 0; first + count <= h->page_count; first += step) {
        if (memchr(h->page_used + first, 1, count) != NULL) {
            continue;
        }
        memset(h->page_used + first, 1, count);
        h->pages_used += count;
        h->allocation[first] = count;
        memset(h->page_node + first, node, count);
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
        posix_panic(host, "pages_free: not allocated");
    }
    if (h->allocation[first] != count) {
        posix_panic(host, "pages_free: not one allocation");
    }
    h->allocation[first] = 0;
    memset(h->page_used + first, 0, count);
    h->pages_used -= count;
    ASAN_POISON_MEMORY_REGION(h->arena + first * VMM_PAGE_SIZE, count * VMM_PAGE_SIZE);
    pthread_mutex_unlock(&h->mutex);
}

static void host_pages_split(void *host, hpa_t base, uint64_t count, uint64_t parts)
{
    struct posix_host *h = host;
    uint64_t first = (base.v - POSIX_HPA_BASE) / VMM_PAGE_SIZE;

    pthread_mutex_lock(&h->mutex);
    if (h->allocation[first] != count || count % parts != 0) {
        posix_panic(host, "pages_split: not one allocation");
    }
    for (uint64_t i = 0; i < count; i += count / parts) {
        h->allocation[first + i] = count / parts;
    }
    pthread_mutex_unlock(&h->mutex);
}

static void host_pages_join(void *host, hpa_t base, uint64_t count, uint64_t parts)
{
    struct posix_host *h = host;
    uint64_t first = (base.v - POSIX_HPA_BASE) / VMM_PAGE_SIZE;
    uint64_t part = count / parts;

    pthread_mutex_lock(&h->mutex);
    for (uint64_t i = 0; i < count; i += part) {
        if (h->allocation[first + i] != part) {
            posix_panic(host, "pages_join: not equal allocations");
        }
        h->allocation[first + i] = 0;
    }
    h->allocation[first] = count;
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

    if (posix_allocation_fails(h)) {
        return NULL;
    }
    p = posix_must(aligned_alloc(16, (size + 15) & ~(size_t)15));
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

/* --- MSRs and events ---------------------------------------------------------------------------
 */

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

void posix_host_set_msr(struct posix_host *h, uint32_t msr, uint64_t value)
{
    unsigned i = 0;

    while (i < h->msr_count && h->msr[i].number != msr) {
        i++;
    }
    if (i < MSRS_MAX) {
        h->msr[i].number = msr;
        h->msr[i].value = value;
        h->msr_count += i == h->msr_count;
    }
}

static void host_vm_event(void *host, void *vm_cookie, int state, int reason)
{
    struct posix_host *h = host;

    pthread_mutex_lock(&h->mutex);
    h->event = (struct posix_event){h->event.count + 1, vm_cookie, state, reason};
    pthread_mutex_unlock(&h->mutex);
}

/* --- life --------------------------------------------------------------------------------------
 */

static const struct vmm_host_ops ops_template = {
    .abi_size = sizeof(struct vmm_host_ops),
    .print = host_print,
    .format = host_format,
    .panic = posix_panic,
    .pages_alloc = host_pages_alloc,
    .pages_free = host_pages_free,
    .pages_split = host_pages_split,
    .pages_join = host_pages_join,
    .pages_available = host_pages_available,
    .alloc = host_alloc,
    .free = host_free,
    .hpa_to_va = host_hpa_to_va,
    .rdmsr_safe = host_rdmsr_safe,
    .vm_event = host_vm_event,
    .files = &posix_files,
    .chars = &posix_chars,
    .store = &posix_store,
};

unsigned posix_leak(const char *what, uint64_t count)
{
    if (count != 0) {
        fprintf(stderr, "posix_host: %llu %s leaked\n", (unsigned long long)count, what);
    }
    return count != 0;
}

/* One arena that nobody uses is kept for the next host of its size: a fuzz target makes many, and
 * the pages it has touched are there already. */
static struct {
    uint8_t *base;
    uint64_t bytes;
} spare;

static uint8_t *arena_take(uint64_t bytes)
{
    uint64_t reserve = bytes + VMM_MIB(1024);
    uint8_t *base, *arena;

    if (spare.base != NULL && spare.bytes == bytes) {
        arena = spare.base;
        spare.base = NULL;
        return arena;
    }
    /* Alignment of addresses up to 1 GiB must hold for pointers too, as in a real direct map. */
    base = mmap(NULL, reserve, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                -1, 0);
    if (base == MAP_FAILED) {
        posix_panic(NULL, "no address space for the arena");
    }
    arena = (uint8_t *)(((uint64_t)base + VMM_MIB(1024) - 1) & ~(VMM_MIB(1024) - 1));
    if (arena != base) {
        munmap(base, (size_t)(arena - base));
    }
    munmap(arena + bytes, reserve - bytes - (size_t)(arena - base));
    ASAN_POISON_MEMORY_REGION(arena, bytes);
    return arena;
}

static void arena_give_back(struct posix_host *h)
{
    uint64_t bytes = h->page_count * VMM_PAGE_SIZE;

    if (spare.base == NULL && h->pages_used == 0) { /* all of it is poisoned */
        spare.base = h->arena;
        spare.bytes = bytes;
        return;
    }
    ASAN_UNPOISON_MEMORY_REGION(h->arena, bytes);
    munmap(h->arena, bytes);
}

struct posix_host *posix_host_create(uint64_t arena_bytes, unsigned cpu_count,
                                     enum posix_clock clock)
{
    struct posix_host *h = posix_must(calloc(1, sizeof(*h)));

    h->ops = ops_template;
    h->clock = clock;
    h->cpu_count = cpu_count;
    h->page_count = arena_bytes / VMM_PAGE_SIZE;
    h->page_used = posix_must(calloc(h->page_count, 1));
    h->page_node = posix_must(calloc(h->page_count, 1));
    h->allocation = posix_must(calloc(h->page_count, sizeof(*h->allocation)));
    h->arena = arena_take(arena_bytes);
    atomic_store(&h->fail_from, -1);
    atomic_store(&h->stored_limit, UINT64_MAX);
    h->log = posix_must(calloc(1, 1));
    pthread_mutex_init(&h->mutex, NULL);
    posix_threads_init(h);
    posix_clock_init(h);
    return h;
}

unsigned posix_host_destroy(struct posix_host *h)
{
    unsigned leaks = posix_leak("pages", h->pages_used) + posix_leak("allocations", h->small_used);

    leaks +=
        posix_clock_exit(h) + posix_threads_exit(h) + posix_streams_exit(h) + posix_store_exit(h);
    arena_give_back(h);
    pthread_mutex_destroy(&h->mutex);
    free(h->page_used);
    free(h->page_node);
    free(h->allocation);
    free(h->log);
    free(h);
    return leaks;
}

/* --- for tests ---------------------------------------------------------------------------------
 */

struct vmm_host_ops *posix_host_ops(struct posix_host *h)
{
    return &h->ops;
}

void posix_host_fail_alloc(struct posix_host *h, long n)
{
    atomic_store(&h->fail_to, LONG_MAX);
    atomic_store(&h->fail_from, n < 0 ? -1 : atomic_load(&h->alloc_calls) + n);
}

void posix_host_fail_one(struct posix_host *h, long n)
{
    long at = atomic_load(&h->alloc_calls) + n;

    atomic_store(&h->fail_to, at + 1);
    atomic_store(&h->fail_from, at);
}

long posix_host_alloc_calls(const struct posix_host *h)
{
    return atomic_load(&h->alloc_calls);
}

int posix_host_node_asked(const struct posix_host *h, uint64_t hpa)
{
    return h->page_node[(hpa - POSIX_HPA_BASE) / VMM_PAGE_SIZE];
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
