#include "pc.h"

#include <stdlib.h>
#include <string.h>
#include "core/bus.h"
#include "tape.h"

#define SAVED_MAX VMM_KIB(64) /* of all devices */

struct fixture *pc_create(unsigned vcpu_count)
{
    struct fixture *f = fixture_create(PC_RAM, vcpu_count);

    assert_int_equal(vmm_platform_create(f->vm), 0);
    return f;
}

void pc_settle(struct fixture *f)
{
    for (unsigned i = 0; i < f->vm->vcpu_count; i++) {
        struct vcpu *v = f->vm->vcpu[i];

        while ((__atomic_fetch_and(&v->requests, ~VMM_REQ_TIMER, __ATOMIC_SEQ_CST) &
                VMM_REQ_TIMER) != 0) {
            vmm_timers_run(v);
        }
    }
}

void pc_advance_ns(struct fixture *f, uint64_t ns)
{
    pc_settle(f);
    fixture_advance_ns(f, ns);
    pc_settle(f);
}

int pc_take(struct vcpu *v)
{
    int pending = vmm_irq_pending(v);

    return pending >= 0 ? vmm_irq_acknowledge(v) : -1;
}

int pc_serve(struct fixture *f, struct vcpu *v)
{
    bool external = vmm_irq_is_external(v);
    int vector = pc_take(v);

    if (vector >= 0 && external) {
        if (vector >= 0x28 && vector < 0x30) {
            fixture_out(f, 0xa0, 1, 0x20);
        }
        fixture_out(f, 0x20, 1, 0x20);
    } else if (vector >= 0) {
        struct vcpu *old = f->vcpu;

        f->vcpu = v;
        fixture_mmio_write(f, PLATFORM_LAPIC_BASE + 0xb0, 4, 0);
        f->vcpu = old;
    }
    return vector;
}

unsigned pc_takers(struct fixture *f, int vector)
{
    unsigned set_bits = 0;

    for (unsigned i = 0; i < f->vm->vcpu_count; i++) {
        int taken = pc_serve(f, f->vm->vcpu[i]);

        assert_true(taken == -1 || taken == vector);
        set_bits |= (unsigned)(taken >= 0) << i;
    }
    return set_bits;
}

void pc_init_pics(struct fixture *f)
{
    for (unsigned i = 0; i < 2; i++) {
        uint16_t port = i == 0 ? 0x20 : 0xa0;

        fixture_out(f, port, 1, 0x11);
        fixture_out(f, port + 1, 1, i == 0 ? 0x20 : 0x28);
        fixture_out(f, port + 1, 1, i == 0 ? 0x04 : 0x02);
        fixture_out(f, port + 1, 1, 0x01);
        fixture_out(f, port + 1, 1, 0x00);
    }
}

void pc_route(struct fixture *f, unsigned pin, uint64_t entry)
{
    fixture_mmio_write(f, PLATFORM_IOAPIC_BASE, 4, 0x11 + 2 * pin);
    fixture_mmio_write(f, PLATFORM_IOAPIC_BASE + 0x10, 4, entry >> 32);
    fixture_mmio_write(f, PLATFORM_IOAPIC_BASE, 4, 0x10 + 2 * pin);
    fixture_mmio_write(f, PLATFORM_IOAPIC_BASE + 0x10, 4, entry & UINT32_MAX);
}

/* --- random accesses -------------------------------------------------------------------------- */

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static uint64_t random_value(uint64_t *state)
{
    static const uint64_t corner_table[] = {0, 1, 2, 0x7f, 0x80, 0xff, 0x100, 0xffff, UINT32_MAX};
    uint64_t r = random_next(state);

    return r % 4 == 0 ? corner_table[(r >> 8) % VMM_ARRAY_COUNT(corner_table)] : r >> 8;
}

/* A guest that handles its interrupts, most of the time. */
static void random_events(struct fixture *f, uint64_t *state)
{
    uint64_t r = random_next(state);

    if (r % 4 == 0) {
        pc_advance_ns(f, random_next(state) % (r % 64 == 0 ? 3000000000 : 300000));
    }
    for (unsigned i = 0; r % 3 == 0 && i < f->vm->vcpu_count; i++) {
        pc_serve(f, f->vm->vcpu[i]);
    }
    f->vcpu = f->vm->vcpu[(r >> 16) % f->vm->vcpu_count];
}

void pc_fuzz_ports(struct fixture *f, uint16_t base, unsigned length, unsigned rounds)
{
    uint64_t state = base + 0x9e3779b97f4a7c15;

    for (unsigned i = 0; i < rounds; i++) {
        uint64_t r = random_next(&state);
        uint16_t port = (uint16_t)(base + r % length);
        unsigned size = 1u << ((r >> 32) % 8 < 5 ? 0 : (r >> 36) % 3);

        if ((r >> 40) % 3 == 0) {
            fixture_in(f, port, size);
        } else {
            fixture_out(f, port, size, random_value(&state));
        }
        random_events(f, &state);
    }
}

void pc_fuzz_mmio(struct fixture *f, uint64_t base, unsigned length, unsigned rounds)
{
    uint64_t state = base + 0x9e3779b97f4a7c15;

    for (unsigned i = 0; i < rounds; i++) {
        uint64_t r = random_next(&state);
        uint64_t offset = r % length;
        unsigned size = 1u << ((r >> 36) % 4);

        if ((r >> 32) % 8 != 0) { /* mostly as registers are meant to be accessed */
            offset &= ~UINT64_C(15);
            size = 4;
        }
        if ((r >> 40) % 3 == 0) {
            fixture_mmio_read(f, base + offset, size);
        } else {
            fixture_mmio_write(f, base + offset, size, random_value(&state));
        }
        random_events(f, &state);
    }
}

/* --- saving ----------------------------------------------------------------------------------- */

static void save(struct fixture *f, struct tape *to)
{
    assert_int_equal(vmm_devices_save(f->vm, tape_record(to)), 0);
}

static int load(struct fixture *f, struct tape *from)
{
    return vmm_devices_load(f->vm, tape_play(from));
}

void pc_copy_devices(struct fixture *from, struct fixture *to)
{
    struct tape saved = tape_create(SAVED_MAX);

    save(from, &saved);
    assert_int_equal(load(to, &saved), 0);
    free(saved.bytes);
}

void pc_check_save(struct fixture *f)
{
    struct fixture *second = pc_create(f->vm->vcpu_count);
    struct tape saved = tape_create(SAVED_MAX), again = tape_create(SAVED_MAX);
    size_t whole;

    posix_host_advance_ns(second->host, posix_host_now_ns(f->host));
    save(f, &saved);
    assert_int_equal(load(second, &saved), 0);
    save(second, &again);
    assert_int_equal(saved.length, again.length);
    assert_memory_equal(saved.bytes, again.bytes, saved.length);
    whole = saved.length;
    for (saved.length = 0; saved.length < whole; saved.length += 1 + whole / 61) {
        assert_int_not_equal(load(second, &saved), 0);
    }
    saved.length = whole;
    saved.bytes[12] ^= 1; /* in the name of the first device */
    assert_int_equal(load(second, &saved), -VMM_EINVAL);
    free(saved.bytes);
    free(again.bytes);
    fixture_destroy(second);
}
