/* Exit handlers, one kind after another, as the run loop calls them. */
#include "scripted.h"

#include <string.h>
#include "core/irq.h"
#include "core/x86.h"

static struct scripted *m;
static struct vcpu *v;

static int setup(void **state)
{
    (void)state;
    m = scripted_create(1);
    v = m->vcpu;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    m->vm->state = VM_CRASHED; /* those that ended it had no thread to say so */
    scripted_destroy(m);
    return 0;
}

static struct vmm_exit exit_of(enum vmm_exit_kind kind, uint8_t length)
{
    struct vmm_exit e = {.kind = kind, .insn_length = length};

    return e;
}

static void assert_event(uint8_t vector, bool has_error)
{
    assert_true(v->event.valid);
    assert_int_equal(v->event.type, VMM_EVENT_EXCEPTION);
    assert_int_equal(v->event.vector, vector);
    assert_int_equal(v->event.has_error, has_error);
    assert_true((v->requests & VMM_REQ_EVENT) != 0);
}

static void cache_instructions_are_skipped(void **state)
{
    static const enum vmm_exit_kind kinds[] = {VMM_EXIT_wbinvd, VMM_EXIT_invd, VMM_EXIT_pause};

    (void)state;
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(kinds); i++) {
        struct vmm_exit e = exit_of(kinds[i], 2);

        v->intr_shadow = true;
        assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
        assert_int_equal(v->rip, 0x1002);
        assert_false(v->intr_shadow);
        assert_false(v->event.valid);
    }
}

static void what_is_not_offered_is_undefined(void **state)
{
    static const enum vmm_exit_kind kinds[] = {VMM_EXIT_monitor, VMM_EXIT_mwait, VMM_EXIT_refused};

    (void)state;
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(kinds); i++) {
        struct vmm_exit e = exit_of(kinds[i], 3);

        assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
        assert_event(X86_UD, false);
        assert_int_equal(v->rip, 0x1000);
    }
}

static void rdpmc_faults(void **state)
{
    struct vmm_exit e = exit_of(VMM_EXIT_rdpmc, 2);

    (void)state;
    assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
    assert_event(X86_GP, true);
}

static void nothing_happens_for_the_hosts_own(void **state)
{
    static const enum vmm_exit_kind kinds[] = {VMM_EXIT_intr, VMM_EXIT_nmi, VMM_EXIT_retry};

    (void)state;
    v->requests = 0;
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(kinds); i++) {
        struct vmm_exit e = exit_of(kinds[i], 0);

        assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
        assert_int_equal(v->rip, 0x1000);
        assert_int_equal(v->requests, 0);
    }
}

static void hlt_blocks_behind_itself(void **state)
{
    struct vmm_exit e = exit_of(VMM_EXIT_hlt, 1);

    (void)state;
    assert_int_equal(scripted_exit(m, &e), VMM_BLOCK);
    assert_int_equal(v->rip, 0x1001);
    assert_int_equal(v->halted, 1);
}

static void a_step_over_hlt_does_not_sleep(void **state)
{
    struct vmm_exit e = exit_of(VMM_EXIT_hlt, 1);

    (void)state;
    v->rflags |= X86_RFLAGS_TF;
    assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
    assert_int_equal(v->rip, 0x1001);
    assert_int_equal(v->halted, 0);
    assert_event(X86_DB, false);
}

static void faults_save_rf(void **state)
{
    struct vmm_exit e = exit_of(VMM_EXIT_rdpmc, 2);

    (void)state;
    assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
    assert_event(X86_GP, true);
    assert_true((v->rflags & X86_RFLAGS_RF) != 0);
}

