/* Results of a guest's checks, as lines a test harness can read. */
#include "tests/guest/lib/guest.h"

static unsigned passed, failed;

static void result(bool ok, const char *name, const char *note)
{
    if (ok) {
        passed++;
    } else {
        failed++;
    }
    guest_printf("%sok %u %s%s\n", ok ? "" : "not ", passed + failed, name, note);
}

void guest_check(bool ok, const char *name)
{
    result(ok, name, "");
}

void guest_check_equal(uint64_t got, uint64_t expected, const char *name)
{
    if (got != expected) {
        guest_printf("# got 0x%lx, expected 0x%lx\n", got, expected);
    }
    result(got == expected, name, "");
}

void guest_check_between(uint64_t got, uint64_t low, uint64_t high, const char *name)
{
    bool ok = got >= low && got <= high;
    if (!ok) {
        guest_printf("# got %lu, expected %lu to %lu\n", got, low, high);
    }
    result(ok, name, "");
}

void guest_skip(const char *name, const char *why)
{
    guest_printf("# %s\n", why);
    result(true, name, " # SKIP");
}

void guest_check_summary(void)
{
    guest_printf("1..%u\nguest: %u passed, %u failed\n", passed + failed, passed, failed);
}

void guest_print_median(const char *name, uint64_t *sample, unsigned count)
{
    for (unsigned i = 1; i < count; i++) {
        uint64_t v = sample[i];
        unsigned at = i;
        for (; at > 0 && sample[at - 1] > v; at--) {
            sample[at] = sample[at - 1];
        }
        sample[at] = v;
    }
    guest_printf("bench: %s %lu\n", name, sample[count / 2]);
}
