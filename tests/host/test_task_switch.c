/* Hardware task switches as the VMM does them for VMX: both kinds of task state segment, what comes
 * through a task gate, and what must not change when something is wrong. */
#include "core/descriptor.h"
#include "core/vm.h"
#include "core/x86.h"
#include "guest_cpu.h"

#include <string.h>

#define GDT      0x8000u
#define OLD_TSS  0x9000u
#define NEW_TSS  0xa000u
#define OLD      0x08u
#define NEW      0x10u
#define CODE     0x18u
#define DATA     0x20u
#define SMALL    0x28u /* a stack of 16 bits, one page */
#define TSS_32   UINT64_C(0x89)
#define TSS_16   UINT64_C(0x81)
#define BUSY     2u
#define FLAG_NT  (1u << 14)
#define FLAG_VM  (1u << 17)
#define DR6_BT   (UINT64_C(1) << 15)
#define DR7_MINE UINT64_C(0x7ff)

static struct fixture *f;
static struct vcpu *v;
static struct mock_vcpu *m;

static uint64_t tss_descriptor(uint32_t base, uint32_t limit, uint64_t type)
{
    return (uint64_t)base << 16 | limit | type << 40;
}

static uint32_t get(uint32_t at, unsigned size)
{
    uint32_t value = 0;

    memcpy(&value, vmm_memory_ptr(f->vm, VMM_GPA(at), size), size);
    return value;
}

static void set(uint32_t at, uint32_t value, unsigned size)
{
    memcpy(vmm_memory_ptr_write(f->vm, VMM_GPA(at), size), &value, size);
}

/* Offsets of SDM vol. 3 figures 8-2 and 8-10. */
static void make_tss_32(void)
{
    *guest_entry(f, GDT + NEW) = tss_descriptor(NEW_TSS, 103, TSS_32);
    set(NEW_TSS + 32, 0x123456, 4);
    set(NEW_TSS + 36, 0x202, 4);
    set(NEW_TSS + 40, 0xaaaa5555, 4); /* EAX */
    set(NEW_TSS + 56, 0x6000, 4);     /* ESP */
    set(NEW_TSS + 72, DATA, 2);       /* ES */
    set(NEW_TSS + 76, CODE, 2);
    set(NEW_TSS + 80, DATA, 2);
    set(NEW_TSS + 84, DATA, 2);
}

static void make_tss_16(void)
{
    *guest_entry(f, GDT + NEW) = tss_descriptor(NEW_TSS, 43, TSS_16);
    set(NEW_TSS + 14, 0x3456, 2);
    set(NEW_TSS + 16, 0x202, 2);
    set(NEW_TSS + 18, 0x5555, 2); /* AX */
    set(NEW_TSS + 26, 0x6000, 2); /* SP */
    set(NEW_TSS + 34, DATA, 2);   /* ES */
    set(NEW_TSS + 36, CODE, 2);
    set(NEW_TSS + 38, DATA, 2);
    set(NEW_TSS + 40, DATA, 2);
    set(NEW_TSS + 42, 0, 2);
}

static int setup(void **state)
{
    (void)state;
    f = fixture_create(VMM_MIB(8), 1);
    v = f->vcpu;
    m = mock_vcpu(v);
    guest_set_mode(f, GUEST_PROTECTED_32);
    m->segment[VMM_SEG_GDTR] = (struct vmm_segment_state){.base = GDT, .limit = 0x2f};
    m->segment[VMM_SEG_TR] = (struct vmm_segment_state){
        .selector = OLD, .attributes = 0x8b, .base = OLD_TSS, .limit = 103};
    *guest_entry(f, GDT + OLD) = tss_descriptor(OLD_TSS, 103, TSS_32 | BUSY);
    *guest_entry(f, GDT + CODE) = UINT64_C(0x00cf9b000000ffff);
    *guest_entry(f, GDT + DATA) = UINT64_C(0x00cf93000000ffff);
    *guest_entry(f, GDT + SMALL) = UINT64_C(0x0000930000000fff);
    make_tss_32();
    v->rip = 0x2000;
    v->gpr[VMM_RAX] = 0x11112222;
    m->sysreg[VMM_DR7] = DR7_MINE;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_destroy(f);
    return 0;
}

