#include "drivers/rtc.h"

#include <string.h>

#include "base/errno.h"
#include "base/spinlock.h"
#include "base/x86.h"
#include "kernel/acpi.h"
#include "kernel/irq.h"

#define CMOS_INDEX 0x70
#define CMOS_DATA  0x71

enum rtc_register {
    RTC_SECONDS = 0x00,
    RTC_ALARM_SECONDS = 0x01,
    RTC_MINUTES = 0x02,
    RTC_ALARM_MINUTES = 0x03,
    RTC_HOURS = 0x04,
    RTC_ALARM_HOURS = 0x05,
    RTC_DAY = 0x07,
    RTC_MONTH = 0x08,
    RTC_YEAR = 0x09,
    RTC_STATUS_A = 0x0a,
    RTC_STATUS_B = 0x0b,
    RTC_STATUS_C = 0x0c, /* reading it drops the line */
    RTC_STATUS_D = 0x0d,
};

#define STATUS_A_UPDATING 0x80
#define STATUS_B_24_HOURS 0x02
#define STATUS_B_BINARY   0x04
#define STATUS_B_ALARM    0x20
#define STATUS_B_SET      0x80 /* the clock stands while it is written */
#define STATUS_C_ALARM    0x20
#define STATUS_D_ZEROS    0x7f /* these bits read as 0; a missing clock reads all ones */
#define HOURS_PM          0x80

#define RTC_LINE         8
#define UPDATE_POLLS_MAX 100000 /* an update takes 2 ms */
#define READ_TRIES_MAX   10
#define DAY              86400

/* As the registers hold them, in BCD or not by status B. */
struct rtc_time {
    uint8_t seconds, minutes, hours, day, month, year, century, status;
};

static struct nk_spinlock lock = NK_SPINLOCK_INIT(NK_RANK_DEVICE); /* index and data port, alarm */

static struct {
    bool attached;
    void (*fn)(void *arg); /* NULL: none is set */
    void *arg;
} alarm;

static uint8_t cmos_read(uint8_t index)
{
    x86_outb(CMOS_INDEX, index);
    return x86_inb(CMOS_DATA);
}

static void cmos_write(uint8_t index, uint8_t value)
{
    x86_outb(CMOS_INDEX, index);
    x86_outb(CMOS_DATA, value);
}

void rtc_cmos_read(uint8_t first, uint8_t *out, unsigned count)
{
    uint64_t flags = nk_spin_lock_irqsave(&lock);
    for (unsigned i = 0; i < count; i++) {
        out[i] = cmos_read((uint8_t)(first + i));
    }
    nk_spin_unlock_irqrestore(&lock, flags);
}

void rtc_cmos_write(uint8_t first, const uint8_t *bytes, unsigned count)
{
    uint64_t flags = nk_spin_lock_irqsave(&lock);
    for (unsigned i = 0; i < count; i++) {
        cmos_write((uint8_t)(first + i), bytes[i]);
    }
    nk_spin_unlock_irqrestore(&lock, flags);
}

static bool present(void)
{
    uint8_t status;
    rtc_cmos_read(RTC_STATUS_D, &status, 1);
    return (status & STATUS_D_ZEROS) == 0;
}

/* The lock is not held while the clock is at an update. Once it is not, it is not for 244 us. */
static bool await_update(void)
{
    uint8_t status = STATUS_A_UPDATING;
    for (unsigned i = 0; i < UPDATE_POLLS_MAX && status & STATUS_A_UPDATING; i++) {
        rtc_cmos_read(RTC_STATUS_A, &status, 1);
    }
    return (status & STATUS_A_UPDATING) == 0;
}

static struct rtc_time read_registers(void)
{
    uint64_t flags = nk_spin_lock_irqsave(&lock);
    struct rtc_time t = {
        .seconds = cmos_read(RTC_SECONDS),
        .minutes = cmos_read(RTC_MINUTES),
        .hours = cmos_read(RTC_HOURS),
        .day = cmos_read(RTC_DAY),
        .month = cmos_read(RTC_MONTH),
        .year = cmos_read(RTC_YEAR),
        .century = acpi.cmos_century != 0 ? cmos_read(acpi.cmos_century) : 0,
        .status = cmos_read(RTC_STATUS_B),
    };
    nk_spin_unlock_irqrestore(&lock, flags);
    return t;
}

