/* The local APIC: registers by xAPIC memory and by x2APIC MSRs.
 * Spec: Intel SDM vol. 3 chapter 10; AMD APM vol. 2 chapter 16. */
#include "dev/vlapic.h"

#include "core/irq.h"
#include "core/timer.h"
#include "core/vm.h"
#include "dev/platform.h"

#define X2APIC_MSR_BASE 0x800
#define VERSION         (0x14 | (VLAPIC_LVT_COUNT - 1) << 16)
#define SVR_VALID       0x3ff
#define DIVIDE_VALID    0xb
#define LVT_MODE(lvt)   ((lvt) >> 8 & 7)
#define ICR_BUSY        (1u << 12)
#define ICR_VALID       0xcdfffu /* low half, delivery status included */

/* Bits of each LVT register that exist (SDM vol. 3 figure 10-8). */
static const uint32_t lvt_valid_table[VLAPIC_LVT_COUNT] = {
    [VLAPIC_LVT_TIMER] = 0x710ff, [VLAPIC_LVT_THERMAL] = 0x117ff, [VLAPIC_LVT_PERF] = 0x117ff,
    [VLAPIC_LVT_LINT0] = 0x1f7ff, [VLAPIC_LVT_LINT1] = 0x1f7ff,   [VLAPIC_LVT_ERROR] = 0x110ff,
};

/* --- priorities ------------------------------------------------------------------------------- */

/* What the last search found may not hold any more. */
static void forget_found(struct vlapic *a)
{
    __atomic_store_n(&a->vcpu->irq_look, VMM_IRQ_LOOK, __ATOMIC_SEQ_CST);
}

void vlapic_notice(struct vlapic *a)
{
    forget_found(a);
    vmm_vcpu_request(a->vcpu, VMM_REQ_INTR);
}

static inline void set_ppr(struct vlapic *a)
{
    uint32_t serviced = vlapic_in_service(a) & 0xf0;

    a->ppr = a->tpr >> 4 >= serviced >> 4 ? a->tpr : serviced;
}

void vlapic_end_innermost(struct vlapic *a)
{
    if (a->nested_count != 0) {
        a->nested_count--;
        set_ppr(a);
    }
}

/* PPR from TPR and the highest vector in service; what it no longer holds back is announced. */
static inline void update_ppr(struct vlapic *a)
{
    set_ppr(a);
    if (vmm_unlikely(vlapic_requested(a)) && (uint32_t)vlapic_highest(a->irr) >> 4 > a->ppr >> 4) {
        vlapic_notice(a);
    }
}

void vlapic_set_tpr(struct vlapic *a, uint32_t tpr)
{
    a->tpr = tpr;
    a->page_stale = true;
    forget_found(a);
    update_ppr(a);
}

void vlapic_renew(struct vlapic *a)
{
    forget_found(a);
    update_ppr(a);
}

void vlapic_error(struct vlapic *a, uint32_t error)
{
    uint32_t old = __atomic_fetch_or(&a->errors, error, __ATOMIC_RELAXED);

    if ((old & error) == 0) {
        vlapic_local(a, VLAPIC_LVT_ERROR);
    }
}

void vlapic_accept(struct vlapic *a, uint8_t vector, bool level)
{
    uint64_t bit = UINT64_C(1) << (vector % 64);
    uint64_t *tmr = &a->tmr[vector / 64];

    if (!vlapic_accepts(a)) {
        return;
    }
    if (vmm_unlikely(vector < VLAPIC_FIRST_VECTOR)) {
        vlapic_error(a, VLAPIC_ERROR_RECEIVE_VECTOR);
        return;
    }
    if (vlapic_test(a->tmr, vector) != level) {
        if (level) {
            __atomic_fetch_or(tmr, bit, __ATOMIC_SEQ_CST);
        } else {
            __atomic_fetch_and(tmr, ~bit, __ATOMIC_SEQ_CST);
        }
    }
    if ((__atomic_fetch_or(&a->irr[vector / 64], bit, __ATOMIC_SEQ_CST) & bit) == 0) {
        vlapic_notice(a);
    }
}

static inline void end_in_service(struct vlapic *a)
{
    uint8_t vector = vlapic_in_service(a);

    if (vmm_unlikely(vector == 0)) {
        return;
    }
    a->nested_count--;
    update_ppr(a);
    if (vmm_unlikely(vlapic_test(a->tmr, vector))) {
        vioapic_eoi(a->vcpu->vm, vector);
    }
}