/* The access is the VMM's, so the processor does not see it. */
static void breakpoints_on_ports_trap(void **state)
{
    static const uint8_t out[] = {0xe6, 0x80};
    struct vmm_exit e = exit_of(VMM_EXIT_pio, 0);
    uint64_t *sysreg = mock_vcpu(v)->sysreg;

    (void)state;
    mock_vcpu(v)->segment[VMM_SEG_CS].base = 0;
    assert_int_equal(vmm_memory_write(m->vm, VMM_GPA(0x1000), out, sizeof(out)), 0);
    e.rip = 0x1000;
    e.pio.port = 0x80;
    e.pio.size = 1;
    v->dr[1] = 0x80;
    sysreg[VMM_DR7] = 0x400 | 1 << 2 | 2 << 20; /* L1, I/O */
    assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
    assert_int_equal(v->rip, 0x1002);
    assert_false(v->event.valid); /* CR4.DE is off */
    v->rip = 0x1000;
    sysreg[VMM_CR4] |= 1 << 3;
    assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
    assert_event(X86_DB, false);
    assert_int_equal(sysreg[VMM_DR6] & 0xf, 2);
}

static void a_window_has_interrupts_looked_for(void **state)
{
    struct vmm_exit e = exit_of(VMM_EXIT_intr_window, 0);

    (void)state;
    v->requests = 0;
    assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
    assert_int_equal(v->requests, VMM_REQ_INTR);
}

static void exceptions_go_back_to_the_guest(void **state)
{
    struct vmm_exit e = exit_of(VMM_EXIT_exception, 0);

    (void)state;
    e.exception.vector = X86_DB;
    assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
    assert_event(X86_DB, false);
    e.exception.vector = X86_PF;
    e.exception.has_error = true;
    e.exception.error = 7;
    e.exception.address = 0x123456;
    assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
    assert_event(X86_PF, true);
    assert_int_equal(v->event.error, 7);
    assert_int_equal(mock_vcpu(v)->sysreg[VMM_CR2], 0x123456);
}

static void two_faults_make_a_double_fault(void **state)
{
    (void)state;
    v->event.valid = false;
    vmm_inject_exception(v, X86_PF, true, 2);
    vmm_inject_exception(v, X86_GP, true, 5);
    assert_event(X86_DF, true);
    assert_int_equal(v->event.error, 0);

    v->event.valid = false;
    vmm_inject_exception(v, X86_GP, true, 0);
    vmm_inject_exception(v, X86_PF, true, 0); /* contributory, then page fault: one after other */
    assert_event(X86_PF, true);

    v->event.valid = false;
    vmm_inject_exception(v, X86_DE, false, 0);
    vmm_inject_exception(v, X86_NP, true, 0);
    assert_event(X86_DF, true);

    v->event.valid = false;
    vmm_inject_exception(v, X86_UD, false, 0);
    vmm_inject_exception(v, X86_GP, true, 0);
    assert_event(X86_GP, true);
    assert_int_equal(vmm_vm_reason(m->vm), VM_REASON_NONE);

    v->event.valid = false;
    vmm_inject_exception(v, X86_DF, true, 0);
    vmm_inject_exception(v, X86_PF, true, 0);
    assert_int_equal(vmm_vm_reason(m->vm), VM_REASON_TRIPLE_FAULT);
}

static void single_step_traps_behind_a_skipped_instruction(void **state)
{
    struct vmm_exit e = exit_of(VMM_EXIT_wbinvd, 2);

    (void)state;
    v->rflags |= X86_RFLAGS_TF | X86_RFLAGS_RF;
    assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
    assert_int_equal(v->rip, 0x1002);
    assert_event(X86_DB, false);
    assert_int_equal(v->rflags & X86_RFLAGS_RF, 0);
    assert_true((mock_vcpu(v)->sysreg[VMM_DR6] & X86_DR6_BS) != 0);
}

static void ports_reach_their_devices(void **state)
{
    struct vmm_exit e = exit_of(VMM_EXIT_pio, 1);

    (void)state;
    e.pio.port = 0x21; /* the PIC's mask */
    e.pio.size = 1;
    v->gpr[VMM_RAX] = 0xffffffffffffff5a;
    assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
    assert_int_equal(v->rip, 0x1001);
    e.pio.in = true;
    v->gpr[VMM_RAX] = 0x1122334455667788;
    assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
    assert_int_equal(v->gpr[VMM_RAX], 0x112233445566775a);
    /* Unclaimed: all ones in the operand's width. */
    e.pio.port = 0x5000;
    e.pio.size = 2;
    assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
    assert_int_equal(v->gpr[VMM_RAX], 0x112233445566ffff);
    e.pio.size = 4;
    assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
    assert_int_equal(v->gpr[VMM_RAX], 0xffffffff);
}

