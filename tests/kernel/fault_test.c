/* Every allocation of an operation fails in turn: the caller gets an error, and nothing is lost. */
#include "mm/fault.h"

#include <errno.h>

#include "kernel/console.h"
#include "kernel/irq.h"
#include "mm/buddy.h"
#include "mm/paging.h"
#include "mm/slab.h"
#include "sched/deadline.h"
#include "sched/thread.h"
#include "tests/kernel/ktest.h"

#define FAULTS_MAX 200

static uint64_t objects_in_use(void)
{
    struct slab_stats stats;
    uint64_t sum = 0;
    for (unsigned i = 0; slab_get_stats(i, &stats); i++) {
        sum += stats.objects_used;
    }
    return sum;
}

/* `operation` does its work and undoes it: 0, or its error. */
static void fail_each(const char *name, int (*operation)(void))
{
    EXPECT_EQ(operation(), 0); /* what is made once and kept is there now */
    const uint64_t before = objects_in_use();
    unsigned number = 0;
    for (; number < FAULTS_MAX; number++) {
        mm_fault_inject(number);
        int err = operation();
        if (!mm_fault_end()) {
            EXPECT_EQ(err, 0);
            break;
        }
        if (err != -ENOMEM) {
            ktest_note("%s: allocation %u failed", name, number);
            EXPECT_EQ(err, -ENOMEM);
        }
        if (objects_in_use() != before) {
            ktest_note("%s: allocation %u failed", name, number);
            ASSERT_EQ(objects_in_use(), before);
        }
    }
    EXPECT_GT(number, 0);
    EXPECT_LT(number, FAULTS_MAX);
    EXPECT_EQ(objects_in_use(), before);
    buddy_check();
}

static void nothing(void *arg)
{
    (void)arg;
}

static int make_thread(void)
{
    struct nk_thread *t;
    struct nk_thread_attr attr = {.name = "fault", .cpu = NK_CPU_ANY, .fp = true};
    int err = nk_thread_create(&t, &attr, nothing, NULL);
    return err != 0 ? err : nk_thread_destroy(t);
}

/* More stacks than the pool keeps: their pages and page tables are allocated, too. */
static int make_stacks(void)
{
    static void *stack[80];
    unsigned count = 0;
    while (count < NK_ARRAY_COUNT(stack) &&
           (stack[count] = paging_stack_alloc(BUDDY_NODE_ANY)) != NULL) {
        count++;
    }
    int err = count < NK_ARRAY_COUNT(stack) ? -ENOMEM : 0;
    while (count > 0) {
        paging_stack_free(stack[--count]);
    }
    return err;
}

static int map_memory(void)
{
    static uint64_t va = UINT64_C(0xffffe10000000000); /* fresh tables each time */
    va += NK_GIB(512);
    int err = paging_map(va, NK_PA(NK_MIB(1)), NK_MIB(3), PAGING_READ);
    if (err == 0) {
        err = paging_protect(va + NK_PAGE_SIZE, NK_PAGE_SIZE, PAGING_READ);
        paging_unmap(va, NK_MIB(3));
    }
    pa_t pa;
    EXPECT(err == 0 || paging_translate(va, &pa, NULL) == -ENOENT);
    return err;
}

static int reallocate(void)
{
    char *p = kmalloc(100);
    if (p == NULL) {
        return -ENOMEM;
    }
    char *q = krealloc(p, NK_KIB(100));
    kfree(q != NULL ? q : p);
    return q != NULL ? 0 : -ENOMEM;
}

static int take_pages(void)
{
    pa_t pa;
    int err = buddy_alloc_pages(5, NK_PAGE_SIZE, BUDDY_NODE_ANY, &pa);
    if (err == 0) {
        buddy_free_pages(pa, 5);
    }
    return err;
}

static int set_deadline(void)
{
    const struct nk_deadline d = {.deadline_ns = 50000000, .slice_ns = 5000000};
    int err = nk_thread_set_deadline(&d);
    nk_thread_end_deadline();
    EXPECT_EQ(nk_deadline_load(this_cpu->id), 0);
    return err;
}

static void take_input(void *arg, const char *s, size_t len)
{
    (void)arg, (void)s, (void)len;
}

static int open_stream(void)
{
    struct nk_console *c;
    int err = console_create(&c, "fault", take_input, NULL);
    if (err == 0) {
        console_destroy(c);
    }
    return err;
}

static bool no_interrupt(void *arg)
{
    (void)arg;
    return false;
}

static int attach_line(void)
{
    int err = nk_irq_attach(5, "fault", no_interrupt, NULL);
    if (err == 0) {
        nk_irq_detach(5, no_interrupt, NULL);
    }
    return err;
}

static int attach_threaded_line(void)
{
    struct nk_irq_thread *t;
    int err = nk_irq_attach_thread(&t, 5, "fault", no_interrupt, NULL);
    if (err == 0) {
        nk_irq_detach_thread(t);
    }
    return err;
}

#if defined(CONFIG_DEBUG)
#define HAVE_FAULTS true
#else
#define HAVE_FAULTS false
#endif

KTEST(fault_each_allocation)
{
    KTEST_SKIP_UNLESS(HAVE_FAULTS, "not a debug build");
    EXPECT_EQ(nk_thread_pin(nk_thread_current(), (int)this_cpu->id), 0);
    fail_each("thread", make_thread);
    fail_each("stacks", make_stacks);
    fail_each("mapping", map_memory);
    fail_each("krealloc", reallocate);
    fail_each("pages", take_pages);
    fail_each("deadline", set_deadline);
    fail_each("console", open_stream);
    fail_each("line", attach_line);
    fail_each("threaded line", attach_threaded_line);
    EXPECT_EQ(nk_thread_pin(nk_thread_current(), NK_CPU_ANY), 0);
}
