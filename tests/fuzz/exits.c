/* Exits of every kind, one after the other, through the run loop: any registers, any mode, any
 * memory, interrupts and time in between. What a VM ends by, it ends by with a reason and a dump;
 * it is entered again then, until the input is used up. */
#include <string.h>
#include "core/emulate.h"
#include "core/irq.h"
#include "core/x86.h"
#include "dev/platform.h"
#include "fuzz.h"
#include "pc.h"
#include "scripted.h"

#define STEPS_MAX 400
#define RAM       VMM_MIB(4)
#define PAGES     16 /* at the bottom of RAM: code, stack, tables, rings, all in one */

struct guest {
    struct scripted *m;
    struct fuzz_bytes bytes;
    unsigned steps;
};

static struct guest *running; /* for the hooks, which know nothing of us */

/* Places where something happens, corners, and what registers of devices may be told. */
static const uint64_t value_table[] = {
    0,
    1,
    7,
    0x80,
    0x1000,
    0x1ffe,
    0x2000,
    0x80000,
    RAM - 4,
    RAM,
    PLATFORM_IOAPIC_BASE,
    PLATFORM_HPET_BASE,
    PLATFORM_LAPIC_BASE,
    PLATFORM_LAPIC_BASE + 0x300,
    0xe0000000,
    0xfffffffc,
    0x100000000,
    0x7fffffffffff,
    0x800000000000,
    0xffff800000000000,
    UINT64_MAX,
};

static uint64_t choose_value(struct fuzz_bytes *b)
{
    uint8_t which = fuzz_byte(b);

    return which < 0xc0 ? value_table[which % VMM_ARRAY_COUNT(value_table)]
                        : fuzz_number(b, (which & 7) + 1u);
}

/* --- the guest's state ------------------------------------------------------------------------ */

static void write_ram(struct guest *g)
{
    uint64_t at = fuzz_number(&g->bytes, 2) % (PAGES * VMM_PAGE_SIZE - 8);
    uint64_t value = fuzz_number(&g->bytes, 8);

    assert_int_equal(vmm_memory_write(g->m->vm, VMM_GPA(at), &value, 8), 0);
}

/* An entry of a table: page and flags. */
static void write_entry(struct guest *g)
{
    uint64_t table = fuzz_byte(&g->bytes) % PAGES * VMM_PAGE_SIZE;
    uint64_t index = fuzz_byte(&g->bytes);
    uint64_t value = fuzz_number(&g->bytes, 4) | (uint64_t)(index & 0x80) << 56;

    assert_int_equal(
        vmm_memory_write(g->m->vm, VMM_GPA(table + (index < 0x80 ? index : 0) * 8), &value, 8), 0);
}

/* The start of an instruction that exits but does not tell what it is. */
static void write_code(struct guest *g)
{
    static const uint8_t opcode_table[][2] = {
        {0x0f, 0x20}, {0x0f, 0x22}, {0x0f, 0x21}, {0x0f, 0x23}, {0x0f, 0x06}, {0x0f, 0x01},
        {0x0f, 0xa2}, {0x0f, 0x32}, {0x66, 0x0f}, {0xf3, 0xa4}, {0xf3, 0x6d}, {0x6e, 0x90},
        {0x48, 0x89}, {0x48, 0x8b}, {0xf4, 0x90}, {0xff, 0x30}};
    uint64_t at = vmm_vcpu_linear_rip(g->m->vcpu).v % (PAGES * VMM_PAGE_SIZE - 8);
    uint64_t value = fuzz_number(&g->bytes, 4) << 16;

    memcpy(&value, opcode_table[fuzz_byte(&g->bytes) % VMM_ARRAY_COUNT(opcode_table)], 2);
    assert_int_equal(vmm_memory_write(g->m->vm, VMM_GPA(at), &value, 8), 0);
}

static void set_segment(struct vcpu *v, struct fuzz_bytes *b)
{
    struct vmm_segment_state s = {
        .selector = (uint16_t)fuzz_number(b, 2),
        .attributes = (uint16_t)(fuzz_number(b, 2) & 0xfff),
        .limit = (uint32_t)choose_value(b),
        .base = choose_value(b),
    };

    mock_vcpu(v)->segment[fuzz_byte(b) % VMM_SEG_COUNT] = s;
}