static void xsetbv_is_validated(void **state)
{
    static const uint64_t bad[] = {0, 2, 5, 0x207, 0xe7, 0x27, UINT64_C(1) << 63 | 7};
    struct vmm_exit e = exit_of(VMM_EXIT_xsetbv, 3);

    (void)state;
    v->gpr[VMM_RCX] = v->gpr[VMM_RDX] = 0;
    v->gpr[VMM_RAX] = 7;
    assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
    assert_event(X86_UD, false); /* CR4.OSXSAVE is clear */
    mock_vcpu(v)->sysreg[VMM_CR4] = X86_CR4_OSXSAVE;
    assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
    assert_false(v->event.valid);
    assert_int_equal(v->xcr0, 7);
    assert_int_equal(v->rip, 0x1003);
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(bad); i++) {
        v->gpr[VMM_RAX] = (uint32_t)bad[i];
        v->gpr[VMM_RDX] = bad[i] >> 32;
        assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
        assert_event(X86_GP, true);
        assert_int_equal(v->xcr0, 7);
    }
    v->gpr[VMM_RAX] = 3;
    v->gpr[VMM_RDX] = 0;
    v->gpr[VMM_RCX] = 1;
    assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
    assert_event(X86_GP, true);
    v->gpr[VMM_RCX] = 0;
    mock_vcpu(v)->segment[VMM_SEG_SS].attributes |= 3 << 5;
    assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
    assert_event(X86_GP, true);
}

static void cr8_is_the_lapics(void **state)
{
    struct vmm_exit e = exit_of(VMM_EXIT_cr_access, 4);

    (void)state;
    e.reg.number = 8;
    e.reg.gpr = VMM_RSI;
    e.reg.write = e.reg.gpr_valid = true;
    v->gpr[VMM_RSI] = 9;
    assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
    assert_int_equal(vlapic_cr8_read(v), 9);
    assert_int_equal(mock_vcpu(v)->sysreg[VMM_CR8], 9);
    assert_true((v->requests & VMM_REQ_INTR) != 0);
    e.reg.write = false;
    e.reg.gpr = VMM_RDI;
    assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
    assert_int_equal(v->gpr[VMM_RDI], 9);
    e.reg.write = true;
    v->gpr[VMM_RDI] = 16;
    assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
    assert_event(X86_GP, true);
    assert_int_equal(vlapic_cr8_read(v), 9);
}

/* What is left of 64-bit code in a register's upper half is not moved by 32-bit code. */
static void only_64_bit_code_moves_64_bits(void **state)
{
    struct vmm_exit e = exit_of(VMM_EXIT_cr_access, 3);

    (void)state;
    e.reg.gpr = VMM_RBX;
    e.reg.write = e.reg.gpr_valid = true;
    v->gpr[VMM_RBX] = UINT64_C(0xdead00000000) << 16 | X86_CR0_PE | X86_CR0_ET;
    assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
    assert_false(v->event.valid);
    assert_int_equal(mock_vcpu(v)->sysreg[VMM_CR0], X86_CR0_PE | X86_CR0_ET);
    mock_vcpu(v)->sysreg[VMM_EFER] = X86_EFER_LMA | X86_EFER_LME;
    mock_vcpu(v)->segment[VMM_SEG_CS].attributes |= VMM_SEGMENT_LONG;
    assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
    assert_event(X86_GP, true);
}

/* What the exit was for counts, not what another vCPU has put there since. */
static void code_that_changed_meanwhile_runs_anew(void **state)
{
    static const uint8_t code_table[][3] = {{0x0f, 0x21, 0xf9},
                                            {0x0f, 0x22, 0xd1},
                                            {0x0f, 0x22, 0xe1},
                                            {0x0f, 0x23, 0xd9},
                                            {0x0f, 0xa2}};

    (void)state;
    mock_vcpu(v)->segment[VMM_SEG_CS].base = 0;
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(code_table); i++) {
        struct vmm_exit e = exit_of(VMM_EXIT_cr_access, 0);

        e.reg.number = 3;
        e.reg.write = true;
        assert_int_equal(
            vmm_memory_write(m->vm, VMM_GPA(0x1000), code_table[i], sizeof(code_table[i])), 0);
        v->gpr[VMM_RCX] = 0x123;
        assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
        assert_int_equal(v->rip, 0x1000);
        assert_int_equal(v->gpr[VMM_RCX], 0x123);
        assert_false(v->event.valid);
    }
}

