/* The LAPIC's registers in the page that hardware works on while the guest runs: the layout of the
 * memory window. While the guest is out, struct vlapic is what counts.
 * Spec: Intel SDM vol. 3 chapter 30 "APIC Virtualization and Virtual Interrupts". */
#include "core/lapic_page.h"
#include "core/vm.h"

#define X2APIC_MSR_BASE 0x800

static uint32_t *word_at(void *page, unsigned reg)
{
    return (uint32_t *)((uint8_t *)page + reg * 16);
}

enum vlapic_mode vlapic_mode(const struct vcpu *v)
{
    const struct vlapic *a = vlapic_of(v);

    if ((a->base & VLAPIC_BASE_ENABLED) == 0) {
        return VLAPIC_MODE_OFF;
    }
    return vlapic_x2apic(a) ? VLAPIC_MODE_X2APIC : VLAPIC_MODE_MEMORY;
}

/* What guests read without an exit. The current count runs, the others are given each time. */
static bool is_copied(unsigned reg)
{
    return reg != VLAPIC_REG_PPR && reg != VLAPIC_REG_CURRENT_COUNT &&
           !(reg >= VLAPIC_REG_ISR && reg < VLAPIC_REG_ESR);
}

static void copy_registers(struct vlapic *a, void *page)
{
    for (unsigned reg = 0; reg < VLAPIC_REG_COUNT; reg++) {
        uint32_t value;

        if (is_copied(reg) && vlapic_register_read(a, reg, &value)) {
            *word_at(page, reg) = value;
        }
    }
    if (vlapic_x2apic(a)) { /* one register of 64 bits */
        word_at(page, VLAPIC_REG_ICR)[1] = (uint32_t)(a->icr >> 32);
    }
    a->page_stale = false;
}

/* 64 vectors of one of the bitmaps: two registers. */
static void put_vectors(void *page, unsigned reg, unsigned i, uint64_t bits)
{
    *word_at(page, reg + 2 * i) = (uint32_t)bits;
    *word_at(page, reg + 2 * i + 1) = (uint32_t)(bits >> 32);
}

/* They are taken out, too. */
static uint64_t take_vectors(void *page, unsigned reg, unsigned i)
{
    uint32_t *low = word_at(page, reg + 2 * i), *high = word_at(page, reg + 2 * i + 1);
    uint64_t bits = *low | (uint64_t)*high << 32;

    if (bits != 0) {
        *low = *high = 0;
    }
    return bits;
}

/* Requests that arrive from now on find an empty IRR, and so announce themselves. */
static void give_requests(struct vlapic *a, void *page, struct vlapic_given *out)
{
    out->requested = 0;
    for (unsigned i = 0; i < 4; i++) {
        uint64_t irr = 0;

        if (a->irr[i] != 0 && vlapic_accepts(a)) {
            irr = __atomic_exchange_n(&a->irr[i], 0, __ATOMIC_SEQ_CST);
        }
        if (irr != 0) {
            put_vectors(page, VLAPIC_REG_IRR, i, irr);
            out->requested = (uint8_t)(i * 64 + 63 - (unsigned)__builtin_clzll(irr));
        }
        out->level[i] = __atomic_load_n(&a->tmr[i], __ATOMIC_SEQ_CST);
    }
}

static void give_in_service(struct vlapic *a, void *page, struct vlapic_given *out)
{
    for (unsigned i = 1; i <= a->nested_count; i++) {
        *word_at(page, VLAPIC_REG_ISR + a->nested[i] / 32) |= UINT32_C(1) << (a->nested[i] % 32);
    }
    out->in_service = vlapic_in_service(a);
}

void vlapic_give_levels(void *page, const uint64_t level[4])
{
    for (unsigned i = 0; i < 4; i++) {
        put_vectors(page, VLAPIC_REG_TMR, i, level[i]);
    }
}

bool vlapic_give(struct vcpu *v, void *page, struct vlapic_given *out)
{
    struct vlapic *a = vlapic_of(v);

    if (a->page_stale) {
        copy_registers(a, page);
    }
    if (!vlapic_requested(a) && a->nested_count == 0) {
        return false;
    }
    give_requests(a, page, out);
    give_in_service(a, page, out);
    return true;
}

/* Hardware delivers only above the class in service, so there is one of each class, as vlapic.h
 * wants it. */
static void take_in_service(struct vlapic *a, void *page)
{
    a->nested_count = 0;
    for (unsigned i = 0; i < 4; i++) {
        uint64_t isr = take_vectors(page, VLAPIC_REG_ISR, i);

        while (isr != 0) {
            unsigned vector = i * 64 + (unsigned)__builtin_ctzll(isr);

            isr &= isr - 1;
            if (vector / 16 > vlapic_in_service(a) / 16u) {
                a->nested[++a->nested_count] = (uint8_t)vector;
            }
        }
    }
}

void vlapic_take_back(struct vcpu *v, void *page)
{
    struct vlapic *a = vlapic_of(v);

    for (unsigned i = 0; i < 4; i++) {
        uint64_t irr = take_vectors(page, VLAPIC_REG_IRR, i);

        if (irr != 0) {
            __atomic_fetch_or(&a->irr[i], irr, __ATOMIC_SEQ_CST);
        }
    }
    take_in_service(a, page);
    a->tpr = *word_at(page, VLAPIC_REG_TPR) & 0xff;
    vlapic_renew(a);
}

void vlapic_request(struct vlapic *a, const uint64_t vectors[4])
{
    uint64_t any = 0;

    for (unsigned i = 0; i < 4; i++) {
        any |= vectors[i];
        if (vectors[i] != 0) {
            __atomic_fetch_or(&a->irr[i], vectors[i], __ATOMIC_SEQ_CST);
        }
    }
    if (any != 0) {
        vlapic_notice(a);
    }
}

void vlapic_page_written(struct vcpu *v, unsigned offset, uint64_t value)
{
    struct vlapic *a = vlapic_of(v);
    unsigned reg = offset / 16;

    a->page_stale = true;
    if (vlapic_x2apic(a)) { /* what it wrote is valid but for this LAPIC's own rules */
        (void)!vlapic_msr_write(v, X2APIC_MSR_BASE + reg, (uint32_t)value);
        return;
    }
    if (reg == VLAPIC_REG_ICR) { /* its other half was written without an exit */
        (void)!vlapic_register_write(a, VLAPIC_REG_ICR_HIGH, (uint32_t)(value >> 32));
    }
    if (!vlapic_register_write(a, reg, (uint32_t)value)) {
        vlapic_error(a, VLAPIC_ERROR_REGISTER);
    }
}
