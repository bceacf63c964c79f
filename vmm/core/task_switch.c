/* Hardware task switches, which a processor with VMX leaves to the VMM: by CALL, JMP, IRET and task
 * gates, with 32-bit task state segments; a 16-bit one, the 80286's, ends the VM. Spec: Intel SDM
 * vol. 3 chapter 8 (sections 8.2.1 and 8.3), 26.4.2 for what the processor has checked before it
 * exits (privilege, and that a gate is present).
 *
 * Until commit() a fault leaves the guest in the old task, on the instruction; behind it the new
 * task has the fault. Tables are read and written with the supervisor's rights, whatever the CPL.
 */
#include "core/emulate.h"
#include "core/vm.h"
#include "core/x86.h"

#define CR0_TS         (UINT64_C(1) << 3)
#define DR6_BT         (UINT64_C(1) << 15)
#define DR7_LOCAL      UINT64_C(0x155) /* L0-L3, LE */
#define EFLAGS_NT      (1u << 14)
#define EFLAGS_VM      (1u << 17)
#define EFLAGS_KNOWN   0x003f7fd5u
#define EXTERNAL       1u /* in error codes: no instruction of the guest's is the cause */
#define SELECTOR_RPL   3u
#define SELECTOR_LOCAL 4u
#define SELECTOR_OF(s) ((s)&0xfffcu)
#define TSS_T          1u
#define PRESENT        0x80u
#define CODE_OR_DATA   0x10u
#define ACCESSED       0x01u
#define BUSY           0x02u
#define WRITABLE       0x02u /* of data; of code: readable */
#define CONFORMING     0x04u
#define CODE           0x08u
#define TYPE(attr)     ((attr)&0x1fu)
#define DPL(attr)      ((attr) >> 5 & 3u)
#define TYPE_LDT       2u
#define TYPE_TSS_16    1u
#define TYPE_TSS       9u
#define TYPE_TSS_BUSY  11u
#define V86_ATTRIBUTES 0xf3u
#define FLAT_CODE      0x49bu
#define REGISTERS      8

struct tss32 {
    uint16_t link, link_pad;
    uint32_t stacks[6];
    uint32_t cr3, eip, eflags, gpr[REGISTERS];
    struct {
        uint16_t selector, pad;
    } segment[6]; /* by enum vmm_segment */
    uint16_t ldt, ldt_pad;
    uint16_t trap, io_map;
};
_Static_assert(sizeof(struct tss32) == 104, "SDM vol. 3 figure 8-2");

#define TSS_SAVED     __builtin_offsetof(struct tss32, eip) /* what a switch away writes, */
#define TSS_SAVED_END __builtin_offsetof(struct tss32, ldt) /* and what it leaves */

struct task_switch {
    struct vcpu *v;
    const struct vmm_exit *e;
    uint32_t external; /* EXTERNAL, or 0 */
    uint64_t at;       /* of the new TSS's descriptor */
    uint64_t descriptor;
    struct vmm_segment_state tr, old_tr;
    struct tss32 tss;
    unsigned cpl;
};

/* --- memory and faults; false: a fault is queued, or the VM at its end
 * -----------------------------------------------
 */

static bool refuse(const struct task_switch *t, uint8_t vector, uint32_t error)
{
    vmm_inject_exception(t->v, vector, true, error | t->external);
    return false;
}

static bool copy(const struct task_switch *t, uint64_t linear, void *data, unsigned len, bool write)
{
    struct vmm_walk_fault fault;
    uint8_t *bytes = data;

    while (len > 0) {
        uint64_t address = (uint32_t)linear;
        unsigned room = (unsigned)(VMM_PAGE_SIZE - (address & (VMM_PAGE_SIZE - 1)));
        unsigned part = len < room ? len : room;
        gpa_t gpa;

        if (vmm_walk(t->v, VMM_GVA(address), write ? VMM_ACCESS_WRITE : VMM_ACCESS_READ, false,
                     &gpa, &fault) != 0) {
            vmm_inject_page_fault(t->v, fault.address, fault.error);
            return false;
        }
        if (write) {
            void *to = vmm_memory_ptr_write(t->v->vm, gpa, part);

            if (to != NULL) {
                __builtin_memcpy(to, bytes, part);
            }
        } else {
            const void *from = vmm_memory_ptr(t->v->vm, gpa, part);

            if (from != NULL) {
                __builtin_memcpy(bytes, from, part);
            } else {
                __builtin_memset(bytes, 0xff, part); /* as where nothing is */
            }
        }
        bytes += part;
        linear += part;
        len -= part;
    }
    return true;
}

