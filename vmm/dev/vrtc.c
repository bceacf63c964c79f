/* The MC146818 real-time clock with its CMOS RAM.
 * Spec: Motorola MC146818A data sheet; the RAM's layout is the PC AT's and SeaBIOS'.
 *
 * The time is the host's UTC plus what the guest set it off by. Flags of register C are computed
 * when somebody looks; a timer runs only while an interrupt is enabled and its flag not yet up. */
#include "core/bus.h"
#include "core/clock.h"
#include "core/irq.h"
#include "core/vm.h"
#include "dev/platform.h"

#define PORT_INDEX 0x70
#define RTC_IRQ    8
#define CMOS_SIZE  128
#define NMI_MASK   0x80 /* bit of the index port */

enum rtc_register {
    REG_SECOND = 0x00,
    REG_SECOND_ALARM = 0x01,
    REG_MINUTE = 0x02,
    REG_MINUTE_ALARM = 0x03,
    REG_HOUR = 0x04,
    REG_HOUR_ALARM = 0x05,
    REG_WEEKDAY = 0x06,
    REG_DAY = 0x07,
    REG_MONTH = 0x08,
    REG_YEAR = 0x09,
    REG_A = 0x0a,
    REG_B = 0x0b,
    REG_C = 0x0c,
    REG_D = 0x0d,
    CMOS_EQUIPMENT = 0x14,
    CMOS_BASE_KIB = 0x15,
    CMOS_EXTENDED_KIB = 0x17,
    CMOS_EXTENDED_KIB2 = 0x30,
    CMOS_CENTURY = 0x32,
    CMOS_ABOVE_16M = 0x34, /* in 64 KiB */
    CMOS_ABOVE_4G = 0x5b,  /* in 64 KiB, three bytes */
    CMOS_CPUS = 0x5f,      /* beyond the first */
};

#define A_UPDATING    0x80
#define A_32KHZ       0x20
#define A_DIVIDER     0x70
#define A_RATE        0x0f
#define B_SET         0x80
#define B_24H         0x02
#define B_BINARY      0x04
#define FLAG_PERIODIC 0x40 /* in B: enable, in C: flag */
#define FLAG_ALARM    0x20
#define FLAG_UPDATE   0x10
#define FLAGS         (FLAG_PERIODIC | FLAG_ALARM | FLAG_UPDATE)
#define C_IRQ         0x80
#define D_VALID       0x80
#define HOUR_PM       0x80
#define ALARM_ANY     0xc0 /* both bits set: matches every value */
#define EQUIPMENT_FPU 0x02

#define NS_PER_S   INT64_C(1000000000)
#define DAY_S      86400
#define UPDATE_NS  244000 /* warning before the registers change */
#define CRYSTAL_HZ 32768

struct vrtc {
    uint8_t cmos[CMOS_SIZE];
    uint8_t index;
    int64_t offset_ns;      /* guest's clock - host's UTC */
    int64_t seen_second;    /* up to here the update and alarm flags are computed */
    uint64_t seen_periodic; /* and here the periodic one */
    struct vmm_timer *timer;
};

/* --- calendar --------------------------------------------------------------------------------- */

/* Days since 1970-01-01 of a date in the proleptic Gregorian calendar; months from March, so that
 * the leap day ends the year. */
static int64_t days_from_date(int64_t year, unsigned month, unsigned day)
{
    int64_t y = month > 2 ? year : year - 1;
    unsigned m = month > 2 ? month - 3 : month + 9;

    return 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719468;
}

static void date_from_days(int64_t days, unsigned *year, unsigned *month, unsigned *day)
{
    int64_t shifted = days + 719468; /* since 0000-03-01 */
    int64_t era = shifted / 146097, of_era = shifted % 146097;
    int64_t y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * y + y / 4 - y / 100);
    unsigned m = (unsigned)((5 * of_year + 2) / 153);

    *day = (unsigned)(of_year - (153 * m + 2) / 5 + 1);
    *month = m < 10 ? m + 3 : m - 9;
    *year = (unsigned)(era * 400 + y + (*month <= 2));
}

