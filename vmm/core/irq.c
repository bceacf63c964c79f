#include "core/irq.h"

#include "core/timer.h"
#include "core/vm.h"
#include "dev/vioapic.h"
#include "dev/vlapic.h"
#include "dev/vpic.h"

#define ISA_LINES         16
#define CASCADE_LINE      2
#define PIC_OUTPUT_PIN    0 /* of the IOAPIC, as MP specification 1.4 figure 3-5 wires it */
#define DESTINATION_ALL   0xff
#define DESTINATION_ALL32 UINT32_MAX

/* Of a device's message: bits of the address, bits of the data. */
#define MSI_ADDRESS  0xfee /* from bit 20 on */
#define MSI_LOGICAL  (1u << 2)
#define MSI_REDIRECT (1u << 3)
#define MSI_ASSERT   (1u << 14)
#define MSI_LEVEL    (1u << 15)

int vmm_irq_create(struct vm *vm)
{
    vm->irq = vmm_vm_alloc(vm, sizeof(*vm->irq));
    return vm->irq != NULL ? 0 : -VMM_ENOMEM;
}

void vmm_irq_destroy(struct vm *vm)
{
    if (vm->irq != NULL) {
        vmm_vm_free(vm, vm->irq, sizeof(*vm->irq));
        vm->irq = NULL;
    }
    vm->pic = NULL;
    vm->ioapic = NULL;
}

/* --- lines ------------------------------------------------------------------------------------ */

/* Line 0 is at pin 2, as the MADT's override says; pin 0 is the PIC's output. */
static unsigned pin_of(unsigned gsi)
{
    return gsi == 0 ? 2 : gsi;
}

void vmm_irq_set(struct vm *vm, unsigned gsi, bool level)
{
    uint32_t bit = 1u << gsi;
    uint32_t old = level ? __atomic_fetch_or(&vm->irq->lines, bit, __ATOMIC_RELAXED)
                         : __atomic_fetch_and(&vm->irq->lines, ~bit, __ATOMIC_RELAXED);

    if (((old & bit) != 0) == level || gsi == CASCADE_LINE) {
        return;
    }
    if (gsi < ISA_LINES) {
        vpic_set_line(vm, gsi, level);
    }
    if (pin_of(gsi) < VIOAPIC_PINS) {
        vioapic_set_pin(vm, pin_of(gsi), level);
    }
}

void vmm_irq_pulse(struct vm *vm, unsigned gsi)
{
    vmm_irq_set(vm, gsi, true);
    vmm_irq_set(vm, gsi, false);
}

static bool pic_reaches_cpu(struct vm *vm)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        const struct vlapic *a = vlapic_of(vm->vcpu[i]);

        if (vlapic_extint_enabled(a) ||
            (__atomic_load_n(&a->lvt[VLAPIC_LVT_LINT0], __ATOMIC_RELAXED) & VLAPIC_LVT_MASKED) ==
                0) {
            return true;
        }
    }
    return !vioapic_masked(vm, PIC_OUTPUT_PIN);
}

bool vmm_irq_visible(struct vm *vm, unsigned gsi)
{
    return (gsi < ISA_LINES && !vpic_masked(vm, gsi) && pic_reaches_cpu(vm)) ||
           !vioapic_masked(vm, pin_of(gsi));
}

bool vmm_irq_in_flight(struct vm *vm, unsigned gsi)
{
    if (gsi < ISA_LINES && !vpic_masked(vm, gsi)) {
        return vpic_pending(vm, gsi);
    }
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        if (vlapic_test(vlapic_of(vm->vcpu[i])->irr, vioapic_vector(vm, pin_of(gsi)))) {
            return true;
        }
    }
    return false;
}

void vmm_irq_line0_unmasked(struct vm *vm)
{
    if (vm->irq->irq0_user != NULL) {
        vmm_timer_run_soon(vm->irq->irq0_user);
    }
}

static bool legacy_replaced(struct vm *vm)
{
    return __atomic_load_n(&vm->irq->legacy_replaced, __ATOMIC_RELAXED) != 0;
}

void vmm_irq_set_legacy(struct vm *vm, unsigned gsi, bool level)
{
    if (!legacy_replaced(vm)) {
        vmm_irq_set(vm, gsi, level);
    }
}

bool vmm_irq_visible_legacy(struct vm *vm, unsigned gsi)
{
    return !legacy_replaced(vm) && vmm_irq_visible(vm, gsi);
}

void vmm_irq_replace_legacy(struct vm *vm, bool replaced)
{
    if (legacy_replaced(vm) != replaced) {
        __atomic_store_n(&vm->irq->legacy_replaced, replaced, __ATOMIC_RELAXED);
        vmm_irq_set(vm, 0, false);
        vmm_irq_set(vm, 8, false);
        vmm_irq_line0_unmasked(vm);
    }
}

