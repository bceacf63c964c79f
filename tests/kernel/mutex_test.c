/* Mutexes: priority inheritance, deadlines, order, and all of it at random. */
#include "sched/deadline.h"
#include "sched/sync.h"
#include "sched/thread.h"
#include "sched/timer.h"
#include "tests/kernel/ktest.h"

#define MS      UINT64_C(1000000) /* ns */
#define PATIENT (20000 * MS)      /* what never happens is given up then */

enum { LOW = 2, NEXT = 3, MIDDLE = 5, HIGH = 7 };

static struct nk_mutex first, second;
static volatile bool go, low_leaves, high_done, middle_saw;
static struct nk_event low_holds, next_holds;
static unsigned low_after;

static uint64_t in_ms(uint64_t ms)
{
    return x86_rdtsc() + nk_ns_to_tsc(ms * MS);
}

static unsigned priority_of(const struct nk_thread *t)
{
    struct nk_thread_info info;
    return nk_thread_next_info(nk_thread_id(t) - 1, &info) ? info.priority : 0;
}

/* Told to a CPU, a priority comes a little later. */
static bool gets_priority(const struct nk_thread *t, unsigned priority)
{
    uint64_t end = in_ms(PATIENT / MS);
    while (priority_of(t) != priority && x86_rdtsc() < end) {
        nk_thread_sleep_ns(MS / 10);
    }
    return priority_of(t) == priority;
}

static struct nk_thread *start(nk_thread_fn fn, void *arg, unsigned priority, unsigned cpu)
{
    struct nk_thread *t = NULL;
    struct nk_thread_attr attr = {.name = "mutex", .cpu = (int)cpu, .priority = priority};
    EXPECT_EQ(nk_thread_start(&t, &attr, fn, arg), 0);
    return t;
}

static void finish(struct nk_thread *t)
{
    EXPECT_EQ(nk_thread_join(t), 0);
    EXPECT_EQ(nk_thread_destroy(t), 0);
}

/* Or done. */
static void await_blocked(const struct nk_thread *t)
{
    while (nk_thread_get_state(t) != NK_THREAD_BLOCKED &&
           nk_thread_get_state(t) != NK_THREAD_DONE) {
        nk_thread_sleep_ns(MS / 10);
    }
}

static void reset(void)
{
    nk_mutex_init(&first);
    nk_mutex_init(&second);
    nk_event_init(&low_holds);
    nk_event_init(&next_holds);
    go = low_leaves = high_done = middle_saw = false;
    low_after = 0;
}

/* Holds a mutex, and its CPU, until told to go on. */
static void low(void *arg)
{
    (void)arg;
    nk_mutex_lock(&first);
    nk_event_set(&low_holds);
    uint64_t end = in_ms(PATIENT / MS);
    while (!go && x86_rdtsc() < end) {
        x86_pause();
    }
    low_leaves = true;
    nk_mutex_unlock(&first);
    low_after = priority_of(nk_thread_current());
}

/* Has one mutex and waits for another. */
static void next(void *arg)
{
    (void)arg;
    nk_mutex_lock(&second);
    nk_event_set(&next_holds);
    nk_mutex_lock(&first);
    nk_mutex_unlock(&first);
    nk_mutex_unlock(&second);
}

/* Keeps the CPU of `low` from everybody less urgent, until the most urgent thread is done. */
static void middle(void *arg)
{
    (void)arg;
    middle_saw = low_leaves;
    uint64_t end = in_ms(PATIENT / MS);
    while (!high_done && x86_rdtsc() < end) {
        x86_pause();
    }
}

static void high(void *arg)
{
    struct nk_mutex *m = arg;
    nk_mutex_lock(m);
    high_done = true;
    nk_mutex_unlock(m);
}

/* `low` on one CPU, beside `middle`; who wants its mutex on another, or the same. */
static void invert(unsigned cpu, unsigned high_cpu, bool chain)
{
    reset();
    struct nk_thread *l = start(low, NULL, LOW, cpu), *n = NULL;
    nk_event_wait(&low_holds);
    if (chain) {
        n = start(next, NULL, NEXT, high_cpu);
        nk_event_wait(&next_holds);
        await_blocked(n);
        EXPECT(gets_priority(l, NEXT));
    }
    struct nk_thread *h = start(high, chain ? &second : &first, HIGH, high_cpu);
    await_blocked(h);
    EXPECT(gets_priority(l, HIGH));
    struct nk_thread *m = start(middle, NULL, MIDDLE, cpu);
    go = true;
    finish(h);
    finish(m);
    if (chain) {
        finish(n);
    }
    finish(l);
    EXPECT(high_done);
    EXPECT(middle_saw);
    EXPECT_EQ(low_after, LOW);
}

