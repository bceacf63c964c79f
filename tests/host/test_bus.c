/* The bus: claims, dispatch, splitting. */
#include <string.h>
#include "core/bus.h"
#include "pc.h"

struct probe {
    struct vdev_access last;
    unsigned calls;
};

static void probe_access(struct vdev *dev, struct vdev_access *a)
{
    struct probe *p = vdev_state(dev);

    p->last = *a;
    p->calls++;
    if (!a->write) {
        a->value = 0x1122334455667788 + a->offset;
    }
}

static int probe_create(struct vdev *dev)
{
    (void)dev;
    return 0;
}

static void probe_reset(struct vdev *dev)
{
    (void)dev;
}

static int refuse_create(struct vdev *dev)
{
    assert_int_equal(vdev_claim(dev, VDEV_PIO, 0x500, 8, probe_access), 0);
    return -VMM_ENOMEM;
}

static const struct vdev_class probe_class = {.name = "probe",
                                              .state_size = sizeof(struct probe),
                                              .create = probe_create,
                                              .reset = probe_reset};
static const struct vdev_class refuse_class = {
    .name = "refuse", .state_size = 1, .create = refuse_create, .reset = probe_reset};

static struct vdev *make_probe(struct fixture *f)
{
    struct vdev *dev;

    assert_int_equal(vdev_create(f->vm, &probe_class, &dev), 0);
    return dev;
}

static void claims_may_not_overlap(void **state)
{
    struct fixture *f = fixture_create(0, 1);
    struct vdev *dev = make_probe(f);

    (void)state;
    assert_int_equal(vdev_claim(dev, VDEV_PIO, 0x100, 8, probe_access), 0);
    assert_int_equal(vdev_claim(dev, VDEV_PIO, 0x107, 1, probe_access), -VMM_EEXIST);
    assert_int_equal(vdev_claim(dev, VDEV_PIO, 0xf8, 9, probe_access), -VMM_EEXIST);
    assert_int_equal(vdev_claim(dev, VDEV_PIO, 0x80, 0x100, probe_access), -VMM_EEXIST);
    assert_int_equal(vdev_claim(dev, VDEV_PIO, 0xf8, 8, probe_access), 0);
    assert_int_equal(vdev_claim(dev, VDEV_PIO, 0x108, 1, probe_access), 0);
    assert_int_equal(vdev_claim(dev, VDEV_MMIO, 0x100, 8, probe_access), 0);
    assert_int_equal(vdev_claim(dev, VDEV_MMIO, UINT64_MAX, 2, probe_access), -VMM_EINVAL);
    assert_int_equal(vdev_claim(dev, VDEV_MMIO, UINT64_MAX, 1, probe_access), 0);
    assert_int_equal(vdev_claim(dev, VDEV_PIO, 0x200, 0, probe_access), -VMM_EINVAL);
    assert_non_null(strstr(posix_host_log(f->host), "probe claims 107, which is probe's"));
    fixture_destroy(f);
}

static void many_ranges_are_found(void **state)
{
    struct fixture *f = fixture_create(0, 1);
    struct vdev *dev = make_probe(f);
    struct probe *p = vdev_state(dev);

    (void)state;
    for (unsigned i = 0; i < 100; i++) { /* out of order, with gaps of 4 */
        unsigned at = i * 37 % 100;

        assert_int_equal(vdev_claim(dev, VDEV_PIO, 0x1000 + at * 8, 4, probe_access), 0);
    }
    for (unsigned i = 0; i < 100; i++) {
        p->calls = 0;
        assert_int_equal(fixture_in(f, (uint16_t)(0x1000 + i * 8 + 3), 1), 0x8b);
        assert_int_equal(p->last.offset, 3);
        assert_int_equal(fixture_in(f, (uint16_t)(0x1004 + i * 8), 4), UINT32_MAX);
        assert_int_equal(p->calls, 1);
    }
    fixture_destroy(f);
}

static void nobody_there_reads_all_ones(void **state)
{
    struct fixture *f = fixture_create(0, 1);
    struct vdev_access a = {.size = 8, .value = 5};

    (void)state;
    assert_false(vmm_bus_access(&f->vm->mmio, 0x1000, &a));
    assert_int_equal(a.value, UINT64_MAX);
    a = (struct vdev_access){.size = 2, .value = 5};
    assert_false(vmm_bus_access(&f->vm->pio, 0x1000, &a));
    assert_int_equal(a.value, 0xffff);
    a = (struct vdev_access){.size = 2, .value = 5, .write = true};
    assert_false(vmm_bus_access(&f->vm->pio, 0x1000, &a));
    fixture_destroy(f);
}

