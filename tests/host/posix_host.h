/* The library's host hooks bound to POSIX: the library runs as a process, under sanitizers.
 *
 * Memory is an mmap'd arena whose host-physical addresses are offset + POSIX_HPA_BASE, so that a
 * confusion of the address kinds crashes. Pages come filled with garbage and are poisoned when
 * freed. Time stands still until posix_host_advance_ns(), or runs, as chosen. Everything that the
 * library takes is accounted: posix_host_destroy() reports what was not given back. */
#pragma once

#include <stdbool.h>
#include <vmm/host.h>

#define POSIX_HPA_BASE    UINT64_C(0x100000000)
#define POSIX_CYCLES_KHZ  UINT64_C(2500000)
#define POSIX_WALL_BASE_S UINT64_C(1700000000) /* UTC when the virtual clock is zero */

struct posix_host;

enum posix_clock { POSIX_CLOCK_VIRTUAL, POSIX_CLOCK_REAL };

struct posix_host *posix_host_create(uint64_t arena_bytes, unsigned cpu_count,
                                     enum posix_clock clock);
/* Returns how many things leaked (pages, allocations, timers, threads, files, streams), each
 * named on stderr. */
unsigned posix_host_destroy(struct posix_host *h);

/* The table is writable so that a test can take a hook away before it hands it over. */
struct vmm_host_ops *posix_host_ops(struct posix_host *h);

/* Time. Timers whose deadline is passed fire in order, each at its own deadline. */
void posix_host_advance_ns(struct posix_host *h, uint64_t ns);
uint64_t posix_host_now_ns(struct posix_host *h);
bool posix_host_next_timer_ns(struct posix_host *h, uint64_t *ns); /* false: none armed */

/* By the virtual clock: so much of the time that has passed was other threads'. */
void posix_host_steal_ns(struct posix_host *h, uint64_t ns);

/* Memory. The n-th allocation from now on (0: the next), pages or small, fails, and all after it;
 * -1: none fails. */
void posix_host_fail_alloc(struct posix_host *h, long n);
void posix_host_fail_one(struct posix_host *h, long n);  /* only the n-th */
long posix_host_alloc_calls(const struct posix_host *h); /* all so far, to find out how many */
int posix_host_node_asked(const struct posix_host *h, uint64_t hpa); /* for the page there */
uint64_t posix_host_pages_used(const struct posix_host *h);
uint64_t posix_host_small_used(const struct posix_host *h); /* allocations, not bytes */

/* The store of pages: how many it takes (at first any number), how many it has, and whether it
 * loses those it has. A page whose first byte is POSIX_UNWANTED is refused. */
#define POSIX_UNWANTED 0xee
void posix_host_store_limit(struct posix_host *h, uint64_t pages);
uint64_t posix_host_stored(const struct posix_host *h);
void posix_host_store_lose(struct posix_host *h, bool lose);

/* Files: the bytes must outlive the host. */
void posix_host_add_file(struct posix_host *h, const char *name, const void *data, uint64_t size);

/* Character streams by name: what was written so far (NUL-terminated), and typing. */
const char *posix_host_output(struct posix_host *h, const char *name);
void posix_host_clear_output(struct posix_host *h, const char *name);
/* The stream takes that many bytes more, SIZE_MAX: all. */
void posix_host_set_room(struct posix_host *h, const char *name, size_t room);
void posix_host_break(struct posix_host *h, const char *name);
void posix_host_type(struct posix_host *h, const char *name, const char *bytes, size_t count);

/* Lines printed so far, each ended by a newline. POSIX_HOST_VERBOSE=1 copies them to stderr. */
const char *posix_host_log(const struct posix_host *h);
void posix_host_clear_log(struct posix_host *h);

/* MSRs that rdmsr_safe finds; others give -VMM_EINVAL. */
void posix_host_set_msr(struct posix_host *h, uint32_t msr, uint64_t value);

struct posix_event {
    unsigned count;
    void *cookie;
    int state, reason;
};
struct posix_event posix_host_event(const struct posix_host *h); /* the last one */

unsigned posix_host_kicks(const struct posix_host *h, unsigned cpu);
/* The CPU that the calling thread is taken to run on. */
void posix_host_set_cpu(unsigned cpu);
