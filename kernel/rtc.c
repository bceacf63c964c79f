/* The CMOS clock, read once at boot. Spec: MC146818A data sheet. */

#include <string.h>

#include "base/x86.h"
#include "kernel/acpi.h"
#include "kernel/time.h"

#define CMOS_INDEX 0x70
#define CMOS_DATA  0x71

#define RTC_SECONDS  0x00
#define RTC_MINUTES  0x02
#define RTC_HOURS    0x04
#define RTC_DAY      0x07
#define RTC_MONTH    0x08
#define RTC_YEAR     0x09
#define RTC_STATUS_A 0x0a
#define RTC_STATUS_B 0x0b

#define STATUS_A_UPDATING 0x80
#define STATUS_B_24_HOURS 0x02
#define STATUS_B_BINARY   0x04
#define HOURS_PM          0x80

#define UPDATE_POLLS_MAX 100000 /* an update takes 2 ms; a missing clock reads all ones */
#define READ_TRIES_MAX   10

struct rtc_time {
    uint8_t seconds, minutes, hours, day, month, year, century;
};

static uint8_t cmos_read(uint8_t index)
{
    x86_outb(CMOS_INDEX, index);
    return x86_inb(CMOS_DATA);
}

static struct rtc_time read_registers(void)
{
    for (unsigned i = 0; i < UPDATE_POLLS_MAX; i++) {
        if ((cmos_read(RTC_STATUS_A) & STATUS_A_UPDATING) == 0) {
            break;
        }
    }
    return (struct rtc_time){
        .seconds = cmos_read(RTC_SECONDS),
        .minutes = cmos_read(RTC_MINUTES),
        .hours = cmos_read(RTC_HOURS),
        .day = cmos_read(RTC_DAY),
        .month = cmos_read(RTC_MONTH),
        .year = cmos_read(RTC_YEAR),
        .century = acpi.cmos_century != 0 ? cmos_read(acpi.cmos_century) : 0,
    };
}

static uint8_t from_bcd(uint8_t v)
{
    return (uint8_t)((v >> 4) * 10 + (v & 15));
}

static void decode(struct rtc_time *t)
{
    uint8_t status = cmos_read(RTC_STATUS_B);
    bool pm = (t->hours & HOURS_PM) != 0;
    t->hours &= (uint8_t)~HOURS_PM;
    if ((status & STATUS_B_BINARY) == 0) {
        t->seconds = from_bcd(t->seconds);
        t->minutes = from_bcd(t->minutes);
        t->hours = from_bcd(t->hours);
        t->day = from_bcd(t->day);
        t->month = from_bcd(t->month);
        t->year = from_bcd(t->year);
        t->century = from_bcd(t->century);
    }
    if ((status & STATUS_B_24_HOURS) == 0) {
        t->hours = (uint8_t)(t->hours % 12 + (pm ? 12 : 0));
    }
}

/* Days from 1970-01-01 to a date of the Gregorian calendar; the year is taken to begin in March,
 * so that the leap day is its last. */
static uint64_t days_since_1970(unsigned year, unsigned month, unsigned day)
{
    unsigned y = month > 2 ? year : year - 1;
    unsigned m = month > 2 ? month - 3 : month + 9;
    uint64_t days = (uint64_t)y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1;
    return days - 719468; /* 0000-03-01 to 1970-01-01 */
}

uint64_t rtc_read_seconds(void)
{
    struct rtc_time t = read_registers();
    for (unsigned i = 0; i < READ_TRIES_MAX; i++) { /* two equal readings: no update fell between */
        struct rtc_time again = read_registers();
        if (memcmp(&t, &again, sizeof(t)) == 0) {
            break;
        }
        t = again;
    }
    decode(&t);
    unsigned century = t.century >= 19 && t.century <= 29 ? t.century : 20;
    if (t.month < 1 || t.month > 12 || t.day < 1) {
        return 0;
    }
    return days_since_1970(century * 100 + t.year, t.month, t.day) * 86400 + t.hours * 3600u +
           t.minutes * 60u + t.seconds;
}
