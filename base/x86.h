/* The instructions C has no words for. Names follow the manual's mnemonics.
 * Spec: AMD APM vol. 2 and 3; Intel SDM vol. 2 and 3. */
#pragma once

#include "base/types.h"

#define X86_RFLAGS_TF (UINT64_C(1) << 8)
#define X86_RFLAGS_IF (UINT64_C(1) << 9)
#define X86_RFLAGS_DF (UINT64_C(1) << 10)
#define X86_RFLAGS_RF (UINT64_C(1) << 16)

static inline uint64_t x86_rdmsr(uint32_t msr)
{
    uint32_t lo, hi;
    __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
    return ((uint64_t)hi << 32) | lo;
}

static inline void x86_wrmsr(uint32_t msr, uint64_t value)
{
    __asm__ volatile("wrmsr"
                     :
                     : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
                     : "memory");
}

struct x86_cpuid {
    uint32_t eax, ebx, ecx, edx;
};

static inline struct x86_cpuid x86_cpuid(uint32_t leaf, uint32_t subleaf)
{
    struct x86_cpuid r;
    __asm__ volatile("cpuid"
                     : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
                     : "a"(leaf), "c"(subleaf));
    return r;
}

static inline uint64_t x86_rdtsc(void)
{
    uint64_t v; /* made in three instructions, wherever it is wanted */
    __asm__ volatile("rdtsc\n\tshlq $32, %%rdx\n\tleaq (%%rax,%%rdx), %0"
                     : "=r"(v)
                     :
                     : "rax", "rdx", "cc");
    return v;
}

/* a * b / c with all 128 bits of the product; the quotient must fit in 64. */
static inline uint64_t x86_mul_div(uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t quotient, remainder;
    __asm__("mulq %3; divq %4" : "=&a"(quotient), "=&d"(remainder) : "0"(a), "r"(b), "r"(c) : "cc");
    return quotient;
}

static inline void x86_outb(uint16_t port, uint8_t v)
{
    __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}

static inline uint8_t x86_inb(uint16_t port)
{
    uint8_t v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static inline void x86_outw(uint16_t port, uint16_t v)
{
    __asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(port));
}

static inline uint16_t x86_inw(uint16_t port)
{
    uint16_t v;
    __asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static inline void x86_outl(uint16_t port, uint32_t v)
{
    __asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port));
}

static inline uint32_t x86_inl(uint16_t port)
{
    uint32_t v;
    __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static inline uint64_t x86_read_flags(void)
{
    uint64_t f;
    __asm__ volatile("pushfq; popq %0" : "=r"(f) : : "memory");
    return f;
}

static inline void x86_cli(void)
{
    __asm__ volatile("cli" : : : "memory");
}

static inline void x86_sti(void)
{
    __asm__ volatile("sti" : : : "memory");
}

static inline void x86_pause(void)
{
    __asm__ volatile("pause" : : : "memory");
}

static inline void x86_invlpg(const void *va)
{
    __asm__ volatile("invlpg (%0)" : : "r"(va) : "memory");
}

#define X86_DEFINE_CR(n)                                                                           \
    static inline uint64_t x86_read_cr##n(void)                                                    \
    {                                                                                              \
        uint64_t v;                                                                                \
        __asm__ volatile("movq %%cr" #n ", %0" : "=r"(v));                                         \
        return v;                                                                                  \
    }                                                                                              \
    static inline void x86_write_cr##n(uint64_t v)                                                 \
    {                                                                                              \
        __asm__ volatile("movq %0, %%cr" #n : : "r"(v) : "memory");                                \
    }
X86_DEFINE_CR(0)
X86_DEFINE_CR(2)
X86_DEFINE_CR(3)
X86_DEFINE_CR(4)
#undef X86_DEFINE_CR

static inline void x86_xsetbv(uint32_t index, uint64_t v)
{
    __asm__ volatile("xsetbv" : : "c"(index), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)));
}

/* Interrupts off, returning what to give to nk_irq_restore(). */
static inline uint64_t nk_irq_save(void)
{
    uint64_t flags = x86_read_flags();
    x86_cli();
    return flags;
}

static inline void nk_irq_restore(uint64_t flags)
{
    if (flags & X86_RFLAGS_IF) {
        x86_sti();
    }
}

static inline bool nk_irqs_on(void)
{
    return (x86_read_flags() & X86_RFLAGS_IF) != 0;
}