/* --- descriptors ------------------------------------------------------------------------------ */

static void unpack(uint16_t selector, uint64_t d, struct vmm_segment_state *out)
{
    uint32_t limit = (uint32_t)((d & 0xffff) | (d >> 32 & 0xf0000));

    *out = (struct vmm_segment_state){
        .selector = selector,
        .attributes = (uint16_t)((d >> 40 & 0xff) | (d >> 44 & 0xf00)),
        .limit = (d >> 55 & 1) != 0 ? limit << 12 | 0xfff : limit,
        .base = (d >> 16 & 0xffffff) | (d >> 56 & 0xff) << 24,
    };
}

/* bad: the exception of a selector that is beyond its table, or in none. */
static bool read_descriptor(const struct task_switch *t, uint16_t selector, bool local_too,
                            uint8_t bad, uint64_t *at, uint64_t *d)
{
    bool local = (selector & SELECTOR_LOCAL) != 0;
    struct vmm_segment_state table;

    t->v->backend->get_segment(t->v, local ? VMM_SEG_LDTR : VMM_SEG_GDTR, &table);
    if ((local && (!local_too || (table.attributes & PRESENT) == 0)) ||
        (selector | 7u) > table.limit) {
        return refuse(t, bad, SELECTOR_OF(selector));
    }
    *at = table.base + (selector & ~7u);
    return copy(t, *at, d, sizeof(*d), false);
}

/* The type's bits of the descriptor at `at`. */
static bool mark(const struct task_switch *t, uint64_t at, uint8_t set, uint8_t clear)
{
    uint8_t type;

    if (!copy(t, at + 5, &type, 1, false)) {
        return false;
    }
    type = (uint8_t)((type | set) & ~clear);
    return copy(t, at + 5, &type, 1, true);
}

static bool find_task(struct task_switch *t)
{
    bool back = t->e->task.source == VMM_TASK_IRET;
    uint16_t selector = t->e->task.selector;
    uint8_t bad = back ? X86_TS : X86_GP;

    if (!read_descriptor(t, selector, false, bad, &t->at, &t->descriptor)) {
        return false;
    }
    unpack(selector, t->descriptor, &t->tr);
    if ((TYPE(t->tr.attributes) & ~BUSY) == TYPE_TSS_16) {
        vmm_vm_crash(t->v, VM_REASON_EMULATION, "task switch by a 16-bit task state segment");
        return false;
    }
    if (SELECTOR_OF(selector) == 0 || TYPE(t->tr.attributes) != (back ? TYPE_TSS_BUSY : TYPE_TSS)) {
        return refuse(t, bad, SELECTOR_OF(selector));
    }
    if ((t->tr.attributes & PRESENT) == 0) {
        return refuse(t, X86_NP, SELECTOR_OF(selector));
    }
    if (t->tr.limit < sizeof(t->tss) - 1) {
        return refuse(t, X86_TS, SELECTOR_OF(selector));
    }
    return copy(t, t->tr.base, &t->tss, sizeof(t->tss), false);
}

/* --- from the old task to the new --------------------------------------------------------------
 */

static bool save_old(const struct task_switch *t)
{
    struct vcpu *v = t->v;
    struct tss32 old = {.eip = (uint32_t)(v->rip + t->e->insn_length)};
    struct vmm_segment_state s;

    old.eflags = (uint32_t)v->rflags;
    if (t->e->task.source == VMM_TASK_IRET) {
        old.eflags &= ~EFLAGS_NT;
    }
    for (unsigned i = 0; i < REGISTERS; i++) {
        old.gpr[i] = (uint32_t)v->gpr[i];
    }
    for (unsigned i = VMM_SEG_ES; i <= VMM_SEG_GS; i++) {
        v->backend->get_segment(v, (enum vmm_segment)i, &s);
        old.segment[i].selector = s.selector;
    }
    return copy(t, t->old_tr.base + TSS_SAVED, &old.eip, TSS_SAVED_END - TSS_SAVED, true);
}