static uint8_t encode(const struct vrtc *r, unsigned value)
{
    return (uint8_t)((r->cmos[REG_B] & B_BINARY) != 0 ? value : value / 10 << 4 | value % 10);
}

static unsigned decode(const struct vrtc *r, uint8_t value)
{
    return (r->cmos[REG_B] & B_BINARY) != 0 ? value : (value >> 4) * 10u + (value & 15);
}

static uint8_t encode_hour(const struct vrtc *r, unsigned hour)
{
    if ((r->cmos[REG_B] & B_24H) != 0) {
        return encode(r, hour);
    }
    return encode(r, (hour + 11) % 12 + 1) | (hour >= 12 ? HOUR_PM : 0);
}

static unsigned decode_hour(const struct vrtc *r, uint8_t value)
{
    if ((r->cmos[REG_B] & B_24H) != 0) {
        return decode(r, value);
    }
    return decode(r, value & (uint8_t)~HOUR_PM) % 12 + ((value & HOUR_PM) != 0 ? 12 : 0);
}

static int64_t clock_ns(struct vdev *dev)
{
    const struct vrtc *r = vdev_state(dev);

    return (int64_t)vmm_wall_clock_ns(dev->vm) + r->offset_ns;
}

static void registers_from_clock(struct vdev *dev)
{
    struct vrtc *r = vdev_state(dev);
    int64_t second = clock_ns(dev) / NS_PER_S;
    unsigned of_day = (unsigned)(second % DAY_S);
    unsigned year, month, day;

    date_from_days(second / DAY_S, &year, &month, &day);
    r->cmos[REG_SECOND] = encode(r, of_day % 60);
    r->cmos[REG_MINUTE] = encode(r, of_day / 60 % 60);
    r->cmos[REG_HOUR] = encode_hour(r, of_day / 3600);
    r->cmos[REG_WEEKDAY] = encode(r, (unsigned)((second / DAY_S + 4) % 7) + 1);
    r->cmos[REG_DAY] = encode(r, day);
    r->cmos[REG_MONTH] = encode(r, month);
    r->cmos[REG_YEAR] = encode(r, year % 100);
    r->cmos[CMOS_CENTURY] = encode(r, year / 100);
}

static void clock_from_registers(struct vdev *dev)
{
    struct vrtc *r = vdev_state(dev);
    int64_t now = clock_ns(dev), second;
    unsigned month = decode(r, r->cmos[REG_MONTH]);
    unsigned century = decode(r, r->cmos[CMOS_CENTURY]);

    /* Any bytes give some time within what 64 bits of nanoseconds hold. */
    month = month < 1 || month > 12 ? 1 : month;
    century = century < 19 || century > 21 ? 20 : century;
    second = days_from_date(century * 100 + decode(r, r->cmos[REG_YEAR]) % 100, month,
                            decode(r, r->cmos[REG_DAY])) *
                 DAY_S +
             decode_hour(r, r->cmos[REG_HOUR]) * INT64_C(3600) +
             decode(r, r->cmos[REG_MINUTE]) * INT64_C(60) + decode(r, r->cmos[REG_SECOND]);
    second = second < 0 ? 0 : second; /* before 1970 */
    r->offset_ns += second * NS_PER_S + now % NS_PER_S - now;
    r->seen_second = second;
}

/* --- flags and interrupts --------------------------------------------------------------------- */

static bool clock_runs(const struct vrtc *r)
{
    return (r->cmos[REG_B] & B_SET) == 0 && (r->cmos[REG_A] & A_DIVIDER) == A_32KHZ;
}

static bool alarm_field(uint8_t alarm, unsigned decoded, unsigned value)
{
    return (alarm & ALARM_ANY) == ALARM_ANY || decoded == value;
}