/* 7 bytes: a far CALL or JMP; through a gate nothing that has a length. */
static void go(enum vmm_task_source source)
{
    struct vmm_exit e = {.kind = VMM_EXIT_task_switch,
                         .insn_length = source == VMM_TASK_GATE ? 0 : 7,
                         .task = {.selector = NEW, .source = (uint8_t)source}};

    assert_int_equal(vmm_handle_task_switch(v, &e), VMM_CONTINUE);
}

static unsigned busy(uint32_t selector)
{
    return get(GDT + selector + 5, 1) & BUSY;
}

static void expect_fault(uint8_t vector, uint32_t error, bool in_new_task)
{
    assert_true(v->event.valid);
    assert_int_equal(v->event.vector, vector);
    assert_int_equal(v->event.error, error);
    assert_int_equal(m->segment[VMM_SEG_TR].selector, in_new_task ? NEW : OLD);
    if (!in_new_task) {
        assert_int_equal(v->rip, 0x2000);
        assert_int_equal(v->gpr[VMM_RAX], 0x11112222);
    }
}

static void a_call_nests(void **state)
{
    (void)state;
    go(VMM_TASK_CALL);
    assert_false(v->event.valid);
    assert_int_equal(v->rip, 0x123456);
    assert_int_equal(v->rflags, 0x202 | FLAG_NT);
    assert_int_equal(v->gpr[VMM_RAX], 0xaaaa5555);
    assert_int_equal(m->segment[VMM_SEG_TR].selector, NEW);
    assert_int_equal(m->segment[VMM_SEG_CS].selector, CODE);
    assert_int_equal(m->segment[VMM_SEG_FS].attributes & SEGMENT_PRESENT, 0);
    assert_int_equal(m->sysreg[VMM_CR0] & 8, 8);                       /* TS */
    assert_int_equal(m->sysreg[VMM_DR7], DR7_MINE & ~UINT64_C(0x155)); /* local ones are off */
    assert_int_equal(get(OLD_TSS + 32, 4), 0x2007);
    assert_int_equal(get(OLD_TSS + 40, 4), 0x11112222);
    assert_int_equal(get(NEW_TSS, 2), OLD);
    assert_true(busy(OLD) && busy(NEW));
}

static void a_jump_does_not(void **state)
{
    (void)state;
    set(NEW_TSS, 0x7777, 2);
    go(VMM_TASK_JMP);
    assert_int_equal(v->rflags, 0x202);
    assert_int_equal(get(NEW_TSS, 2), 0x7777);
    assert_true(!busy(OLD) && busy(NEW));
}

static void iret_goes_back(void **state)
{
    (void)state;
    v->rflags |= FLAG_NT;
    *guest_entry(f, GDT + NEW) |= (uint64_t)BUSY << 40;
    m->sysreg[VMM_BLOCKING] = VMM_BLOCKED_NMI;
    go(VMM_TASK_IRET);
    assert_false(v->event.valid);
    assert_int_equal(m->sysreg[VMM_BLOCKING], 0);
    assert_int_equal(get(OLD_TSS + 36, 4) & FLAG_NT, 0);
    assert_true(!busy(OLD) && busy(NEW));
}

