#include "kernel/vmm_host.h"

#include <string.h>

#include "base/layout.h"
#include "base/platform.h"
#include "base/spinlock.h"
#include "base/x86.h"
#include "kernel/console.h"
#include "kernel/cpu.h"
#include "kernel/format.h"
#include "kernel/irq.h"
#include "kernel/kernel.h"
#include "kernel/lapic.h"
#include "kernel/module.h"
#include "kernel/smp.h"
#include "kernel/squeeze.h"
#include "kernel/time.h"
#include "kernel/trap.h"
#include "mm/buddy.h"
#include "mm/slab.h"
#include "mm/tag.h"
#include "sched/sched.h"
#include "sched/thread.h"
#include "sched/timer.h"

/* --- print ------------------------------------------------------------------------------------ */

static void host_print(void *host, enum vmm_log_level level, const char *line)
{
    static const enum nk_log_level level_table[] = {
        [VMM_LOG_ERROR] = NK_LOG_ERROR,
        [VMM_LOG_WARN] = NK_LOG_WARN,
        [VMM_LOG_INFO] = NK_LOG_INFO,
        [VMM_LOG_DEBUG] = NK_LOG_DEBUG,
    };
    (void)host;
    nk_log(level_table[level], "%s", line);
}

static int host_format(void *host, char *out, size_t size, const char *fmt, va_list ap)
{
    (void)host;
    return (int)nk_vsnprintf(out, size, fmt, ap);
}

static NK_NORETURN void host_panic(void *host, const char *why)
{
    (void)host;
    nk_panic("vmm: %s", why);
}

/* --- who holds what ----------------------------------------------------------------------------
 */

/* A thread's stack is counted for the VM that has the thread, so that a thread left behind shows.
 */
#define THREAD_BYTES ((int64_t)NK_KIB(CONFIG_THREAD_STACK_KIB))

void vmm_host_vm_open(struct vmm_host_vm *vm, const char *name)
{
    char text[VMM_NAME_MAX + 4];
    nk_snprintf(text, sizeof(text), "vm %s", name);
    vm->tag = mm_tag_create(text);
}

int vmm_host_vm_close(struct vmm_host_vm *vm)
{
    struct mm_tag_info left;
    int err = mm_tag_destroy(vm->tag, &left);
    if (err < 0) {
        nk_error("%s: destroyed, but %llu KiB in pages and %llu bytes in objects did not come back",
                 left.name, (unsigned long long)(left.page_bytes >> 10),
                 (unsigned long long)left.object_bytes);
    }
    return err;
}

/* --- memory ----------------------------------------------------------------------------------- */

/* What is counted for a VM, and what for the library as such. */
static uint8_t tag_of(void *host)
{
    const struct vmm_host_vm *vm = host;
    return vm == NULL ? MM_TAG_VMM : vm->tag;
}

static int host_pages_alloc(void *host, uint64_t count, uint64_t align, int node, hpa_t *out)
{
    pa_t pa;
    if (count == 1 && align <= NK_PAGE_SIZE) { /* a guest's first touch of a page waits for this */
        if (buddy_alloc(0, node, &pa) < 0) {
            return -VMM_ENOMEM;
        }
        mm_tag_page(pa, tag_of(host));
        *out = VMM_HPA(pa.v);
        return 0;
    }
    /* Memory of a node that is not there is not to be had. */
    if (buddy_alloc_pages(count, align, node, &pa) < 0) {
        return -VMM_ENOMEM;
    }
    mm_tag_pages(pa, count, tag_of(host));
    *out = VMM_HPA(pa.v);
    return 0;
}

static void host_pages_free(void *host, hpa_t base, uint64_t count)
{
    (void)host;
    buddy_free_pages(NK_PA(base.v), count);
}

static unsigned order_of(uint64_t pages)
{
    return (unsigned)__builtin_ctzll(pages);
}

static void host_pages_split(void *host, hpa_t base, uint64_t count, uint64_t parts)
{
    (void)host;
    buddy_split(NK_PA(base.v), order_of(count), order_of(count / parts));
}

static void host_pages_join(void *host, hpa_t base, uint64_t count, uint64_t parts)
{
    (void)host;
    buddy_join(NK_PA(base.v), order_of(count), order_of(count / parts));
}

static uint64_t host_pages_available(void *host)
{
    (void)host;
    uint64_t pages = 0;
    for (unsigned node = 0; node < buddy_node_count(); node++) {
        struct buddy_stats stats;
        buddy_get_stats(node, &stats);
        pages += stats.free_pages;
    }
    return pages * NK_PAGE_SIZE;
}

