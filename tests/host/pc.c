#include "pc.h"

#include <stdlib.h>
#include <string.h>
#include "core/bus.h"

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

struct memory_stream {
    struct vdev_stream stream;
    uint8_t *bytes;
    size_t at, length; /* length: where it ends for a reader */
};

static int stream_write(struct vdev_stream *s, void *bytes, size_t count)
{
    struct memory_stream *m = VMM_CONTAINER_OF(s, struct memory_stream, stream);

    m->bytes = realloc(m->bytes, m->at + count);
    assert_non_null(m->bytes);
    memcpy(m->bytes + m->at, bytes, count);
    m->at += count;
    return 0;
}

static int stream_read(struct vdev_stream *s, void *bytes, size_t count)
{
    struct memory_stream *m = VMM_CONTAINER_OF(s, struct memory_stream, stream);

    if (count > m->length - m->at) {
        return -VMM_EIO;
    }
    memcpy(bytes, m->bytes + m->at, count);
    m->at += count;
    return 0;
}

static struct memory_stream save(struct fixture *f)
{
    struct memory_stream m = {.stream.transfer = stream_write};

    assert_int_equal(vmm_devices_save(f->vm, &m.stream), 0);
    return m;
}

static int load(struct fixture *f, const struct memory_stream *from, size_t length)
{
    struct memory_stream m = {
        .stream.transfer = stream_read, .bytes = from->bytes, .length = length};

    return vmm_devices_load(f->vm, &m.stream);
}

void pc_copy_devices(struct fixture *from, struct fixture *to)
{
    struct memory_stream saved = save(from);

    assert_int_equal(load(to, &saved, saved.at), 0);
    free(saved.bytes);
}

void pc_check_save(struct fixture *f)
{
    struct fixture *second = pc_create(f->vm->vcpu_count);
    struct memory_stream saved, again;

    posix_host_advance_ns(second->host, posix_host_now_ns(f->host));
    saved = save(f);
    assert_int_equal(load(second, &saved, saved.at), 0);
    again = save(second);
    assert_int_equal(saved.at, again.at);
    assert_memory_equal(saved.bytes, again.bytes, saved.at);
    for (size_t cut = 0; cut < saved.at; cut += 1 + saved.at / 61) {
        assert_int_not_equal(load(second, &saved, cut), 0);
    }
    saved.bytes[12] ^= 1; /* in the name of the first device */
    assert_int_equal(load(second, &saved, saved.at), -VMM_EINVAL);
    free(saved.bytes);
    free(again.bytes);
    fixture_destroy(second);
}