/* Everything that may fault on memory, before anything of the processor's changes. */
static bool write_tables(struct task_switch *t)
{
    enum vmm_task_source source = (enum vmm_task_source)t->e->task.source;
    bool nests = source == VMM_TASK_CALL || source == VMM_TASK_GATE;
    uint64_t old_at, old_descriptor;

    if (!read_descriptor(t, t->old_tr.selector, false, X86_TS, &old_at, &old_descriptor) ||
        !save_old(t)) {
        return false;
    }
    if (nests) {
        t->tss.link = t->old_tr.selector;
        t->tss.eflags |= EFLAGS_NT;
        if (!copy(t, t->tr.base, &t->tss.link, sizeof(t->tss.link), true)) {
            return false;
        }
    } else if (!mark(t, old_at, 0, BUSY)) {
        return false;
    }
    return source == VMM_TASK_IRET || mark(t, t->at, BUSY, 0);
}

/* The processor is the new task's: its registers, no segment yet that could be used. */
static void commit(struct task_switch *t)
{
    struct vcpu *v = t->v;
    const struct vmm_backend *b = v->backend;
    uint64_t cr0 = b->get_sysreg(v, VMM_CR0);

    t->tr.attributes |= BUSY;
    b->set_segment(v, VMM_SEG_TR, &t->tr);
    b->set_sysreg(v, VMM_CR0, cr0 | CR0_TS);
    if ((cr0 & X86_CR0_PG) != 0) {
        b->set_sysreg(v, VMM_CR3, t->tss.cr3);
    }
    b->set_sysreg(v, VMM_DR7, b->get_sysreg(v, VMM_DR7) & ~DR7_LOCAL);
    v->rip = t->tss.eip;
    v->rflags = (t->tss.eflags & EFLAGS_KNOWN) | X86_RFLAGS_FIXED;
    v->intr_shadow = false;
    for (unsigned i = 0; i < REGISTERS; i++) {
        v->gpr[i] = t->tss.gpr[i];
    }
    t->cpl = t->tss.segment[VMM_SEG_CS].selector & SELECTOR_RPL;
    for (unsigned i = VMM_SEG_ES; i <= VMM_SEG_GS; i++) {
        struct vmm_segment_state s = {.selector = t->tss.segment[i].selector};

        if ((t->tss.eflags & EFLAGS_VM) != 0) {
            s.attributes = V86_ATTRIBUTES;
            s.limit = 0xffff;
            s.base = (uint64_t)s.selector << 4;
        } else if (i == VMM_SEG_CS) { /* a fault's delivery begins with one that an entry accepts */
            s.attributes = (uint16_t)(FLAT_CODE | t->cpl << 5);
            s.limit = 0xffff;
        } else if (i == VMM_SEG_SS) {
            s.attributes = (uint16_t)(t->cpl << 5);
        }
        b->set_segment(v, (enum vmm_segment)i, &s);
    }
    b->set_segment(v, VMM_SEG_LDTR, &(struct vmm_segment_state){.selector = t->tss.ldt});
}

static bool load_ldt(const struct task_switch *t)
{
    uint16_t selector = t->tss.ldt;
    struct vmm_segment_state s;
    uint64_t at, d;

    if (SELECTOR_OF(selector) == 0) {
        return true;
    }
    if (!read_descriptor(t, selector, false, X86_TS, &at, &d)) {
        return false;
    }
    unpack(selector, d, &s);
    if (TYPE(s.attributes) != TYPE_LDT || (s.attributes & PRESENT) == 0) {
        return refuse(t, X86_TS, SELECTOR_OF(selector));
    }
    t->v->backend->set_segment(t->v, VMM_SEG_LDTR, &s);
    return true;
}

