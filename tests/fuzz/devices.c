/* A guest that does anything to its devices, at any time. */
#include "fuzz.h"
#include "pc.h"

#define STEPS_MAX 4000

static const struct {
    uint64_t base;
    unsigned length;
} window_table[] = {
    {PLATFORM_LAPIC_BASE, 0x400},
    {PLATFORM_IOAPIC_BASE, 0x50},
    {PLATFORM_HPET_BASE, 0x180},
};

/* A port that somebody claims, or now and then any. */
static uint16_t choose_port(struct fixture *f, struct fuzz_bytes *b)
{
    const struct vmm_bus_table *bus = f->vm->pio.table;
    uint8_t which = fuzz_byte(b), offset = fuzz_byte(b);

    if (which >= bus->count) {
        return (uint16_t)(which << 8 | offset);
    }
    return (uint16_t)(bus->range[which].base + offset % bus->range[which].length);
}

static void port_access(struct fixture *f, struct fuzz_bytes *b, uint8_t op)
{
    uint16_t port = choose_port(f, b);
    unsigned size = 1u << (op >> 4) % 3;

    if ((op & 8) != 0) {
        fixture_out(f, port, size, fuzz_number(b, size));
    } else {
        fixture_in(f, port, size);
    }
}

static void memory_access(struct fixture *f, struct fuzz_bytes *b, uint8_t op)
{
    unsigned which = fuzz_byte(b) % VMM_ARRAY_COUNT(window_table);
    uint64_t at = window_table[which].base + fuzz_number(b, 2) % window_table[which].length;
    unsigned size = 1u << (op >> 4) % 4;

    if ((op & 8) != 0) {
        fixture_mmio_write(f, at, size, fuzz_number(b, size));
    } else {
        fixture_mmio_read(f, at, size);
    }
}

static void msr_access(struct fixture *f, struct fuzz_bytes *b, uint8_t op)
{
    uint64_t value;

    if (op >= 0xe0) {
        vlapic_base_write(f->vcpu, PLATFORM_LAPIC_BASE | (fuzz_number(b, 2) & 0xfff));
    } else if (op >= 0xc0) {
        vlapic_deadline_write(f->vcpu, fuzz_number(b, 8));
    } else if ((op & 8) != 0) {
        uint32_t msr = 0x800 + fuzz_byte(b);

        vlapic_msr_write(f->vcpu, msr, fuzz_number(b, 5));
    } else {
        vlapic_msr_read(f->vcpu, 0x800 + fuzz_byte(b), &value);
    }
}

static void step(struct fixture *f, struct fuzz_bytes *b)
{
    uint8_t op = fuzz_byte(b);

    switch (op & 7) {
    case 0 ... 1:
        port_access(f, b, op);
        break;
    case 2 ... 3:
        memory_access(f, b, op);
        break;
    case 4:
        msr_access(f, b, op);
        break;
    case 5:
        pc_advance_ns(f, fuzz_number(b, 3) * (op >= 0x80 ? 1000 : 1));
        break;
    case 6:
        pc_serve(f, f->vcpu);
        f->vcpu = f->vm->vcpu[(op >> 3) % f->vm->vcpu_count];
        break;
    default:
        if (op < 0x10) {
            vmm_devices_reset(f->vm);
        } else {
            char c = (char)fuzz_byte(b);

            posix_host_type(f->host, "test", &c, 1);
        }
        break;
    }
}

void fuzz_devices(const uint8_t *data, size_t size)
{
    struct fuzz_bytes b = {data, data + size};
    struct fixture *f = pc_create(2);

    for (unsigned i = 0; i < STEPS_MAX && b.at < b.end; i++) {
        step(f, &b);
    }
    fixture_destroy(f);
}
