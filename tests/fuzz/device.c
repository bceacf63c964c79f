/* One device each: its ports, its memory, its registers in PCI configuration space, guest memory
 * that it reads, time, what the user types, and its saved state. */
#include <string.h>
#include "core/bus.h"
#include "fuzz.h"
#include "pc.h"

#define STEPS_MAX  2000
#define MSR_X2APIC 0x800
#define PCI_INDEX  0xcf8
#define PCI_DATA   0xcfc
#define RAM_WINDOW 0x4000 /* where queues and buffers may lie */

struct machine {
    struct fixture *f;
    struct vdev *device;
    struct fuzz_bytes bytes;
};

/* The n-th range that the device claims on a bus; NULL: it claims none. */
static const struct vmm_bus_range *range_of(const struct machine *m,
                                            const struct vmm_bus_table *bus, unsigned n)
{
    unsigned count = 0;

    for (unsigned i = 0; i < bus->count; i++) {
        count += bus->range[i].dev == m->device;
    }
    n = count == 0 ? 0 : n % count;
    for (unsigned i = 0; i < bus->count; i++) {
        if (bus->range[i].dev == m->device && n-- == 0) {
            return &bus->range[i];
        }
    }
    return NULL;
}

static void access_port(struct machine *m, uint8_t op)
{
    const struct vmm_bus_range *r = range_of(m, m->f->vm->pio.table, fuzz_byte(&m->bytes));
    unsigned size = 1u << (op >> 4) % 3;

    if (r == NULL) {
        return;
    }
    uint16_t port = (uint16_t)(r->base + fuzz_byte(&m->bytes) % r->length);

    if ((op & 0x80) != 0) {
        fixture_out(m->f, port, size, fuzz_number(&m->bytes, size));
    } else {
        fixture_in(m->f, port, size);
    }
}

static void access_memory(struct machine *m, uint8_t op)
{
    const struct vmm_bus_range *r = range_of(m, m->f->vm->mmio.table, fuzz_byte(&m->bytes));
    unsigned size = 1u << (op >> 4) % 4;

    if (r == NULL) {
        return;
    }
    uint64_t at = r->base + fuzz_number(&m->bytes, 2) % r->length;

    if ((op & 0x80) != 0) {
        fixture_mmio_write(m->f, at, size, fuzz_number(&m->bytes, size));
    } else {
        fixture_mmio_read(m->f, at, size);
    }
}

static void access_msr(struct machine *m, uint8_t op)
{
    uint32_t msr = MSR_X2APIC + fuzz_byte(&m->bytes);
    uint64_t value;

    if ((op & 0x80) != 0) {
        (void)vlapic_msr_write(m->f->vcpu, msr, fuzz_number(&m->bytes, 5));
    } else {
        (void)vlapic_msr_read(m->f->vcpu, msr, &value);
    }
}

/* Any function's configuration: that is where a device on PCI gets its addresses. */
static void access_config(struct machine *m, uint8_t op)
{
    uint32_t slot = fuzz_byte(&m->bytes) % 8, reg = fuzz_byte(&m->bytes);

    fixture_out(m->f, PCI_INDEX, 4, 0x80000000 | slot << 11 | (reg & 0xfc));
    if ((op & 0x80) != 0) {
        fixture_out(m->f, (uint16_t)(PCI_DATA + (reg & 3)), 1, fuzz_byte(&m->bytes));
    } else {
        fixture_in(m->f, PCI_DATA, 4);
    }
}

static void write_ram(struct machine *m)
{
    uint64_t at = fuzz_number(&m->bytes, 2) % RAM_WINDOW;
    uint64_t value = fuzz_number(&m->bytes, 4);

    assert_int_equal(vmm_memory_write(m->f->vm, VMM_GPA(at), &value, 4), 0);
}

static int read_input(struct vdev_stream *s, void *bytes, size_t count)
{
    struct vmm_input {
        struct vdev_stream stream;
        struct fuzz_bytes *bytes;
    } *input = VMM_CONTAINER_OF(s, struct vmm_input, stream);
    uint8_t *out = bytes;

    for (size_t i = 0; i < count; i++) {
        out[i] = fuzz_byte(input->bytes);
    }
    return 0;
}

static void load_state(struct machine *m)
{
    struct {
        struct vdev_stream stream;
        struct fuzz_bytes *bytes;
    } input = {.stream.transfer = read_input, .bytes = &m->bytes};

    if (m->device->class->load(m->device, &input.stream) != 0) {
        m->device->class->reset(m->device); /* as vmm_devices_load() does */
    }
}

static void step(struct machine *m)
{
    uint8_t op = fuzz_byte(&m->bytes);

    switch (op & 15) {
    case 0 ... 4:
        access_port(m, op);
        break;
    case 5 ... 8:
        access_memory(m, op);
        break;
    case 9:
        access_msr(m, op);
        break;
    case 10:
        access_config(m, op);
        break;
    case 11:
        write_ram(m);
        break;
    case 12:
        pc_advance_ns(m->f, fuzz_number(&m->bytes, 3) << (op >> 4));
        break;
    case 13:
        pc_serve(m->f, m->f->vcpu);
        break;
    case 14:
        if ((op & 0x80) != 0) {
            posix_host_break(m->f->host, "test");
        } else {
            char c = (char)fuzz_byte(&m->bytes);

            posix_host_type(m->f->host, "test", &c, 1);
        }
        break;
    default:
        if ((op & 0x80) != 0) {
            load_state(m);
        } else {
            m->device->class->reset(m->device);
        }
        break;
    }
}

static void fuzz_device(const char *name, const uint8_t *data, size_t size)
{
    struct machine m = {.f = pc_create(2), .bytes = {data, data + size}};

    m.device = m.f->vm->devices;
    while (m.device != NULL && strcmp(m.device->class->name, name) != 0) {
        m.device = m.device->next;
    }
    assert_non_null(m.device);
    for (unsigned i = 0; i < STEPS_MAX && m.bytes.at < m.bytes.end; i++) {
        step(&m);
    }
    fixture_destroy(m.f);
}

#define X(name)                                                                                    \
    void fuzz_##name(const uint8_t *data, size_t size)                                             \
    {                                                                                              \
        fuzz_device(#name, data, size);                                                            \
    }
FUZZ_DEVICES(X)
#undef X