static void debug_registers_are_handed_over(void **state)
{
    struct vmm_exit e = exit_of(VMM_EXIT_dr_access, 3);

    (void)state;
    assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
    assert_int_equal(v->rip, 0x1000); /* it runs again */
    assert_int_equal(mock_vcpu(v)->dr_acquired, 1);
}

static void first_touch_of_lazy_memory_is_mapped(void **state)
{
    struct vmm_exit e = exit_of(VMM_EXIT_nested_fault, 0);

    (void)state;
    vmm_memory_destroy(m->vm);
    m->vm->config.lazy_memory = true;
    assert_int_equal(vmm_memory_add(m->vm, VMM_GPA(0), VMM_MIB(1), VMM_REGION_RAM), 0);
    e.fault.gpa = VMM_GPA(0x5123);
    e.fault.write = true;
    assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
    assert_int_equal(m->vm->nested.page_count, 1);
    assert_true(fixture_translate(m->vm, 0x5123).present);

    posix_host_fail_alloc(m->host, 0);
    e.fault.gpa = VMM_GPA(0x6000);
    assert_int_equal(scripted_exit(m, &e), VMM_LEAVE);
    assert_int_equal(vmm_vm_reason(m->vm), VM_REASON_HOST_ERROR);
    posix_host_fail_alloc(m->host, -1);
}

static void a_page_that_the_host_lost_ends_the_vm(void **state)
{
    struct vmm_exit e = exit_of(VMM_EXIT_nested_fault, 0);
    uint64_t taken;

    (void)state;
    assert_int_equal(vmm_memory_write(m->vm, VMM_GPA(0x5000), "five", 4), 0);
    assert_int_equal(vmm_vm_swap_out(m->vm, VMM_GIB(1), &taken), 0);
    posix_host_store_lose(m->host, true);
    e.fault.gpa = VMM_GPA(0x5000);
    assert_int_equal(scripted_exit(m, &e), VMM_LEAVE);
    assert_int_equal(vmm_vm_reason(m->vm), VM_REASON_HOST_ERROR);
    assert_non_null(strstr(posix_host_log(m->host), "the host has lost guest-physical 0x5000"));
    posix_host_store_lose(m->host, false);
}

static void delivery_through_device_memory_crashes(void **state)
{
    struct vmm_exit e = exit_of(VMM_EXIT_nested_fault, 0);

    (void)state;
    e.fault.gpa = VMM_GPA(0xd0000000);
    v->event = (struct vmm_event){.valid = true, .type = VMM_EVENT_INTR, .vector = 0x30};
    assert_int_equal(vmm_handle_nested_fault(v, &e), VMM_LEAVE);
    assert_int_equal(vmm_vm_reason(m->vm), VM_REASON_EMULATION);
}

static void ends(enum vmm_exit_kind kind, enum vm_reason reason, const char *text)
{
    struct vmm_exit e = exit_of(kind, 0);

    e.code = 0x77;
    m->vm->reason = VM_REASON_NONE;
    posix_host_clear_log(m->host);
    assert_int_equal(scripted_exit(m, &e), VMM_LEAVE);
    assert_int_equal(vmm_vm_reason(m->vm), reason);
    assert_non_null(strstr(posix_host_log(m->host), text));
    /* The dump: registers, segments, code. */
    assert_non_null(strstr(posix_host_log(m->host), "rip 0000000000001000"));
    assert_non_null(strstr(posix_host_log(m->host), "cs  f000"));
    assert_non_null(strstr(posix_host_log(m->host), "code:"));
    /* Another one that crashes has its line, no dump, and the reason stays. */
    posix_host_clear_log(m->host);
    e.kind = VMM_EXIT_shutdown;
    assert_int_equal(scripted_exit(m, &e), VMM_LEAVE);
    assert_string_equal(posix_host_log(m->host), "test: vCPU 0: triple fault\n");
    assert_int_equal(vmm_vm_reason(m->vm), reason);
}