/* The first second after `after` at which the alarm matches; INT64_MAX: it never does. */
static int64_t next_alarm(const struct vrtc *r, int64_t after)
{
    const uint8_t *cmos = r->cmos;
    int64_t second = after + 1;

    /* Steps over hours and minutes that do not match, so at most 24 + 60 + 60 turns. */
    while (second <= after + DAY_S) {
        unsigned of_day = (unsigned)(second % DAY_S);

        if (!alarm_field(cmos[REG_HOUR_ALARM], decode_hour(r, cmos[REG_HOUR_ALARM]),
                         of_day / 3600)) {
            second += 3600 - of_day % 3600;
        } else if (!alarm_field(cmos[REG_MINUTE_ALARM], decode(r, cmos[REG_MINUTE_ALARM]),
                                of_day / 60 % 60)) {
            second += 60 - of_day % 60;
        } else if (!alarm_field(cmos[REG_SECOND_ALARM], decode(r, cmos[REG_SECOND_ALARM]),
                                of_day % 60)) {
            second++;
        } else {
            return second;
        }
    }
    return INT64_MAX;
}

/* In ticks of the crystal, 0: off. Data sheet table 5. */
static uint64_t periodic_ticks(const struct vrtc *r)
{
    unsigned rate = r->cmos[REG_A] & A_RATE;

    if (rate == 0) {
        return 0;
    }
    return UINT64_C(1) << (rate < 3 ? rate + 6 : rate - 1);
}

static uint64_t periodic_now(struct vdev *dev)
{
    uint64_t ticks = periodic_ticks(vdev_state(dev));

    return ticks == 0 ? 0 : vmm_clock_ticks(dev->vm, CRYSTAL_HZ) / ticks;
}

static void update_flags(struct vdev *dev)
{
    struct vrtc *r = vdev_state(dev);
    int64_t second = clock_ns(dev) / NS_PER_S;
    uint64_t periodic = periodic_now(dev);

    if (periodic != r->seen_periodic) {
        r->seen_periodic = periodic;
        r->cmos[REG_C] |= FLAG_PERIODIC;
    }
    if (second != r->seen_second && clock_runs(r)) {
        r->cmos[REG_C] |= FLAG_UPDATE;
        if (next_alarm(r, r->seen_second) <= second) {
            r->cmos[REG_C] |= FLAG_ALARM;
        }
    }
    r->seen_second = second;
}

/* Arm the timer for the first flag that is enabled and not up. */
static void arm_timer(struct vdev *dev)
{
    struct vrtc *r = vdev_state(dev);
    uint8_t wanted = r->cmos[REG_B] & (uint8_t)~r->cmos[REG_C] & FLAGS;
    int64_t now = clock_ns(dev), event = INT64_MAX;
    uint64_t guest_now = vmm_clock_ns(dev->vm), deadline = UINT64_MAX;

    if ((wanted & FLAG_UPDATE) != 0 && clock_runs(r)) {
        event = now / NS_PER_S + 1;
    } else if ((wanted & FLAG_ALARM) != 0 && clock_runs(r)) {
        event = next_alarm(r, now / NS_PER_S);
    }
    if (event != INT64_MAX) {
        deadline = guest_now + (uint64_t)(event * NS_PER_S - now);
    }
    if ((wanted & FLAG_PERIODIC) != 0 && periodic_ticks(r) != 0) {
        uint64_t next = (periodic_now(dev) + 1) * periodic_ticks(r);
        uint64_t at = vmm_ticks_to_ns(next, CRYSTAL_HZ);

        deadline = at < deadline ? at : deadline;
    }
    if (deadline != UINT64_MAX) {
        vmm_timer_arm(r->timer, deadline);
    } else {
        vmm_timer_cancel(r->timer);
    }
}