/* CR0.PG without PE and the like no processor has. */
static void set_mode(struct vcpu *v, struct fuzz_bytes *b)
{
    static const struct {
        uint64_t cr0, cr4, efer;
        uint16_t code;
    } mode_table[] = {
        {0x10, 0, 0, 0x9b},
        {0x11, 0, 0, 0x9b},
        {0x11, 0, 0, 0xc9b},
        {0x80010011, 0x10, 0, 0xc9b},
        {0x80010011, 0x20, 0x800, 0xc9b},
        {0x80010011, 0x40020, 0xd00, 0xa9b},
        {0x80000011, 0x301020, 0xd00, 0xa9b},
        {0x80010011, 0x20, 0xd00, 0xc9b},
    };
    unsigned n = fuzz_byte(b) % VMM_ARRAY_COUNT(mode_table);
    struct mock_vcpu *m = mock_vcpu(v);

    m->sysreg[VMM_CR0] = mode_table[n].cr0;
    m->sysreg[VMM_CR3] = fuzz_byte(b) % PAGES * VMM_PAGE_SIZE;
    m->sysreg[VMM_CR4] = mode_table[n].cr4;
    m->sysreg[VMM_EFER] = mode_table[n].efer;
    m->segment[VMM_SEG_CS].attributes = mode_table[n].code;
    m->segment[VMM_SEG_SS].attributes = (uint16_t)(0xc93 | (fuzz_byte(b) & 3) << 5);
}

static void change(struct guest *g)
{
    struct vcpu *v = g->m->vcpu;
    struct fuzz_bytes *b = &g->bytes;
    uint8_t what = fuzz_byte(b);

    switch (what & 15) {
    case 0 ... 2:
        v->gpr[what >> 4] = choose_value(b);
        break;
    case 3:
        write_ram(g);
        break;
    case 4:
        write_code(g);
        break;
    case 5:
        write_entry(g);
        break;
    case 6:
        set_mode(v, b);
        break;
    case 7:
        set_segment(v, b);
        break;
    case 8:
        v->rflags = fuzz_number(b, 3) | X86_RFLAGS_FIXED;
        break;
    case 9:
        v->rip = choose_value(b);
        break;
    case 10:
        v->intr_shadow = (what & 0x10) != 0;
        mock_vcpu(v)->sysreg[VMM_DR7] = fuzz_byte(b);
        break;
    case 11:
        posix_host_advance_ns(g->m->host, fuzz_number(b, 3) << (what >> 4));
        break;
    case 12:
        vmm_irq_set(g->m->vm, fuzz_byte(b) % 24, (what & 0x10) != 0);
        break;
    case 13:
        vmm_vcpu_request(v, VMM_REQ_NMI);
        break;
    default:
        for (unsigned i = 0; i < 16; i++) {
            v->gpr[i] = choose_value(b);
        }
        break;
    }
}

/* --- exits ------------------------------------------------------------------------------------ */

static void choose_msr(struct vcpu *v, struct fuzz_bytes *b)
{
    static const uint32_t base_table[] = {
        0,     0x10,       0x1a0,      0x200,      0x250,      0x6e0,      0x800,
        0xda0, 0x4b564d00, 0xc0000080, 0xc0000100, 0xc0010000, 0xc0010110, 0xc0011020};

    uint8_t how = fuzz_byte(b);

    v->gpr[VMM_RCX] =
        base_table[how % VMM_ARRAY_COUNT(base_table)] + fuzz_byte(b) % (how < 0x80 ? 8 : 256);
    if (how % 3 == 0) { /* of the paravirtual ones: an address and flags */
        v->gpr[VMM_RAX] = fuzz_byte(b) * 64u | (fuzz_byte(b) & 3);
        v->gpr[VMM_RDX] = 0;
    }
}

/* Selectors of leaves and calls, and numbers near them. */
static void choose_number(struct vcpu *v, struct fuzz_bytes *b)
{
    static const uint32_t base_table[] = {0,          0x40000000, 0x40000100, 0x80000000,
                                          0x4f430000, 5,          10,         11};

    v->gpr[VMM_RAX] = base_table[fuzz_byte(b) % VMM_ARRAY_COUNT(base_table)] + fuzz_byte(b) % 40;
}

