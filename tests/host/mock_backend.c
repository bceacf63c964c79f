#include "mock_backend.h"

#include <stdlib.h>
#include <string.h>
#include "core/x86.h"

static const char *absent;
static int absent_error;

struct mock_vcpu *mock_vcpu(struct vcpu *v)
{
    return v->arch;
}

void mock_set_script(struct vcpu *v, mock_script_fn script, void *arg)
{
    mock_vcpu(v)->script_arg = arg;
    mock_vcpu(v)->script = script;
}

void mock_set_absent(int error, const char *why)
{
    absent_error = error;
    absent = why;
}

static int mock_probe(struct vmm *vmm, struct vmm_error *err)
{
    return absent == NULL ? 0 : vmm_fail(vmm, err, absent_error, "%s", absent);
}

static int mock_create(struct vmm *vmm, struct vmm_error *err)
{
    (void)err;
    vmm->arch = vmm->ops->alloc(vmm->host, 16);
    return vmm->arch == NULL ? -VMM_ENOMEM : 0;
}

static void mock_destroy(struct vmm *vmm)
{
    vmm->ops->free(vmm->host, vmm->arch);
    vmm->arch = NULL;
}

static void mock_describe(struct vmm *vmm, char *out, size_t size)
{
    vmm_format(vmm, out, size, "mock");
}

/* Long mode's own form of entries. */
const struct vmm_nested_format mock_nested_format = {
    .table = 0x27,
    .page = 0x5,
    .write = 2,
    .no_exec = UINT64_C(1) << 63,
    .accessed = 0x20,
    .dirty = 0x40,
};

static int mock_vm_create(struct vm *vm)
{
    return vmm_nested_create(vm, &mock_nested_format, 4, true);
}

/* The test's own memory, so that the library's accounting is the library's. */
static int mock_vcpu_create(struct vcpu *v)
{
    v->arch = calloc(1, sizeof(struct mock_vcpu));
    return 0;
}

static void mock_vcpu_destroy(struct vcpu *v)
{
    free(v->arch);
    v->arch = NULL;
}

static void mock_vcpu_reset(struct vcpu *v)
{
    struct mock_vcpu *m = mock_vcpu(v);
    const struct vmm_segment_state data = {.attributes = 0x93, .limit = 0xffff};

    for (unsigned i = 0; i < VMM_SEG_COUNT; i++) {
        m->segment[i] = data;
    }
    m->segment[VMM_SEG_CS] = (struct vmm_segment_state){
        .selector = 0xf000, .attributes = 0x9b, .limit = 0xffff, .base = 0xffff0000};
    memset(m->sysreg, 0, sizeof(m->sysreg));
    m->sysreg[VMM_CR0] = X86_CR0_CD | X86_CR0_NW | X86_CR0_ET;
    m->sysreg[VMM_DR6] = 0xffff0ff0;
    m->sysreg[VMM_DR7] = 0x400;
    m->sysreg[VMM_MSR_PAT] = X86_PAT_RESET;
    memset(&m->injected, 0, sizeof(m->injected));
    m->window = false;
    __atomic_add_fetch(&m->resets, 1, __ATOMIC_SEQ_CST);
    v->rip = 0xfff0;
    v->rflags = X86_RFLAGS_FIXED;
}

static void mock_run(struct vcpu *v, struct vmm_exit *e)
{
    struct mock_vcpu *m = mock_vcpu(v);

    __atomic_store_n(&v->running_cpu, (int)v->ops->cpu_current(v->host), __ATOMIC_RELAXED);
    __atomic_store_n(&v->in_guest, 1, __ATOMIC_SEQ_CST);
    memset(e, 0, sizeof(*e));
    if (__atomic_load_n(&v->requests, __ATOMIC_SEQ_CST) != 0) {
        e->kind = VMM_EXIT_retry;
    } else {
        m->entries++;
        if (m->script != NULL) {
            m->script(v, e, m->script_arg);
        } else {
            e->kind = VMM_EXIT_hlt;
            e->insn_length = 1;
        }
        m->injected.valid = false;
    }
    __atomic_store_n(&v->in_guest, 0, __ATOMIC_SEQ_CST);
}

static bool mock_intr_allowed(struct vcpu *v)
{
    return (v->rflags & X86_RFLAGS_IF) != 0 && !v->intr_shadow && !mock_vcpu(v)->injected.valid;
}

static void mock_inject_event(struct vcpu *v, const struct vmm_event *event)
{
    mock_vcpu(v)->injected = *event;
}

static void mock_inject_intr(struct vcpu *v, uint8_t vector)
{
    mock_vcpu(v)->injected =
        (struct vmm_event){.valid = true, .type = VMM_EVENT_INTR, .vector = vector};
}

