/* Tests of kernel/vmm_host.c: what docs/porting.md asks of every host, hook by hook. */
#include "kernel/vmm_host.h"

#include <string.h>
#include <vmm/vm.h>

#include "base/percpu.h"
#include "base/platform.h"
#include "base/x86.h"
#include "kernel/console.h"
#include "kernel/log.h"
#include "sched/thread.h"
#include "tests/kernel/ktest.h"

static void no_event(void *host, void *vm_cookie, int state, int reason)
{
    (void)host;
    (void)vm_cookie;
    (void)state;
    (void)reason;
}

static const struct vmm_host_ops *ops(void)
{
    return vmm_host_ops(no_event);
}

static void ignore_input(void *arg, const char *s, size_t len)
{
    (void)arg;
    (void)s;
    (void)len;
}

static const struct vmm_char_receiver receiver = {.input = ignore_input};

KTEST(vmm_host_table)
{
    EXPECT_EQ(ops()->abi_size, sizeof(struct vmm_host_ops));
    EXPECT_EQ(ops()->flags, 0);
    EXPECT_EQ(ops()->cycles_khz, nk_tsc_hz / 1000);
    EXPECT_EQ(ops()->cpu_count(NULL), nk_cpu_count);
    EXPECT_LT(ops()->cpu_current(NULL), nk_cpu_count);
    EXPECT(ops()->files != NULL);
    EXPECT(ops()->chars != NULL);
    EXPECT(ops()->option(NULL, "no-such-option") == NULL);
}

KTEST(vmm_host_memory)
{
    uint64_t before = ops()->pages_available(NULL);
    hpa_t pages;
    ASSERT_EQ(ops()->pages_alloc(NULL, 512, VMM_MIB(2), -1, &pages), 0);
    EXPECT_EQ(pages.v % VMM_MIB(2), 0);
    uint8_t *va = ops()->hpa_to_va(NULL, pages);
    memset(va, 0xa5, VMM_MIB(2));
    ops()->pages_free(NULL, pages, 512);
    EXPECT_EQ(ops()->pages_available(NULL), before);
    EXPECT_EQ(ops()->pages_alloc(NULL, before / VMM_PAGE_SIZE + 1, VMM_PAGE_SIZE, -1, &pages),
              -VMM_ENOMEM);

    unsigned char *p = ops()->alloc(NULL, 1000);
    ASSERT(p);
    EXPECT_EQ((uintptr_t)p % 16, 0);
    for (unsigned i = 0; i < 1000; i++) {
        EXPECT_EQ(p[i], 0);
    }
    ops()->free(NULL, p);
    ops()->free(NULL, NULL);
}

static bool log_has(const char *text)
{
    struct nk_log_record r;
    uint64_t cursor = 0;
    bool found = false;
    while (nk_log_read(&cursor, &r)) {
        found = found || strstr(r.text, text) != NULL;
    }
    return found;
}

static void never_run(void *arg)
{
    (void)arg;
}

/* What a VM does not give back at its end is found, of each kind, and said in one line. */
KTEST(vmm_host_leaks)
{
    struct vmm_host_vm vm;
    vmm_host_vm_open(&vm, "leaky");
    hpa_t pages;
    struct vmm_host_timer *timer;
    struct vmm_thread *thread;
    void *object = ops()->alloc(&vm, 1000), *stream;
    ASSERT(object != NULL);
    ASSERT_EQ(ops()->pages_alloc(&vm, 3, VMM_PAGE_SIZE, -1, &pages), 0);
    ASSERT_EQ(ops()->timer_create(&vm, never_run, NULL, &timer), 0);
    ASSERT_EQ(ops()->thread_create(&vm, "left", -1, never_run, NULL, &thread), 0);
    ASSERT_EQ(ops()->chars->open(&vm, "left", &receiver, &stream), 0);

    EXPECT_LT(vmm_host_vm_close(&vm), 0);
    EXPECT(log_has("vm leaky: destroyed, but 12 KiB in pages and "));
    ops()->pages_free(&vm, pages, 3);
    EXPECT_LT(vmm_host_vm_close(&vm), 0);
    EXPECT(log_has("vm leaky: destroyed, but 0 KiB in pages and "));
    ops()->timer_destroy(&vm, timer);
    EXPECT_LT(vmm_host_vm_close(&vm), 0);
    EXPECT_EQ(ops()->thread_join(&vm, thread), 0);
    EXPECT_LT(vmm_host_vm_close(&vm), 0);
    ops()->chars->close(&vm, stream);
    EXPECT_LT(vmm_host_vm_close(&vm), 0);
    ops()->free(&vm, object);
    EXPECT_EQ(vmm_host_vm_close(&vm), 0);
}

