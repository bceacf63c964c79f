/* Guest page walks: each paging mode, each right, A and D, faults and their error codes. */
#include "guest_cpu.h"

#define RAM       VMM_MIB(8)
#define CR0_WP    (UINT64_C(1) << 16)
#define CR4_PSE   (UINT64_C(1) << 4)
#define CR4_PAE   (UINT64_C(1) << 5)
#define CR4_LA57  (UINT64_C(1) << 12)
#define CR4_SMEP  (UINT64_C(1) << 20)
#define CR4_SMAP  (UINT64_C(1) << 21)
#define EFER_LMA  UINT64_C(0x500)
#define EFER_NXE  (UINT64_C(1) << 11)
#define NX        (UINT64_C(1) << 63)
#define RFLAGS_AC (UINT64_C(1) << 18)

/* Error code bits. */
#define P    1
#define W    2
#define U    4
#define RSVD 8
#define ID   16

static int setup(void **state)
{
    *state = fixture_create(RAM, 1);
    return 0;
}

static int teardown(void **state)
{
    fixture_destroy(*state);
    return 0;
}

static void set_paging(struct fixture *f, uint64_t cr3, uint64_t cr4, uint64_t efer)
{
    uint64_t *sysreg = mock_vcpu(f->vcpu)->sysreg;

    sysreg[VMM_CR0] = 0x80000011;
    sysreg[VMM_CR3] = cr3;
    sysreg[VMM_CR4] = cr4;
    sysreg[VMM_EFER] = efer;
    vmm_decode_flush(f->vcpu);
}

static void expect_ok(struct fixture *f, uint64_t gva, enum vmm_access access, bool user,
                      uint64_t gpa)
{
    struct vmm_walk_fault fault;
    gpa_t out = {0};

    /* Twice: once by walking, once from what was remembered. */
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(guest_walk(f->vcpu, VMM_GVA(gva), access, user, &out, &fault), 0);
        assert_int_equal(out.v, gpa);
    }
}

static void expect_fault(struct fixture *f, uint64_t gva, enum vmm_access access, bool user,
                         uint32_t error)
{
    struct vmm_walk_fault fault = {.error = ~0U};
    gpa_t out;

    assert_int_equal(guest_walk(f->vcpu, VMM_GVA(gva), access, user, &out, &fault), -VMM_EFAULT);
    assert_int_equal(fault.error, error);
    assert_int_equal(fault.address.v, gva);
}

#define READ  VMM_ACCESS_READ
#define WRITE VMM_ACCESS_WRITE
#define FETCH VMM_ACCESS_FETCH

static void no_paging(void **state)
{
    struct fixture *f = *state;

    guest_set_mode(f, GUEST_PROTECTED_32);
    expect_ok(f, 0x12345, READ, false, 0x12345);
    expect_ok(f, 0xfee00020, WRITE, true, 0xfee00020);
    expect_ok(f, UINT64_C(0x100000010), READ, false, 0x10); /* wraps at 4 GiB */
}

static void two_levels(void **state)
{
    struct fixture *f = *state;
    uint32_t *pd = vmm_memory_ptr_write(f->vm, VMM_GPA(0x10000), 4096);
    uint32_t *pt = vmm_memory_ptr_write(f->vm, VMM_GPA(0x11000), 4096);

    set_paging(f, 0x10000, 0, 0);
    pd[1] = 0x11000 | 7;
    pt[2] = 0x33000 | 7;
    pt[3] = 0x34000 | 5; /* read-only, user */
    pt[4] = 0x35000 | 3; /* supervisor */
    expect_ok(f, 0x402abc, READ, true, 0x33abc);
    assert_int_equal(pd[1], 0x11000 | 0x27);
    assert_int_equal(pt[2], 0x33000 | 0x27);
    expect_ok(f, 0x402abc, WRITE, true, 0x33abc);
    assert_int_equal(pt[2], 0x33000 | 0x67);
    assert_int_equal(pd[1], 0x11000 | 0x27); /* D is the leaf's */
    expect_fault(f, 0x403000, WRITE, true, P | W | U);
    assert_int_equal(pt[3], 0x34000 | 5); /* a refused access marks nothing */
    expect_ok(f, 0x403000, WRITE, false, 0x34000);
    mock_vcpu(f->vcpu)->sysreg[VMM_CR0] |= CR0_WP;
    expect_fault(f, 0x403000, WRITE, false, P | W);
    expect_fault(f, 0x404000, READ, true, P | U);
    expect_ok(f, 0x404000, FETCH, false, 0x35000);
    expect_fault(f, 0x405000, READ, false, 0);
    expect_fault(f, 0x800000, WRITE, true, W | U);
}