KTEST(mutex_lends_priority)
{
    invert(nk_cpu_count - 1, nk_cpu_count - 1, false);
    invert(0, 0, false);
}

KTEST(mutex_lends_along_a_chain)
{
    invert(nk_cpu_count - 1, nk_cpu_count - 1, true);
    invert(nk_cpu_count - 1, 0, true);
}

KTEST(mutex_lends_across_cpus)
{
    KTEST_SKIP_UNLESS(nk_cpu_count > 1, "needs two CPUs");
    invert(1, 0, false);
    invert(0, 1, false);
}

static void give_up(void *arg)
{
    nk_event_wait(&low_holds);
    *(bool *)arg = nk_mutex_lock_until(&first, in_ms(20));
}

/* What was lent goes back when its lender gives up; so does the sign that somebody waits. */
KTEST(mutex_deadline)
{
    const unsigned cpu = nk_cpu_count - 1;
    bool taken = true;
    reset();
    struct nk_thread *l = start(low, NULL, LOW, cpu);
    struct nk_thread *h = start(give_up, &taken, HIGH, cpu);
    finish(h);
    EXPECT(!taken);
    EXPECT(gets_priority(l, LOW));
    go = true;
    finish(l);
    EXPECT(nk_mutex_lock_until(&first, 1)); /* free: no matter when */
    EXPECT_EQ(first.owner & 1, 0);
    nk_mutex_unlock(&first);
    EXPECT_EQ(first.owner, 0);
}

static char grants[8];
static unsigned grant_count; /* `first` */

static void queue_up(void *arg)
{
    nk_mutex_lock(&first);
    grants[grant_count++] = *(const char *)arg;
    nk_mutex_unlock(&first);
}

KTEST(mutex_goes_to_the_most_urgent)
{
    static const struct {
        char name[2];
        unsigned priority;
    } waiter_table[] = {{"a", 5}, {"b", 7}, {"c", 5}, {"d", 9}, {"e", 7}};
    struct nk_thread *t[NK_ARRAY_COUNT(waiter_table)];
    reset();
    grant_count = 0;
    nk_mutex_lock(&first);
    for (unsigned i = 0; i < NK_ARRAY_COUNT(t); i++) {
        t[i] = start(queue_up, (void *)(uintptr_t)waiter_table[i].name, waiter_table[i].priority,
                     i % nk_cpu_count);
        await_blocked(t[i]);
    }
    nk_mutex_unlock(&first);
    for (unsigned i = 0; i < NK_ARRAY_COUNT(t); i++) {
        finish(t[i]);
    }
    grants[grant_count] = '\0';
    EXPECT_STREQ(grants, "dbeac");
}

static void wait_with_deadline(void *arg)
{
    (void)arg;
    const struct nk_deadline d = {.period_ns = 1000 * MS, .slice_ns = 100 * MS};
    EXPECT_EQ(nk_thread_set_deadline(&d), 0);
    high(&first);
}

/* A thread with a deadline lends that: even the highest fixed priority waits. */
KTEST(mutex_lends_deadline)
{
    KTEST_SKIP_UNLESS(nk_cpu_count > 1, "needs a CPU beside that of the deadline");
    const unsigned cpu = nk_cpu_count - 1;
    reset();
    struct nk_thread *l = start(low, NULL, LOW, cpu);
    nk_event_wait(&low_holds);
    struct nk_thread *d = start(wait_with_deadline, NULL, HIGH, cpu);
    EXPECT(gets_priority(l, NK_PRIORITY_MAX + 1));
    EXPECT_EQ(nk_thread_pin(l, (int)cpu), 0); /* it has none of its own */
    struct nk_thread *m = start(middle, NULL, NK_PRIORITY_MAX, cpu);
    go = true;
    finish(d);
    finish(m);
    finish(l);
    EXPECT(middle_saw);
    EXPECT_EQ(low_after, LOW);
}

static struct nk_deadline_info overrun_info; /* when it gives the mutex back */

