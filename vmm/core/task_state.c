#include "core/task_state.h"

#include "core/descriptor.h"

#define TSS_T     1u
#define REGISTERS 8

struct tss32 {
    uint16_t link, link_pad;
    uint32_t stacks[6];
    uint32_t cr3, eip, eflags, gpr[REGISTERS];
    struct {
        uint16_t selector, pad;
    } segment[6];
    uint16_t ldt, ldt_pad;
    uint16_t trap, io_map;
};
_Static_assert(sizeof(struct tss32) == 104, "SDM vol. 3 figure 8-2");

struct tss16 {
    uint16_t link, stacks[6];
    uint16_t ip, flags, gpr[REGISTERS];
    uint16_t segment[4];
    uint16_t ldt;
};
_Static_assert(sizeof(struct tss16) == 44, "SDM vol. 3 figure 8-10");

/* What a switch away writes, and what it leaves. */
#define SAVED_32     __builtin_offsetof(struct tss32, eip)
#define SAVED_END_32 __builtin_offsetof(struct tss32, ldt)
#define SAVED_16     __builtin_offsetof(struct tss16, ip)
#define SAVED_END_16 __builtin_offsetof(struct tss16, ldt)

uint32_t vmm_task_limit(bool wide)
{
    return (wide ? sizeof(struct tss32) : sizeof(struct tss16)) - 1;
}

uint32_t vmm_task_limit_to_save(bool wide)
{
    return (wide ? SAVED_END_32 : SAVED_END_16) - 1;
}

static bool load_16(struct vcpu *v, uint64_t base, struct vmm_task_state *out)
{
    struct tss16 tss;

    if (!vmm_system_read(v, base, &tss, sizeof(tss))) {
        return false;
    }
    *out = (struct vmm_task_state){
        .cr3 = out->cr3, .eip = tss.ip, .eflags = tss.flags, .ldt = tss.ldt};
    for (unsigned i = 0; i < REGISTERS; i++) {
        out->gpr[i] = 0xffff0000 | tss.gpr[i];
    }
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(tss.segment); i++) {
        out->segment[i] = tss.segment[i];
    }
    return true;
}

bool vmm_task_load(struct vcpu *v, uint64_t base, bool wide, struct vmm_task_state *out)
{
    struct tss32 tss;

    if (!wide) {
        return load_16(v, base, out);
    }
    if (!vmm_system_read(v, base, &tss, sizeof(tss))) {
        return false;
    }
    *out = (struct vmm_task_state){.cr3 = tss.cr3,
                                   .eip = tss.eip,
                                   .eflags = tss.eflags,
                                   .ldt = tss.ldt,
                                   .trap = (tss.trap & TSS_T) != 0};
    for (unsigned i = 0; i < REGISTERS; i++) {
        out->gpr[i] = tss.gpr[i];
    }
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(tss.segment); i++) {
        out->segment[i] = tss.segment[i].selector;
    }
    return true;
}

bool vmm_task_save(struct vcpu *v, uint64_t base, bool wide, const struct vmm_task_state *s)
{
    struct tss32 tss = {.eip = s->eip, .eflags = s->eflags};
    struct tss16 tss16 = {.ip = (uint16_t)s->eip, .flags = (uint16_t)s->eflags};

    for (unsigned i = 0; i < REGISTERS; i++) {
        tss.gpr[i] = s->gpr[i];
        tss16.gpr[i] = (uint16_t)s->gpr[i];
    }
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(tss.segment); i++) {
        tss.segment[i].selector = s->segment[i];
    }
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(tss16.segment); i++) {
        tss16.segment[i] = s->segment[i];
    }
    return wide ? vmm_system_write(v, base + SAVED_32, &tss.eip, SAVED_END_32 - SAVED_32)
                : vmm_system_write(v, base + SAVED_16, &tss16.ip, SAVED_END_16 - SAVED_16);
}