static void what_cannot_go_on_ends_the_vm_with_a_dump(void **state)
{
    (void)state;
    ends(VMM_EXIT_shutdown, VM_REASON_TRIPLE_FAULT, "triple fault");
    ends(VMM_EXIT_entry_failed, VM_REASON_ENTRY_FAILED, "refused");
    ends(VMM_EXIT_unknown, VM_REASON_UNKNOWN_EXIT, "unknown exit 0x77");
}

static struct vmm_exit task_switch(uint16_t selector, enum vmm_task_source source)
{
    struct vmm_exit e = exit_of(VMM_EXIT_task_switch, 5);

    v->event.valid = false;
    e.task.selector = selector;
    e.task.source = (uint8_t)source;
    return e;
}

/* Whatever is wrong with the new task's segment, the old task stays where it is. */
static void a_switch_to_no_task_is_a_fault(void **state)
{
    const uint64_t gdt = 0x8000, absent = UINT64_C(0x0900) << 32 | 0x67;
    const uint64_t small = UINT64_C(0x8900) << 32 | 0x66, old = UINT64_C(0x8100) << 32 | 0x2a;
    const uint64_t busy = UINT64_C(0x8b00) << 32 | 0x67;
    const uint64_t entries[] = {0, absent, small, busy, old};
    const struct {
        uint16_t selector;
        uint8_t source, vector;
    } rows[] = {
        {0x08, VMM_TASK_CALL, X86_NP}, {0x10, VMM_TASK_JMP, X86_TS},  {0x18, VMM_TASK_GATE, X86_GP},
        {0x10, VMM_TASK_IRET, X86_TS}, {0x28, VMM_TASK_CALL, X86_GP}, {0x28, VMM_TASK_IRET, X86_TS},
        {0x0c, VMM_TASK_CALL, X86_GP}, {0x20, VMM_TASK_CALL, X86_TS}, {0x00, VMM_TASK_JMP, X86_GP},
    };
    const struct vmm_segment_state table = {.base = gdt, .limit = sizeof(entries) - 1};

    (void)state;
    v->backend->set_segment(v, VMM_SEG_GDTR, &table);
    assert_int_equal(vmm_memory_write(m->vm, VMM_GPA(gdt), entries, sizeof(entries)), 0);
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(rows); i++) {
        struct vmm_exit e = task_switch(rows[i].selector, (enum vmm_task_source)rows[i].source);

        assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
        assert_event(rows[i].vector, true);
        assert_int_equal(v->event.error, rows[i].selector & 0xfffc);
        assert_int_equal(v->rip, 0x1000);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(cache_instructions_are_skipped),
        TEST(what_is_not_offered_is_undefined),
        TEST(rdpmc_faults),
        TEST(nothing_happens_for_the_hosts_own),
        TEST(hlt_blocks_behind_itself),
        TEST(a_step_over_hlt_does_not_sleep),
        TEST(faults_save_rf),
        TEST(breakpoints_on_ports_trap),
        TEST(a_window_has_interrupts_looked_for),
        TEST(exceptions_go_back_to_the_guest),
        TEST(two_faults_make_a_double_fault),
        TEST(single_step_traps_behind_a_skipped_instruction),
        TEST(ports_reach_their_devices),
        TEST(xsetbv_is_validated),
        TEST(cr8_is_the_lapics),
        TEST(only_64_bit_code_moves_64_bits),
        TEST(code_that_changed_meanwhile_runs_anew),
        TEST(debug_registers_are_handed_over),
        TEST(first_touch_of_lazy_memory_is_mapped),
        TEST(a_page_that_the_host_lost_ends_the_vm),
        TEST(delivery_through_device_memory_crashes),
        TEST(a_switch_to_no_task_is_a_fault),
        TEST(what_cannot_go_on_ends_the_vm_with_a_dump),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
