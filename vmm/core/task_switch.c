/* Hardware task switches, which a processor with VMX leaves to the VMM: by CALL, JMP, IRET and task
 * gates. Spec: Intel SDM vol. 3 chapter 8 (sections 8.2 and 8.3), 26.4.2 for what the processor has
 * checked before it exits (privilege, and that a gate is present).
 *
 * Until commit() a fault leaves the guest in the old task, on the instruction; behind it the new
 * task has the fault. Tables are read and written with the supervisor's rights, whatever the CPL.
 */
#include "core/descriptor.h"
#include "core/emulate.h"
#include "core/task_state.h"
#include "core/vm.h"
#include "core/x86.h"

#define CR0_TS         (UINT64_C(1) << 3)
#define DR6_BT         (UINT64_C(1) << 15)
#define DR7_LOCAL      UINT64_C(0x155) /* L0-L3, LE */
#define EFLAGS_NT      (1u << 14)
#define EFLAGS_VM      (1u << 17)
#define EFLAGS_KNOWN   0x003f7fd5u
#define EXTERNAL       1u /* in error codes: no instruction of the guest's is the cause */
#define BUSY           0x02u
#define TYPE_LDT       2u
#define TYPE_TSS_16    1u
#define TYPE_TSS_32    9u
#define TYPE_WIDE      8u /* of the types of 32-bit segments */
#define V86_ATTRIBUTES 0xf3u
#define FLAT_CODE      0x49bu

struct task_switch {
    struct vcpu *v;
    const struct vmm_exit *e;
    uint32_t external; /* EXTERNAL, or 0 */
    uint64_t at;       /* of the new TSS's descriptor */
    uint64_t descriptor;
    struct vmm_segment_state tr, old_tr;
    bool wide; /* the new TSS has 32 bits */
    struct vmm_task_state state;
    unsigned cpl;
};

/* --- faults and descriptors; false: a fault is queued -------------------------------------------
 */

static bool refuse(const struct task_switch *t, uint8_t vector, uint32_t error)
{
    vmm_inject_exception(t->v, vector, true, error | t->external);
    return false;
}

/* Of a system segment, which is in the GDT. bad: the exception of a selector that is not. */
static bool read_descriptor(const struct task_switch *t, uint16_t selector, uint8_t bad,
                            uint64_t *at, uint64_t *d)
{
    if ((selector & SELECTOR_LOCAL) != 0 || !vmm_descriptor_find(t->v, selector, at)) {
        return refuse(t, bad, SELECTOR_OF(selector));
    }
    return vmm_system_read(t->v, *at, d, sizeof(*d));
}

static bool is_wide(const struct vmm_segment_state *tss)
{
    return (tss->attributes & TYPE_WIDE) != 0;
}

static bool find_task(struct task_switch *t)
{
    bool back = t->e->task.source == VMM_TASK_IRET;
    uint16_t selector = t->e->task.selector;
    uint8_t bad = back ? X86_TS : X86_GP;
    unsigned type;

    if (!read_descriptor(t, selector, bad, &t->at, &t->descriptor)) {
        return false;
    }
    vmm_descriptor_unpack(selector, t->descriptor, &t->tr);
    t->wide = is_wide(&t->tr);
    type = SEGMENT_TYPE(t->tr.attributes) ^ (back ? BUSY : 0);
    if (SELECTOR_OF(selector) == 0 || (type != TYPE_TSS_32 && type != TYPE_TSS_16)) {
        return refuse(t, bad, SELECTOR_OF(selector));
    }
    if ((t->tr.attributes & SEGMENT_PRESENT) == 0) {
        return refuse(t, X86_NP, SELECTOR_OF(selector));
    }
    if (t->tr.limit < vmm_task_limit(t->wide)) {
        return refuse(t, X86_TS, SELECTOR_OF(selector));
    }
    t->state.cr3 = (uint32_t)t->v->backend->get_sysreg(t->v, VMM_CR3);
    return vmm_task_load(t->v, t->tr.base, t->wide, &t->state);
}

/* --- from the old task to the new --------------------------------------------------------------
 */

