/* One device each: its ports, its memory, its registers in PCI configuration space, guest memory
 * that it reads, time, what the user types, and its saved state. */
#include <string.h>
#include "core/bus.h"
#include "core/lapic_page.h"
#include "fuzz.h"
#include "pc.h"
#include "pci_board.h"

#define STEPS_MAX  2000
#define MSR_X2APIC 0x800
#define PCI_INDEX  0xcf8
#define PCI_DATA   0xcfc
#define PCI_SLOTS  16
#define PCI_WINDOW UINT64_C(0xe0000000) /* memory of PCI functions, 1 MiB for each slot */
#define RAM_WINDOW 0x4000               /* where queues and buffers may lie */

/* The common structure of a virtio function: VIRTIO 1.2 section 4.1.4.3. */
#define VIRTIO_FEATURE_SELECT 0x08
#define VIRTIO_FEATURE        0x0c
#define VIRTIO_STATUS         0x14
#define VIRTIO_QUEUE_SELECT   0x16
#define VIRTIO_QUEUE_SIZE     0x18
#define VIRTIO_QUEUE_ENABLE   0x1c
#define VIRTIO_QUEUE_DESC     0x20
#define VIRTIO_QUEUE_DRIVER   0x28
#define VIRTIO_QUEUE_DEVICE   0x30

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

/* The LAPIC's page as a back end lends it to hardware, with anything in it when it comes back. */
static void lend_page(struct machine *m)
{
    static _Alignas(8) uint8_t page[VMM_PAGE_SIZE];
    struct vcpu *v = m->f->vcpu;
    struct vlapic_given given;
    unsigned at;

    memset(page, 0, sizeof(page));
    if (vlapic_give(v, page, &given)) {
        vlapic_give_levels(page, given.level);
    }
    for (unsigned i = 0; i < 4; i++) {
        uint32_t value = (uint32_t)fuzz_number(&m->bytes, 4);

        at = fuzz_byte(&m->bytes) % 0x40 * 16u;
        memcpy(page + at, &value, sizeof(value));
    }
    vlapic_follow_tpr(vlapic_of(v), page);
    vlapic_take_back(v, page);
    at = fuzz_byte(&m->bytes) % 0x40 * 16u;
    vlapic_page_written(v, at, fuzz_number(&m->bytes, 8));
}

static void access_msr(struct machine *m, uint8_t op)
{
    if ((op & 0x40) != 0) {
        lend_page(m);
        return;
    }

    uint32_t msr = MSR_X2APIC + fuzz_byte(&m->bytes);
    uint64_t value;

    if ((op & 0x80) != 0) {
        (void)vlapic_msr_write(m->f->vcpu, msr, fuzz_number(&m->bytes, 5));
    } else {
        (void)vlapic_msr_read(m->f->vcpu, msr, &value);
    }
}

static void config_write(struct fixture *f, uint32_t slot, uint32_t reg, unsigned size,
                         uint32_t value)
{
    fixture_out(f, PCI_INDEX, 4, 0x80000000 | slot << 11 | (reg & 0xfc));
    fixture_out(f, (uint16_t)(PCI_DATA + (reg & 3)), size, value);
}

/* What firmware does: every function's ranges are in a window of its own, and it may reach memory.
 */
static void enable_functions(struct fixture *f)
{
    for (uint32_t slot = 1; slot < PCI_SLOTS; slot++) {
        for (uint32_t bar = 0; bar < VPCI_BARS; bar++) {
            config_write(f, slot, 0x10 + 4 * bar, 4,
                         (uint32_t)(PCI_WINDOW + ((uint64_t)slot << 20) + (bar << 16)));
        }
        config_write(f, slot, 0x04, 2, 7);
    }
}

/* What a driver does to the first queues of a function that is taken for a virtio one; the rings
 * lie one behind the other and are the input's to fill. */