#define COUNTING_THREADS 3
#define COUNTS           2000

static struct {
    struct vmm_lock lock;
    unsigned count, threads_with_self;
    struct vmm_thread *thread[COUNTING_THREADS];
} shared;

static void count_up(void *arg)
{
    unsigned index = (unsigned)(uintptr_t)arg;
    ops()->thread_park(NULL); /* until the test has stored the handle */
    for (unsigned i = 0; i < COUNTS; i++) {
        ops()->lock(NULL, &shared.lock);
        shared.count++;
        ops()->unlock(NULL, &shared.lock);
        if (i % 100 == 0) {
            ops()->thread_yield(NULL);
        }
    }
    ops()->lock(NULL, &shared.lock);
    shared.threads_with_self += ops()->thread_current(NULL) == shared.thread[index];
    ops()->unlock(NULL, &shared.lock);
}

KTEST(vmm_host_threads_and_locks)
{
    memset(&shared, 0, sizeof(shared));
    for (unsigned i = 0; i < COUNTING_THREADS; i++) {
        int cpu = (int)(i % nk_cpu_count);
        ASSERT_EQ(ops()->thread_create(NULL, "counter", cpu, count_up, (void *)(uintptr_t)i,
                                       &shared.thread[i]),
                  0);
        ASSERT_EQ(ops()->thread_run(NULL, shared.thread[i]), 0);
    }
    for (unsigned i = 0; i < COUNTING_THREADS; i++) {
        ops()->thread_wake(NULL, shared.thread[i]);
    }
    for (unsigned i = 0; i < COUNTING_THREADS; i++) {
        EXPECT_EQ(ops()->thread_join(NULL, shared.thread[i]), 0);
    }
    EXPECT_EQ(shared.count, COUNTING_THREADS * COUNTS);
    EXPECT_EQ(shared.threads_with_self, COUNTING_THREADS);

    /* A thread that never ran can be released too. */
    struct vmm_thread *t;
    ASSERT_EQ(ops()->thread_create(NULL, "idle", -1, count_up, NULL, &t), 0);
    EXPECT_EQ(ops()->thread_join(NULL, t), 0);
    EXPECT_LT(ops()->thread_create(NULL, "nowhere", CONFIG_NR_CPUS, count_up, NULL, &t), 0);
}

struct timed {
    uint64_t fired_at;
    struct vmm_thread *waiter;
};

static void timer_fires(void *arg)
{
    struct timed *t = arg;
    t->fired_at = x86_rdtsc();
    ops()->thread_wake(NULL, t->waiter);
}

KTEST(vmm_host_timers)
{
    struct timed timed = {.waiter = ops()->thread_current(NULL)};
    volatile uint64_t *fired_at = &timed.fired_at;
    struct vmm_host_timer *timer;
    ASSERT_EQ(ops()->timer_create(NULL, timer_fires, &timed, &timer), 0);
    uint64_t deadline = ops()->cycles(NULL) + ops()->cycles_khz * 5;
    ops()->timer_arm(NULL, timer, deadline);
    while (!*fired_at) {
        ops()->thread_park(NULL);
    }
    EXPECT_GE(*fired_at, deadline);

    *fired_at = 0;
    ops()->timer_arm(NULL, timer, ops()->cycles(NULL) + ops()->cycles_khz * 1000);
    ops()->timer_cancel(NULL, timer);
    EXPECT_EQ(*fired_at, 0);
    ops()->timer_arm(NULL, timer, ops()->cycles(NULL) + ops()->cycles_khz * 1000);
    ops()->timer_destroy(NULL, timer);
    EXPECT_GT(ops()->wall_clock_ns(NULL), UINT64_C(1500000000000000000));
}