static void update_irq(struct vdev *dev)
{
    struct vrtc *r = vdev_state(dev);
    bool asserted = (r->cmos[REG_B] & r->cmos[REG_C] & FLAGS) != 0;

    r->cmos[REG_C] = (uint8_t)((r->cmos[REG_C] & FLAGS) | (asserted ? C_IRQ : 0));
    vmm_irq_set_legacy(dev->vm, RTC_IRQ, asserted);
    arm_timer(dev);
}

static void vrtc_timer(struct vdev *dev, void *arg)
{
    (void)arg;
    update_flags(dev);
    update_irq(dev);
}

/* --- registers -------------------------------------------------------------------------------- */

static bool is_time(unsigned reg)
{
    return reg == CMOS_CENTURY || (reg <= REG_YEAR && reg != REG_SECOND_ALARM &&
                                   reg != REG_MINUTE_ALARM && reg != REG_HOUR_ALARM);
}

static uint8_t read_register(struct vdev *dev, unsigned reg)
{
    struct vrtc *r = vdev_state(dev);
    uint8_t value;

    if (is_time(reg) && (r->cmos[REG_B] & B_SET) == 0) {
        registers_from_clock(dev);
    }
    value = r->cmos[reg];
    if (reg == REG_A && clock_runs(r) && clock_ns(dev) % NS_PER_S >= NS_PER_S - UPDATE_NS) {
        value |= A_UPDATING;
    } else if (reg == REG_C) {
        update_flags(dev);
        update_irq(dev);
        value = r->cmos[REG_C];
        r->cmos[REG_C] = 0;
        update_irq(dev);
    }
    return value;
}

static void write_b(struct vdev *dev, uint8_t value)
{
    struct vrtc *r = vdev_state(dev);
    uint8_t old = r->cmos[REG_B];

    update_flags(dev);
    if ((old & B_SET) == 0) {
        registers_from_clock(dev); /* in the old format: the bits do not convert */
    }
    if ((value & B_SET) != 0) {
        value &= (uint8_t)~FLAG_UPDATE; /* data sheet: SET clears UIE */
    }
    r->cmos[REG_B] = value;
    if ((old & B_SET) != 0 && (value & B_SET) == 0) {
        clock_from_registers(dev);
    }
    update_irq(dev);
}

static void write_register(struct vdev *dev, unsigned reg, uint8_t value)
{
    struct vrtc *r = vdev_state(dev);
    bool set = (r->cmos[REG_B] & B_SET) != 0;

    switch (reg) {
    case REG_A:
        update_flags(dev);
        r->cmos[REG_A] = value & (uint8_t)~A_UPDATING;
        r->seen_periodic = periodic_now(dev);
        arm_timer(dev);
        break;
    case REG_B:
        write_b(dev, value);
        break;
    case REG_C:
    case REG_D:
        break;
    case REG_SECOND_ALARM:
    case REG_MINUTE_ALARM:
    case REG_HOUR_ALARM:
        update_flags(dev);
        r->cmos[reg] = value;
        arm_timer(dev);
        break;
    default:
        if (!is_time(reg)) {
            r->cmos[reg] = value;
            break;
        }
        if (!set) {
            registers_from_clock(dev);
        }
        r->cmos[reg] = value;
        if (!set) {
            clock_from_registers(dev);
            arm_timer(dev);
        }
        break;
    }
}

static void vrtc_access(struct vdev *dev, struct vdev_access *a)
{
    struct vrtc *r = vdev_state(dev);
    unsigned reg = r->index & (uint8_t)~NMI_MASK;

    if (a->offset == 0) {
        if (a->write) {
            r->index = (uint8_t)a->value;
        }
    } else if (a->write) {
        write_register(dev, reg, (uint8_t)a->value);
    } else {
        a->value = read_register(dev, reg);
    }
}

/* --- class ------------------------------------------------------------------------------------ */

