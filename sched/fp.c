/* Extended state (x87, SSE, AVX and what else XSAVE covers) of the threads that own it.
 *
 * Such a thread's state is saved whenever it leaves its CPU, so that another can load it at once;
 * it is loaded when the thread comes back, unless this CPU's registers still hold it. While any
 * other thread runs, CR0.TS is set: code that uses the registers without owning them faults
 * instead of spoiling somebody's state.
 *
 * Areas are saved and loaded with XCR0 at its full value, so that nothing is left out for a thread
 * that runs with less; XSETBV is skipped when XCR0 holds the value already.
 * Spec: AMD APM vol. 2, 11.5; Intel SDM vol. 1 chapter 13. */
#include "base/errno.h"
#include "base/percpu.h"
#include "base/x86.h"
#include "mm/slab.h"
#include "sched/thread_impl.h"

#include <string.h>

#define MSR_FS_BASE 0xc0000100
#define CR0_TS      (UINT64_C(1) << 3)
#define CR4_OSXSAVE (UINT64_C(1) << 18)

#define CPUID_XSAVE      0xd
#define XSAVEOPT_PRESENT (1u << 0) /* leaf 0xd, subleaf 1, EAX */

#define FXSAVE_SIZE    512
#define AREA_FCW       0 /* offsets in the legacy area */
#define AREA_MXCSR     24
#define FCW_DEFAULT    0x037f
#define MXCSR_DEFAULT  0x1f80
#define ALL_COMPONENTS UINT64_MAX

static struct {
    bool xsave, xsaveopt;
    uint32_t area_size;
    uint64_t xcr0; /* everything the CPU has */
} features;

void fp_init(void)
{
    features.area_size = FXSAVE_SIZE;
    features.xsave = (x86_read_cr4() & CR4_OSXSAVE) != 0;
    if (features.xsave) {
        struct x86_cpuid leaf = x86_cpuid(CPUID_XSAVE, 0);
        features.area_size = leaf.ecx;
        features.xcr0 = (uint64_t)leaf.edx << 32 | leaf.eax;
        features.xsaveopt = (x86_cpuid(CPUID_XSAVE, 1).eax & XSAVEOPT_PRESENT) != 0;
    }
}

void fp_init_cpu(void)
{
    x86_write_cr0(x86_read_cr0() | CR0_TS);
}

static void set_xcr0(uint64_t value)
{
    if (features.xsave && this_cpu->xcr0 != value) {
        x86_xsetbv(0, value);
        this_cpu->xcr0 = value;
    }
}

static void save(const struct nk_thread *t)
{
    const uint32_t lo = (uint32_t)ALL_COMPONENTS, hi = (uint32_t)(ALL_COMPONENTS >> 32);
    set_xcr0(features.xcr0);
    if (features.xsaveopt) {
        __asm__ volatile("xsaveopt64 (%0)" : : "r"(t->fp), "a"(lo), "d"(hi) : "memory");
    } else if (features.xsave) {
        __asm__ volatile("xsave64 (%0)" : : "r"(t->fp), "a"(lo), "d"(hi) : "memory");
    } else {
        __asm__ volatile("fxsave64 (%0)" : : "r"(t->fp) : "memory");
    }
}

static void load(const struct nk_thread *t)
{
    const uint32_t lo = (uint32_t)ALL_COMPONENTS, hi = (uint32_t)(ALL_COMPONENTS >> 32);
    if (features.xsave) {
        set_xcr0(features.xcr0);
        __asm__ volatile("xrstor64 (%0)" : : "r"(t->fp), "a"(lo), "d"(hi) : "memory");
    } else {
        __asm__ volatile("fxrstor64 (%0)" : : "r"(t->fp) : "memory");
    }
}

/* The registers of this CPU are t's. Interrupts off, CR0.TS clear. */
static void enter(struct nk_thread *t)
{
    if (this_cpu->fpu_owner != t || t->fp_cpu != this_cpu->id) {
        load(t);
        this_cpu->fpu_owner = t;
        t->fp_cpu = this_cpu->id;
    }
    set_xcr0(t->xcr0);
    if (t->fs_base != 0) { /* a world switch may have left another */
        x86_wrmsr(MSR_FS_BASE, t->fs_base);
    }
}

void fp_switch(struct nk_thread *prev, struct nk_thread *next)
{
    if (prev->fp != NULL) {
        save(prev);
    }
    if (next->fp == NULL) {
        fp_init_cpu();
    } else {
        __asm__ volatile("clts");
        enter(next);
    }
}

void fp_reset(struct nk_thread *t)
{
    /* A zero XSTATE_BV stands for the initial state, except for MXCSR, which XRSTOR takes from
     * the area in any case (SDM vol. 1, 13.8.1); FXRSTOR takes the control word, too. */
    memset(t->fp, 0, features.area_size);
    *(uint16_t *)((char *)t->fp + AREA_FCW) = FCW_DEFAULT;
    *(uint32_t *)((char *)t->fp + AREA_MXCSR) = MXCSR_DEFAULT;
    t->xcr0 = features.xcr0;
    t->fs_base = 0;
    t->fp_cpu = UINT32_MAX; /* no CPU's registers hold it */
}

int fp_alloc(struct nk_thread *t)
{
    t->fp = kmalloc_aligned(features.area_size, 64);
    if (t->fp == NULL) {
        return -ENOMEM;
    }
    fp_reset(t);
    t->on_switch |= SWITCH_FP;
    return 0;
}

void nk_thread_fp_enable(void)
{
    struct nk_thread *t = nk_thread_current();
    if (t->fp != NULL) {
        return;
    }
    nk_preempt_disable(); /* a switch would save registers that are not t's yet */
    if (fp_alloc(t) != 0) {
        nk_panic("thread %s: no memory for its extended state", t->name);
    }
    uint64_t flags = nk_irq_save();
    __asm__ volatile("clts");
    enter(t);
    nk_irq_restore(flags);
    nk_preempt_enable();
}

uint64_t nk_fp_xcr0_supported(void)
{
    return features.xcr0;
}

void nk_thread_fp_set_xcr0(uint64_t xcr0)
{
    struct nk_thread *t = nk_thread_current();
    nk_assert(t->fp != NULL);
    uint64_t flags = nk_irq_save();
    t->xcr0 = xcr0;
    set_xcr0(xcr0);
    nk_irq_restore(flags);
}

void nk_thread_set_fs_base(uint64_t base)
{
    struct nk_thread *t = nk_thread_current();
    nk_assert(t->fp != NULL);
    uint64_t flags = nk_irq_save();
    t->fs_base = base;
    x86_wrmsr(MSR_FS_BASE, base);
    nk_irq_restore(flags);
}