/* Uses its slice up while it holds the mutex. */
static void overrun(void *arg)
{
    (void)arg;
    const struct nk_deadline d = {.period_ns = 3000 * MS, .slice_ns = 5 * MS};
    nk_mutex_lock(&first);
    EXPECT_EQ(nk_thread_set_deadline(&d), 0);
    nk_event_set(&low_holds);
    do {
        x86_pause();
        nk_thread_deadline_info(&overrun_info);
    } while (overrun_info.exhausted == 0);
    nk_mutex_unlock(&first);
}

/* Who rests until its next period goes on for somebody who waits for its mutex. On a machine that
 * is stopped for that long the next period may come first: then it is tried again. */
KTEST(mutex_ends_a_rest)
{
    const unsigned cpu = nk_cpu_count - 1;
    bool in_first = false;
    for (unsigned i = 0; i < 10 && !in_first; i++) {
        reset();
        struct nk_thread *o = start(overrun, NULL, LOW, cpu);
        nk_event_wait(&low_holds);
        await_blocked(o);
        struct nk_thread *h = start(high, &first, HIGH, cpu);
        finish(h);
        EXPECT(high_done);
        finish(o);
        in_first = overrun_info.jobs == 1;
    }
    EXPECT(in_first);
}

static void lock_both(void *arg)
{
    bool mine_first = arg == NULL;
    struct nk_mutex *a = mine_first ? &first : &second, *b = mine_first ? &second : &first;
    nk_mutex_lock(a);
    nk_event_set(mine_first ? &low_holds : &next_holds);
    nk_event_wait(mine_first ? &next_holds : &low_holds);
    if (nk_mutex_lock_until(b, in_ms(mine_first ? 20 : 60))) {
        nk_mutex_unlock(b);
    }
    nk_mutex_unlock(a);
}

/* Threads that wait for each other in a circle: what they are lent goes round once. */
KTEST(mutex_circle)
{
    reset();
    struct nk_thread *a = start(lock_both, NULL, LOW, 0);
    struct nk_thread *b = start(lock_both, &second, HIGH, nk_cpu_count - 1);
    finish(a);
    finish(b);
    EXPECT_EQ(first.owner, 0);
    EXPECT_EQ(second.owner, 0);
}

/* --- at random -------------------------------------------------------------------------------- */

#define WORKERS 6
#define MUTEXES 5
#define ROUNDS  1500

static struct nk_mutex many[MUTEXES];
static struct {
    volatile uint64_t a, b;
} guarded[MUTEXES];
static uint64_t torn, given_up; /* atomic */

static void hold(unsigned from, uint64_t *seed)
{
    for (unsigned i = from; i < MUTEXES; i++) {
        uint64_t r = ktest_random(seed);
        if (r % 3 == 0) {
            continue;
        }
        if (r % 3 == 1) {
            nk_mutex_lock(&many[i]);
        } else if (!nk_mutex_lock_until(&many[i], x86_rdtsc() + (r >> 8) % 30000)) {
            __atomic_add_fetch(&given_up, 1, __ATOMIC_RELAXED);
            return;
        }
        if (guarded[i].a != guarded[i].b) {
            __atomic_add_fetch(&torn, 1, __ATOMIC_RELAXED);
        }
        guarded[i].a++;
        hold(i + 1, seed);
        guarded[i].b++;
        nk_mutex_unlock(&many[i]);
        return;
    }
    if (ktest_random(seed) % 4 == 0) {
        nk_thread_yield();
    }
}

static void work(void *arg)
{
    uint64_t seed = (uint64_t)arg;
    const unsigned own = priority_of(nk_thread_current());
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t r = ktest_random(&seed);
        hold(0, &seed);
        if (r % 16 == 0) {
            EXPECT_EQ(priority_of(nk_thread_current()), own);
            EXPECT_EQ(nk_thread_pin(nk_thread_current(), (int)((r >> 8) % nk_cpu_count)), 0);
        }
    }
}

KTEST(mutex_random)
{
    struct nk_thread *t[WORKERS];
    torn = given_up = 0;
    for (unsigned i = 0; i < MUTEXES; i++) {
        nk_mutex_init(&many[i]);
        guarded[i].a = guarded[i].b = 0;
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        t[i] = start(work, (void *)(uint64_t)(i + 1), 1 + i, i % nk_cpu_count);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        finish(t[i]);
    }
    EXPECT_EQ(torn, 0);
    for (unsigned i = 0; i < MUTEXES; i++) {
        EXPECT_EQ(many[i].owner, 0);
        EXPECT_EQ(guarded[i].a, guarded[i].b);
        EXPECT(!many[i].lends);
    }
}