static void an_access_over_the_edge_is_split(void **state)
{
    struct fixture *f = fixture_create(0, 1);
    struct vdev *dev = make_probe(f);
    struct probe *p = vdev_state(dev);

    (void)state;
    assert_int_equal(vdev_claim(dev, VDEV_PIO, 0x100, 2, probe_access), 0);
    assert_int_equal(fixture_in(f, 0x100, 4), 0xffff8988); /* the end */
    assert_int_equal(p->calls, 2);
    assert_int_equal(fixture_in(f, 0xff, 2), 0x88ff); /* the start */
    assert_int_equal(fixture_in(f, 0xfe, 4), 0x8988ffff);
    assert_int_equal(fixture_in(f, 0xfc, 4), UINT32_MAX); /* just below */
    p->calls = 0;
    fixture_out(f, 0xff, 2, 0xabcd);
    assert_int_equal(p->calls, 1);
    assert_int_equal(p->last.size, 1);
    assert_int_equal(p->last.value, 0xab);
    fixture_destroy(f);
}

static void byte_ranges_get_bytes(void **state)
{
    struct fixture *f = fixture_create(0, 1);
    struct vdev *dev = make_probe(f);
    struct probe *p = vdev_state(dev);

    (void)state;
    assert_int_equal(vdev_claim_bytes(dev, 0x100, 4, probe_access), 0);
    assert_int_equal(fixture_in(f, 0x100, 4), 0x8b8a8988);
    assert_int_equal(p->calls, 4);
    assert_int_equal(p->last.offset, 3);
    fixture_destroy(f);
}

static void lockless_ranges_are_called_without_lock(void **state)
{
    struct fixture *f = fixture_create(0, 1);
    struct vdev *dev = make_probe(f);

    (void)state;
    assert_int_equal(vdev_claim_lockless(dev, VDEV_MMIO, 0x1000, 16, probe_access), 0);
    f->vm->ops->lock(f->host, &dev->lock); /* would hang otherwise */
    assert_int_equal(fixture_mmio_read(f, 0x1000, 8), 0x1122334455667788);
    f->vm->ops->unlock(f->host, &dev->lock);
    fixture_destroy(f);
}

static void a_destroyed_device_leaves_nothing(void **state)
{
    struct fixture *f = fixture_create(0, 1);
    struct vdev *dev = make_probe(f);

    (void)state;
    assert_int_equal(vdev_claim(dev, VDEV_PIO, 0x100, 2, probe_access), 0);
    vdev_destroy(dev);
    assert_null(f->vm->devices);
    assert_int_equal(fixture_in(f, 0x100, 2), 0xffff);
    fixture_destroy(f);
}

static void a_failed_creation_leaves_nothing(void **state)
{
    struct fixture *f = fixture_create(0, 1);

    (void)state;
    assert_int_equal(vdev_create(f->vm, &refuse_class, NULL), -VMM_ENOMEM);
    assert_null(f->vm->devices);
    assert_int_equal(f->vm->pio.table->count, 0);
    fixture_destroy(f);
}

static void a_platform_that_fails_anywhere_leaves_nothing(void **state)
{
    struct fixture *f = fixture_create(PC_RAM, 2);
    long calls = posix_host_alloc_calls(f->host);
    uint64_t small = posix_host_small_used(f->host);

    (void)state;
    assert_int_equal(vmm_platform_create(f->vm), 0);
    calls = posix_host_alloc_calls(f->host) - calls;
    vmm_devices_destroy(f->vm);
    assert_true(calls > 10);
    for (long n = 0; n < calls; n++) {
        posix_host_fail_alloc(f->host, n);
        assert_int_equal(vmm_platform_create(f->vm), -VMM_ENOMEM);
        posix_host_fail_alloc(f->host, -1);
        assert_int_equal(posix_host_small_used(f->host), small);
    }
    fixture_destroy(f);
}

static void the_whole_port_space_stands_any_access(void **state)
{
    struct fixture *f = pc_create(2);

    (void)state;
    pc_fuzz_ports(f, 0, 0x1000, 60000);
    pc_check_save(f);
    fixture_destroy(f);
}

PC_TEST_MAIN(cmocka_unit_test(claims_may_not_overlap), cmocka_unit_test(many_ranges_are_found),
             cmocka_unit_test(nobody_there_reads_all_ones),
             cmocka_unit_test(an_access_over_the_edge_is_split),
             cmocka_unit_test(byte_ranges_get_bytes),
             cmocka_unit_test(lockless_ranges_are_called_without_lock),
             cmocka_unit_test(a_destroyed_device_leaves_nothing),
             cmocka_unit_test(a_failed_creation_leaves_nothing),
             cmocka_unit_test(a_platform_that_fails_anywhere_leaves_nothing),
             cmocka_unit_test(the_whole_port_space_stands_any_access))
