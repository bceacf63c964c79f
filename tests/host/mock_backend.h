/* A back end without hardware: registers are memory, an entry is a call of the test's script, which
 * fills the exit as hardware would. What the library asked of it can be inspected. */
#pragma once

#include "core/backend.h"
#include "core/vm.h"

/* One entry into the guest: change registers, fill *e (zeroed), return. */
typedef void (*mock_script_fn)(struct vcpu *v, struct vmm_exit *e, void *arg);

struct mock_vcpu {
    struct vmm_segment_state segment[VMM_SEG_COUNT];
    uint64_t sysreg[VMM_SYSREG_COUNT];
    uint64_t tsc_offset;

    /* What the last entry had. */
    struct vmm_event injected; /* valid: an exception, NMI or interrupt was injected */
    bool window, nmi_window, cr8_exits;
    unsigned resets, dr_acquired, entries, tlb_flushes;

    mock_script_fn script; /* NULL: HLT for ever */
    void *script_arg;
};

extern const struct vmm_nested_format mock_nested_format; /* of nested tables: long mode's own */

struct mock_vcpu *mock_vcpu(struct vcpu *v);
void mock_set_script(struct vcpu *v, mock_script_fn script, void *arg);
/* Why probe() refuses; NULL: it does not. */
void mock_set_absent(int error, const char *why);