/* A task's state segment and its descriptor, so that a switch to it comes some way. */
static void write_task(struct guest *g, struct vmm_exit *e)
{
    struct mock_vcpu *m = mock_vcpu(g->m->vcpu);
    struct fuzz_bytes *b = &g->bytes;
    uint64_t gdt = m->segment[VMM_SEG_GDTR].base, tss = fuzz_byte(b) % PAGES * VMM_PAGE_SIZE;
    uint64_t flat[3] = {UINT64_C(0x00cf9b000000ffff), UINT64_C(0x00cf93000000ffff),
                        UINT64_C(0x0000890000000067) | tss << 16};
    uint32_t state[26] = {0};

    flat[2] |= (uint64_t)(fuzz_byte(b) & 0x22) << 40; /* busy, or not; DPL */
    for (unsigned i = 7; i < VMM_ARRAY_COUNT(state); i++) {
        state[i] = (uint32_t)choose_value(b);
    }
    if (fuzz_byte(b) < 0xc0) {
        state[18] = state[20] = state[21] = 0x10; /* ES, SS, DS */
        state[19] = 8;
        state[22] = state[23] = state[24] = 0;
    }
    (void)!vmm_memory_write(g->m->vm, VMM_GPA(gdt + 8), flat, sizeof(flat));
    (void)!vmm_memory_write(g->m->vm, VMM_GPA(tss), state, sizeof(state));
    e->task.selector = 0x18;
    m->segment[VMM_SEG_GDTR].limit |= 0x3f;
}

static void choose_pio(struct vmm_exit *e, struct fuzz_bytes *b)
{
    uint8_t how = fuzz_byte(b), more = fuzz_byte(b);

    e->pio.port = (uint16_t)fuzz_number(b, 2);
    e->pio.size = (uint8_t)(1u << (how & 3) % 3);
    e->pio.address_size = (uint8_t)(2u << (how >> 2 & 3) % 3);
    e->pio.segment = (how >> 4) % 6;
    e->pio.in = (more & 1) != 0;
    e->pio.string = (more & 6) == 6;
    e->pio.rep = (more & 8) != 0;
}

static void choose_reg(struct vmm_exit *e, struct fuzz_bytes *b)
{
    static const uint8_t number_table[] = {0, 3, 4, 8};
    uint8_t how = fuzz_byte(b);

    e->reg.number = number_table[how & 3];
    e->reg.gpr = how >> 4;
    e->reg.write = (how & 4) != 0;
    e->reg.gpr_valid = (how & 8) != 0;
    if (e->reg.gpr_valid && (how & 7) == 4) { /* CLTS, LMSW */
        e->reg.value_valid = true;
        e->reg.value = choose_value(b);
    }
}

/* As hardware that tells everything would fill it, or one that tells as little as it may. */
static void choose_exit(struct guest *g, struct vcpu *v, struct vmm_exit *e)
{
    struct fuzz_bytes *b = &g->bytes;
    uint8_t length = fuzz_byte(b);

    e->kind = (enum vmm_exit_kind)(fuzz_byte(b) % VMM_EXIT_COUNT);
    e->rip = v->rip;
    e->code = e->kind + 1u;
    e->insn_length = length % (VMM_INSN_MAX + 1);
    switch (e->kind) {
    case VMM_EXIT_msr_read:
    case VMM_EXIT_msr_write:
        choose_msr(v, b);
        break;
    case VMM_EXIT_cpuid:
    case VMM_EXIT_hypercall:
        choose_number(v, b);
        break;
    case VMM_EXIT_pio:
        choose_pio(e, b);
        break;
    case VMM_EXIT_nested_fault:
        e->insn_length = 0;
        e->fault.gpa.v = choose_value(b) & UINT64_C(0xfffffffffffff);
        e->fault.write = (length & 0x20) != 0;
        e->fault.fetch = (length & 0x40) != 0;
        e->fault.present = (length & 0x80) != 0;
        break;
    case VMM_EXIT_exception:
        e->exception.vector = fuzz_byte(b) % 32;
        e->exception.has_error = (length & 0x20) != 0;
        e->exception.error = length;
        e->exception.address = choose_value(b);
        break;
    case VMM_EXIT_cr_access:
    case VMM_EXIT_dr_access:
        choose_reg(e, b);
        break;
    case VMM_EXIT_apic_write:
    case VMM_EXIT_apic_eoi:
        e->apic.offset = (uint16_t)(fuzz_byte(b) * 16u);
        e->apic.vector = length;
        e->apic.value = choose_value(b);
        break;
    case VMM_EXIT_task_switch:
        e->task.selector = (uint16_t)fuzz_number(b, 2);
        e->task.source = length >> 5 & 3;
        if (length < 0x80) {
            write_task(g, e);
        }
        break;
    default:
        break;
    }
}

/* An exit may have come in the middle of an event's delivery. */
static void choose_event(struct vcpu *v, struct fuzz_bytes *b)
{
    static const uint8_t type_table[] = {VMM_EVENT_INTR, VMM_EVENT_NMI, VMM_EVENT_EXCEPTION,
                                         VMM_EVENT_EXCEPTION};
    uint8_t how = fuzz_byte(b);

    v->event = (struct vmm_event){.valid = true,
                                  .type = type_table[how & 3],
                                  .has_error = (how & 4) != 0,
                                  .error = how,
                                  .vector = fuzz_byte(b)};
    if (v->event.type == VMM_EVENT_NMI) {
        v->event.vector = 2;
    } else if (v->event.type == VMM_EVENT_EXCEPTION) {
        v->event.vector %= 32;
    }
    vmm_vcpu_event(v);
}