/* Out of line, so that the usual EOI needs no stack. */
static __attribute__((noinline)) void settle_and_end(struct vlapic *a)
{
    vlapic_pv_eoi_settle(a);
    end_in_service(a);
}

static inline void eoi(struct vlapic *a)
{
    if (vmm_unlikely(a->vcpu->pv_eoi_armed)) {
        settle_and_end(a);
        return;
    }
    end_in_service(a);
}

/* --- local interrupts ------------------------------------------------------------------------- */

bool vlapic_extint_enabled(const struct vlapic *a)
{
    uint32_t lint0 = __atomic_load_n(&a->lvt[VLAPIC_LVT_LINT0], __ATOMIC_RELAXED);

    /* A LAPIC that is off passes the pin through to the CPU: the PC without APIC (SDM 10.4.3). */
    if ((a->base & VLAPIC_BASE_ENABLED) == 0) {
        return a->vcpu->id == 0;
    }
    return (lint0 & VLAPIC_LVT_MASKED) == 0 && LVT_MODE(lint0) == VLAPIC_EXTINT;
}

void vlapic_local(struct vlapic *a, enum vlapic_lvt which)
{
    uint32_t lvt = __atomic_load_n(&a->lvt[which], __ATOMIC_RELAXED);

    if (which == VLAPIC_LVT_LINT0 && vlapic_extint_enabled(a)) {
        vlapic_notice(a);
        return;
    }
    if ((lvt & VLAPIC_LVT_MASKED) != 0) {
        return;
    }
    if (LVT_MODE(lvt) == VLAPIC_FIXED) {
        vlapic_accept(a, (uint8_t)lvt, false);
    } else if (LVT_MODE(lvt) == VLAPIC_NMI) {
        vmm_vcpu_request(a->vcpu, VMM_REQ_NMI);
    }
}

static void write_lvt(struct vlapic *a, enum vlapic_lvt which, uint32_t value)
{
    value &= lvt_valid_table[which] & ~ICR_BUSY;
    if ((a->svr & VLAPIC_SVR_ENABLED) == 0) {
        value |= VLAPIC_LVT_MASKED;
    }
    if (which == VLAPIC_LVT_TIMER) {
        vlapic_timer_set_mode(a, value);
        return;
    }
    __atomic_store_n(&a->lvt[which], value, __ATOMIC_RELAXED);
    if (which == VLAPIC_LVT_LINT0 && (value & VLAPIC_LVT_MASKED) == 0) {
        vmm_irq_line0_unmasked(a->vcpu->vm);
        if (__atomic_load_n(&a->vcpu->vm->irq->pic_output, __ATOMIC_ACQUIRE) != 0) {
            vlapic_local(a, which);
        }
    }
}

/* While software has it disabled, every LVT entry is masked (SDM vol. 3 section 10.4.7.2). */
static void write_svr(struct vlapic *a, uint32_t value)
{
    a->svr = value & SVR_VALID;
    forget_found(a);
    if ((a->svr & VLAPIC_SVR_ENABLED) == 0) {
        for (unsigned i = 0; i < VLAPIC_LVT_COUNT; i++) {
            write_lvt(a, i, a->lvt[i]);
        }
    } else {
        update_ppr(a);
    }
}

/* --- registers -------------------------------------------------------------------------------- */

static uint32_t read_bitmap(const uint64_t bits[4], unsigned reg)
{
    uint64_t word = __atomic_load_n(&bits[(reg & 7) / 2], __ATOMIC_RELAXED);

    return (uint32_t)(word >> (reg % 2 * 32));
}

static uint32_t read_isr(const struct vlapic *a, unsigned word)
{
    uint32_t bits = 0;

    for (unsigned i = 1; i <= a->nested_count; i++) {
        if (a->nested[i] / 32 == word) {
            bits |= 1u << (a->nested[i] % 32);
        }
    }
    return bits;
}

static uint32_t read_id(const struct vlapic *a)
{
    return vlapic_x2apic(a) ? a->vcpu->id : a->vcpu->id << 24;
}

