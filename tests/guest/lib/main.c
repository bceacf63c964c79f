/* From the entry code to guest_main(): boot_params, command line, the ways to end. */
#include "tests/guest/lib/guest.h"

/* Offsets in boot_params (Linux Documentation/arch/x86/zero-page.rst). */
#define E820_COUNT   0x1e8
#define CMDLINE      0x228
#define CMDLINE_HIGH 0x0c8
#define E820_TABLE   0x2d0
#define E820_MAX     128

/* PM1 control of PIIX4, where both QEMU's machine and ours have it; SLP_TYP in bits 12:10. */
#define PM1_CONTROL  0x604
#define PM1_SLP_EN   (1u << 13)
#define PM1_SLP_TYP  10
#define S5_TYPE      5 /* ours */
#define S5_TYPE_QEMU 0

#define COM1 0x3f8

void guest_start(const uint8_t *boot_params, uint64_t tsc);

static struct guest_e820 e820[E820_MAX];
static unsigned e820_count;
static char cmdline[2048];
static uint64_t entry_tsc;

unsigned guest_e820_count(void)
{
    return e820_count;
}

struct guest_e820 guest_e820(unsigned i)
{
    return e820[i];
}

const char *guest_cmdline(void)
{
    return cmdline;
}

uint64_t guest_entry_tsc(void)
{
    return entry_tsc;
}

/* What follows "key=" on the command line, NULL when it is not there. */
static const char *find_option(const char *key)
{
    for (const char *word = cmdline; *word;) {
        const char *w = word, *k = key;
        while (*k && *w == *k) {
            w++;
            k++;
        }
        if (!*k && *w == '=') {
            return w + 1;
        }
        while (*word && *word != ' ') {
            word++;
        }
        while (*word == ' ') {
            word++;
        }
    }
    return NULL;
}

uint64_t guest_option(const char *key, uint64_t fallback)
{
    const char *p = find_option(key);
    if (!p || *p < '0' || *p > '9') {
        return fallback;
    }
    uint64_t value = 0;
    for (; *p >= '0' && *p <= '9'; p++) {
        value = value * 10 + (uint64_t)(*p - '0');
    }
    return value;
}

bool guest_option_given(const char *key)
{
    return find_option(key) != NULL;
}

bool guest_option_is(const char *key, const char *value)
{
    const char *p = find_option(key);
    if (!p) {
        return false;
    }
    while (*value && *p == *value) {
        p++;
        value++;
    }
    return !*value && (!*p || *p == ' ');
}

bool guest_in_vm(void)
{
    /* QEMU's emulator shows a hypervisor leaf too. */
    const uint32_t tcg = 0x54474354; /* "TCGT" */
    bool hypervisor = (x86_cpuid(1, 0).ecx & (1u << 31)) != 0;
    return hypervisor && x86_cpuid(0x40000000, 0).ebx != tcg;
}

bool guest_is_intel(void)
{
    return x86_cpuid(0, 0).ecx == 0x6c65746e; /* "ntel" */
}

void guest_power_off(void)
{
    x86_outw(PM1_CONTROL, PM1_SLP_EN | (S5_TYPE << PM1_SLP_TYP));
    x86_outw(PM1_CONTROL, PM1_SLP_EN | (S5_TYPE_QEMU << PM1_SLP_TYP));
    for (;;) {
        __asm__ volatile("cli; hlt");
    }
}

void guest_die(const char *why)
{
    guest_printf("guest: fatal: %s\n", why);
    guest_power_off();
}

static void copy_boot_params(const uint8_t *params)
{
    e820_count = params[E820_COUNT] < E820_MAX ? params[E820_COUNT] : E820_MAX;
    for (unsigned i = 0; i < e820_count; i++) {
        e820[i] = ((const struct guest_e820 *)(params + E820_TABLE))[i];
    }
    uint64_t low = *(const uint32_t *)(params + CMDLINE);
    uint64_t high = *(const uint32_t *)(params + CMDLINE_HIGH);
    const char *line = (const char *)(low | high << 32);
    for (unsigned i = 0; line && line[i] && i + 1 < sizeof(cmdline); i++) {
        cmdline[i] = line[i];
    }
}

/* 115200 8N1, FIFO on, no interrupts. */
static void serial_init(void)
{
    x86_outb(COM1 + 1, 0);
    x86_outb(COM1 + 3, 0x80);
    x86_outb(COM1 + 0, 1);
    x86_outb(COM1 + 1, 0);
    x86_outb(COM1 + 3, 3);
    x86_outb(COM1 + 2, 7);
    x86_outb(COM1 + 4, 3);
}

void guest_start(const uint8_t *boot_params, uint64_t tsc)
{
    entry_tsc = tsc;
    copy_boot_params(boot_params);
    serial_init();
    guest_trap_init();
    guest_pic_init();
    guest_lapic_init();
    guest_main();
    guest_power_off();
}

/* GCC calls these for copies and clears it does not inline. */
void *memcpy(void *to, const void *from, size_t n);
void *memset(void *to, int value, size_t n);

void *memcpy(void *to, const void *from, size_t n)
{
    void *d = to;
    __asm__ volatile("rep movsb" : "+D"(d), "+S"(from), "+c"(n) : : "memory");
    return to;
}

void *memset(void *to, int value, size_t n)
{
    void *d = to;
    __asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(value) : "memory");
    return to;
}
