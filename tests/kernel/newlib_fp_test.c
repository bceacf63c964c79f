/* Tests of newlib's floating point: formatting, parsing, registers kept across switches. */
#include "sched/thread.h"
#include "tests/kernel/ktest.h"
#include "tests/kernel/newlib_fp_math.h"

static struct nk_thread *start(void (*fn)(void *), struct fp_job *job)
{
    const struct nk_thread_attr attr = {.name = "fp", .cpu = NK_CPU_ANY, .fp = true};
    struct nk_thread *t;
    return nk_thread_start(&t, &attr, fn, job) == 0 ? t : NULL;
}

static void finish(struct nk_thread *t)
{
    EXPECT_EQ(nk_thread_join(t), 0);
    EXPECT_EQ(nk_thread_destroy(t), 0);
}

KTEST(newlib_fp_print)
{
    struct fp_job job = {0};
    struct nk_thread *t = start(fp_print, &job);
    ASSERT(t);
    finish(t);
    EXPECT(job.ok);
}

KTEST(newlib_fp_threads)
{
    struct fp_job job[4];
    struct nk_thread *thread[4];
    for (unsigned i = 0; i < 4; i++) {
        job[i] = (struct fp_job){.seed = i + 1};
        thread[i] = start(fp_sum, &job[i]);
        ASSERT(thread[i]);
    }
    for (unsigned i = 0; i < 4; i++) {
        finish(thread[i]);
        EXPECT(job[i].ok);
    }
}