/* --- dates ------------------------------------------------------------------------------------ */

#define DAYS_TO_1970  719468 /* from 0000-03-01 */
#define DAYS_400Y     146097
#define MONTHS_DAYS_5 153 /* five months from March on, and again */

/* The year is taken to begin in March, so that the leap day is its last. */
uint64_t rtc_from_date(const struct rtc_date *d)
{
    unsigned y = d->month > 2 ? d->year : d->year - 1;
    unsigned m = d->month > 2 ? d->month - 3 : d->month + 9;
    uint64_t days = (uint64_t)y * 365 + y / 4 - y / 100 + y / 400 + (m * MONTHS_DAYS_5 + 2) / 5 +
                    d->day - 1 - DAYS_TO_1970;
    return days * DAY + d->hours * 3600u + d->minutes * 60u + d->seconds;
}

struct rtc_date rtc_to_date(uint64_t seconds)
{
    uint64_t days = seconds / DAY + DAYS_TO_1970;
    unsigned of_400y = (unsigned)(days % DAYS_400Y); /* and the year in them, below */
    unsigned y = (of_400y - of_400y / 1460 + of_400y / 36524 - of_400y / (DAYS_400Y - 1)) / 365;
    unsigned of_year = of_400y - (y * 365 + y / 4 - y / 100);
    unsigned m = (of_year * 5 + 2) / MONTHS_DAYS_5;
    unsigned of_day = (unsigned)(seconds % DAY);
    return (struct rtc_date){
        .year = (unsigned)(days / DAYS_400Y) * 400 + y + (m >= 10),
        .month = m < 10 ? m + 3 : m - 9,
        .day = of_year - (m * MONTHS_DAYS_5 + 2) / 5 + 1,
        .hours = of_day / 3600,
        .minutes = of_day / 60 % 60,
        .seconds = of_day % 60,
    };
}

/* --- registers -------------------------------------------------------------------------------- */

static unsigned decode(uint8_t v, uint8_t status)
{
    return status & STATUS_B_BINARY ? v : (v >> 4) * 10u + (v & 15);
}

static uint8_t encode(unsigned v, uint8_t status)
{
    return (uint8_t)(status & STATUS_B_BINARY ? v : v / 10 << 4 | v % 10);
}

static unsigned decode_hours(uint8_t v, uint8_t status)
{
    unsigned hours = decode(v & (uint8_t)~HOURS_PM, status);
    return status & STATUS_B_24_HOURS ? hours : hours % 12 + (v & HOURS_PM ? 12 : 0);
}

static uint8_t encode_hours(unsigned hours, uint8_t status)
{
    if (status & STATUS_B_24_HOURS) {
        return encode(hours, status);
    }
    uint8_t of_twelve = encode(hours % 12 == 0 ? 12 : hours % 12, status);
    return hours >= 12 ? of_twelve | HOURS_PM : of_twelve;
}

int rtc_get(uint64_t *seconds)
{
    if (!present()) {
        return -ENODEV;
    }
    struct rtc_time t = {0};
    for (unsigned i = 0; i < READ_TRIES_MAX; i++) { /* two equal readings: no update fell between */
        if (!await_update()) {
            return -EIO;
        }
        struct rtc_time last = t;
        t = read_registers();
        if (i > 0 && memcmp(&t, &last, sizeof(t)) == 0) {
            break;
        }
    }
    unsigned century = decode(t.century, t.status);
    struct rtc_date d = {
        .year = (century >= 19 && century <= 29 ? century : 20) * 100 + decode(t.year, t.status),
        .month = decode(t.month, t.status),
        .day = decode(t.day, t.status),
        .hours = decode_hours(t.hours, t.status),
        .minutes = decode(t.minutes, t.status),
        .seconds = decode(t.seconds, t.status),
    };
    if (d.year < 1970 || d.month < 1 || d.month > 12 || d.day < 1 || d.day > 31) {
        return -EIO;
    }
    *seconds = rtc_from_date(&d);
    return 0;
}