static void enter(struct vcpu *v, struct vmm_exit *e, void *arg)
{
    struct guest *g = arg;
    uint8_t how = fuzz_byte(&g->bytes);

    if (g->bytes.at >= g->bytes.end || g->steps++ >= STEPS_MAX) {
        vmm_request_power_off(v->vm);
        e->kind = VMM_EXIT_intr;
        return;
    }
    for (unsigned i = 0; i < (how & 7); i++) {
        change(g);
    }
    choose_exit(g, v, e);
    if (how >= 0xe0 && e->kind != VMM_EXIT_intr_window) {
        choose_event(v, &g->bytes);
    }
}

/* --- the host --------------------------------------------------------------------------------- */

/* A guest that sleeps sleeps until its next timer; without one it is done. */
static void park(void *host)
{
    struct vm *vm = running->m->vm;
    uint64_t next, now = posix_host_now_ns(host);

    if (vm->reset_wanted == 0 && posix_host_next_timer_ns(host, &next)) {
        posix_host_advance_ns(host, next > now ? next - now : 0);
    } else {
        vmm_request_power_off(vm);
    }
}

static void wake(void *host, struct vmm_thread *t)
{
    (void)host;
    (void)t;
}

/* What a system does at its start, so that interrupts come at all. */
static void start_interrupts(struct scripted *m)
{
    struct fixture f = {.host = m->host, .vmm = m->vmm, .vm = m->vm, .vcpu = m->vcpu};

    pc_init_pics(&f);
    fixture_mmio_write(&f, PLATFORM_LAPIC_BASE + 0xf0, 4, 0x1ff);
    fixture_mmio_write(&f, PLATFORM_LAPIC_BASE + 0x350, 4, 0x700); /* LINT0: the PICs */
    for (unsigned pin = 0; pin < 24; pin++) {
        pc_route(&f, pin, 0x30u + pin);
    }
}

/* What the host may ask about a VM that has ended. */
static void look_at(struct vm *vm, uint8_t how)
{
    struct vm_memory memory;
    struct vm_exit_count count;
    uint64_t pages;
    bool known;

    vmm_vm_memory(vm, &memory);
    assert_true(vmm_vm_exit_count(vm, -1, how % VMM_EXIT_COUNT, &count));
    assert_int_not_equal(vmm_vm_reason(vm), VM_REASON_NONE);
    switch (how >> 5) {
    case 0:
        vmm_vm_dump(vm, VM_DUMP_ALL);
        break;
    case 1:
        (void)!vmm_vm_count_written(vm, &pages, &known);
        break;
    case 2:
        vmm_vm_forget_written(vm);
        break;
    case 3:
        (void)!vmm_vm_swap_out(vm, VMM_KIB(16), &pages);
        break;
    case 4:
        (void)!vmm_vm_balloon(vm, (uint64_t)how << 14);
        break;
    default:
        break;
    }
}

void fuzz_exits(const uint8_t *data, size_t size)
{
    struct guest g = {.bytes = {data, data + size}};
    uint8_t how = fuzz_byte(&g.bytes);
    struct scripted *m = scripted_host(1 + (how & 1));

    posix_host_ops(m->host)->thread_park = park;
    posix_host_ops(m->host)->thread_wake = wake;
    m->config.mem_bytes = RAM;
    m->config.lazy_memory = true;
    m->config.ignore_unknown_msrs = (how & 2) != 0;
    m->config.balloon_bytes = (how & 4) != 0 ? VMM_MIB(1) : 0;
    assert_int_equal(vmm_vm_create(m->vmm, &m->config, &m->vm, &m->err), 0);
    m->vcpu = m->vm->vcpu[0];
    g.m = m;
    running = &g;
    for (unsigned i = 0; i < m->vm->vcpu_count; i++) {
        vmm_vcpu_reset(m->vm->vcpu[i]);
    }
    if ((how & 8) != 0) {
        start_interrupts(m);
    }
    while (g.bytes.at < g.bytes.end && g.steps < STEPS_MAX) {
        scripted_enter(m, enter, &g);
        posix_host_clear_log(m->host);
        look_at(m->vm, fuzz_byte(&g.bytes));
        look_at(m->vm, fuzz_byte(&g.bytes));
    }
    scripted_destroy(m);
}