static void large_pages_of_two_levels(void **state)
{
    struct fixture *f = *state;
    uint32_t *pd = vmm_memory_ptr_write(f->vm, VMM_GPA(0x10000), 4096);

    pd[1] = 0x00400000 | 0x83;
    pd[2] = 0x00800000 | 0x83 | 3U << 13; /* PSE-36: bits 33:32 */
    pd[3] = 0x00c00000 | 0x83 | 1U << 21;
    set_paging(f, 0x10000, CR4_PSE, 0);
    expect_ok(f, 0x7ff123, WRITE, false, 0x7ff123);
    assert_int_equal(pd[1], 0x00400000 | 0xe3);
    expect_ok(f, 0x812345, READ, false, UINT64_C(0x300812345));
    expect_fault(f, 0xc00000, READ, false, P | RSVD);
    /* Without CR4.PSE the bit means nothing: the entry points to a table. */
    pd[4] = 0x11000 | 0x83;
    *(uint32_t *)vmm_memory_ptr(f->vm, VMM_GPA(0x11000), 4) = 0x55000 | 3;
    set_paging(f, 0x10000, 0, 0);
    expect_ok(f, 0x1000004, READ, false, 0x55004);
}

/* What is written to ROM vanishes, and the access goes on. */
static void tables_in_rom_stay_as_they_are(void **state)
{
    struct fixture *f = *state;
    const uint32_t pd[2] = {0x10001003, 0}, pt[2] = {0x20003, 0x21003};
    uint32_t seen;

    assert_int_equal(vmm_memory_add(f->vm, VMM_GPA(0x10000000), 0x2000, VMM_REGION_ROM), 0);
    assert_int_equal(vmm_memory_write(f->vm, VMM_GPA(0x10000000), pd, sizeof(pd)), 0);
    assert_int_equal(vmm_memory_write(f->vm, VMM_GPA(0x10001000), pt, sizeof(pt)), 0);
    set_paging(f, 0x10000000, 0, 0);
    expect_ok(f, 0x5, READ, false, 0x20005);
    expect_ok(f, 0x1005, WRITE, false, 0x21005);
    expect_ok(f, 0x1005, READ, false, 0x21005);
    assert_int_equal(vmm_memory_read(f->vm, VMM_GPA(0x10000000), &seen, 4), 0);
    assert_int_equal(seen, pd[0]);
    assert_int_equal(vmm_memory_read(f->vm, VMM_GPA(0x10001004), &seen, 4), 0);
    assert_int_equal(seen, pt[1]);
}

static void pae(void **state)
{
    struct fixture *f = *state;

    *guest_entry(f, 0x10020) = 0x11000 | 1; /* the directory pointers need only 32-byte alignment */
    *guest_entry(f, 0x10028) = 0x12000 | 1 | 2; /* R/W is reserved there */
    *guest_entry(f, 0x11000 + 8) = 0x13000 | 7;
    *guest_entry(f, 0x11000 + 16) = 0x00200000 | 0x87;
    *guest_entry(f, 0x13000 + 8) = UINT64_C(0x1234567000) | 7;
    *guest_entry(f, 0x13000 + 16) = 0x44000 | 7 | NX;
    set_paging(f, 0x10020, CR4_PAE, 0);
    expect_ok(f, 0x201010, READ, true, UINT64_C(0x1234567010));
    expect_ok(f, 0x412345, WRITE, true, 0x212345);
    assert_int_equal(*guest_entry(f, 0x10020), 0x11000 | 1); /* no A bit there */
    *guest_entry(f, 0x10020) |= 0x20;                        /* but by an emulated CPU */
    expect_ok(f, 0x201010, READ, true, UINT64_C(0x1234567010));
    expect_fault(f, 0x40000000, READ, false, P | RSVD);
    expect_fault(f, 0x80000000, READ, false, 0);
    expect_fault(f, 0x202000, READ, false, P | RSVD); /* NX without NXE is reserved */
    set_paging(f, 0x10020, CR4_PAE, EFER_NXE);
    expect_ok(f, 0x202000, READ, true, 0x44000);
    expect_fault(f, 0x202000, FETCH, true, P | U | ID);
}