void vmm_irq_pic_output(struct vm *vm, bool level)
{
    if (__atomic_exchange_n(&vm->irq->pic_output, level, __ATOMIC_SEQ_CST) == level) {
        return;
    }
    vioapic_set_pin(vm, PIC_OUTPUT_PIN, level);
    for (unsigned i = 0; level && i < vm->vcpu_count; i++) {
        vlapic_local(vlapic_of(vm->vcpu[i]), VLAPIC_LVT_LINT0);
    }
}

/* --- messages --------------------------------------------------------------------------------- */

static bool logical_match(const struct vlapic *a, uint32_t destination)
{
    uint32_t id;

    if (vlapic_x2apic(a)) {
        return destination == DESTINATION_ALL32 ||
               (destination >> 16 == a->ldr >> 16 && (destination & a->ldr & 0xffff) != 0);
    }
    id = a->ldr >> 24;
    if (destination == DESTINATION_ALL) {
        return true;
    }
    if (a->dfr >> 28 == 0xf) { /* flat model */
        return (destination & id) != 0;
    }
    return destination >> 4 == id >> 4 && (destination & id & 0xf) != 0;
}

static bool message_matches(const struct vcpu *v, const struct vmm_irq_message *m)
{
    if (m->logical) {
        return logical_match(vlapic_of(v), m->destination);
    }
    return m->destination == v->id ||
           m->destination == (m->wide ? DESTINATION_ALL32 : DESTINATION_ALL);
}

static void deliver_to(struct vcpu *v, const struct vmm_irq_message *m)
{
    struct vlapic *a = vlapic_of(v);

    if ((a->base & VLAPIC_BASE_ENABLED) == 0) {
        return;
    }
    switch (m->delivery_mode) {
    case VLAPIC_FIXED:
    case VLAPIC_LOWEST:
        vlapic_accept(a, m->vector, m->level);
        break;
    case VLAPIC_NMI:
        vmm_vcpu_request(v, VMM_REQ_NMI);
        break;
    case VLAPIC_INIT: /* a start-up that came before it is over */
        __atomic_and_fetch(&v->requests, ~(uint32_t)VMM_REQ_SIPI, __ATOMIC_SEQ_CST);
        vmm_vcpu_request(v, VMM_REQ_INIT);
        break;
    case VLAPIC_STARTUP:
        v->sipi_vector = m->vector;
        vmm_vcpu_request(v, VMM_REQ_SIPI);
        break;
    case VLAPIC_EXTINT:
        vlapic_notice(a);
        break;
    default: /* SMI: there is no SMM; reserved modes go nowhere */
        break;
    }
}

/* The processor with the lowest priority takes it; among equals they take turns. */
static void deliver_lowest(struct vm *vm, const struct vmm_irq_message *m)
{
    unsigned start = __atomic_load_n(&vm->irq->lowest_next, __ATOMIC_RELAXED);
    struct vcpu *best = NULL;

    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        struct vcpu *v = vm->vcpu[(start + i) % vm->vcpu_count];

        if (message_matches(v, m) && vlapic_accepts(vlapic_of(v)) &&
            (best == NULL || vlapic_of(v)->ppr < vlapic_of(best)->ppr)) {
            best = v;
        }
    }
    if (best != NULL) {
        __atomic_store_n(&vm->irq->lowest_next, best->id + 1, __ATOMIC_RELAXED);
        deliver_to(best, m);
    }
}

bool vmm_irq_taken(struct vm *vm, const struct vmm_irq_message *m)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        if (message_matches(vm->vcpu[i], m) && vlapic_accepts(vlapic_of(vm->vcpu[i]))) {
            return true;
        }
    }
    return false;
}

void vmm_irq_deliver(struct vm *vm, const struct vmm_irq_message *m)
{
    if (m->delivery_mode == VLAPIC_LOWEST) {
        deliver_lowest(vm, m);
    } else if (!m->logical && m->destination < vm->vcpu_count) {
        deliver_to(vm->vcpu[m->destination], m);
    } else {
        for (unsigned i = 0; i < vm->vcpu_count; i++) {
            if (message_matches(vm->vcpu[i], m)) {
                deliver_to(vm->vcpu[i], m);
            }
        }
    }
}

/* SDM vol. 3 section 10.11. The redirection hint asks for one of the destination's processors;
 * extended destination IDs are not offered (CPUID 40000001h). */
void vmm_irq_msi(struct vm *vm, uint64_t address, uint32_t data)
{
    struct vmm_irq_message m = {
        .destination = (uint32_t)(address >> 12 & 0xff),
        .vector = (uint8_t)data,
        .delivery_mode = data >> 8 & 7,
        .logical = (address & MSI_LOGICAL) != 0,
        .level = (data & MSI_LEVEL) != 0,
    };

    if (address >> 20 != MSI_ADDRESS || m.delivery_mode == VLAPIC_STARTUP ||
        (m.level && (data & MSI_ASSERT) == 0)) {
        return;
    }
    if (m.delivery_mode == VLAPIC_FIXED && (address & MSI_REDIRECT) != 0) {
        m.delivery_mode = VLAPIC_LOWEST;
    }
    vmm_irq_deliver(vm, &m);
}