static void tasks_of_16_bits(void **state)
{
    (void)state;
    make_tss_16();
    set(NEW_TSS + 44, 0xffffffff, 4); /* behind it: not read */
    go(VMM_TASK_CALL);
    assert_false(v->event.valid);
    assert_int_equal(v->rip, 0x3456);
    assert_int_equal(v->gpr[VMM_RAX] & 0xffff, 0x5555);
    assert_int_equal(v->gpr[VMM_RSP] & 0xffff, 0x6000);
    assert_int_equal(m->segment[VMM_SEG_GS].selector, 0);
    assert_int_equal(m->segment[VMM_SEG_TR].attributes, 0x83);
    assert_int_equal(get(NEW_TSS, 2), OLD);
    assert_int_equal(get(OLD_TSS + 32, 4), 0x2007);

    /* And away from one: its 16-bit fields, no more. */
    teardown(NULL);
    setup(NULL);
    m->segment[VMM_SEG_TR].attributes = 0x83;
    m->segment[VMM_SEG_TR].limit = 43;
    m->segment[VMM_SEG_DS].selector = DATA;
    set(OLD_TSS + 42, 0x1234, 2); /* LDT stays */
    go(VMM_TASK_CALL);
    assert_int_equal(v->rip, 0x123456);
    assert_int_equal(get(OLD_TSS + 14, 2), 0x2007);
    assert_int_equal(get(OLD_TSS + 18, 2), 0x2222);
    assert_int_equal(get(OLD_TSS + 40, 2), DATA);
    assert_int_equal(get(OLD_TSS + 42, 2), 0x1234);
}

static void came(uint8_t type, uint8_t vector, bool has_error, uint32_t error)
{
    v->event = (struct vmm_event){
        .valid = true, .type = type, .vector = vector, .has_error = has_error, .error = error};
    go(VMM_TASK_GATE);
}

static void error_codes_are_pushed(void **state)
{
    (void)state;
    came(VMM_EVENT_EXCEPTION, X86_NP, true, 0x1234);
    assert_false(v->event.valid);
    assert_int_equal(v->gpr[VMM_RSP], 0x5ffc);
    assert_int_equal(get(0x5ffc, 4), 0x1234);
    assert_int_equal(get(OLD_TSS + 32, 4), 0x2000); /* the instruction runs again */

    teardown(NULL);
    setup(NULL);
    make_tss_16();
    set(NEW_TSS + 38, SMALL, 2);
    set(NEW_TSS + 26, 0x800, 2);
    came(VMM_EVENT_EXCEPTION, X86_NP, true, 0x1234);
    assert_int_equal(v->gpr[VMM_RSP] & 0xffff, 0x7fe); /* two bytes */
    assert_int_equal(get(0x7fe, 2), 0x1234);

    /* No room: the fault is the new task's, and with this one it is a double fault. */
    teardown(NULL);
    setup(NULL);
    set(NEW_TSS + 80, SMALL, 2);
    set(NEW_TSS + 56, 0x2000, 4);
    came(VMM_EVENT_EXCEPTION, X86_NP, true, 0x1234);
    expect_fault(X86_DF, 0, true);
}

static void int_has_no_error_code(void **state)
{
    (void)state;
    v->event = (struct vmm_event){.has_error = true, .error = 0x1234}; /* an earlier exception's */
    go(VMM_TASK_GATE);
    assert_int_equal(v->gpr[VMM_RSP], 0x6000);
    assert_false(v->event.valid);
}

static void nmis_block_nmis(void **state)
{
    (void)state;
    came(VMM_EVENT_NMI, 2, false, 0);
    assert_false(v->event.valid);
    assert_int_equal(m->sysreg[VMM_BLOCKING], VMM_BLOCKED_NMI);
}

static void the_trap_bit(void **state)
{
    (void)state;
    set(NEW_TSS + 100, 1, 2);
    go(VMM_TASK_JMP);
    assert_true(v->event.valid);
    assert_int_equal(v->event.vector, X86_DB);
    assert_int_equal(m->sysreg[VMM_DR6] & DR6_BT, DR6_BT);
    assert_int_equal(v->rip, 0x123456);
}