static void make_four_levels(struct fixture *f)
{
    *guest_entry(f, 0x10000) = 0x11000 | 7;
    *guest_entry(f, 0x11000) = 0x12000 | 7;
    *guest_entry(f, 0x12000) = 0x13000 | 7;
    *guest_entry(f, 0x13000 + 8) = 0x51000 | 7;
    *guest_entry(f, 0x13000 + 16) = 0x52000 | 3;
    *guest_entry(f, 0x13000 + 24) = 0x53000 | 1 | 4;
    *guest_entry(f, 0x13000 + 32) = 0x54000 | 7 | NX;
    *guest_entry(f, 0x12000 + 8) = 0x400000 | 0x87;
    *guest_entry(f, 0x11000 + 8) = 0x40000000 | 0x87;
    set_paging(f, 0x10000, CR4_PAE, EFER_LMA | EFER_NXE);
}

static void four_levels(void **state)
{
    struct fixture *f = *state;

    make_four_levels(f);
    expect_ok(f, 0x1ff8, READ, true, 0x51ff8);
    assert_int_equal(*guest_entry(f, 0x10000), 0x11000 | 0x27);
    assert_int_equal(*guest_entry(f, 0x13000 + 8), 0x51000 | 0x27);
    expect_ok(f, 0x1ff8, WRITE, true, 0x51ff8);
    assert_int_equal(*guest_entry(f, 0x13000 + 8), 0x51000 | 0x67);
    expect_fault(f, 0x2000, READ, true, P | U);
    expect_fault(f, 0x3000, WRITE, true, P | U | W);
    expect_ok(f, 0x3000, WRITE, false, 0x53000); /* WP is off */
    expect_fault(f, 0x4000, FETCH, false, P | ID);
    expect_ok(f, 0x4000, READ, false, 0x54000);
    expect_ok(f, 0x212345, READ, true, 0x412345);
    expect_ok(f, 0x7fffffff, READ, true, 0x7fffffff);
    expect_fault(f, 0x5000, READ, true, U);
    expect_fault(f, UINT64_C(0xffff800000000000), FETCH, false, ID);
}

static void reserved_bits(void **state)
{
    struct fixture *f = *state;

    make_four_levels(f);
    *guest_entry(f, 0x10000) |= 0x80; /* PS in a PML4 entry */
    expect_fault(f, 0x1000, READ, false, P | RSVD);
    *guest_entry(f, 0x10000) &= ~UINT64_C(0x80);
    *guest_entry(f, 0x12000 + 8) |= 1 << 13; /* below a 2 MiB page's address, above PAT */
    expect_fault(f, 0x200000, WRITE, true, P | RSVD | W | U);
    *guest_entry(f, 0x12000 + 8) ^= 1 << 13 | 1 << 12; /* PAT itself is fine */
    expect_ok(f, 0x200000, READ, false, 0x400000);
    *guest_entry(f, 0x11000 + 8) |= 1 << 29;
    expect_fault(f, 0x40000000, READ, false, P | RSVD);
}

static void upper_levels_restrict(void **state)
{
    struct fixture *f = *state;

    make_four_levels(f);
    *guest_entry(f, 0x11000) = 0x12000 | 5;
    expect_fault(f, 0x1000, WRITE, true, P | W | U);
    *guest_entry(f, 0x11000) = 0x12000 | 3;
    expect_fault(f, 0x1000, READ, true, P | U);
    *guest_entry(f, 0x11000) = 0x12000 | 7 | NX;
    expect_fault(f, 0x1000, FETCH, true, P | U | ID);
}

static void five_levels(void **state)
{
    struct fixture *f = *state;

    make_four_levels(f);
    *guest_entry(f, 0x14000 + 8 * 3) = 0x10000 | 7;
    set_paging(f, 0x14000, CR4_PAE | CR4_LA57, EFER_LMA);
    expect_ok(f, (UINT64_C(3) << 48) + 0x1234, READ, true, 0x51234);
    expect_fault(f, 0x1234, READ, true, U);
}

static void smep_and_smap(void **state)
{
    struct fixture *f = *state;
    uint64_t *cr4 = &mock_vcpu(f->vcpu)->sysreg[VMM_CR4];

    make_four_levels(f);
    expect_ok(f, 0x1000, FETCH, false, 0x51000);
    *cr4 |= CR4_SMEP;
    expect_fault(f, 0x1000, FETCH, false, P | ID);
    expect_ok(f, 0x1000, FETCH, true, 0x51000);
    expect_ok(f, 0x2000, FETCH, false, 0x52000);
    *cr4 |= CR4_SMAP;
    expect_fault(f, 0x1000, READ, false, P);
    expect_fault(f, 0x1000, WRITE, false, P | W);
    f->vcpu->rflags |= RFLAGS_AC;
    expect_ok(f, 0x1000, READ, false, 0x51000);
    expect_fault(f, 0x1000, FETCH, false, P | ID); /* AC is for data */
    f->vcpu->rflags &= ~RFLAGS_AC;
    expect_ok(f, 0x2000, READ, false, 0x52000);
    expect_ok(f, 0x1000, READ, true, 0x51000);
}