/* False: there is no such register to read. */
bool vlapic_register_read(struct vlapic *a, unsigned reg, uint32_t *value)
{
    if (a->vcpu->pv_eoi_armed && (reg == VLAPIC_REG_PPR || reg / 8 == VLAPIC_REG_ISR / 8)) {
        vlapic_pv_eoi_settle(a);
    }
    switch (reg) {
    case VLAPIC_REG_ID:
        *value = read_id(a);
        break;
    case VLAPIC_REG_VERSION:
        *value = VERSION;
        break;
    case VLAPIC_REG_TPR:
        *value = a->tpr;
        break;
    case VLAPIC_REG_PPR:
        *value = a->ppr;
        break;
    case VLAPIC_REG_LDR:
        *value = a->ldr;
        break;
    case VLAPIC_REG_DFR:
        *value = a->dfr;
        break;
    case VLAPIC_REG_SVR:
        *value = a->svr;
        break;
    case VLAPIC_REG_ISR ... VLAPIC_REG_ISR + 7:
        *value = read_isr(a, reg - VLAPIC_REG_ISR);
        break;
    case VLAPIC_REG_TMR ... VLAPIC_REG_TMR + 7:
        *value = read_bitmap(a->tmr, reg);
        break;
    case VLAPIC_REG_IRR ... VLAPIC_REG_IRR + 7:
        *value = read_bitmap(a->irr, reg);
        break;
    case VLAPIC_REG_ESR:
        *value = a->esr;
        break;
    case VLAPIC_REG_ICR:
        *value = (uint32_t)a->icr;
        break;
    case VLAPIC_REG_ICR_HIGH:
        *value = (uint32_t)(a->icr >> 32);
        break;
    case VLAPIC_REG_LVT ... VLAPIC_REG_LVT + VLAPIC_LVT_COUNT - 1:
        *value = a->lvt[reg - VLAPIC_REG_LVT];
        break;
    case VLAPIC_REG_INITIAL_COUNT:
        *value = a->initial_count;
        break;
    case VLAPIC_REG_CURRENT_COUNT:
        *value = vlapic_timer_count(a);
        break;
    case VLAPIC_REG_DIVIDE:
        *value = a->divide;
        break;
    default:
        return false;
    }
    return true;
}

/* False: there is no such register to write. */
static bool write_register(struct vlapic *a, unsigned reg, uint32_t value)
{
    switch (reg) {
    case VLAPIC_REG_TPR:
        vlapic_set_tpr(a, value & 0xff);
        a->vcpu->backend->set_sysreg(a->vcpu, VMM_CR8, a->tpr >> 4);
        break;
    case VLAPIC_REG_EOI:
        eoi(a);
        break;
    case VLAPIC_REG_SVR:
        write_svr(a, value);
        break;
    case VLAPIC_REG_ESR: /* a write shows what has gathered */
        a->esr = __atomic_exchange_n(&a->errors, 0, __ATOMIC_RELAXED);
        break;
    case VLAPIC_REG_LVT ... VLAPIC_REG_LVT + VLAPIC_LVT_COUNT - 1:
        write_lvt(a, reg - VLAPIC_REG_LVT, value);
        break;
    case VLAPIC_REG_INITIAL_COUNT:
        vlapic_timer_set_count(a, value);
        break;
    case VLAPIC_REG_DIVIDE:
        vlapic_timer_set_divide(a, value & DIVIDE_VALID);
        break;
    default:
        return false;
    }
    return true;
}

/* Registers that only memory has, or that memory has in another form. */
bool vlapic_register_write(struct vlapic *a, unsigned reg, uint32_t value)
{
    switch (reg) {
    case VLAPIC_REG_ID: /* fixed, as on processors since the Pentium 4 */
        break;
    case VLAPIC_REG_LDR:
        a->ldr = value & 0xff000000;
        break;
    case VLAPIC_REG_DFR:
        a->dfr = value | 0x0fffffff;
        break;
    case VLAPIC_REG_ICR:
        vlapic_send(a, (a->icr & ~UINT64_C(0xffffffff)) | (value & ICR_VALID & ~ICR_BUSY));
        break;
    case VLAPIC_REG_ICR_HIGH:
        a->icr = (a->icr & 0xffffffff) | (uint64_t)(value & 0xff000000) << 32;
        break;
    default:
        return write_register(a, reg, value);
    }
    return true;
}

