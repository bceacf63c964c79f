/* The LAPIC for a back end whose hardware works on its registers in a page while the guest runs
 * (dev/vlapic_page.c): requests, what is in service and TPR are the page's from vlapic_give() to
 * vlapic_take_back(), which belong round each entry. Context: the vCPU's thread. */
#pragma once

#include "core/irq.h"
#include "dev/platform.h"
#include "dev/vlapic.h"

enum vlapic_mode { VLAPIC_MODE_OFF, VLAPIC_MODE_MEMORY, VLAPIC_MODE_X2APIC };
enum vlapic_mode vlapic_mode(const struct vcpu *v);
struct vlapic_given {
    uint8_t requested, in_service; /* the highest vectors, 0: none */
    uint64_t level[4];             /* vectors whose EOI is to be told to vioapic_eoi() */
};
/* False: nothing is requested or in service, and `out` is not filled in. */
bool vlapic_give(struct vcpu *v, void *page, struct vlapic_given *out);
void vlapic_give_levels(void *page, const uint64_t level[4]); /* for the guest to read */
void vlapic_take_back(struct vcpu *v, void *page);
/* As if these had arrived; any thread. */
void vlapic_request(struct vlapic *a, const uint64_t vectors[4]);
/* The guest wrote a register other than those: as struct vmm_exit has it. */
void vlapic_page_written(struct vcpu *v, unsigned offset, uint64_t value);

/* Has vlapic_give() anything to put into the page? */
static inline bool vlapic_must_give(const struct vlapic *a)
{
    return vlapic_requested(a) || a->nested_count != 0 || a->page_stale;
}

/* The guest may have changed TPR in the page. */
static inline void vlapic_follow_tpr(struct vlapic *a, const uint8_t *page)
{
    uint8_t tpr = page[VLAPIC_REG_TPR * 16];

    if (vmm_unlikely(tpr != a->tpr)) {
        a->tpr = tpr;
        vlapic_renew(a);
    }
}
