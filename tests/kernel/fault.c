#include "tests/kernel/fault.h"

#include <errno.h>
#include <string.h>

#include "mm/buddy.h"
#include "mm/fault.h"
#include "mm/slab.h"
#include "mm/tag.h"
#include "sched/thread.h"
#include "tests/kernel/ktest.h"

#define FAULTS_MAX   500
#define SETTLE_TRIES 2000 /* milliseconds at least */

bool fault_possible(void)
{
#if defined(CONFIG_DEBUG)
    return true;
#else
    return false;
#endif
}

static uint64_t objects_in_use(void)
{
    struct slab_stats stats;
    uint64_t sum = 0;
    for (unsigned i = 0; slab_get_stats(i, &stats); i++) {
        sum += stats.objects_used;
    }
    return sum;
}

static uint64_t pages_of(uint8_t tag)
{
    struct mm_tag_info info;
    return mm_tag_get(tag, &info) ? info.page_bytes : 0;
}

static struct fault_holdings look(void)
{
    return (struct fault_holdings){
        .objects = objects_in_use(),
        .large = pages_of(MM_TAG_LARGE),
        .native = pages_of(MM_TAG_NATIVE),
        .vmm = pages_of(MM_TAG_VMM),
    };
}

static bool same(const struct fault_holdings *a, const struct fault_holdings *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

static void nothing(void *arg)
{
    (void)arg;
}

/* A detached thread that has ended is freed when the next one is made. */
static void settle(void)
{
    struct nk_thread *t;
    nk_thread_sleep_ns(1000000);
    if (nk_thread_create(&t, NULL, nothing, NULL) == 0) {
        EXPECT_EQ(nk_thread_destroy(t), 0);
    }
}

struct fault_holdings fault_holdings(void)
{
    struct fault_holdings before, now = look();
    do {
        before = now;
        settle();
        now = look();
    } while (!same(&before, &now));
    return now;
}

bool fault_expect_same(const char *name, unsigned number, const struct fault_holdings *before)
{
    struct fault_holdings now = look();
    for (unsigned tries = 0; tries < SETTLE_TRIES && !same(&now, before); tries++) {
        settle();
        now = look();
    }
    if (same(&now, before)) {
        return true;
    }
    ktest_note("%s: allocation %u failed", name, number);
    EXPECT_EQ(now.objects, before->objects);
    EXPECT_EQ(now.large, before->large);
    EXPECT_EQ(now.native, before->native);
    EXPECT_EQ(now.vmm, before->vmm);
    return false;
}

static void each(const char *name, int (*operation)(void), enum fault_outcome outcome,
                 void (*inject)(unsigned number))
{
    EXPECT_EQ(operation(), 0); /* what is made once and kept is there now */
    const struct fault_holdings before = fault_holdings();
    unsigned number = 0;
    for (; number < FAULTS_MAX; number++) {
        inject(number);
        int err = operation();
        if (!mm_fault_end()) {
            EXPECT_EQ(err, 0);
            break;
        }
        if (outcome == FAULT_REPORTED && err != -ENOMEM) {
            ktest_note("%s: allocation %u failed", name, number);
            EXPECT_EQ(err, -ENOMEM);
        }
        if (!fault_expect_same(name, number, &before)) {
            return;
        }
    }
    EXPECT(number > 0 || outcome == FAULT_TOLERATED); /* it allocates something */
    EXPECT_LT(number, FAULTS_MAX);
    fault_expect_same(name, number, &before);
    buddy_check();
    ktest_note("%s: %u allocations", name, number);
}

void fault_each(const char *name, int (*operation)(void), enum fault_outcome outcome)
{
    each(name, operation, outcome, mm_fault_inject);
}

void fault_each_of_any_thread(const char *name, int (*operation)(void), enum fault_outcome outcome)
{
    each(name, operation, outcome, mm_fault_inject_any);
}