static void put16(struct vrtc *r, unsigned at, uint64_t value, uint64_t max)
{
    value = value > max ? max : value;
    r->cmos[at] = (uint8_t)value;
    r->cmos[at + 1] = (uint8_t)(value >> 8);
}

/* What firmware would have stored about the machine. */
static void fill_cmos(struct vdev *dev)
{
    struct vrtc *r = vdev_state(dev);
    uint64_t mem = dev->vm->config.mem_bytes;
    uint64_t low = mem < PLATFORM_LOW_RAM_END ? mem : PLATFORM_LOW_RAM_END;
    uint64_t high = (mem - low) >> 16;

    r->cmos[REG_A] = A_32KHZ | 6; /* 1024 Hz */
    r->cmos[REG_B] = B_24H;
    r->cmos[REG_D] = D_VALID;
    r->cmos[CMOS_EQUIPMENT] = EQUIPMENT_FPU;
    put16(r, CMOS_BASE_KIB, 640, 640);
    put16(r, CMOS_EXTENDED_KIB, low < VMM_MIB(1) ? 0 : (low - VMM_MIB(1)) >> 10, 0xfc00);
    put16(r, CMOS_EXTENDED_KIB2, low < VMM_MIB(1) ? 0 : (low - VMM_MIB(1)) >> 10, 0xfc00);
    put16(r, CMOS_ABOVE_16M, low < VMM_MIB(16) ? 0 : (low - VMM_MIB(16)) >> 16, 0xffff);
    put16(r, CMOS_ABOVE_4G, high & 0xffff, 0xffff);
    r->cmos[CMOS_ABOVE_4G + 2] = (uint8_t)(high >> 16);
    r->cmos[CMOS_CPUS] = (uint8_t)(dev->vm->vcpu_count - 1);
}

/* The battery keeps clock and RAM; RESET only ends the interrupts. */
static void vrtc_reset(struct vdev *dev)
{
    struct vrtc *r = vdev_state(dev);

    r->index = 0;
    r->cmos[REG_B] &= (uint8_t)~FLAGS;
    r->cmos[REG_C] = 0;
    update_irq(dev);
}

static int vrtc_create(struct vdev *dev)
{
    struct vrtc *r = vdev_state(dev);
    int error = vmm_timer_create(dev, vrtc_timer, NULL, &r->timer);

    if (error == 0) {
        error = vdev_claim_bytes(dev, PORT_INDEX, 2, vrtc_access);
    }
    if (error == 0) {
        fill_cmos(dev);
        r->seen_second = clock_ns(dev) / NS_PER_S;
    }
    return error;
}

static void vrtc_destroy(struct vdev *dev)
{
    struct vrtc *r = vdev_state(dev);

    vmm_timer_destroy(r->timer);
}

static int vrtc_save(struct vdev *dev, struct vdev_stream *out)
{
    return out->transfer(out, vdev_state(dev), offsetof(struct vrtc, timer));
}

static int vrtc_load(struct vdev *dev, struct vdev_stream *in)
{
    struct vrtc *r = vdev_state(dev);
    int error = in->transfer(in, r, offsetof(struct vrtc, timer));
    int64_t host = (int64_t)vmm_wall_clock_ns(dev->vm);

    if (error != 0) {
        return error;
    }
    if (r->offset_ns < -host || r->offset_ns > INT64_MAX / 2 || r->seen_second < 0 ||
        r->seen_second > INT64_MAX / NS_PER_S - DAY_S) {
        r->offset_ns = 0; /* a reset leaves the clock alone */
        r->seen_second = host / NS_PER_S;
        return -VMM_EINVAL;
    }
    arm_timer(dev);
    return 0;
}

const struct vdev_class vrtc_class = {
    .name = "vrtc",
    .state_size = sizeof(struct vrtc),
    .version = 1,
    .create = vrtc_create,
    .reset = vrtc_reset,
    .destroy = vrtc_destroy,
    .save = vrtc_save,
    .load = vrtc_load,
};