static bool save_old(const struct task_switch *t)
{
    struct vcpu *v = t->v;
    struct vmm_task_state old = {.eip = (uint32_t)(v->rip + t->e->insn_length)};
    struct vmm_segment_state s;

    if (t->old_tr.limit < vmm_task_limit_to_save(is_wide(&t->old_tr))) {
        return refuse(t, X86_TS, SELECTOR_OF(t->old_tr.selector));
    }
    old.eflags = (uint32_t)v->rflags;
    if (t->e->task.source == VMM_TASK_IRET) {
        old.eflags &= ~EFLAGS_NT;
    }
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(old.gpr); i++) {
        old.gpr[i] = (uint32_t)v->gpr[i];
    }
    for (unsigned i = VMM_SEG_ES; i <= VMM_SEG_GS; i++) {
        v->backend->get_segment(v, (enum vmm_segment)i, &s);
        old.segment[i] = s.selector;
    }
    return vmm_task_save(v, t->old_tr.base, is_wide(&t->old_tr), &old);
}

/* Everything that may fault on memory, before anything of the processor's changes. */
static bool write_tables(struct task_switch *t)
{
    enum vmm_task_source source = (enum vmm_task_source)t->e->task.source;
    bool nests = source == VMM_TASK_CALL || source == VMM_TASK_GATE;
    uint64_t old_at, old_descriptor;

    if (!read_descriptor(t, t->old_tr.selector, X86_TS, &old_at, &old_descriptor) || !save_old(t)) {
        return false;
    }
    if (nests) {
        t->state.eflags |= EFLAGS_NT;
        if (!vmm_system_write(t->v, t->tr.base, &t->old_tr.selector,
                              sizeof(t->old_tr.selector))) { /* the link: a TSS begins with it */
            return false;
        }
    } else if (!vmm_descriptor_mark(t->v, old_at, 0, BUSY)) {
        return false;
    }
    return source == VMM_TASK_IRET || vmm_descriptor_mark(t->v, t->at, BUSY, 0);
}

/* No segment yet that could be used, but in V86 mode. */
static void commit_segments(const struct task_switch *t)
{
    for (unsigned i = VMM_SEG_ES; i <= VMM_SEG_GS; i++) {
        struct vmm_segment_state s = {.selector = t->state.segment[i]};

        if ((t->state.eflags & EFLAGS_VM) != 0) {
            s.attributes = V86_ATTRIBUTES;
            s.limit = 0xffff;
            s.base = (uint64_t)s.selector << 4;
        } else if (i == VMM_SEG_CS) { /* a fault's delivery begins with one that an entry accepts */
            s.attributes = (uint16_t)(FLAT_CODE | t->cpl << 5);
            s.limit = 0xffff;
        } else if (i == VMM_SEG_SS) {
            s.attributes = (uint16_t)(t->cpl << 5);
        }
        t->v->backend->set_segment(t->v, (enum vmm_segment)i, &s);
    }
    t->v->backend->set_segment(t->v, VMM_SEG_LDTR,
                               &(struct vmm_segment_state){.selector = t->state.ldt});
}

/* The processor is the new task's: its registers. False: the new task's CR3 gives it a fault. */
static bool commit(struct task_switch *t)
{
    struct vcpu *v = t->v;
    const struct vmm_backend *b = v->backend;
    uint64_t cr0 = b->get_sysreg(v, VMM_CR0);
    bool paging = t->wide && (cr0 & X86_CR0_PG) != 0;

    t->tr.attributes |= BUSY;
    b->set_segment(v, VMM_SEG_TR, &t->tr);
    b->set_sysreg(v, VMM_CR0, cr0 | CR0_TS);
    b->set_sysreg(v, VMM_DR7, b->get_sysreg(v, VMM_DR7) & ~DR7_LOCAL);
    v->rip = t->state.eip;
    v->rflags = (t->state.eflags & EFLAGS_KNOWN) | X86_RFLAGS_FIXED;
    v->intr_shadow = false;
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(t->state.gpr); i++) {
        v->gpr[i] = t->state.gpr[i];
    }
    t->cpl = (t->state.eflags & EFLAGS_VM) != 0 ? 3 : t->state.segment[VMM_SEG_CS] & SELECTOR_RPL;
    commit_segments(t);
    if (paging && !vmm_write_cr(v, 3, t->state.cr3)) {
        return refuse(t, X86_GP, 0);
    }
    return true;
}

