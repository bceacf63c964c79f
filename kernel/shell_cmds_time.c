/* Commands about time: timers, date. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/percpu.h"
#include "base/platform.h"
#include "base/x86.h"
#include "drivers/hpet.h"
#include "drivers/rtc.h"
#include "kernel/shell.h"
#include "kernel/shell_cmds.h"
#include "kernel/symbols.h"
#include "kernel/time.h"
#include "sched/timer.h"

#define NS_PER_S  UINT64_C(1000000000)
#define CHECK_NS  UINT64_C(100000000)
#define FIELD_MAX 9999 /* of a date: its year */

static int list_timers(void)
{
    shell_printf("CPU     NEXT us  CALLS\n");
    for (unsigned i = 0; i < nk_cpu_count; i++) {
        uint64_t deadline, offset, now = x86_rdtsc();
        void (*fn)(struct nk_timer *);
        if (!nk_timer_next(i, &deadline, &fn)) {
            shell_printf("%3u           -  -\n", i);
            continue;
        }
        const char *name = nk_symbol_lookup((uint64_t)fn, &offset);
        uint64_t left = deadline > now ? nk_tsc_to_ns(deadline - now) / 1000 : 0;
        shell_printf("%3u %11llu  %s\n", i, (unsigned long long)left, name ? name : "?");
    }
    return 0;
}

/* The same span by two clocks that know nothing of each other. */
static int check_timers(void)
{
    uint64_t start = x86_rdtsc();
    int err = hpet_sleep(CHECK_NS);
    uint64_t passed = nk_tsc_to_ns(x86_rdtsc() - start);
    if (err == -ENODEV) {
        shell_printf("timers: no HPET to compare with, or no interrupt for it\n");
    } else if (err != 0) {
        shell_printf("timers: the HPET's interrupt did not come: %s\n", strerror(-err));
    } else {
        shell_printf("%llu us by the HPET were %llu us by the TSC\n",
                     (unsigned long long)CHECK_NS / 1000, (unsigned long long)passed / 1000);
    }
    return err;
}

int cmd_timers(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "check") == 0) {
        return check_timers();
    }
    return argc == 1 ? list_timers() : shell_usage(argv[0]);
}

const char *timers_candidate(unsigned position, unsigned i)
{
    return position == 1 && i == 0 ? "check" : NULL;
}

static void print_date(uint64_t seconds)
{
    struct rtc_date d = rtc_to_date(seconds);
    shell_printf("%04u-%02u-%02u %02u:%02u:%02u UTC\n", d.year, d.month, d.day, d.hours, d.minutes,
                 d.seconds);
}

/* Up to max_count numbers, between which the separator stands; returns how many, 0: not these. */
static unsigned parse_fields(const char *text, char separator, unsigned *out, unsigned max_count)
{
    unsigned count = 0;
    while (count < max_count && *text >= '0' && *text <= '9') {
        char *end;
        unsigned long value = strtoul(text, &end, 10);
        if (value > FIELD_MAX || (*end != '\0' && *end != separator)) {
            return 0;
        }
        out[count++] = (unsigned)value;
        if (*end == '\0') {
            return count;
        }
        text = end + 1;
    }
    return 0;
}

static bool parse_date(const char *day, const char *hour, uint64_t *seconds)
{
    unsigned of_day[3], of_hour[3] = {0};
    if (parse_fields(day, '-', of_day, 3) != 3 || parse_fields(hour, ':', of_hour, 3) < 2) {
        return false;
    }
    struct rtc_date d = {.year = of_day[0],
                         .month = of_day[1],
                         .day = of_day[2],
                         .hours = of_hour[0],
                         .minutes = of_hour[1],
                         .seconds = of_hour[2]};
    if (d.year < 1970 || d.year > 2999 || d.month < 1 || d.month > 12 || d.day < 1) {
        return false;
    }
    *seconds = rtc_from_date(&d);
    struct rtc_date same = rtc_to_date(*seconds); /* the 31st of June is the 1st of July */
    return memcmp(&d, &same, sizeof(d)) == 0;
}

/* The node's clock, and the one that goes on when the node is off. */
static int set_date(const char *day, const char *hour)
{
    uint64_t seconds;
    if (!parse_date(day, hour, &seconds)) {
        shell_printf("date: \"%s %s\" is no date such as 2026-11-20 15:04:05\n", day, hour);
        return -EINVAL;
    }
    int err = rtc_set(seconds);
    if (err != 0) {
        shell_printf("date: the CMOS clock cannot be set: %s\n", strerror(-err));
        return err;
    }
    nk_wall_clock_set(seconds * NS_PER_S);
    print_date(seconds);
    return 0;
}

static void tell_alarm(void *arg)
{
    (void)arg;
    nk_info("date: alarm");
}

static int set_alarm(const char *text)
{
    uint64_t now, in;
    if (!shell_number(text, UINT32_MAX, &in)) {
        shell_printf("date: \"%s\" is no number of seconds\n", text);
        return -EINVAL;
    }
    int err = rtc_get(&now);
    if (err == 0) {
        err = rtc_alarm(now + in, tell_alarm, NULL);
    }
    if (err == -EINVAL) {
        shell_printf("date: an alarm comes in %d to 86399 seconds\n", RTC_ALARM_MIN);
    } else if (err != 0) {
        shell_printf("date: no alarm: %s\n", strerror(-err));
    }
    return err;
}

int cmd_date(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "set") == 0) {
        return set_date(argv[2], argv[3]);
    }
    if (argc == 3 && strcmp(argv[1], "alarm") == 0) {
        return set_alarm(argv[2]);
    }
    if (argc > 1) {
        return shell_usage(argv[0]);
    }
    print_date(nk_wall_clock_ns() / NS_PER_S);
    return 0;
}

const char *date_candidate(unsigned position, unsigned i)
{
    static const char *const action_table[] = {"set", "alarm"};
    return position == 1 && i < NK_ARRAY_COUNT(action_table) ? action_table[i] : NULL;
}