static void *host_alloc(void *host, size_t size)
{
    void *p = kzalloc(size);
    if (p != NULL) {
        mm_tag_add_objects(tag_of(host), (int64_t)kmalloc_usable(p));
    }
    return p;
}

static void host_free(void *host, void *p)
{
    if (p != NULL) {
        mm_tag_add_objects(tag_of(host), -(int64_t)kmalloc_usable(p));
    }
    kfree(p);
}

/* --- pages of guests, kept squeezed ------------------------------------------------------------
 */

/* One that takes more than this is not worth its time. */
#define KEPT_MOST 3072

struct kept_page {
    uint16_t size;
    uint8_t bytes[];
};

/* Small memory is aligned to 16 bytes and lies in the direct map: that is the slot. */
static struct kept_page *kept_at(uint64_t slot)
{
    return (struct kept_page *)(NK_DIRECT_BASE + slot * 16);
}

static int host_store_put(void *host, const void *page, uint64_t *slot)
{
    uint8_t squeezed[KEPT_MOST];
    size_t size = squeeze_page(page, squeezed, sizeof(squeezed));
    if (size == 0) {
        return -VMM_E2BIG;
    }
    struct kept_page *kept = host_alloc(host, sizeof(*kept) + size);
    if (!kept) {
        return -VMM_ENOSPC;
    }
    kept->size = (uint16_t)size;
    memcpy(kept->bytes, squeezed, size);
    *slot = ((uint64_t)kept - NK_DIRECT_BASE) / 16;
    return 0;
}

static int host_store_get(void *host, uint64_t slot, void *page)
{
    const struct kept_page *kept = kept_at(slot);
    (void)host;
    return expand_page(kept->bytes, kept->size, page) ? 0 : -VMM_EIO;
}

static void host_store_drop(void *host, uint64_t slot)
{
    host_free(host, kept_at(slot));
}

static const struct vmm_host_store host_store = {
    host_store_put,
    host_store_get,
    host_store_drop,
};

static void *host_hpa_to_va(void *host, hpa_t hpa)
{
    (void)host;
    return nk_pa_to_va(NK_PA(hpa.v));
}

/* --- threads ---------------------------------------------------------------------------------- */

/* The library only passes these round, so a thread of the kernel is one as it is. */
static struct nk_thread *to_nk(struct vmm_thread *t)
{
    return (struct nk_thread *)t;
}

/* No VM is put unasked where QEMU's TCG breaks it, and who asks for it is told. */
static void keep_off_tcg(struct nk_thread *t, const char *name, int cpu)
{
    uint64_t others = UINT64_MAX >> (64 - nk_cpu_count) & ~sched_isolated() & ~UINT64_C(1);
    if (cpu > 0 || !cpu_zero_breaks_vms() || (cpu < 0 && nk_thread_set_affinity(t, others) == 0)) {
        return;
    }
    nk_warn("vm: vCPU %s is on CPU 0, where QEMU's TCG can break it and the node, unlike on others "
            "(docs/backends.md)",
            name);
}

static int host_thread_create(void *host, const char *name, int cpu, void (*fn)(void *arg),
                              void *arg, struct vmm_thread **out)
{
    const struct nk_thread_attr attr = {
        .name = name, .cpu = cpu < 0 ? NK_CPU_ANY : cpu, .fp = true};
    struct nk_thread *t;
    int err = nk_thread_create(&t, &attr, fn, arg);
    if (err == 0) {
        keep_off_tcg(t, name, cpu);
        mm_tag_add_objects(tag_of(host), THREAD_BYTES);
        *out = (struct vmm_thread *)t;
    }
    return err;
}

static int host_thread_run(void *host, struct vmm_thread *t)
{
    (void)host;
    return nk_thread_run(to_nk(t));
}

static int host_thread_join(void *host, struct vmm_thread *t)
{
    /* One that never ran has nothing to wait for. */
    int err = 0;
    if (nk_thread_get_state(to_nk(t)) != NK_THREAD_NEW) {
        err = nk_thread_join(to_nk(t));
    }
    if (err == 0) {
        err = nk_thread_destroy(to_nk(t));
    }
    if (err == 0) {
        mm_tag_add_objects(tag_of(host), -THREAD_BYTES);
    }
    return err;
}

static void host_thread_park(void *host)
{
    (void)host;
    nk_thread_park_idling();
}

static void host_thread_wake(void *host, struct vmm_thread *t)
{
    (void)host;
    nk_thread_wake(to_nk(t));
}

