/* The CMOS clock, which is taken to hold UTC: read at boot, set and used as an alarm on request.
 * Spec: MC146818A data sheet. Threading: rtc_get() at boot or in a thread, the others in threads.
 * A machine without one gives -ENODEV everywhere, and nothing here waits without a limit. */
#pragma once

#include "base/types.h"

/* Seconds since 1970-01-01. Errors: -ENODEV, -EIO it holds no date, or its update never ends. */
int rtc_get(uint64_t *seconds) NK_MUST_CHECK;

/* Errors: -ENODEV; -EINVAL a year that it cannot hold. */
int rtc_set(uint64_t seconds) NK_MUST_CHECK;

/* Call fn(arg) in interrupt context when the clock reaches the time, once; in place of the alarm
 * that was set. Errors: -ENODEV; -EINVAL nearer than RTC_ALARM_MIN seconds, before which it may
 * pass while it is being set, or a day or more away, farther than an alarm reaches; -ENOMEM. */
#define RTC_ALARM_MIN 2
int rtc_alarm(uint64_t seconds, void (*fn)(void *arg), void *arg) NK_MUST_CHECK;

/* No alarm any more; on return `fn` is not running. True: it had not come. */
bool rtc_alarm_cancel(void);

/* A date of the Gregorian calendar, and back. */
struct rtc_date {
    unsigned year, month, day, hours, minutes, seconds;
};
uint64_t rtc_from_date(const struct rtc_date *d);
struct rtc_date rtc_to_date(uint64_t seconds);

/* The bytes behind the clock's registers, which keep what they hold while the battery lasts. */
void rtc_cmos_read(uint8_t first, uint8_t *out, unsigned count);
void rtc_cmos_write(uint8_t first, const uint8_t *bytes, unsigned count);