/* SDM vol. 3 table 8-1, "validate code/stack/data segment". */
static bool fits(const struct task_switch *t, enum vmm_segment which,
                 const struct vmm_segment_state *s)
{
    unsigned attr = s->attributes, dpl = DPL(attr), rpl = s->selector & SELECTOR_RPL;

    if ((attr & CODE_OR_DATA) == 0) {
        return false;
    }
    switch (which) {
    case VMM_SEG_CS:
        return (attr & CODE) != 0 && ((attr & CONFORMING) != 0 ? dpl <= t->cpl : dpl == t->cpl);
    case VMM_SEG_SS:
        return (attr & (CODE | WRITABLE)) == WRITABLE && dpl == t->cpl && rpl == t->cpl;
    default:
        return (attr & (CODE | WRITABLE)) != CODE &&
               ((attr & (CODE | CONFORMING)) == (CODE | CONFORMING) ||
                (dpl >= t->cpl && dpl >= rpl));
    }
}

static bool load_segment(const struct task_switch *t, enum vmm_segment which)
{
    uint16_t selector = t->tss.segment[which].selector;
    struct vmm_segment_state s;
    uint64_t at, d;

    if (SELECTOR_OF(selector) == 0) {
        return (which != VMM_SEG_CS && which != VMM_SEG_SS) || refuse(t, X86_TS, 0);
    }
    if (!read_descriptor(t, selector, true, X86_TS, &at, &d)) {
        return false;
    }
    unpack(selector, d, &s);
    if (!fits(t, which, &s)) {
        return refuse(t, X86_TS, SELECTOR_OF(selector));
    }
    if ((s.attributes & PRESENT) == 0) {
        return refuse(t, which == VMM_SEG_SS ? X86_SS : X86_NP, SELECTOR_OF(selector));
    }
    if ((s.attributes & ACCESSED) == 0 && !mark(t, at, ACCESSED, 0)) {
        return false;
    }
    s.attributes |= ACCESSED;
    t->v->backend->set_segment(t->v, which, &s);
    return true;
}

static bool load_segments(const struct task_switch *t)
{
    static const uint8_t order[] = {VMM_SEG_CS, VMM_SEG_SS, VMM_SEG_ES,
                                    VMM_SEG_DS, VMM_SEG_FS, VMM_SEG_GS};

    if (!load_ldt(t)) {
        return false;
    }
    for (unsigned i = 0; i < sizeof(order); i++) {
        if ((t->tss.eflags & EFLAGS_VM) == 0 && !load_segment(t, (enum vmm_segment)order[i])) {
            return false;
        }
    }
    return true;
}

/* The error code of the exception whose gate it was. A stack that expands down has no limit here
 * that its first push could miss. */
static bool push_error(const struct task_switch *t, uint32_t error)
{
    struct vcpu *v = t->v;
    struct vmm_segment_state ss;
    uint32_t mask, sp;

    v->backend->get_segment(v, VMM_SEG_SS, &ss);
    mask = (ss.attributes & VMM_SEGMENT_DEFAULT_32) != 0 ? UINT32_MAX : 0xffff;
    sp = ((uint32_t)v->gpr[VMM_RSP] - 4) & mask;
    if ((ss.attributes & CONFORMING) == 0 && (sp > ss.limit || ss.limit - sp < 3)) {
        return refuse(t, X86_SS, 0);
    }
    if (!copy(t, ss.base + sp, &error, sizeof(error), true)) {
        return false;
    }
    v->gpr[VMM_RSP] = (v->gpr[VMM_RSP] & ~(uint64_t)mask) | sp;
    return true;
}

enum vmm_action vmm_handle_task_switch(struct vcpu *v, struct vmm_exit *e)
{
    /* What came through a task gate is queued again: a fault on the way may make #DF of it. */
    struct vmm_event came = e->task.source == VMM_TASK_GATE ? v->event : (struct vmm_event){0};
    struct task_switch t = {.v = v, .e = e, .external = came.valid ? EXTERNAL : 0};
    struct vmm_segment_state cs;

    v->backend->get_segment(v, VMM_SEG_TR, &t.old_tr);
    if (!find_task(&t) || !write_tables(&t)) {
        return v->vm->reason == VM_REASON_NONE ? VMM_CONTINUE : VMM_LEAVE;
    }
    commit(&t);
    if (!load_segments(&t) || (came.has_error && !push_error(&t, came.error))) {
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
    } else if ((t.tss.trap & TSS_T) != 0) {
        v->backend->set_sysreg(v, VMM_DR6, v->backend->get_sysreg(v, VMM_DR6) | DR6_BT);
        vmm_inject_exception(v, X86_DB, false, 0);
    }
    return VMM_CONTINUE;
}
