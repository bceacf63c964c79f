/* Every allocation of an operation fails in turn: the caller gets an error, and nothing is lost. */
#include "mm/fault.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/console.h"
#include "kernel/irq.h"
#include "kernel/smp.h"
#include "mm/buddy.h"
#include "mm/paging.h"
#include "mm/slab.h"
#include "sched/deadline.h"
#include "sched/partition.h"
#include "sched/thread.h"
#include "sched/work.h"
#include "tests/kernel/fault.h"
#include "tests/kernel/ktest.h"

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
    const struct nk_console_receiver receiver = {.input = take_input};
    struct nk_console *c;
    int err = console_create(&c, "fault", &receiver);
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

static int start_thread(void)
{
    struct nk_thread *t;
    int err = nk_thread_start(&t, NULL, nothing, NULL);
    if (err == 0) {
        err = nk_thread_join(t);
        EXPECT_EQ(nk_thread_destroy(t), 0);
    }
    return err;
}

static int clone_thread(void)
{
    struct nk_thread *t;
    int err = nk_thread_clone(&t, nothing, NULL);
    if (err == 0) {
        err = nk_thread_join(t);
        EXPECT_EQ(nk_thread_destroy(t), 0);
    }
    return err;
}

static int make_work_queue(void)
{
    struct nk_work_service *s;
    struct nk_work_queue *q;
    int err =
        nk_work_service_create(&s, &(struct nk_work_service_attr){.name = "fault", .threads = 2});
    if (err != 0) {
        return err;
    }
    err = nk_work_queue_create(&q, "fault", s);
    if (err == 0) {
        nk_work_queue_destroy(q);
    }
    EXPECT_EQ(nk_work_service_destroy(s), 0);
    return err;
}

static int set_partitions(void)
{
    static const struct nk_partition_table table = {
        .frame_ns = 10000000, .slot_count = 1, .slots = {{0, 10000000}}};
    int err = nk_partition_set_table(nk_cpu_count - 1, &table, NULL);
    nk_partition_clear_table(nk_cpu_count - 1);
    return err;
}

static volatile bool called;

static void note_call(void *arg)
{
    (void)arg;
    called = true;
}

static int call_without_waiting(void)
{
    called = false;
    int err = nk_cpu_call((this_cpu->id + 1) % nk_cpu_count, note_call, NULL, false);
    while (err == 0 && !called) {
        nk_thread_yield();
    }
    return err;
}

/* Some memory of every allocating member of the C library's family. */
static int library_memory(void)
{
    char *text = strdup("text");
    char *many = calloc(10, 100);
    char *aligned = memalign(256, 1000);
    char *large = malloc(NK_KIB(300));
    bool all = text != NULL && many != NULL && aligned != NULL && large != NULL;
    char *more = text != NULL ? realloc(text, NK_KIB(80)) : NULL;
    text = more != NULL ? more : text;
    EXPECT(text == NULL || strcmp(text, "text") == 0);
    free(text);
    free(many);
    free(aligned);
    free(large);
    return all && more != NULL ? 0 : -ENOMEM;
}

KTEST(fault_each_allocation)
{
    KTEST_SKIP_UNLESS(fault_possible(), "not a debug build");
    EXPECT_EQ(nk_thread_pin(nk_thread_current(), (int)this_cpu->id), 0);
    fault_each("thread", make_thread, FAULT_REPORTED);
    fault_each("stacks", make_stacks, FAULT_REPORTED);
    fault_each("mapping", map_memory, FAULT_REPORTED);
    fault_each("krealloc", reallocate, FAULT_REPORTED);
    fault_each("pages", take_pages, FAULT_REPORTED);
    fault_each("deadline", set_deadline, FAULT_REPORTED);
    fault_each("console", open_stream, FAULT_REPORTED);
    fault_each("line", attach_line, FAULT_REPORTED);
    fault_each("threaded line", attach_threaded_line, FAULT_REPORTED);
    fault_each("started thread", start_thread, FAULT_REPORTED);
    fault_each("clone", clone_thread, FAULT_TOLERATED); /* a stack of a farther node will do */
    fault_each("work queue", make_work_queue, FAULT_REPORTED);
    fault_each("partitions", set_partitions, FAULT_REPORTED);
    fault_each("call", call_without_waiting, FAULT_TOLERATED); /* to itself it needs none */
    fault_each("C library", library_memory, FAULT_REPORTED);
    EXPECT_EQ(nk_thread_pin(nk_thread_current(), NK_CPU_ANY), 0);
}
