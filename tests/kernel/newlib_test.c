/* Tests of newlib in the kernel: memory, per-thread state, time. No floating point here. */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#include "base/x86.h"
#include "sched/thread.h"
#include "tests/kernel/ktest.h"

KTEST(newlib_malloc)
{
    char *p = malloc(100);
    ASSERT(p);
    EXPECT_GE(malloc_usable_size(p), 100);
    strcpy(p, "kept");
    p = realloc(p, 100000);
    ASSERT(p);
    EXPECT_STREQ(p, "kept");
    free(p);
    free(NULL);

    unsigned char *z = calloc(33, 3);
    ASSERT(z);
    for (unsigned i = 0; i < 99; i++) {
        EXPECT_EQ(z[i], 0);
    }
    free(z);

    errno = 0;
    volatile size_t huge = SIZE_MAX / 2;
    EXPECT(calloc(huge, 4) == NULL);
    EXPECT_EQ(errno, ENOMEM);
    void *aligned = memalign(256, 100);
    ASSERT(aligned);
    EXPECT_EQ((uintptr_t)aligned % 256, 0);
    free(aligned);
}

struct split {
    const char *text;
    unsigned words;
    bool errno_kept;
};

/* strtok() and errno keep their state in the thread's struct _reent. */
static void split_words(void *arg)
{
    struct split *s = arg;
    char text[64];
    strcpy(text, s->text);
    errno = (int)strlen(text);
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " ")) {
        s->words++;
        nk_thread_yield();
    }
    s->errno_kept = errno == (int)strlen(s->text);
}

KTEST(newlib_state_per_thread)
{
    struct split split[3] = {{.text = "a b c d"}, {.text = "one two"}, {.text = "x y z v w u t"}};
    struct nk_thread *thread[3];
    errno = 77;
    for (unsigned i = 0; i < 3; i++) {
        ASSERT_EQ(nk_thread_start(&thread[i], NULL, split_words, &split[i]), 0);
    }
    for (unsigned i = 0; i < 3; i++) {
        ASSERT_EQ(nk_thread_join(thread[i]), 0);
        ASSERT_EQ(nk_thread_destroy(thread[i]), 0);
        EXPECT(split[i].errno_kept);
    }
    EXPECT_EQ(split[0].words, 4);
    EXPECT_EQ(split[1].words, 2);
    EXPECT_EQ(split[2].words, 7);
    EXPECT_EQ(errno, 77);
}

static int descending(const void *a, const void *b)
{
    return *(const int *)b - *(const int *)a;
}

KTEST(newlib_integers)
{
    char text[32];
    EXPECT_EQ(siprintf(text, "%d %s %lx", -3, "abc", 0xfeedUL), 11);
    EXPECT_STREQ(text, "-3 abc feed");
    EXPECT_EQ(strtol("-0x1f", NULL, 0), -31);
    EXPECT_EQ(strtoull("18446744073709551615", NULL, 10), -1);
    int values[] = {3, 1, 2};
    qsort(values, 3, sizeof(values[0]), descending);
    EXPECT_EQ(values[0], 3);
    EXPECT_EQ(values[2], 1);
}

KTEST(newlib_time)
{
    struct timeval a, b;
    EXPECT_EQ(gettimeofday(&a, NULL), 0);
    nk_thread_sleep_ns(20000000);
    EXPECT_EQ(gettimeofday(&b, NULL), 0);
    EXPECT_GT((b.tv_sec - a.tv_sec) * 1000000LL + b.tv_usec - a.tv_usec, 15000);
    EXPECT_GT(time(NULL), 1500000000); /* the emulator's clock is not in the past */
}