static bool load_ldt(const struct task_switch *t)
{
    uint16_t selector = t->state.ldt;
    struct vmm_segment_state s;
    uint64_t at, d;

    if (SELECTOR_OF(selector) == 0) {
        return true;
    }
    if (!read_descriptor(t, selector, X86_TS, &at, &d)) {
        return false;
    }
    vmm_descriptor_unpack(selector, d, &s);
    if (SEGMENT_TYPE(s.attributes) != TYPE_LDT || (s.attributes & SEGMENT_PRESENT) == 0) {
        return refuse(t, X86_TS, SELECTOR_OF(selector));
    }
    t->v->backend->set_segment(t->v, VMM_SEG_LDTR, &s);
    return true;
}

static bool load_segment(const struct task_switch *t, enum vmm_segment which)
{
    uint16_t selector = t->state.segment[which];

    if (SELECTOR_OF(selector) == 0) {
        return (which != VMM_SEG_CS && which != VMM_SEG_SS) || refuse(t, X86_TS, 0);
    }
    return vmm_segment_load(t->v, which, selector, t->cpl, X86_TS, t->external);
}

/* The stack first: a fault of any other segment is delivered on it. */
static bool load_segments(const struct task_switch *t)
{
    static const uint8_t order[] = {VMM_SEG_SS, VMM_SEG_CS, VMM_SEG_ES,
                                    VMM_SEG_DS, VMM_SEG_FS, VMM_SEG_GS};

    if (!load_ldt(t)) {
        return false;
    }
    for (unsigned i = 0; i < sizeof(order); i++) {
        if ((t->state.eflags & EFLAGS_VM) == 0 && !load_segment(t, (enum vmm_segment)order[i])) {
            return false;
        }
    }
    return true;
}

/* The error code of the exception whose gate it was, with the new task's privileges and as wide as
 * its TSS. */
static bool push_error(const struct task_switch *t, uint32_t error)
{
    struct vcpu *v = t->v;
    unsigned size = t->wide ? 4 : 2;
    struct vmm_walk_fault fault;
    struct vmm_segment_state ss;
    uint32_t mask, sp;

    v->backend->get_segment(v, VMM_SEG_SS, &ss);
    mask = (ss.attributes & VMM_SEGMENT_DEFAULT_32) != 0 ? UINT32_MAX : 0xffff;
    sp = ((uint32_t)v->gpr[VMM_RSP] - size) & mask;
    if (!vmm_segment_holds(&ss, sp, size)) {
        return refuse(t, X86_SS, 0);
    }
    if (vmm_linear_write(v, VMM_GVA(ss.base + sp), &error, size, &fault) == -VMM_EFAULT) {
        vmm_inject_page_fault(v, fault.address, fault.error);
        return false;
    }
    v->gpr[VMM_RSP] = (v->gpr[VMM_RSP] & ~(uint64_t)mask) | sp;
    return true;
}

enum vmm_action vmm_handle_task_switch(struct vcpu *v, struct vmm_exit *e)
{
    /* What came through a task gate is queued again: a fault on the way may make #DF of it. INT is
     * not, and what the event was before says nothing then. */
    bool gate = e->task.source == VMM_TASK_GATE && v->event.valid;
    struct vmm_event came = gate ? v->event : (struct vmm_event){0};
    struct task_switch t = {.v = v, .e = e, .external = gate ? EXTERNAL : 0};
    struct vmm_segment_state cs;

    v->backend->get_segment(v, VMM_SEG_TR, &t.old_tr);
    if (!find_task(&t) || !write_tables(&t)) {
        return VMM_CONTINUE;
    }
    if (e->task.source == VMM_TASK_IRET) { /* even if it faults now */
        v->backend->set_sysreg(v, VMM_BLOCKING, 0);
    }
    if (!commit(&t) || !load_segments(&t) || (came.has_error && !push_error(&t, came.error))) {
        return VMM_CONTINUE;
    }
    if (came.valid) {
        v->event.valid = false;
        if (came.type == VMM_EVENT_NMI) { /* its delivery is done: blocked until IRET */
            v->backend->set_sysreg(v, VMM_BLOCKING, VMM_BLOCKED_NMI);
        }
    }
    v->backend->get_segment(v, VMM_SEG_CS, &cs);
    if (v->rip > cs.limit) {
        refuse(&t, X86_GP, 0);
    } else if (t.state.trap) {
        v->backend->set_sysreg(v, VMM_DR6, v->backend->get_sysreg(v, VMM_DR6) | DR6_BT);
        vmm_inject_exception(v, X86_DB, false, 0);
    }
    return VMM_CONTINUE;
}