static void tasks_in_v86_mode(void **state)
{
    (void)state;
    set(NEW_TSS + 36, FLAG_VM | 2, 4);
    set(NEW_TSS + 32, 0x100, 4);
    set(NEW_TSS + 76, 0x1234, 2);
    go(VMM_TASK_JMP);
    assert_false(v->event.valid);
    assert_int_equal(m->segment[VMM_SEG_CS].base, 0x12340);
    assert_int_equal(m->segment[VMM_SEG_CS].limit, 0xffff);
    assert_int_equal(SEGMENT_DPL(m->segment[VMM_SEG_SS].attributes), 3);
}

static void faults_in_the_old_task(void **state)
{
    (void)state;
    m->segment[VMM_SEG_TR].limit = 94; /* its own state has no room */
    go(VMM_TASK_CALL);
    expect_fault(X86_TS, OLD, false);
    assert_false(busy(NEW));
    v->event.valid = false;
    m->segment[VMM_SEG_TR].limit = 103;
    *guest_entry(f, GDT + NEW) = tss_descriptor(NEW_TSS, 103, TSS_32 | BUSY);
    go(VMM_TASK_JMP);
    expect_fault(X86_GP, NEW, false);
    v->event.valid = false;
    make_tss_32();
    go(VMM_TASK_IRET);
    expect_fault(X86_TS, NEW, false);
    /* Of an external event the error code says so. */
    make_tss_16();
    *guest_entry(f, GDT + NEW) = tss_descriptor(NEW_TSS, 42, TSS_16);
    came(VMM_EVENT_INTR, 0x30, false, 0);
    expect_fault(X86_TS, NEW | 1, false);
}

static void in_new_task(uint32_t at, uint32_t value, uint8_t vector, uint32_t error)
{
    teardown(NULL);
    setup(NULL);
    set(NEW_TSS + at, value, 2);
    go(VMM_TASK_CALL);
    expect_fault(vector, error, true);
    assert_true(busy(NEW));
}

static void faults_in_the_new_task(void **state)
{
    (void)state;
    in_new_task(96, DATA, X86_TS, DATA); /* LDT */
    in_new_task(96, 4, X86_TS, 4);
    in_new_task(80, 0, X86_TS, 0); /* SS */
    in_new_task(80, DATA | 3, X86_TS, DATA);
    in_new_task(80, CODE, X86_TS, CODE);
    in_new_task(76, 0, X86_TS, 0); /* CS */
    in_new_task(76, DATA, X86_TS, DATA);
    assert_int_equal(m->segment[VMM_SEG_SS].selector, DATA); /* a stack for the handler is there */
    assert_int_equal(m->segment[VMM_SEG_SS].attributes, 0xc93);
    in_new_task(84, NEW, X86_TS, NEW);   /* DS */
    in_new_task(88, 0x30, X86_TS, 0x30); /* FS */
}

/* A TSS or a table in ROM keeps its bytes. */
static void rom_keeps_its_bytes(void **state)
{
    uint64_t rom = VMM_MIB(16);
    uint8_t *bytes;

    (void)state;
    assert_int_equal(vmm_memory_add(f->vm, VMM_GPA(rom), 0x1000, VMM_REGION_ROM), 0);
    bytes = vmm_memory_ptr_write(f->vm, VMM_GPA(rom), 0x1000);
    memset(bytes, 0, 0x1000);
    m->segment[VMM_SEG_TR].base = rom;
    go(VMM_TASK_CALL);
    assert_false(v->event.valid);
    assert_int_equal(bytes[33], 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_call_nests),           TEST(a_jump_does_not),        TEST(iret_goes_back),
        TEST(tasks_of_16_bits),       TEST(error_codes_are_pushed), TEST(int_has_no_error_code),
        TEST(nmis_block_nmis),        TEST(the_trap_bit),           TEST(tasks_in_v86_mode),
        TEST(faults_in_the_old_task), TEST(faults_in_the_new_task), TEST(rom_keeps_its_bytes),
    };

    return cmocka_run_group_tests_name("task_switch", tests, NULL, NULL);
}
