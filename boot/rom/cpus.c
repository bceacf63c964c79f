/* All CPUs get the same memory types, as operating systems expect of firmware; on the way they are
 * counted. After a reset all but one wait for a startup IPI, so no INIT comes first.
 * Spec: Intel SDM vol. 3 sections "Memory Type Range Registers" and "Multiple-Processor
 * Initialization". */

#include "boot/rom/cpus.h"

#include "base/x86.h"
#include "boot/rom/rom.h"

#define AP_PAGE    ROM_AP_PAGE
#define AP_COUNT   0x400 /* ap.asm */
#define AP_IDS     0x408
#define AP_MTRRS   0x600
#define AP_IDS_MAX 256
#define MTRRS_MAX  64

#define LAPIC_AT       UINT64_C(0xfee00000)
#define LAPIC_SPURIOUS 0xf0
#define LAPIC_ICR      0x300
#define LAPIC_ON       0x1ff
#define ICR_STARTUP    0x000c4600u /* to all but self */

#define FWCFG_CPUS 0x05

#define CPUID_1_EDX_APIC (1u << 9)
#define CPUID_1_EDX_MTRR (1u << 12)
#define MSR_MTRR_CAP     0x0fe
#define MTRR_CAP_FIXED   (1u << 8)
#define MSR_MTRR_BASE    0x200 /* and the mask, for each */
#define MSR_MTRR_DEFAULT 0x2ff
#define MTRR_VALID       (1u << 11)
#define MTRR_ON          (1u << 11)
#define MTRR_FIXED_ON    (1u << 10)
#define UNCACHED         0
#define WRITE_BACK       6
#define EIGHT(type)      ((type)*UINT64_C(0x0101010101010101))

#define PORT_PIT2     0x42
#define PORT_PIT      0x43
#define PORT_SPEAKER  0x61
#define PIT2_ONE_SHOT 0xb0 /* channel 2, both bytes, mode 0 */
#define PIT2_DONE     0x20
#define PIT_50MS      59659
#define WAITS_MAX     200 /* 10 s for CPUs that are known to be there: a host may be busy */

struct mtrr {
    uint32_t msr, low, high;
} NK_PACKED;

extern const uint8_t ap_start[], ap_end[]; /* ap.asm */

static struct mtrr *const list = (struct mtrr *)(AP_PAGE + AP_MTRRS);
static unsigned list_count;

static void set(uint32_t msr, uint64_t value)
{
    list[list_count++] = (struct mtrr){msr, (uint32_t)value, (uint32_t)(value >> 32)};
    list[list_count].msr = 0;
}

/* RAM is the default, and what lies between its end and 4 GiB is not cached: few registers, however
 * odd the size. Each covers a power of two, aligned to it. */
static void plan_mtrrs(void)
{
    list[0].msr = 0;
    if ((x86_cpuid(1, 0).edx & CPUID_1_EDX_MTRR) == 0) {
        return;
    }
    uint64_t capable = x86_rdmsr(MSR_MTRR_CAP);
    unsigned room = capable & 0xff, used = 0;
    unsigned bits =
        x86_cpuid(0x80000000, 0).eax >= 0x80000008 ? x86_cpuid(0x80000008, 0).eax & 0xff : 36;
    bool fixed = (capable & MTRR_CAP_FIXED) != 0;
    uint64_t at = nk_align_up(memory_end_below(ROM_END), NK_MIB(1));
    while (at < ROM_END && used < room && list_count < MTRRS_MAX - 16) {
        uint64_t size = at & -at;
        set(MSR_MTRR_BASE + 2 * used, at | UNCACHED);
        set(MSR_MTRR_BASE + 2 * used + 1, (((UINT64_C(1) << bits) - 1) & ~(size - 1)) | MTRR_VALID);
        at += size;
        used++;
    }
    static const uint16_t fixed_msr[] = {0x250, 0x258, 0x259, 0x268, 0x269, 0x26a,
                                         0x26b, 0x26c, 0x26d, 0x26e, 0x26f};
    for (unsigned i = 0; fixed && i < NK_ARRAY_COUNT(fixed_msr); i++) {
        set(fixed_msr[i], i < 2 ? EIGHT(WRITE_BACK) : EIGHT(UNCACHED)); /* 640 KiB of RAM */
    }
    set(MSR_MTRR_DEFAULT, WRITE_BACK | MTRR_ON | (fixed ? MTRR_FIXED_ON : 0));
}

static void start_timer(void)
{
    x86_outb(PORT_SPEAKER, 0x01); /* gate on, no sound */
    x86_outb(PORT_PIT, PIT2_ONE_SHOT);
    x86_outb(PORT_PIT2, PIT_50MS & 0xff);
    x86_outb(PORT_PIT2, PIT_50MS >> 8);
}

static bool timer_runs(void)
{
    return (x86_inb(PORT_SPEAKER) & PIT2_DONE) == 0;
}

static volatile uint32_t *lapic(unsigned offset)
{
    return (volatile uint32_t *)(LAPIC_AT + offset);
}

static unsigned others(void)
{
    return *(volatile uint32_t *)(AP_PAGE + AP_COUNT);
}

void cpus_start(void)
{
    unsigned expected = fwcfg_present() ? fwcfg_number(FWCFG_CPUS) : AP_IDS_MAX;
    __builtin_memset((void *)AP_PAGE, 0, NK_PAGE_SIZE);
    __builtin_memcpy((void *)AP_PAGE, ap_start, (size_t)(ap_end - ap_start));
    plan_mtrrs();
    for (unsigned i = 0; i < list_count; i++) {
        x86_wrmsr(list[i].msr, (uint64_t)list[i].high << 32 | list[i].low);
    }
    if ((x86_cpuid(1, 0).edx & CPUID_1_EDX_APIC) == 0 || expected <= 1) {
        return;
    }
    *lapic(LAPIC_SPURIOUS) = LAPIC_ON;
    *lapic(LAPIC_ICR) = ICR_STARTUP | AP_PAGE >> 12;
    unsigned waits = fwcfg_present() ? WAITS_MAX : 1;
    for (unsigned i = 0; i < waits && others() + 1 < expected; i++) {
        start_timer();
        while (others() + 1 < expected && timer_runs()) {
            x86_pause();
        }
    }
    if (fwcfg_present() && others() + 1 < expected) {
        say("cpu: %u of %u started", others() + 1, expected);
    }
}

unsigned cpus_count(void)
{
    return 1 + (others() < AP_IDS_MAX ? others() : AP_IDS_MAX - 1);
}

unsigned cpus_apic_id(unsigned i)
{
    return i == 0 ? x86_cpuid(1, 0).ebx >> 24 : *(uint8_t *)(AP_PAGE + AP_IDS + i - 1);
}