/* --- what a vCPU takes ------------------------------------------------------------------------ */

static bool extint_pending(struct vcpu *v)
{
    return __atomic_load_n(&v->vm->irq->pic_output, __ATOMIC_ACQUIRE) != 0 &&
           vlapic_extint_enabled(vlapic_of(v));
}

/* The highest requested vector, if its priority class is above the given one. */
static inline int requested_above(const struct vlapic *a, uint32_t priority)
{
    int vector = vlapic_highest(a->irr);

    return vector >> 4 > (int)(priority >> 4) && vlapic_accepts(a) ? vector : -1;
}

/* The PIC goes first: it is wired to the CPU past the priorities. */
static inline int search(struct vcpu *v, bool *external)
{
    struct vlapic *a = vlapic_of(v);

    *external = extint_pending(v);
    return *external ? vpic_peek(v->vm) : requested_above(a, a->ppr);
}

static inline int look(struct vcpu *v)
{
    uint32_t quiet = VMM_IRQ_QUIET;
    bool external;
    int vector;

    /* Before the search: what arrives during it sets it again, and the result is not kept. */
    __atomic_store_n(&v->irq_look, VMM_IRQ_QUIET, __ATOMIC_SEQ_CST);
    vector = search(v, &external);
    if (external) { /* the PIC may take it back */
        __atomic_store_n(&v->irq_look, VMM_IRQ_LOOK, __ATOMIC_RELAXED);
    } else if (vector >= 0) {
        __atomic_compare_exchange_n(&v->irq_look, &quiet, VMM_IRQ_FOUND | (uint32_t)vector, false,
                                    __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    }
    return vector;
}

/* Out of line, so that the usual look needs no stack. */
static __attribute__((noinline)) int settle_and_look(struct vcpu *v)
{
    vlapic_pv_eoi_settle(vlapic_of(v));
    return look(v);
}

int vmm_irq_look(struct vcpu *v)
{
    return vmm_unlikely(v->pv_eoi_armed) ? settle_and_look(v) : look(v);
}

bool vmm_irq_is_external(struct vcpu *v)
{
    return extint_pending(v);
}

bool vmm_irq_tpr_blocked(struct vcpu *v)
{
    const struct vlapic *a = vlapic_of(v);

    if (vmm_likely(!vlapic_requested(a))) {
        return false;
    }
    return (uint32_t)vlapic_highest(a->irr) >> 4 <= a->tpr >> 4;
}

static int acknowledge_external(struct vcpu *v)
{
    int vector = vpic_acknowledge(v->vm);

    if (extint_pending(v)) { /* no edge announces the next one */
        vlapic_notice(vlapic_of(v));
    }
    return vector;
}

static inline void take(struct vcpu *v, int vector)
{
    struct vlapic *a = vlapic_of(v);

    __atomic_fetch_and(&a->irr[vector / 64], ~(UINT64_C(1) << (vector % 64)), __ATOMIC_SEQ_CST);
    a->nested[++a->nested_count] = (uint8_t)vector;
    a->ppr = (uint32_t)vector & 0xf0; /* it was above the old one, and nothing else is above it */
}

/* The guest may end it without an exit. */
static __attribute__((noinline)) int offer_pv_eoi(struct vcpu *v, int vector)
{
    vlapic_pv_eoi_arm(vlapic_of(v));
    return vector;
}

/* Something changed since the last look. */
static __attribute__((noinline)) int search_and_acknowledge(struct vcpu *v)
{
    bool external;
    int vector;

    if (v->pv_eoi_armed) {
        vlapic_pv_eoi_settle(vlapic_of(v));
    }
    vector = search(v, &external);
    if (external) {
        return acknowledge_external(v);
    }
    if (vector >= 0) {
        take(v, vector);
    }
    return vector >= 0 && v->pv_eoi ? offer_pv_eoi(v, vector) : vector;
}

int vmm_irq_acknowledge(struct vcpu *v)
{
    uint32_t look = __atomic_load_n(&v->irq_look, __ATOMIC_ACQUIRE);
    int vector = (int)(look & 0xff);

    if (vmm_unlikely((look & VMM_IRQ_FOUND) == 0)) {
        return search_and_acknowledge(v);
    }
    take(v, vector);
    /* Unless something came in between. */
    __atomic_compare_exchange_n(&v->irq_look, &look, VMM_IRQ_QUIET, false, __ATOMIC_SEQ_CST,
                                __ATOMIC_RELAXED);
    return vmm_unlikely(v->pv_eoi) ? offer_pv_eoi(v, vector) : vector;
}