static void mock_inject_nmi(struct vcpu *v)
{
    mock_vcpu(v)->injected = (struct vmm_event){.valid = true, .type = VMM_EVENT_NMI, .vector = 2};
}

static bool mock_nmi_allowed(struct vcpu *v)
{
    return !v->intr_shadow && !mock_vcpu(v)->injected.valid &&
           (mock_vcpu(v)->sysreg[VMM_BLOCKING] & VMM_BLOCKED_NMI) == 0;
}

static void mock_set_intr_window(struct vcpu *v, bool on)
{
    mock_vcpu(v)->window = on;
}

static void mock_set_nmi_window(struct vcpu *v)
{
    mock_vcpu(v)->nmi_window = true;
}

static void mock_withdraw_event(struct vcpu *v)
{
    struct vmm_event *injected = &mock_vcpu(v)->injected;

    if (injected->valid) {
        v->event = *injected;
        injected->valid = false;
        vmm_vcpu_event(v);
    }
}

static void mock_set_cr8_exits(struct vcpu *v, bool on)
{
    mock_vcpu(v)->cr8_exits = on;
}

static void mock_get_segment(struct vcpu *v, enum vmm_segment which, struct vmm_segment_state *out)
{
    *out = mock_vcpu(v)->segment[which];
}

static void mock_set_segment(struct vcpu *v, enum vmm_segment which,
                             const struct vmm_segment_state *s)
{
    mock_vcpu(v)->segment[which] = *s;
}

static uint64_t mock_get_sysreg(struct vcpu *v, enum vmm_sysreg which)
{
    return mock_vcpu(v)->sysreg[which];
}

static void mock_set_sysreg(struct vcpu *v, enum vmm_sysreg which, uint64_t value)
{
    mock_vcpu(v)->sysreg[which] = value;
}

static void mock_flush_tlb(struct vcpu *v)
{
    mock_vcpu(v)->tlb_flushes++;
}

static void mock_set_tsc_offset(struct vcpu *v, uint64_t offset)
{
    mock_vcpu(v)->tsc_offset = offset;
}

static void mock_dr_acquire(struct vcpu *v)
{
    mock_vcpu(v)->dr_acquired++;
}

static unsigned mock_cpl(struct vcpu *v)
{
    return mock_vcpu(v)->segment[VMM_SEG_SS].attributes >> 5 & 3;
}

static void mock_get_address_mode(struct vcpu *v, struct vmm_address_mode *out)
{
    const struct mock_vcpu *m = mock_vcpu(v);
    const struct vmm_segment_state *cs = &m->segment[VMM_SEG_CS];

    *out = (struct vmm_address_mode){
        .cr0 = m->sysreg[VMM_CR0],
        .cr3 = m->sysreg[VMM_CR3],
        .cr4 = m->sysreg[VMM_CR4],
        .efer = m->sysreg[VMM_EFER],
        .cs_base = cs->base,
        .cs_limit = cs->limit,
        .cs_attributes = cs->attributes,
        .cpl = (uint8_t)mock_cpl(v),
    };
}

static void mock_dump(struct vcpu *v, enum vmm_log_level level)
{
    vmm_vm_log(v->vm, level, "mock back end: %u entries, %s", mock_vcpu(v)->entries,
               v->parked == VMM_AWAY ? "away" : "here");
}

static const struct vmm_backend mock_backend = {
    .name = "mock",
    .probe = mock_probe,
    .create = mock_create,
    .destroy = mock_destroy,
    .describe = mock_describe,
    .vm_create = mock_vm_create,
    .vm_destroy = vmm_nested_destroy,
    .vcpu_create = mock_vcpu_create,
    .vcpu_destroy = mock_vcpu_destroy,
    .vcpu_reset = mock_vcpu_reset,
    .run = mock_run,
    .intr_allowed = mock_intr_allowed,
    .inject_intr = mock_inject_intr,
    .inject_event = mock_inject_event,
    .inject_nmi = mock_inject_nmi,
    .nmi_allowed = mock_nmi_allowed,
    .set_intr_window = mock_set_intr_window,
    .set_nmi_window = mock_set_nmi_window,
    .withdraw_event = mock_withdraw_event,
    .set_cr8_exits = mock_set_cr8_exits,
    .get_segment = mock_get_segment,
    .set_segment = mock_set_segment,
    .get_sysreg = mock_get_sysreg,
    .set_sysreg = mock_set_sysreg,
    .flush_tlb = mock_flush_tlb,
    .set_tsc_offset = mock_set_tsc_offset,
    .dr_acquire = mock_dr_acquire,
    .cpl = mock_cpl,
    .get_address_mode = mock_get_address_mode,
    .dump = mock_dump,
};

const struct vmm_backend *const vmm_backend_table[] = {&mock_backend, NULL};