static void note_cpu(void *arg)
{
    *(unsigned *)arg = this_cpu->id;
}

KTEST(vmm_host_cpus)
{
    for (unsigned cpu = 0; cpu < nk_cpu_count; cpu++) {
        unsigned seen = CONFIG_NR_CPUS;
        EXPECT_EQ(ops()->cpu_call(NULL, cpu, note_cpu, &seen), 0);
        EXPECT_EQ(seen, cpu);
        ops()->cpu_kick(NULL, cpu);
    }
    uint64_t value;
    EXPECT_EQ(ops()->rdmsr_safe(NULL, 0x10, &value), 0); /* TSC */
}

struct stream_writer {
    struct vmm_host_vm vm;
    void *stream;
};

static void write_much(void *arg)
{
    static char line[64];
    const struct stream_writer *w = arg;
    memset(line, 'x', sizeof(line));
    for (unsigned i = 0; i < NK_CONSOLE_RING_MOST / sizeof(line) / 4; i++) {
        ops()->chars->write(arg, w->stream, line, sizeof(line));
    }
}

/* vCPUs that write at once make a stream's ring grow together: it is counted once. */
KTEST(vmm_host_streams_grow)
{
    struct stream_writer w;
    struct vmm_thread *thread[2];
    vmm_host_vm_open(&w.vm, "writer");
    ASSERT_EQ(ops()->chars->open(&w.vm, "writer", &receiver, &w.stream), 0);
    for (unsigned i = 0; i < 2; i++) {
        int cpu = i < nk_cpu_count ? (int)i : -1;
        ASSERT_EQ(ops()->thread_create(&w.vm, "writer", cpu, write_much, &w, &thread[i]), 0);
        ASSERT_EQ(ops()->thread_run(&w.vm, thread[i]), 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        EXPECT_EQ(ops()->thread_join(&w.vm, thread[i]), 0);
    }
    ops()->chars->close(&w.vm, w.stream);
    EXPECT_EQ(vmm_host_vm_close(&w.vm), 0);
}

KTEST(vmm_host_files_and_streams)
{
    const void *data;
    uint64_t size;
    EXPECT_EQ(ops()->files->open(NULL, "no/such/file", &data, &size), -VMM_ENOENT);
    void *stream, *second;
    ASSERT_EQ(ops()->chars->open(NULL, "stream", &receiver, &stream), 0);
    EXPECT_EQ(ops()->chars->open(NULL, "stream", &receiver, &second), -VMM_EEXIST);
    ops()->chars->write(NULL, stream, "text", 4);
    ops()->chars->close(NULL, stream);
}

/* The host's MSRs, but for VM_CR as firmware leaves it that does not want SVM. */
static int rdmsr_disabled(void *host, uint32_t msr, uint64_t *value)
{
    if (msr == 0xc0010114) {
        *value = 0x18; /* LOCK, SVMDIS */
        return 0;
    }
    return ops()->rdmsr_safe(host, msr, value);
}

KTEST(vmm_svm_disabled_by_firmware)
{
    bool svm =
        x86_cpuid(0x80000000, 0).eax >= 0x80000001 && (x86_cpuid(0x80000001, 0).ecx & 1u << 2) != 0;
    KTEST_SKIP_UNLESS(svm, "the processor has no SVM");
    struct vmm_host_ops disabled = *ops();
    disabled.rdmsr_safe = rdmsr_disabled;
    struct vmm_error err;
    struct vmm *vmm = NULL;
    EXPECT_EQ(vmm_create(&disabled, NULL, &vmm, &err), -VMM_ENODEV);
    EXPECT(strcmp(err.text, "no hardware virtualisation: AMD SVM is disabled by firmware "
                            "(VM_CR.SVMDIS)") == 0);
}

/* As firmware leaves IA32_FEATURE_CONTROL that does not want VMX: locked, and nothing enabled. */
static int rdmsr_locked(void *host, uint32_t msr, uint64_t *value)
{
    if (msr == 0x3a) {
        *value = 1;
        return 0;
    }
    return ops()->rdmsr_safe(host, msr, value);
}

static bool has_vmx(void)
{
    return (x86_cpuid(1, 0).ecx & 1u << 5) != 0;
}

KTEST(vmm_vmx_locked_by_firmware)
{
    KTEST_SKIP_UNLESS(has_vmx(), "the processor has no VMX");
    struct vmm_host_ops locked = *ops();
    locked.rdmsr_safe = rdmsr_locked;
    struct vmm_error err;
    struct vmm *vmm = NULL;
    EXPECT_EQ(vmm_create(&locked, NULL, &vmm, &err), -VMM_ENODEV);
    EXPECT(strcmp(err.text, "no hardware virtualisation: Intel VMX is locked off by firmware "
                            "(IA32_FEATURE_CONTROL 0x1)") == 0);
}

/* A guest of a few bytes in real mode: it ends the VM with a code. */
static const uint8_t tiny_guest[] = {
    0xb0, 0x2a, /* mov al, 42 */
    0xe6, 0xf4, /* out 0xf4, al */
    0xf4,       /* hlt */
};

static int open_tiny(void *host, const char *name, const void **data, uint64_t *size)
{
    (void)host;
    (void)name;
    *data = tiny_guest;
    *size = sizeof(tiny_guest);
    return 0;
}

static void close_tiny(void *host, const char *name, const void *data)
{
    (void)host;
    (void)name;
    (void)data;
}

static void ignore_event(void *host, void *cookie, int state, int reason)
{
    (void)host;
    (void)cookie;
    (void)state;
    (void)reason;
}

/* In this debug build VMX audits what it enters for the first time. */
KTEST(vmm_runs_a_guest)
{
    static const struct vmm_host_files files = {.open = open_tiny, .close = close_tiny};
    struct vmm_host_ops mine = *ops();
    mine.files = &files;
    mine.vm_event = ignore_event;
    struct vmm_error err;
    struct vmm *vmm = NULL;
    int error = vmm_create(&mine, NULL, &vmm, &err);
    KTEST_SKIP_UNLESS(error != -VMM_ENODEV, "the processor virtualises nothing");
    ASSERT_EQ(error, 0);
    struct vm_config config = {.name = "tiny",
                               .vcpu_count = 1,
                               .mem_bytes = 4 << 20,
                               .cpu = {-1},
                               .node = -1,
                               .protocol = VM_PROTOCOL_FLAT16,
                               .kernel_path = "tiny",
                               .load_address = 0x7c00};
    struct vm *vm;
    error = vmm_vm_create(vmm, &config, &vm, &err);
    if (error != 0) {
        nk_error("%s", err.text);
    }
    ASSERT_EQ(error, 0);
    EXPECT_EQ(vmm_vm_start(vm, &err), 0);
    for (unsigned i = 0; i < 1000 && vmm_vm_state(vm) == VM_RUNNING; i++) {
        nk_thread_sleep_ns(10000000);
    }
    EXPECT_EQ(vmm_vm_state(vm), VM_STOPPED);
    EXPECT_EQ(vmm_vm_reason(vm), VM_REASON_EXIT);
    EXPECT_EQ(vmm_vm_exit_code(vm), 42u);
    EXPECT_EQ(vmm_vm_kill(vm), 0);
    EXPECT_EQ(vmm_destroy(vmm), 0);
}
