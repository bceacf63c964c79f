/* base/memory.asm and base/string.c against byte-wise models, over all small sizes and alignments.
 */
#include <string.h>

#include "base/types.h"
#include "tests/kernel/ktest.h"

#define AREA      1024
#define SIZE_STEP 7 /* beyond the sizes whose code paths differ */

static uint8_t from[AREA], to[AREA], model[AREA];

static void fill(uint8_t *bytes, uint64_t *seed)
{
    for (unsigned i = 0; i < AREA; i++) {
        bytes[i] = (uint8_t)ktest_random(seed);
    }
}

static bool same(const uint8_t *a, const uint8_t *b)
{
    for (unsigned i = 0; i < AREA; i++) {
        if (a[i] != b[i]) {
            return false;
        }
    }
    return true;
}

static size_t next_size(size_t n)
{
    return n < 72 ? n + 1 : n + SIZE_STEP;
}

static void reset_target(uint64_t *seed)
{
    fill(to, seed);
    for (unsigned i = 0; i < AREA; i++) {
        model[i] = to[i];
    }
}

KTEST(base_memcpy)
{
    uint64_t seed = 1;
    fill(from, &seed);
    for (size_t n = 0; n < 600; n = next_size(n)) {
        for (unsigned shift = 0; shift < 9; shift++) {
            reset_target(&seed);
            for (size_t i = 0; i < n; i++) {
                model[16 + shift + i] = from[8 - shift + i];
            }
            ASSERT(memcpy(to + 16 + shift, from + 8 - shift, n) == to + 16 + shift);
            ASSERT(same(to, model));
        }
    }
}

KTEST(base_memset)
{
    uint64_t seed = 2;
    for (size_t n = 0; n < 600; n = next_size(n)) {
        reset_target(&seed);
        for (size_t i = 0; i < n; i++) {
            model[5 + i] = (uint8_t)n;
        }
        ASSERT(memset(to + 5, (int)(n | 0xff00), n) == to + 5); /* the low byte counts */
        ASSERT(same(to, model));
    }
}

KTEST(base_memmove)
{
    static uint8_t copy[AREA];
    uint64_t seed = 3;
    for (size_t n = 0; n < 600; n = next_size(n)) {
        for (unsigned start = 0; start < 130; start += 3) { /* from below, onto, and above */
            reset_target(&seed);
            for (size_t i = 0; i < n; i++) {
                copy[i] = to[start + i];
            }
            for (size_t i = 0; i < n; i++) {
                model[64 + i] = copy[i];
            }
            ASSERT(memmove(to + 64, to + start, n) == to + 64);
            ASSERT(same(to, model));
        }
    }
}

KTEST(base_memcmp)
{
    uint64_t seed = 4;
    for (size_t n = 1; n < 64; n++) {
        fill(from, &seed);
        for (size_t i = 0; i < AREA; i++) {
            to[i] = from[i];
        }
        EXPECT_EQ(memcmp(from, to, n), 0);
        for (size_t at = 0; at < n; at++) {
            to[at] = (uint8_t)(from[at] ^ 0x80);
            bool above = from[at] > to[at];
            EXPECT_EQ(memcmp(from, to, n) > 0, above);
            EXPECT_EQ(memcmp(to, from, n) < 0, above);
            EXPECT_EQ(memcmp(from, to, at), 0);
            to[at] = from[at];
        }
    }
}

KTEST(base_strings)
{
    char text[] = "orthocone";
    EXPECT_EQ(strlen(""), 0);
    EXPECT_EQ(strlen(text), 9);
    EXPECT_EQ(strnlen(text, 4), 4);
    EXPECT_EQ(strnlen(text, 40), 9);
    EXPECT_EQ(strcmp(text, "orthocone"), 0);
    EXPECT_LT(strcmp("a", "b"), 0);
    EXPECT_GT(strcmp("ab", "a"), 0);
    EXPECT_GT(strcmp("\x80", "a"), 0); /* compared as unsigned */
    EXPECT_EQ(strncmp("abc", "abd", 2), 0);
}

#define BENCH_BYTES 4096
static uint8_t bench_from[BENCH_BYTES] NK_ALIGNED(64), bench_to[BENCH_BYTES] NK_ALIGNED(64);

KBENCH(base_memory)
{
    static volatile size_t small = 16, middle = 256, large = BENCH_BYTES; /* not known to gcc */
    KBENCH_MEASURE("memcpy_16", memcpy(bench_to, bench_from, small));
    KBENCH_MEASURE("memcpy_256", memcpy(bench_to, bench_from, middle));
    KBENCH_MEASURE("memcpy_4k", memcpy(bench_to, bench_from, large));
    KBENCH_MEASURE("memset_4k", memset(bench_to, 0, large));
}
