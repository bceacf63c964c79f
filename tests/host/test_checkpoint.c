/* A whole VM written to a stream and read back: everything that a guest could notice, and every
 * stream that must be refused. */
#include "core/checkpoint.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include "core/clock.h"
#include "core/irq.h"
#include "core/x86.h"
#include "dev/platform.h"
#include "scripted.h"
#include "tape.h"

#define STREAM_MAX VMM_MIB(4)

static struct scripted *m;
static struct tape tape;

static int setup(void **state)
{
    (void)state;
    m = scripted_create(2);
    /* The host's pages are full of rubbish. */
    assert_int_equal(vmm_memory_zero(m->vm, VMM_GPA(0), 0xa0000), 0);
    assert_int_equal(vmm_memory_zero(m->vm, VMM_GPA(0xc0000), m->config.mem_bytes - 0xc0000), 0);
    tape = tape_create(STREAM_MAX);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (vmm_vm_state(m->vm) == VM_RUNNING || vmm_vm_state(m->vm) == VM_PAUSED) {
        assert_int_equal(vmm_vm_stop(m->vm), 0);
    }
    scripted_destroy(m);
    free(tape.bytes);
    return 0;
}

static void spins(struct vcpu *v, struct vmm_exit *e, void *arg)
{
    (void)arg;
    while (__atomic_load_n(&v->requests, __ATOMIC_SEQ_CST) == 0) {
        sched_yield();
    }
    e->kind = VMM_EXIT_intr;
}

static void start(void)
{
    mock_set_script(m->vm->vcpu[0], spins, NULL);
    mock_set_script(m->vm->vcpu[1], spins, NULL);
    assert_int_equal(vmm_vm_start(m->vm, &m->err), 0);
}

static int checkpoint(void)
{
    return vmm_vm_checkpoint(m->vm, tape_record(&tape), &m->err);
}

static int restore(void)
{
    int error = vmm_vm_restore(m->vm, tape_play(&tape), &m->err);

    assert_true(error == 0 || (m->err.text[0] != '\0' && strchr(m->err.text, '\n') == NULL));
    return error;
}

/* Another VM of the same shape in place of the first. */
static void renew(void)
{
    if (vmm_vm_state(m->vm) == VM_RUNNING || vmm_vm_state(m->vm) == VM_PAUSED) {
        assert_int_equal(vmm_vm_stop(m->vm), 0);
    }
    assert_int_equal(vmm_vm_destroy(m->vm), 0);
    m->vm = NULL;
    assert_int_equal(vmm_vm_create(m->vmm, &m->config, &m->vm, &m->err), 0);
    mock_set_script(m->vm->vcpu[0], spins, NULL);
    mock_set_script(m->vm->vcpu[1], spins, NULL);
}

/* A paused VM with something everywhere. */
static void make_state(void)
{
    start();
    assert_int_equal(vmm_vm_pause(m->vm), 0);
    for (unsigned n = 0; n < 2; n++) {
        struct vcpu *v = m->vm->vcpu[n];

        for (unsigned i = 0; i < 16; i++) {
            v->gpr[i] = (n + 1) * 0x1111111100000000 + i;
        }
        v->rip = 0x100000 + n;
        v->rflags = 0x246;
        v->dr[2] = 0xd2;
        v->tsc_aux = 77 + n;
        v->mtrr_var[3] = 0x3333;
        v->misc_enable = 0x801;
        v->backend->set_sysreg(v, VMM_MSR_LSTAR, 0xffffffff81000000);
        v->backend->set_sysreg(v, VMM_CR2, 0x1234500000 + n);
        v->backend->set_segment(v, VMM_SEG_FS,
                                &(struct vmm_segment_state){0x33, 0xc93, 0xffffffff, 0x7f0000});
        vmm_vcpu_set_xcr0(v, 7);
    }
    m->vm->vcpu[0]->event = (struct vmm_event){
        .valid = true, .type = VMM_EVENT_EXCEPTION, .vector = 14, .has_error = true, .error = 6};
    m->vm->vcpu[1]->nmi_pending = true;
    m->vm->vcpu[1]->halted = 1;
    m->vm->vcpu[1]->wait_sipi = true;
    assert_int_equal(vmm_memory_write(m->vm, VMM_GPA(0x5000), "five", 4), 0);
    assert_int_equal(vmm_memory_write(m->vm, VMM_GPA(0xffeffc), "straddle", 8), 0);
}

