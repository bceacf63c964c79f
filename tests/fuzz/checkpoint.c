/* A stream that claims to be a saved state of the devices: whatever it says, the machine that read
 * it can be used, and saved again. */
#include <string.h>
#include "core/bus.h"
#include "fuzz.h"
#include "pc.h"
#include "tape.h"

static int drop_output(struct vdev_stream *s, void *bytes, size_t count)
{
    (void)s;
    (void)bytes;
    (void)count;
    return 0;
}

/* The first byte says how many bytes of a true state come before the input's own, so that the
 * readers behind the first can be reached. */
struct mixed {
    struct vdev_stream stream;
    struct fuzz_bytes bytes;
    uint8_t true_bytes[32768];
    size_t at, length, switch_at;
};

static int record(struct vdev_stream *s, void *bytes, size_t count)
{
    struct mixed *m = VMM_CONTAINER_OF(s, struct mixed, stream);

    assert_true(count <= sizeof(m->true_bytes) - m->length);
    memcpy(m->true_bytes + m->length, bytes, count);
    m->length += count;
    return 0;
}

static int read_mixed(struct vdev_stream *s, void *bytes, size_t count)
{
    struct mixed *m = VMM_CONTAINER_OF(s, struct mixed, stream);
    uint8_t *out = bytes;

    for (size_t i = 0; i < count; i++, m->at++) {
        if (m->at >= m->length) {
            return -VMM_EIO;
        }
        out[i] = m->true_bytes[m->at];
        if (m->at >= m->switch_at && m->bytes.at < m->bytes.end) {
            out[i] ^= fuzz_byte(&m->bytes);
        }
    }
    return 0;
}

static void use_machine(struct fixture *f)
{
    struct vdev_stream out = {.transfer = drop_output};

    for (unsigned i = 0; i < 50; i++) {
        for (unsigned r = 0; r < f->vm->pio.table->count; r++) {
            fixture_in(f, (uint16_t)f->vm->pio.table->range[r].base, 1);
            fixture_out(f, (uint16_t)f->vm->pio.table->range[r].base, 1, i * 37);
        }
        fixture_mmio_read(f, PLATFORM_LAPIC_BASE + 0x390, 4);
        fixture_mmio_read(f, PLATFORM_HPET_BASE + 0x108, 8);
        pc_advance_ns(f, 100000);
        pc_serve(f, f->vcpu);
    }
    assert_int_equal(vmm_devices_save(f->vm, &out), 0);
}

void fuzz_checkpoint(const uint8_t *data, size_t size)
{
    struct fuzz_bytes bytes = {data, data + size};
    size_t skip = fuzz_number(&bytes, 2);
    struct tape input = {.bytes = (uint8_t *)bytes.at, .length = (size_t)(bytes.end - bytes.at)};
    struct fixture *f = pc_create(1);
    static struct mixed mixed;

    mixed = (struct mixed){.stream.transfer = record, .bytes = bytes};
    assert_int_equal(vmm_devices_save(f->vm, &mixed.stream), 0);
    mixed.stream.transfer = read_mixed;
    mixed.switch_at = skip % mixed.length;
    (void)!vmm_devices_load(f->vm, &mixed.stream);
    use_machine(f);
    (void)!vmm_devices_load(f->vm, tape_play(&input));
    use_machine(f);
    fixture_destroy(f);
}