void vlapic_access(struct vdev *dev, struct vdev_access *access)
{
    struct vlapic *a = access->vcpu != NULL ? vlapic_of(access->vcpu) : vdev_state(dev);
    unsigned reg = (unsigned)access->offset / 16;
    unsigned shift = access->offset % 16 * 8;
    uint32_t value = 0;
    bool known = true;

    if (vmm_unlikely((a->base & VLAPIC_BASE_MODE) != VLAPIC_BASE_ENABLED)) {
        return; /* no memory window: reads give all ones, as the bus left them */
    }
    if (access->write && access->offset == VLAPIC_REG_EOI * 16) {
        eoi(a);
        return;
    }
    if (access->write) {
        a->page_stale = true;
        if (shift == 0 && access->size >= 4) {
            known = vlapic_register_write(a, reg, (uint32_t)access->value);
        }
    } else {
        known = vlapic_register_read(a, reg, &value) || reg == VLAPIC_REG_APR ||
                reg == VLAPIC_REG_REMOTE_READ;
        access->value = shift < 32 ? value >> shift : 0;
    }
    if (!known) {
        vlapic_error(a, VLAPIC_ERROR_REGISTER);
    }
}

/* --- x2APIC: SDM vol. 3 section 10.12 --------------------------------------------------------- */

bool vlapic_msr_read(struct vcpu *v, uint32_t msr, uint64_t *value)
{
    struct vlapic *a = vlapic_of(v);
    unsigned reg = msr - X2APIC_MSR_BASE;
    uint32_t low;

    if (!vlapic_x2apic(a)) {
        return false;
    }
    if (reg == VLAPIC_REG_ICR) {
        *value = a->icr;
        return true;
    }
    if (reg == VLAPIC_REG_DFR || reg == VLAPIC_REG_ICR_HIGH ||
        !vlapic_register_read(a, reg, &low)) {
        return false;
    }
    *value = low;
    return true;
}

/* Reserved bits of each register; those that are not here take no write but the cases below. */
static uint32_t x2apic_reserved(unsigned reg)
{
    switch (reg) {
    case VLAPIC_REG_TPR:
        return ~UINT32_C(0xff);
    case VLAPIC_REG_SVR:
        return ~(uint32_t)SVR_VALID;
    case VLAPIC_REG_LVT ... VLAPIC_REG_LVT + VLAPIC_LVT_COUNT - 1:
        return ~lvt_valid_table[reg - VLAPIC_REG_LVT];
    case VLAPIC_REG_INITIAL_COUNT:
        return 0;
    case VLAPIC_REG_DIVIDE:
        return ~(uint32_t)DIVIDE_VALID;
    default: /* EOI and ESR: zero only */
        return UINT32_MAX;
    }
}

bool vlapic_msr_write(struct vcpu *v, uint32_t msr, uint64_t value)
{
    struct vlapic *a = vlapic_of(v);
    unsigned reg = msr - X2APIC_MSR_BASE;

    if (vmm_unlikely(!vlapic_x2apic(a))) {
        return false;
    }
    if (vmm_likely(reg == VLAPIC_REG_EOI && value == 0)) {
        eoi(a);
        return true;
    }
    a->page_stale = true;
    if (reg == VLAPIC_REG_ICR) {
        if ((value & ~(UINT64_C(0xffffffff) << 32 | ICR_VALID)) != 0) {
            return false;
        }
        vlapic_send(a, value & ~(uint64_t)ICR_BUSY);
        return true;
    }
    if (reg == VLAPIC_REG_SELF_IPI) {
        if (value > 0xff) {
            return false;
        }
        if (value < VLAPIC_FIRST_VECTOR) {
            vlapic_error(a, VLAPIC_ERROR_SEND_VECTOR);
        } else {
            vlapic_accept(a, (uint8_t)value, false);
        }
        return true;
    }
    return (value & (x2apic_reserved(reg) | UINT64_C(0xffffffff) << 32)) == 0 &&
           write_register(a, reg, (uint32_t)value);
}

/* --- CR8 -------------------------------------------------------------------------------------- */

uint64_t vlapic_cr8_read(struct vcpu *v)
{
    return vlapic_of(v)->tpr >> 4;
}

void vlapic_cr8_write(struct vcpu *v, uint64_t value)
{
    vlapic_set_tpr(vlapic_of(v), (uint32_t)(value & 0xf) << 4);
}
