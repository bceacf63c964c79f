/* Instructions that exit, with prefixes that mean nothing to them and on every side of a page's
 * end: the VMM must go on behind the whole instruction, whether the processor says where that is
 * or not, and whatever was at the address before. */
#include "tests/guest/exits.h"
#include "tests/guest/lib/guest.h"

#define PAGE     4096
#define PAGE_RW  UINT64_C(3)
#define ALIAS    (UINT64_C(1) << 39) /* the second entry of the top table */
#define INSN_MAX 16

#define IPI_VECTOR    0x50 /* its handler is exits.c's */
#define MSR_APIC_BASE 0x1b
#define HC_NOT_KNOWN  ((uint64_t)-95)

static uint8_t code[2 * PAGE] __attribute__((aligned(PAGE)));

struct registers {
    uint64_t rax, rcx, rdx, steps;
};

/* Call what is at `start`: an instruction, INC EDI, RET. */
static struct registers call(const uint8_t *start, uint64_t rax, uint64_t rcx)
{
    struct registers r = {.rax = rax, .rcx = rcx};
    __asm__ volatile("call *%4"
                     : "+a"(r.rax), "+c"(r.rcx), "=d"(r.rdx), "+D"(r.steps)
                     : "r"(start)
                     : "rbx", "memory", "cc");
    return r;
}

static uint8_t *put(uint8_t *at, const char *bytes)
{
    while (*bytes != 0) {
        *at++ = (uint8_t)*bytes++;
    }
    return at;
}

static bool cpuid_done(const uint8_t *start)
{
    struct registers r = call(start, 0, 0);
    return r.steps == 1 && r.rax == x86_cpuid(0, 0).eax;
}

static bool rdmsr_done(const uint8_t *start)
{
    struct registers r = call(start, 0, MSR_APIC_BASE);
    return r.steps == 1 && r.rax == (GUEST_LAPIC_BASE | 0x900) && r.rdx == 0;
}

static bool hlt_done(const uint8_t *start)
{
    guest_lapic_write(LAPIC_ICR_LOW, LAPIC_ICR_SELF | IPI_VECTOR);
    return call(start, 0, 0).steps == 1;
}

static bool vmmcall_done(const uint8_t *start)
{
    struct registers r = call(start, UINT64_MAX, 0);
    return r.steps == 1 && r.rax == HC_NOT_KNOWN;
}

static bool plain_done(const uint8_t *start)
{
    return call(start, 0, 0).steps == 1;
}

static const struct row {
    const char *name, *before, *opcode, *after;
    bool (*done)(const uint8_t *start);
} row_table[] = {
    {"prefixes: CPUID", "", "\x0f\xa2", "", cpuid_done},
    {"prefixes: RDMSR", "", "\x0f\x32", "", rdmsr_done},
    {"prefixes: WBINVD", "", "\x0f\x09", "", plain_done},
    {"prefixes: HLT", "\xfb", "\xf4", "\xfa", hlt_done}, /* STI before, CLI behind */
    {"prefixes: VMMCALL", "", "\x0f\x01\xd9", "", vmmcall_done},
};
#define HLT_ROW     3 /* its interrupt may come too early: exits.c */
#define VMMCALL_ROW 4 /* in a VM on AMD's processors only */

static const char *const prefixes_table[] = {"", "\x66", "\x2e", "\x48", "\x66\x2e\x66\x48"};

/* The row's instruction, then INC EDI and RET. */
static void put_code(uint8_t *at, const char *prefixes, const struct row *row)
{
    put(put(put(put(put(at, row->before), prefixes), row->opcode), row->after), "\xff\xc7\xc3");
}

static bool row_done(const struct row *row)
{
    bool ok = true;
    for (unsigned i = 0; i < NK_ARRAY_COUNT(prefixes_table); i++) {
        for (unsigned before_end = 0; before_end <= INSN_MAX; before_end++) {
            uint8_t *start = code + PAGE - before_end;
            put_code(start, prefixes_table[i], row);
            ok &= row->done(start) && row->done(start);
        }
    }
    return ok;
}

/* The same address shows one page, then another with a prefix more, then the first again. */
static void check_remapped(void)
{
    static uint64_t table[3][PAGE / 8] __attribute__((aligned(PAGE)));
    uint64_t *top = (uint64_t *)(x86_read_cr3() & ~UINT64_C(0xfff));
    const uint8_t *alias = (const uint8_t *)ALIAS;
    bool ok = true;
    put_code(code, "", &row_table[0]);
    put_code(code + PAGE, "\x66", &row_table[0]);
    top[ALIAS >> 39] = (uint64_t)table[0] | PAGE_RW;
    table[0][0] = (uint64_t)table[1] | PAGE_RW;
    table[1][0] = (uint64_t)table[2] | PAGE_RW;
    for (unsigned i = 0; i < 6; i++) {
        table[2][0] = (uint64_t)(code + (i & 1) * PAGE) | PAGE_RW;
        x86_invlpg(alias);
        ok &= cpuid_done(alias) && cpuid_done(alias);
    }
    top[ALIAS >> 39] = 0;
    x86_write_cr3(x86_read_cr3());
    guest_check(ok, "prefixes: another page at the same address");
}

void exits_prefix(void)
{
    bool vmmcall = guest_in_vm() && !guest_is_intel();
    for (unsigned i = 0; i < NK_ARRAY_COUNT(row_table); i++) {
        if (i == VMMCALL_ROW && !vmmcall) {
            guest_skip(row_table[i].name, "no VM on an AMD processor");
        } else if (i == HLT_ROW && guest_option("early", 0) != 0) {
            guest_skip(row_table[i].name, "the machine's interrupts come before STI");
        } else {
            guest_check(row_done(&row_table[i]), row_table[i].name);
        }
    }
    check_remapped();
}
