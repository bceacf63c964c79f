/* See cpu.h. Spec: AMD APM vol. 2 chapters 3 "System Resources" and 11 "SSE and x87 State";
 * Intel SDM vol. 3 chapter 13 (XSAVE). */

#include "kernel/cpu.h"

#include <string.h>

#include "base/x86.h"

#define CR0_MP UINT64_C(1 << 1)
#define CR0_EM UINT64_C(1 << 2)
#define CR0_TS UINT64_C(1 << 3)
#define CR0_NE UINT64_C(1 << 5)
#define CR0_WP UINT64_C(1 << 16)

#define CR4_MCE        UINT64_C(1 << 6)
#define CR4_OSFXSR     UINT64_C(1 << 9)
#define CR4_OSXMMEXCPT UINT64_C(1 << 10)
#define CR4_UMIP       UINT64_C(1 << 11)
#define CR4_OSXSAVE    UINT64_C(1 << 18)
#define CR4_SMEP       UINT64_C(1 << 20)
#define CR4_SMAP       UINT64_C(1 << 21)

#define BRAND_LENGTH 48

#define XCR0_X87_SSE UINT64_C(3)

/* The boot CPU's record is complete as far as GS needs before any code runs (boot/entry.asm). */
struct nk_cpu nk_cpu_table[CONFIG_NR_CPUS] = {[0] = {.self = &nk_cpu_table[0], .online = 1}};
unsigned nk_cpu_count = 1;

struct cpu_features nk_cpu_features;

static bool bit(uint32_t reg, unsigned n)
{
    return (reg >> n & 1) != 0;
}

/* The 48 characters of the brand string may have blanks around them. */
static void read_brand(char out[BRAND_LENGTH + 1])
{
    char text[BRAND_LENGTH + 1] = "unknown CPU";
    if (nk_cpu_features.max_extended_leaf >= 0x80000004) {
        for (uint32_t i = 0; i < 3; i++) {
            struct x86_cpuid id = x86_cpuid(0x80000002 + i, 0);
            memcpy(text + (size_t)i * 16, &id, 16);
        }
    }
    size_t start = 0;
    while (text[start] == ' ') {
        start++;
    }
    size_t end = strlen(text);
    while (end > start && text[end - 1] == ' ') {
        end--;
    }
    memcpy(out, text + start, end - start);
    out[end - start] = '\0';
}

static void read_names(struct cpu_features *f)
{
    struct x86_cpuid id = x86_cpuid(0, 0);
    memcpy(f->vendor, &id.ebx, 4);
    memcpy(f->vendor + 4, &id.edx, 4);
    memcpy(f->vendor + 8, &id.ecx, 4);
    read_brand(f->brand);
}

/* What a hypervisor calls itself in its first leaf. */
static bool is_tcg(void)
{
    struct x86_cpuid id = x86_cpuid(0x40000000, 0);
    return memcmp(&id.ebx, "TCGTCGTCGTCG", 12) == 0;
}

void cpu_detect(void)
{
    struct cpu_features *f = &nk_cpu_features;
    f->max_leaf = x86_cpuid(0, 0).eax;
    f->max_extended_leaf = x86_cpuid(0x80000000, 0).eax;
    read_names(f);

    struct x86_cpuid id = x86_cpuid(1, 0);
    f->mce = bit(id.edx, 7);
    f->monitor = bit(id.ecx, 3);
    f->vmx = bit(id.ecx, 5);
    f->x2apic = bit(id.ecx, 21);
    f->tsc_deadline = bit(id.ecx, 24);
    f->xsave = bit(id.ecx, 26);
    f->tcg = bit(id.ecx, 31) && is_tcg();
    id = x86_cpuid(0x80000001, 0); /* there, since there is long mode */
    f->svm = bit(id.ecx, 2);
    f->nx = bit(id.edx, 20);
    if (f->max_leaf >= 7) {
        id = x86_cpuid(7, 0);
        f->smep = bit(id.ebx, 7);
        f->smap = bit(id.ebx, 20);
        f->umip = bit(id.ecx, 2);
    }
    if (f->max_extended_leaf >= 0x80000007) {
        f->tsc_invariant = bit(x86_cpuid(0x80000007, 0).edx, 8);
    }
    if (f->xsave && f->max_leaf >= 13) {
        id = x86_cpuid(13, 0);
        f->xcr0_all = (uint64_t)id.edx << 32 | id.eax;
    }
}

bool cpu_zero_breaks_vms(void)
{
    return nk_cpu_features.tcg && nk_cpu_count > 1;
}

void cpu_init(void)
{
    const struct cpu_features *f = &nk_cpu_features;
    x86_write_cr0((x86_read_cr0() & ~(CR0_EM | CR0_TS)) | CR0_MP | CR0_NE | CR0_WP);

    uint64_t cr4 = x86_read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT;
    cr4 |= f->mce ? CR4_MCE : 0; /* a machine check becomes a report instead of a shutdown */
    cr4 |= f->smep ? CR4_SMEP : 0;
    cr4 |= f->smap ? CR4_SMAP : 0;
    cr4 |= f->umip ? CR4_UMIP : 0;
    cr4 |= f->xsave ? CR4_OSXSAVE : 0;
    x86_write_cr4(cr4);

    this_cpu->xcr0 = XCR0_X87_SSE;
    if (f->xsave) {
        x86_xsetbv(0, f->xcr0_all);
        this_cpu->xcr0 = f->xcr0_all;
    }
    __asm__ volatile("fninit");
}
