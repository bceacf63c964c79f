/* Lists of CPUs as people write them. */
#include "config.h"
#include "kernel/kernel.h"

static bool number(const char **at, unsigned *out)
{
    const char *digits = *at;
    *out = 0;
    for (; **at >= '0' && **at <= '9' && *out < CONFIG_NR_CPUS; (*at)++) {
        *out = *out * 10 + (unsigned)(**at - '0');
    }
    return *at != digits && *out < CONFIG_NR_CPUS;
}

bool nk_parse_cpus(const char *text, uint64_t *out)
{
    uint64_t cpus = 0;
    do {
        unsigned first, last;
        if (!number(&text, &first)) {
            return false;
        }
        last = first;
        if (*text == '-') {
            text++;
            if (!number(&text, &last) || last < first) {
                return false;
            }
        }
        cpus |= UINT64_MAX >> (63 - (last - first)) << first;
    } while (*text++ == ',');
    if (text[-1] != '\0') {
        return false;
    }
    *out = cpus;
    return true;
}