int rtc_set(uint64_t seconds)
{
    struct rtc_date d = rtc_to_date(seconds);
    if (d.year < 1970 || d.year > (acpi.cmos_century != 0 ? 2999 : 2099)) {
        return -EINVAL;
    }
    if (!present()) {
        return -ENODEV;
    }
    uint64_t flags = nk_spin_lock_irqsave(&lock);
    uint8_t status = cmos_read(RTC_STATUS_B);
    cmos_write(RTC_STATUS_B, status | STATUS_B_SET);
    cmos_write(RTC_SECONDS, encode(d.seconds, status));
    cmos_write(RTC_MINUTES, encode(d.minutes, status));
    cmos_write(RTC_HOURS, encode_hours(d.hours, status));
    cmos_write(RTC_DAY, encode(d.day, status));
    cmos_write(RTC_MONTH, encode(d.month, status));
    cmos_write(RTC_YEAR, encode(d.year % 100, status));
    if (acpi.cmos_century != 0) {
        cmos_write(acpi.cmos_century, encode(d.year / 100, status));
    }
    cmos_write(RTC_STATUS_B, status & (uint8_t)~STATUS_B_SET);
    nk_spin_unlock_irqrestore(&lock, flags);
    return 0;
}

/* --- alarm ------------------------------------------------------------------------------------ */

/* Lock held. */
static void alarm_off(void)
{
    alarm.fn = NULL;
    cmos_write(RTC_STATUS_B, cmos_read(RTC_STATUS_B) & (uint8_t)~STATUS_B_ALARM);
    (void)cmos_read(RTC_STATUS_C);
}

static bool interrupt(void *unused)
{
    (void)unused;
    nk_spinlock_acquire(&lock);
    bool came = (cmos_read(RTC_STATUS_C) & STATUS_C_ALARM) != 0;
    void (*fn)(void *arg) = came ? alarm.fn : NULL;
    void *arg = alarm.arg;
    if (fn != NULL) {
        alarm_off();
    }
    nk_spinlock_release(&lock);
    if (fn != NULL) {
        fn(arg);
    }
    return came;
}

/* At the first alarm. Alarms are set by one thread at a time, so this needs no lock. */
static int attach(void)
{
    if (alarm.attached) {
        return 0;
    }
    int err = nk_irq_attach(RTC_LINE, "rtc", interrupt, NULL);
    alarm.attached = err == 0;
    return err;
}

int rtc_alarm(uint64_t seconds, void (*fn)(void *arg), void *arg)
{
    uint64_t now;
    int err = rtc_get(&now);
    if (err == 0 && (seconds < now + RTC_ALARM_MIN || seconds - now >= DAY)) {
        err = -EINVAL;
    }
    if (err == 0) {
        err = attach();
    }
    if (err != 0) {
        return err;
    }
    struct rtc_date d = rtc_to_date(seconds);
    uint64_t flags = nk_spin_lock_irqsave(&lock);
    alarm_off();
    uint8_t status = cmos_read(RTC_STATUS_B);
    cmos_write(RTC_ALARM_SECONDS, encode(d.seconds, status));
    cmos_write(RTC_ALARM_MINUTES, encode(d.minutes, status));
    cmos_write(RTC_ALARM_HOURS, encode_hours(d.hours, status));
    alarm.fn = fn;
    alarm.arg = arg;
    cmos_write(RTC_STATUS_B, status | STATUS_B_ALARM);
    nk_spin_unlock_irqrestore(&lock, flags);
    return 0;
}

bool rtc_alarm_cancel(void)
{
    uint64_t flags = nk_spin_lock_irqsave(&lock);
    bool pending = alarm.fn != NULL;
    if (pending) {
        alarm_off();
    }
    nk_spin_unlock_irqrestore(&lock, flags);
    nk_irq_synchronize(RTC_LINE);
    return pending;
}
