/* Guest page walks over tables of any content, in every paging mode. A remembered walk must say
 * what a new one says, and what is read through it be what memory holds. */
#include <string.h>
#include "core/emulate.h"
#include "fuzz.h"
#include "guest_cpu.h"

#define STEPS_MAX 300
#define PAGES     16 /* of tables and data, at the bottom of RAM */
#define RAM       VMM_MIB(1)

static void set_mode(struct fixture *f, struct fuzz_bytes *b)
{
    static const uint64_t cr4_bit_table[] = {1 << 4, 1 << 5, 1 << 12, 1 << 20, 1 << 21};
    struct mock_vcpu *m = mock_vcpu(f->vcpu);
    uint8_t how = fuzz_byte(b), more = fuzz_byte(b);

    m->sysreg[VMM_CR4] = 0;
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(cr4_bit_table); i++) {
        m->sysreg[VMM_CR4] |= (how >> i & 1) != 0 ? cr4_bit_table[i] : 0;
    }
    m->sysreg[VMM_EFER] = (more & 1) != 0 ? 0x800 : 0;
    if ((how & 2) != 0 && (more & 2) != 0) { /* PAE: long mode, too */
        m->sysreg[VMM_EFER] |= 0x500;
    }
    m->sysreg[VMM_CR0] = 0x80000011 | ((more & 4) != 0 ? 0x10000 : 0);
    m->sysreg[VMM_CR3] = (more >> 4) * VMM_PAGE_SIZE | (how >> 5) << 3;
    f->vcpu->rflags = 2 | (uint64_t)(more >> 3 & 1) << 18;
}

/* Mostly a table among the others, with any flags; now and then anything. */
static void write_entry(struct fixture *f, struct fuzz_bytes *b)
{
    uint64_t at = fuzz_byte(b) % PAGES * VMM_PAGE_SIZE;
    uint8_t index = fuzz_byte(b), how = fuzz_byte(b);
    uint64_t value = (how >> 4) * VMM_PAGE_SIZE | fuzz_byte(b) | (uint64_t)(how & 8) << 60;

    if ((how & 7) == 7) {
        value = fuzz_number(b, 8);
    }
    at += (how & 7) < 4 ? index % 4 * 8u : index * 4u;
    assert_int_equal(vmm_memory_write(f->vm, VMM_GPA(at), &value, (how & 7) == 6 ? 4 : 8), 0);
}

/* Low indices at every level, up to the top. */
static uint64_t choose_address(struct fuzz_bytes *b)
{
    uint64_t address = fuzz_number(b, 2);
    uint8_t upper = fuzz_byte(b);

    for (unsigned level = 1; level < 5; level++) {
        address |= (uint64_t)(upper >> (2 * level - 2) & 3) << (12 + 9 * level);
    }
    return (address & 0x8000) != 0 && upper == 0xff ? ~address : address;
}

/* The first walk sets A and D, which in tables that contain themselves may change the next one. */
static void check_walk(struct vcpu *v, uint64_t at, enum vmm_access access, bool user)
{
    struct vmm_walk_fault fault = {.error = 0}, again = {.error = 0};
    gpa_t first = VMM_GPA(0), second = VMM_GPA(0);
    int result = guest_walk(v, VMM_GVA(at), access, user, &first, &fault);

    assert_true(result == 0 || result == -VMM_EFAULT);
    result = guest_walk(v, VMM_GVA(at), access, user, &first, &fault);
    vmm_decode_flush(v);
    assert_int_equal(guest_walk(v, VMM_GVA(at), access, user, &second, &again), result);
    if (result == 0) {
        assert_int_equal(first.v, second.v);
        assert_int_equal(first.v % VMM_PAGE_SIZE, at % VMM_PAGE_SIZE);
    } else {
        assert_int_equal(fault.error, again.error);
        assert_int_equal(fault.error >> 2 & 1, user);
        assert_int_equal(fault.error >> 1 & 1, access == VMM_ACCESS_WRITE);
    }
}

static void check_read(struct fixture *f, uint64_t at, unsigned length)
{
    uint8_t linear[64], physical[64];
    struct vmm_walk_fault fault;
    gpa_t gpa;

    length = length % (unsigned)sizeof(linear) + 1;
    if (at % VMM_PAGE_SIZE + length > VMM_PAGE_SIZE ||
        vmm_linear_read(f->vcpu, VMM_GVA(at), linear, length, VMM_ACCESS_READ, &fault) != 0 ||
        guest_walk(f->vcpu, VMM_GVA(at), VMM_ACCESS_READ, f->vcpu->backend->cpl(f->vcpu) == 3, &gpa,
                   &fault) != 0) {
        return;
    }
    assert_int_equal(vmm_memory_read(f->vm, gpa, physical, length), 0);
    assert_memory_equal(linear, physical, length);
}

static void step(struct fixture *f, struct fuzz_bytes *b)
{
    uint8_t op = fuzz_byte(b);
    struct vmm_walk_fault fault;
    uint8_t bytes[64];

    switch (op & 7) {
    case 0:
        set_mode(f, b);
        break;
    case 1 ... 3:
        write_entry(f, b);
        break;
    case 4 ... 5:
        check_walk(f->vcpu, choose_address(b), (enum vmm_access)((op >> 3 & 3) % 3), op >= 0x80);
        break;
    case 6:
        guest_set_cpl(f, op >= 0x80 ? 3 : 0);
        check_read(f, choose_address(b), fuzz_byte(b));
        break;
    default:
        memset(bytes, op, sizeof(bytes));
        (void)!vmm_linear_write(f->vcpu, VMM_GVA(choose_address(b)), bytes,
                                fuzz_byte(b) % sizeof(bytes) + 1, &fault);
        break;
    }
}

void fuzz_walk(const uint8_t *data, size_t size)
{
    struct fuzz_bytes b = {data, data + size};
    struct fixture *f = fixture_create(RAM, 1);

    guest_set_mode(f, GUEST_PROTECTED_32);
    for (unsigned i = 0; i < STEPS_MAX && b.at < b.end; i++) {
        step(f, &b);
    }
    fixture_destroy(f);
}
