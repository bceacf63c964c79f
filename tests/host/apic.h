/* A PC's local APICs as the tests see them: registers by memory and by MSR, messages. Each program
 * that includes this tests one side of them. */
#pragma once

#include "dev/vlapic.h"
#include "mock_backend.h"
#include "pc.h"

#define BASE PLATFORM_LAPIC_BASE

enum { /* memory offsets */
       ID = 0x20,
       VERSION = 0x30,
       TPR = 0x80,
       APR = 0x90,
       PPR = 0xa0,
       EOI = 0xb0,
       RRD = 0xc0,
       LDR = 0xd0,
       DFR = 0xe0,
       SVR = 0xf0,
       ISR = 0x100,
       TMR = 0x180,
       IRR = 0x200,
       ESR = 0x280,
       ICR = 0x300,
       ICR_HIGH = 0x310,
       LVT_TIMER = 0x320,
       LVT_LINT0 = 0x350,
       LVT_LINT1 = 0x360,
       LVT_ERROR = 0x370,
       INITIAL = 0x380,
       CURRENT = 0x390,
       DIVIDE = 0x3e0,
       SELF_IPI = 0x3f0,
};

static inline uint32_t apic_get(struct fixture *f, unsigned offset)
{
    return (uint32_t)fixture_mmio_read(f, BASE + offset, 4);
}

static inline void apic_set(struct fixture *f, unsigned offset, uint32_t value)
{
    fixture_mmio_write(f, BASE + offset, 4, value);
}

static inline void apic_choose(struct fixture *f, unsigned vcpu)
{
    f->vcpu = f->vm->vcpu[vcpu];
}

/* All LAPICs enabled by software. */
static inline struct fixture *apic_create(unsigned vcpus)
{
    struct fixture *f = pc_create(vcpus);

    for (unsigned i = 0; i < vcpus; i++) {
        apic_choose(f, i);
        apic_set(f, SVR, 0x1ff);
    }
    apic_choose(f, 0);
    return f;
}

static inline void apic_enable_x2apic(struct fixture *f)
{
    assert_true(vlapic_base_write(f->vcpu, vlapic_base_read(f->vcpu) | 0x400));
}

static inline uint64_t apic_rdmsr(struct fixture *f, uint32_t offset)
{
    uint64_t value = 0;

    assert_true(vlapic_msr_read(f->vcpu, 0x800 + offset / 16, &value));
    return value;
}

static inline bool apic_wrmsr(struct fixture *f, uint32_t offset, uint64_t value)
{
    return vlapic_msr_write(f->vcpu, 0x800 + offset / 16, value);
}

static inline void apic_send(struct fixture *f, uint8_t destination, uint32_t icr)
{
    apic_set(f, ICR_HIGH, (uint32_t)destination << 24);
    apic_set(f, ICR, icr);
}