static void host_thread_yield(void *host)
{
    (void)host;
    nk_thread_yield();
}

static struct vmm_thread *host_thread_current(void *host)
{
    (void)host;
    return (struct vmm_thread *)nk_thread_current();
}

static uint64_t host_thread_cycles(void *host)
{
    (void)host;
    return nk_thread_cpu_ticks();
}

static void host_thread_set_xcr0(void *host, uint64_t xcr0)
{
    (void)host;
    nk_thread_fp_set_xcr0(xcr0);
}

/* --- locks ------------------------------------------------------------------------------------ */

/* A ticket lock of its own: the library nests its locks in an order that it keeps itself, so they
 * have no rank among the kernel's. */
struct host_lock {
    uint32_t next, owner;
};
_Static_assert(sizeof(struct host_lock) <= sizeof(struct vmm_lock), "fits the library's storage");

static void host_lock(void *host, struct vmm_lock *lock)
{
    (void)host;
    struct host_lock *l = (struct host_lock *)lock->opaque;
    nk_preempt_disable();
    uint32_t ticket = __atomic_fetch_add(&l->next, 1, __ATOMIC_RELAXED);
    while (nk_unlikely(__atomic_load_n(&l->owner, __ATOMIC_ACQUIRE) != ticket)) {
        x86_pause();
    }
}

static void host_unlock(void *host, struct vmm_lock *lock)
{
    (void)host;
    struct host_lock *l = (struct host_lock *)lock->opaque;
    __atomic_store_n(&l->owner, l->owner + 1, __ATOMIC_RELEASE);
    nk_preempt_enable();
}

/* --- CPU -------------------------------------------------------------------------------------- */

static unsigned host_cpu_count(void *host)
{
    (void)host;
    return nk_cpu_count;
}

static unsigned host_cpu_current(void *host)
{
    (void)host;
    return this_cpu->id;
}

static void host_cpu_kick(void *host, unsigned cpu)
{
    (void)host;
    /* Who runs here is not in guest mode. */
    nk_preempt_disable();
    if (cpu != this_cpu->id) {
        nk_platform_kick_cpu(cpu);
    }
    nk_preempt_enable();
}

static void host_cpu_post(void *host, unsigned cpu)
{
    (void)host;
    lapic_send_ipi(nk_cpu_table[cpu].apic_id, NK_VECTOR_POSTED);
}

static int host_cpu_call(void *host, unsigned cpu, void (*fn)(void *arg), void *arg)
{
    (void)host;
    return nk_cpu_call(cpu, fn, arg, true);
}

/* --- time ------------------------------------------------------------------------------------- */

struct vmm_host_timer {
    struct nk_timer timer;
    void (*fn)(void *arg);
    void *arg;
};

static uint64_t host_cycles(void *host)
{
    (void)host;
    return x86_rdtsc();
}

static uint64_t host_wall_clock_ns(void *host)
{
    (void)host;
    return nk_wall_clock_ns();
}

static void timer_fired(struct nk_timer *timer)
{
    struct vmm_host_timer *t = NK_CONTAINER_OF(timer, struct vmm_host_timer, timer);
    t->fn(t->arg);
}

static int host_timer_create(void *host, void (*fn)(void *arg), void *arg,
                             struct vmm_host_timer **out)
{
    struct vmm_host_timer *t = host_alloc(host, sizeof(*t));
    if (!t) {
        return -VMM_ENOMEM;
    }
    nk_timer_init(&t->timer, timer_fired);
    t->fn = fn;
    t->arg = arg;
    *out = t;
    return 0;
}

static void host_timer_arm(void *host, struct vmm_host_timer *t, uint64_t deadline_cycles)
{
    (void)host;
    nk_timer_arm(&t->timer, deadline_cycles);
}

static void host_timer_cancel(void *host, struct vmm_host_timer *t)
{
    (void)host;
    nk_timer_cancel(&t->timer);
}

static void host_timer_destroy(void *host, struct vmm_host_timer *t)
{
    nk_timer_cancel(&t->timer);
    host_free(host, t);
}

/* --- MSRs ------------------------------------------------------------------------------------- */

static int host_rdmsr_safe(void *host, uint32_t msr, uint64_t *value)
{
    (void)host;
    return nk_rdmsr_safe(msr, value);
}

/* --- files: boot modules ---------------------------------------------------------------------- */

static int host_file_open(void *host, const char *name, const void **data, uint64_t *size)
{
    (void)host;
    struct nk_module m;
    if (!nk_module_find(name, &m)) {
        return -VMM_ENOENT;
    }
    *data = m.data;
    *size = m.size;
    return 0;
}