/* What is remembered must not outlive a change of the tables, flushed by the guest or not. */
static void changed_tables_are_seen(void **state)
{
    struct fixture *f = *state;

    make_four_levels(f);
    expect_ok(f, 0x1000, WRITE, true, 0x51000);
    *guest_entry(f, 0x13000 + 8) = 0x60000 | 7;
    expect_ok(f, 0x1000, READ, true, 0x60000);
    *guest_entry(f, 0x13000 + 8) = 0;
    expect_fault(f, 0x1000, READ, true, U);
    *guest_entry(f, 0x13000 + 8) = 0x51000 | 7;
    expect_ok(f, 0x1000, READ, true, 0x51000);
    /* A cleared D bit comes back with the next write. */
    expect_ok(f, 0x1000, WRITE, true, 0x51000);
    *guest_entry(f, 0x13000 + 8) &= ~UINT64_C(0x60);
    expect_ok(f, 0x1000, WRITE, true, 0x51000);
    assert_int_equal(*guest_entry(f, 0x13000 + 8), 0x51000 | 0x67);
    *guest_entry(f, 0x10000) = 0;
    expect_fault(f, 0x1000, READ, true, U);
}

static void tables_outside_ram(void **state)
{
    struct fixture *f = *state;

    set_paging(f, UINT64_C(0xfee00000), CR4_PAE, EFER_LMA);
    expect_fault(f, 0x1000, READ, false, 0);
}

static void copies_cross_pages(void **state)
{
    struct fixture *f = *state;
    struct vmm_walk_fault fault;
    char text[8] = "abcdefg", back[8] = "";

    make_four_levels(f);
    *guest_entry(f, 0x13000 + 16) = 0x61000 | 7; /* 0x1000 -> 0x51000, 0x2000 -> 0x61000 */
    assert_int_equal(vmm_linear_write(f->vcpu, VMM_GVA(0x1ffd), text, 8, &fault), 0);
    assert_memory_equal(vmm_memory_ptr(f->vm, VMM_GPA(0x51ffd), 3), "abc", 3);
    assert_memory_equal(vmm_memory_ptr(f->vm, VMM_GPA(0x61000), 5), "defg", 5);
    assert_int_equal(vmm_linear_read(f->vcpu, VMM_GVA(0x1ffd), back, 8, READ, &fault), 0);
    assert_string_equal(back, text);

    /* The second page refuses: the first one is not written either. */
    *guest_entry(f, 0x13000 + 16) = 0;
    assert_int_equal(vmm_linear_write(f->vcpu, VMM_GVA(0x1ffd), "ABCDEFG", 8, &fault), -VMM_EFAULT);
    assert_int_equal(fault.address.v, 0x2000);
    assert_int_equal(fault.error, W);
    assert_memory_equal(vmm_memory_ptr(f->vm, VMM_GPA(0x51ffd), 3), "abc", 3);

    *guest_entry(f, 0x13000 + 16) = 0xfee00000 | 7;
    assert_int_equal(vmm_linear_read(f->vcpu, VMM_GVA(0x2000), back, 4, READ, &fault), -VMM_ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(no_paging, setup, teardown),
        cmocka_unit_test_setup_teardown(two_levels, setup, teardown),
        cmocka_unit_test_setup_teardown(large_pages_of_two_levels, setup, teardown),
        cmocka_unit_test_setup_teardown(tables_in_rom_stay_as_they_are, setup, teardown),
        cmocka_unit_test_setup_teardown(pae, setup, teardown),
        cmocka_unit_test_setup_teardown(four_levels, setup, teardown),
        cmocka_unit_test_setup_teardown(reserved_bits, setup, teardown),
        cmocka_unit_test_setup_teardown(upper_levels_restrict, setup, teardown),
        cmocka_unit_test_setup_teardown(five_levels, setup, teardown),
        cmocka_unit_test_setup_teardown(smep_and_smap, setup, teardown),
        cmocka_unit_test_setup_teardown(changed_tables_are_seen, setup, teardown),
        cmocka_unit_test_setup_teardown(tables_outside_ram, setup, teardown),
        cmocka_unit_test_setup_teardown(copies_cross_pages, setup, teardown),
    };

    return cmocka_run_group_tests_name("gwalk", tests, NULL, NULL);
}