static void everything_comes_back(void **state)
{
    struct vcpu before[2];
    struct vcpu *v;
    char text[8];
    uint64_t clock;
    uint8_t *other;

    (void)state;
    make_state();
    posix_host_advance_ns(m->host, 7000000);
    clock = vmm_clock_ns(m->vm);
    assert_int_equal(checkpoint(), 0);
    assert_int_equal(vmm_vm_state(m->vm), VM_PAUSED);
    assert_in_range(tape.length, 8000, 200000); /* pages of zeros are not in it */
    before[0] = *m->vm->vcpu[0];
    before[1] = *m->vm->vcpu[1];
    renew();
    posix_host_advance_ns(m->host, 123456789);
    /* What the checkpoint says nothing of is zero. */
    other = vmm_memory_ptr_write(m->vm, VMM_GPA(0x300000), 16);
    memset(other, 0xff, 16);
    assert_int_equal(restore(), 0);
    assert_int_equal(vmm_vm_state(m->vm), VM_PAUSED);
    assert_int_equal(vmm_clock_ns(m->vm), clock);
    for (unsigned n = 0; n < 2; n++) {
        v = m->vm->vcpu[n];
        assert_memory_equal(v->gpr, before[n].gpr, sizeof(v->gpr));
        assert_int_equal(v->rip, 0x100000 + n);
        assert_int_equal(v->dr[2], 0xd2);
        assert_int_equal(v->tsc_aux, 77 + n);
        assert_int_equal(v->mtrr_var[3], 0x3333);
        assert_int_equal(v->misc_enable, 0x801);
        assert_int_equal(v->xcr0, 7);
        assert_int_equal(v->backend->get_sysreg(v, VMM_CR2), 0x1234500000 + n);
        assert_int_equal(mock_vcpu(v)->segment[VMM_SEG_FS].base, 0x7f0000);
    }
    v = m->vm->vcpu[0];
    assert_true(v->event.valid && v->event.vector == 14 && v->event.error == 6);
    v = m->vm->vcpu[1];
    assert_true(v->nmi_pending && v->halted && v->wait_sipi);
    assert_null(v->fpu);
    assert_int_equal(vmm_vm_read_memory(m->vm, 0xffeffc, text, 8), 0);
    assert_memory_equal(text, "straddle", 8);
    assert_memory_equal(other, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
    assert_int_equal(vmm_vm_resume(m->vm), 0);
    assert_int_equal(vmm_clock_ns(m->vm), clock);
}

/* What a restored VM is written as is what it was read from. */
static void a_second_checkpoint_is_the_same(void **state)
{
    size_t length;
    uint8_t *first;

    (void)state;
    make_state();
    assert_int_equal(checkpoint(), 0);
    length = tape.length;
    first = malloc(length);
    assert_non_null(first);
    memcpy(first, tape.bytes, length);
    renew();
    assert_int_equal(restore(), 0);
    assert_int_equal(checkpoint(), 0);
    assert_int_equal(tape.length, length);
    assert_memory_equal(tape.bytes, first, length);
    free(first);
}

static void the_tsc_goes_on_where_it_was(void **state)
{
    uint64_t tsc[2];

    (void)state;
    start();
    posix_host_advance_ns(m->host, 5000000);
    m->vm->vcpu[1]->tsc_offset += 1000; /* the guest moved it */
    assert_int_equal(vmm_vm_pause(m->vm), 0);
    for (unsigned n = 0; n < 2; n++) {
        tsc[n] = m->vm->clock_paused_at + m->vm->vcpu[n]->tsc_offset;
    }
    assert_int_equal(checkpoint(), 0);
    renew();
    posix_host_advance_ns(m->host, 9000000);
    assert_int_equal(restore(), 0);
    posix_host_advance_ns(m->host, 9000000);
    assert_int_equal(vmm_vm_resume(m->vm), 0);
    for (unsigned n = 0; n < 2; n++) {
        struct vcpu *v = m->vm->vcpu[n];

        assert_int_equal(m->vm->ops->cycles(m->host) + v->tsc_offset, tsc[n]);
        assert_int_equal(mock_vcpu(v)->tsc_offset, v->tsc_offset);
    }
}

/* A deadline that was ahead of the guest is ahead of it again, by as much. */
static void timers_go_on(void **state)
{
    const uint32_t msr_lvt_timer = 0x832, vector = 0x61;
    struct vcpu *v = m->vm->vcpu[0];

    (void)state;
    start();
    assert_int_equal(vmm_vm_pause(m->vm), 0);
    assert_true(vlapic_base_write(v, PLATFORM_LAPIC_BASE | 0xd00)); /* x2APIC, boot processor */
    assert_true(vlapic_msr_write(v, 0x80f, 0x1ff));
    assert_true(vlapic_msr_write(v, msr_lvt_timer, vector | 2 << 17));
    vlapic_deadline_write(v, m->vm->clock_paused_at + v->tsc_offset +
                                 vmm_ns_to_cycles(3000000, m->vm->ops->cycles_khz));
    assert_int_equal(checkpoint(), 0);
    renew();
    posix_host_advance_ns(m->host, 500000000);
    assert_int_equal(restore(), 0);
    posix_host_advance_ns(m->host, 500000000);
    assert_int_equal(vmm_vm_resume(m->vm), 0);
    v = m->vm->vcpu[0];
    posix_host_advance_ns(m->host, 2900000);
    assert_int_not_equal(vlapic_deadline_read(v), 0);
    posix_host_advance_ns(m->host, 200000);
    while (__atomic_load_n(&mock_vcpu(v)->injected.vector, __ATOMIC_SEQ_CST) != vector &&
           vmm_irq_pending(v) != (int)vector) {
        sched_yield();
    }
}

static void a_running_vm_goes_on(void **state)
{
    unsigned entries;

    (void)state;
    start();
    assert_int_equal(checkpoint(), 0);
    assert_int_equal(vmm_vm_state(m->vm), VM_RUNNING);
    entries = __atomic_load_n(&mock_vcpu(m->vm->vcpu[0])->entries, __ATOMIC_SEQ_CST);
    assert_int_equal(vmm_vm_inject_nmi(m->vm, 0), 0);
    while (__atomic_load_n(&mock_vcpu(m->vm->vcpu[0])->entries, __ATOMIC_SEQ_CST) == entries) {
        sched_yield();
    }
    assert_int_equal(vmm_vm_stop(m->vm), 0);
    assert_int_equal(checkpoint(), -VMM_EINVAL);
    assert_non_null(strstr(m->err.text, "stopped"));
}

static void transitions_are_checked(void **state)
{
    (void)state;
    assert_int_equal(checkpoint(), -VMM_EINVAL); /* created */
    start();
    assert_int_equal(checkpoint(), 0);
    assert_int_equal(restore(), -VMM_EBUSY);
    assert_int_equal(vmm_vm_pause(m->vm), 0);
    assert_int_equal(restore(), -VMM_EBUSY);
    assert_int_equal(vmm_vm_stop(m->vm), 0);
    assert_int_equal(restore(), 0);
    assert_int_equal(vmm_vm_pause(m->vm), -VMM_EINVAL);
    assert_int_equal(vmm_vm_resume(m->vm), 0);
    assert_int_equal(vmm_vm_stop(m->vm), 0);
    start(); /* and from the beginning */
}

static void extended_state_moves(void **state)
{
    (void)state;
    start();
    assert_int_equal(checkpoint(), 0);
    /* The XSAVE header of each vCPU is at the same place in its record. */
    for (unsigned i = 0; i < 2; i++) {
        renew();
        assert_int_equal(restore(), 0);
        assert_int_equal(vmm_vm_resume(m->vm), 0);
    }
}

static void a_full_stream_is_an_error(void **state)
{
    (void)state;
    start();
    assert_int_equal(checkpoint(), 0);
    tape.limit = tape.length - 1;
    assert_int_equal(checkpoint(), -VMM_ENOSPC);
    assert_non_null(strstr(m->err.text, "no space"));
    assert_int_equal(vmm_vm_state(m->vm), VM_RUNNING);
}

/* --- what is refused -------------------------------------------------------------------------- */

static struct checkpoint_record *find_record(uint32_t kind, uint32_t index)
{
    size_t at = sizeof(struct checkpoint_header);

    while (at < tape.length) {
        struct checkpoint_record *r = (struct checkpoint_record *)(tape.bytes + at);

        if (r->kind == kind && r->index == index) {
            return r;
        }
        at += sizeof(*r) + r->length;
    }
    fail();
    return NULL;
}

static void seal(struct checkpoint_record *r)
{
    r->sum = vmm_checksum(vmm_checksum_record(r), r + 1, r->length);
}

static void refused_with(const char *text)
{
    assert_int_equal(restore(), -VMM_EINVAL);
    if (strstr(m->err.text, text) == NULL) {
        fail_msg("\"%s\" lacks \"%s\"", m->err.text, text);
    }
    assert_int_equal(vmm_vm_state(m->vm), VM_STOPPED);
}

static void take_one(void)
{
    start();
    assert_int_equal(checkpoint(), 0);
    assert_int_equal(vmm_vm_stop(m->vm), 0);
}

static void every_changed_byte_is_noticed(void **state)
{
    (void)state;
    take_one();
    for (size_t i = 0; i < tape.length; i += i < 600 ? 1 : 211) {
        tape.bytes[i] ^= 0x10;
        if (i < 12 || i >= 16) { /* reserved bytes of the header mean nothing */
            assert_true(restore() < 0);
            assert_int_equal(vmm_vm_state(m->vm), VM_STOPPED);
        }
        tape.bytes[i] ^= 0x10;
    }
    assert_int_equal(restore(), 0);
}

static void every_cut_is_noticed(void **state)
{
    size_t whole;

    (void)state;
    take_one();
    whole = tape.length;
    for (tape.length = 0; tape.length < whole; tape.length += tape.length < 100 ? 1 : 487) {
        assert_true(restore() < 0);
    }
    tape.length = whole;
    start(); /* nothing of it is left */
}

static void what_is_not_of_this_vm_is_refused(void **state)
{
    struct checkpoint_record *r;
    struct saved_machine *machine;

    (void)state;
    take_one();
    r = find_record(CHECKPOINT_MACHINE, 0);
    machine = (struct saved_machine *)(r + 1);
    machine->vcpu_count = 3;
    seal(r);
    refused_with("3 vCPUs");
    machine->vcpu_count = 2;
    machine->mem_bytes = VMM_MIB(32);
    seal(r);
    refused_with("32 MiB");
    machine->mem_bytes = m->config.mem_bytes;
    machine->cpuid++;
    seal(r);
    refused_with("features");
    machine->cpuid--;
    machine->cycles_khz /= 2;
    seal(r);
    refused_with("TSC");
    machine->cycles_khz *= 2;
    machine->region[1].base += VMM_PAGE_SIZE;
    seal(r);
    refused_with("memory");
    machine->region[1].base -= VMM_PAGE_SIZE;
    machine->region_count = VMM_REGIONS_MAX + 1;
    seal(r);
    refused_with("regions");
    machine->region_count = 1;
    seal(r);
    refused_with("memory");
    machine->region_count = 2;
    seal(r);
    ((struct checkpoint_header *)tape.bytes)->version++;
    refused_with("version 2");
    tape.bytes[0] ^= 1;
    refused_with("none");
}

/* A ROM that the checkpoint has and the VM has not is made; but not for one that is refused. */
static void a_refused_one_leaves_no_rom(void **state)
{
    struct saved_machine *machine;
    struct checkpoint_record *r;
    uint64_t pages;

    (void)state;
    take_one();
    r = find_record(CHECKPOINT_MACHINE, 0);
    machine = (struct saved_machine *)(r + 1);
    machine->region[machine->region_count++] =
        (struct saved_region){VMM_GIB(3), VMM_MIB(1), VMM_REGION_ROM};
    machine->region[machine->region_count++] =
        (struct saved_region){VMM_GIB(3) + VMM_MIB(2), VMM_MIB(1), VMM_REGION_ROM};
    seal(r);
    pages = m->vm->nested.page_count;
    r = find_record(CHECKPOINT_VCPU, 1);
    r->sum++;
    refused_with("checksum");
    assert_null(vmm_memory_region(m->vm, 2));
    assert_int_equal(m->vm->nested.page_count, pages);
    r->sum--;
    assert_int_equal(restore(), 0);
    assert_non_null(vmm_memory_region(m->vm, 3));
}

static void impossible_registers_are_refused(void **state)
{
    struct checkpoint_record *r;
    struct saved_vcpu *s, good;

    (void)state;
    take_one();
    r = find_record(CHECKPOINT_VCPU, 1);
    s = (struct saved_vcpu *)(r + 1);
    good = *s;
#define REFUSED(field, value)                                                                      \
    s->field = (value);                                                                            \
    seal(r);                                                                                       \
    refused_with("impossible");                                                                    \
    *s = good
    REFUSED(sysreg[VMM_MSR_LSTAR], 0x8000000000000000);
    REFUSED(sysreg[VMM_MSR_KERNEL_GS_BASE], 0x0000800000000000);
    REFUSED(sysreg[VMM_EFER], UINT64_C(1) << 12);
    REFUSED(sysreg[VMM_CR0], X86_CR0_PG);
    REFUSED(sysreg[VMM_CR8], 16);
    REFUSED(sysreg[VMM_DR7], UINT64_C(1) << 32);
    REFUSED(sysreg[VMM_MSR_SFMASK], UINT64_C(1) << 32);
    REFUSED(sysreg[VMM_MSR_PAT], 2);
    REFUSED(xcr0, 4);
    REFUSED(xcr0, UINT64_C(1) << 62);
    REFUSED(event_type, 1);
    REFUSED(event_type, 4);
#undef REFUSED
    /* XSTATE_BV and the reserved bytes behind it. */
    ((uint8_t *)(s + 1))[512 + 7] = 0x80;
    seal(r);
    refused_with("impossible");
    ((uint8_t *)(s + 1))[512 + 7] = 0;
    ((uint8_t *)(s + 1))[512 + 8] = 1;
    seal(r);
    refused_with("impossible");
    ((uint8_t *)(s + 1))[512 + 8] = 0;
    /* MXCSR may have bits that no processor has: they do not fault here. */
    memset((uint8_t *)(s + 1) + 24, 0xff, 4);
    seal(r);
    assert_int_equal(restore(), 0);
}

static void pages_come_in_order(void **state)
{
    struct checkpoint_record *r;
    uint64_t *gpa;

    (void)state;
    take_one();
    r = find_record(CHECKPOINT_PAGES, 0);
    gpa = (uint64_t *)(r + 1);
    *gpa += 1;
    seal(r);
    refused_with("order");
    *gpa = 0xa0000;
    seal(r);
    refused_with("0xa0000");
    *gpa = UINT64_C(0) - VMM_PAGE_SIZE * CHECKPOINT_PAGES_MAX;
    seal(r);
    assert_true(restore() < 0);
    r->length -= 8;
    refused_with("length");
}

static void failures_leave_nothing(void **state)
{
    uint64_t small;
    long n = 0;
    int error;

    (void)state;
    take_one();
    small = posix_host_small_used(m->host);
    do {
        posix_host_fail_alloc(m->host, n++);
        error = restore();
        if (error != 0) {
            assert_int_equal(error, -VMM_ENOMEM);
            assert_int_equal(vmm_vm_state(m->vm), VM_STOPPED);
            assert_true(posix_host_small_used(m->host) <= small);
        }
    } while (error != 0);
    posix_host_fail_alloc(m->host, -1);
    assert_true(n > 5);
    n = 0;
    do {
        posix_host_fail_alloc(m->host, n++);
        error = checkpoint();
        assert_true(error == 0 || error == -VMM_ENOMEM);
        assert_int_equal(vmm_vm_state(m->vm), VM_PAUSED);
    } while (error != 0);
    posix_host_fail_alloc(m->host, -1);
}

static int setup_lazy(void **state)
{
    (void)state;
    m = scripted_host(2);
    m->config.lazy_memory = true;
    assert_int_equal(vmm_vm_create(m->vmm, &m->config, &m->vm, &m->err), 0);
    tape = tape_create(STREAM_MAX);
    return 0;
}

/* What was never touched is neither written nor backed. */
static void lazy_memory_stays_lazy(void **state)
{
    uint64_t pages;
    char text[4];

    (void)state;
    start();
    assert_int_equal(vmm_memory_write(m->vm, VMM_GPA(0x777000), "lazy", 4), 0);
    assert_int_equal(checkpoint(), 0);
    pages = posix_host_pages_used(m->host);
    renew();
    assert_int_equal(restore(), 0);
    assert_true(posix_host_pages_used(m->host) <= pages);
    assert_int_equal(vmm_vm_read_memory(m->vm, 0x777000, text, 4), 0);
    assert_memory_equal(text, "lazy", 4);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(everything_comes_back),
        T(a_second_checkpoint_is_the_same),
        T(the_tsc_goes_on_where_it_was),
        T(timers_go_on),
        T(a_running_vm_goes_on),
        T(transitions_are_checked),
        T(extended_state_moves),
        T(a_full_stream_is_an_error),
        T(every_changed_byte_is_noticed),
        T(every_cut_is_noticed),
        T(what_is_not_of_this_vm_is_refused),
        T(a_refused_one_leaves_no_rom),
        T(impossible_registers_are_refused),
        T(pages_come_in_order),
        T(failures_leave_nothing),
        cmocka_unit_test_setup_teardown(lazy_memory_stays_lazy, setup_lazy, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