static void host_file_close(void *host, const char *name, const void *data)
{
    (void)host;
    (void)name;
    (void)data;
}

static const struct vmm_host_files host_files = {host_file_open, host_file_close};

/* --- character streams: console streams ------------------------------------------------------- */

struct host_stream {
    struct nk_console *console;
    size_t counted; /* atomic: bytes of its ring that are counted for the VM */
};

/* The ring has grown, perhaps under another vCPU's write at the same time: what is counted then is
 * what is taken off again in the end. */
static void count_ring(void *host, struct host_stream *s)
{
    size_t now = console_ring_bytes(s->console);
    if (nk_unlikely(now != __atomic_load_n(&s->counted, __ATOMIC_RELAXED))) {
        size_t before = __atomic_exchange_n(&s->counted, now, __ATOMIC_RELAXED);
        mm_tag_add_objects(tag_of(host), (int64_t)(now - before));
    }
}

static int host_chars_open(void *host, const char *name, const struct vmm_char_receiver *receiver,
                           void **stream)
{
    const struct nk_console_receiver to = {receiver->input, receiver->send_break, receiver->arg};
    struct host_stream *s = host_alloc(host, sizeof(*s));
    if (!s) {
        return -VMM_ENOMEM;
    }
    int err = console_create(&s->console, name, &to);
    if (err < 0) {
        host_free(host, s);
        return err;
    }
    count_ring(host, s);
    *stream = s;
    return 0;
}

static size_t host_chars_write(void *host, void *stream, const char *bytes, size_t count)
{
    struct host_stream *s = stream;
    size_t taken = console_stream_write(s->console, bytes, count);
    count_ring(host, s);
    return taken;
}

static void host_chars_close(void *host, void *stream)
{
    struct host_stream *s = stream;
    console_destroy(s->console);
    mm_tag_add_objects(tag_of(host), -(int64_t)s->counted);
    host_free(host, s);
}

static const struct vmm_host_chars host_chars = {
    host_chars_open,
    host_chars_write,
    host_chars_close,
};

/* --- options: the kernel's command line ------------------------------------------------------- */

/* Valid until the next call: the library reads its options one by one, in vmm_create(). */
static const char *host_option(void *host, const char *name)
{
    static char text[BOOTINFO_TEXT_MAX];
    (void)host;
    return nk_option(name, text, sizeof(text)) ? text : NULL;
}

/* ---------------------------------------------------------------------------------------------- */

/* Written once, before the library sees it: some of its members are known at run time only. */
static struct vmm_host_ops host_ops = {
    .abi_size = sizeof(struct vmm_host_ops),
    .print = host_print,
    .format = host_format,
    .panic = host_panic,
    .pages_alloc = host_pages_alloc,
    .pages_free = host_pages_free,
    .pages_split = host_pages_split,
    .pages_join = host_pages_join,
    .pages_available = host_pages_available,
    .alloc = host_alloc,
    .free = host_free,
    .hpa_to_va = host_hpa_to_va,
    .thread_create = host_thread_create,
    .thread_run = host_thread_run,
    .thread_join = host_thread_join,
    .thread_park = host_thread_park,
    .thread_wake = host_thread_wake,
    .thread_yield = host_thread_yield,
    .thread_current = host_thread_current,
    .thread_set_xcr0 = host_thread_set_xcr0,
    .thread_cycles = host_thread_cycles,
    .lock = host_lock,
    .unlock = host_unlock,
    .cpu_count = host_cpu_count,
    .cpu_current = host_cpu_current,
    .cpu_kick = host_cpu_kick,
    .posted_vector = NK_VECTOR_POSTED,
    .cpu_post = host_cpu_post,
    .cpu_call = host_cpu_call,
    .cycles = host_cycles,
    .wall_clock_ns = host_wall_clock_ns,
    .timer_create = host_timer_create,
    .timer_arm = host_timer_arm,
    .timer_cancel = host_timer_cancel,
    .timer_destroy = host_timer_destroy,
    .rdmsr_safe = host_rdmsr_safe,
    .files = &host_files,
    .chars = &host_chars,
    .store = &host_store,
    .option = host_option,
};

const struct vmm_host_ops *vmm_host_ops(void (*vm_event)(void *host, void *vm_cookie, int state,
                                                         int reason))
{
    host_ops.vm_event = vm_event;
    host_ops.cycles_khz = nk_tsc_hz / 1000;
    host_ops.xcr0_supported = nk_fp_xcr0_supported();
    return &host_ops;
}
