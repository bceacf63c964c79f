/* A stream that claims to be a saved state of the devices: whatever it says, the machine that read
 * it can be used, and saved again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/bus.h"
#include "fuzz.h"
#include "pc.h"
#include "tape.h"

#define SAVED_MAX VMM_KIB(64)

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

/* What was refused has left nothing: the devices are as a reset makes them. What a user has typed
 * and CMOS memory live longer. */
static void check_reset(struct fixture *f)
{
    struct fixture *fresh = pc_create(1);
    struct tape is = tape_create(SAVED_MAX), should_be = tape_create(SAVED_MAX);
    struct vdev *new = fresh->vm->devices;

    posix_host_advance_ns(fresh->host, posix_host_now_ns(f->host));
    vmm_devices_reset(f->vm);
    vmm_devices_reset(fresh->vm);
    for (struct vdev *dev = f->vm->devices; dev != NULL; dev = dev->next, new = new->next) {
        assert_int_equal(dev->class->save(dev, tape_record(&is)), 0);
        assert_int_equal(new->class->save(new, tape_record(&should_be)), 0);
        if (strcmp(dev->class->name, "vuart") != 0 && strcmp(dev->class->name, "vrtc") != 0 &&
            (is.length != should_be.length || memcmp(is.bytes, should_be.bytes, is.length) != 0)) {
            fprintf(stderr, "%s is not as after a reset\n", dev->class->name);
            abort();
        }
    }
    free(is.bytes);
    free(should_be.bytes);
    fixture_destroy(fresh);
}

static void load(struct fixture *f, struct vdev_stream *from)
{
    if (vmm_devices_load(f->vm, from) != 0) {
        check_reset(f);
    }
    use_machine(f);
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
    load(f, &mixed.stream);
    load(f, tape_play(&input));
    fixture_destroy(f);
}
