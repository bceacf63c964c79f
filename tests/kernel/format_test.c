/* Tests of kernel/format.c. */
#include "kernel/format.h"

#include <string.h>

#include "tests/kernel/ktest.h"

KTEST(format_integers)
{
    char s[64];
    nk_snprintf(s, sizeof(s), "%d %i %u", -5, 0, 4294967295u);
    EXPECT_STREQ(s, "-5 0 4294967295");
    nk_snprintf(s, sizeof(s), "%lld %llu", INT64_MIN + 0LL, UINT64_MAX + 0ULL);
    EXPECT_STREQ(s, "-9223372036854775808 18446744073709551615");
    nk_snprintf(s, sizeof(s), "[%5d|%-5d|%05d|%+d|% d]", 42, 42, 42, 42, 42);
    EXPECT_STREQ(s, "[   42|42   |00042|+42| 42]");
    nk_snprintf(s, sizeof(s), "%x %X %#x %#o %08x", 0xbeefu, 0xbeefu, 0xbeefu, 8u, 0x1fu);
    EXPECT_STREQ(s, "beef BEEF 0xbeef 010 0000001f");
    nk_snprintf(s, sizeof(s), "%hhu %hd %zu %p", 0x1ff, 0x18000, (size_t)7, (void *)0x1000);
    EXPECT_STREQ(s, "255 -32768 7 0x1000");
    nk_snprintf(s, sizeof(s), "%.3d|%6.3d|%.0d|", 7, 7, 0);
    EXPECT_STREQ(s, "007|   007||");
    nk_snprintf(s, sizeof(s), "%*d|%-*d|", 4, 1, 4, 2);
    EXPECT_STREQ(s, "   1|2   |");
}

KTEST(format_strings)
{
    char s[64];
    nk_snprintf(s, sizeof(s), "%s|%5s|%-5s|%.2s|%.*s", "a", "bc", "de", "fghi", 1, "jk");
    EXPECT_STREQ(s, "a|   bc|de   |fg|j");
    nk_snprintf(s, sizeof(s), "%c%c%%", 'x', 'y');
    EXPECT_STREQ(s, "xy%");
    const char *volatile none = NULL;
    nk_snprintf(s, sizeof(s), "%s", none);
    EXPECT_STREQ(s, "(null)");
}

KTEST(format_truncates)
{
    char s[8];
    memset(s, 'z', sizeof(s));
    EXPECT_EQ(nk_snprintf(s, 4, "%s", "abcdef"), 6);
    EXPECT_STREQ(s, "abc");
    EXPECT_EQ(s[4], 'z');
    EXPECT_EQ(nk_snprintf(s, 0, "%d", 12345), 5);
    EXPECT_EQ(s[0], 'a');
}