static void start_virtio(struct machine *m)
{
    const struct vmm_bus_range *r = range_of(m, m->f->vm->mmio.table, 0);
    uint8_t how = fuzz_byte(&m->bytes);
    uint64_t ring = (uint64_t)(how & 7) << 8;

    if (r == NULL) {
        return;
    }
    fixture_mmio_write(m->f, r->base + VIRTIO_STATUS, 1, 0);
    for (uint32_t i = 0; i < 2; i++) {
        fixture_mmio_write(m->f, r->base + VIRTIO_FEATURE_SELECT, 4, i);
        fixture_mmio_write(m->f, r->base + VIRTIO_FEATURE, 4, i);
    }
    fixture_mmio_write(m->f, r->base + VIRTIO_STATUS, 1, 0xb);
    for (uint16_t queue = 0; queue < 3; queue++, ring += 0x400) {
        fixture_mmio_write(m->f, r->base + VIRTIO_QUEUE_SELECT, 2, queue);
        fixture_mmio_write(m->f, r->base + VIRTIO_QUEUE_SIZE, 2, 8);
        fixture_mmio_write(m->f, r->base + VIRTIO_QUEUE_DESC, 4, ring);
        fixture_mmio_write(m->f, r->base + VIRTIO_QUEUE_DRIVER, 4, ring + 0x100);
        fixture_mmio_write(m->f, r->base + VIRTIO_QUEUE_DEVICE, 4, ring + 0x200);
        fixture_mmio_write(m->f, r->base + VIRTIO_QUEUE_ENABLE, 2, 1);
    }
    fixture_mmio_write(m->f, r->base + VIRTIO_STATUS, 1, 0xf);
}

/* A buffer in one of the rings that start_virtio() made, and its place in the ring. */
static void offer_buffer(struct machine *m)
{
    uint8_t how = fuzz_byte(&m->bytes);
    uint64_t ring = (uint64_t)(how & 7) << 8 | (uint64_t)(how >> 3 & 3) * 0x400;
    struct {
        uint64_t gpa;
        uint32_t length;
        uint16_t flags, next;
    } descriptor = {
        .gpa = fuzz_number(&m->bytes, 2) % RAM_WINDOW,
        .length = (uint32_t)fuzz_number(&m->bytes, 2),
        .flags = fuzz_byte(&m->bytes) & 7,
        .next = fuzz_byte(&m->bytes),
    };
    uint16_t head = descriptor.next % 9, index = fuzz_byte(&m->bytes) & 15;

    (void)!vmm_memory_write(m->f->vm, VMM_GPA(ring + head * 16u), &descriptor, 16);
    (void)!vmm_memory_write(m->f->vm, VMM_GPA(ring + 0x104 + (index & 7) * 2u), &head, 2);
    index++;
    (void)!vmm_memory_write(m->f->vm, VMM_GPA(ring + 0x102), &index, 2);
}

/* Any function's configuration: that is where a device on PCI gets its addresses. */
static void access_config(struct machine *m, uint8_t op)
{
    uint32_t slot = fuzz_byte(&m->bytes) % PCI_SLOTS, reg = fuzz_byte(&m->bytes);

    if ((op & 0x80) != 0) {
        unsigned size = 1u << (op >> 4) % 3;

        config_write(m->f, slot, reg & ~(size - 1), size, (uint32_t)fuzz_number(&m->bytes, size));
    } else {
        fixture_out(m->f, PCI_INDEX, 4, 0x80000000 | slot << 11 | (reg & 0xfc));
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

/* What interrupts the guest: by the host's wish, or by a vector that there is or is not. */
static void raise(struct machine *m)
{
    uint8_t what = fuzz_byte(&m->bytes);

    if (what >= 0xf0) {
        vpci_interrupt(m->device->pci_function, what & 1);
    } else if (what >= 0xe0) {
        assert_int_equal(vmm_vm_balloon(m->f->vm, VMM_MIB(what & 3)), 0);
    } else {
        vpci_message(m->device->pci_function, what & 63);
    }
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
        if (op < 0x80) {
            write_ram(m);
        } else if (op < 0xe0) {
            offer_buffer(m);
        } else {
            start_virtio(m);
        }
        break;
    case 12:
        pc_advance_ns(m->f, fuzz_number(&m->bytes, 3) << (op >> 4));
        break;
    case 13:
        pc_serve(m->f, m->f->vcpu);
        break;
    case 14:
        if (m->device->pci_function != NULL) {
            raise(m);
        } else if ((op & 0x80) != 0) {
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

    pci_board_add(m.f);
    m.device = m.f->vm->devices;
    while (m.device != NULL && strcmp(m.device->class->name, name) != 0) {
        m.device = m.device->next;
    }
    assert_non_null(m.device);
    enable_functions(m.f);
    fixture_mmio_write(m.f, PLATFORM_LAPIC_BASE + 0xf0, 4, 0x1ff);
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
