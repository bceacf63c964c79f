#include "test_device.h"

#include <string.h>

static void mmio(struct vdev *dev, struct vdev_access *a)
{
    struct test_device *d = vdev_state(dev);

    if (a->write) {
        memcpy(d->bytes + a->offset, &a->value, a->size);
        d->writes++;
    } else {
        a->value = 0;
        memcpy(&a->value, d->bytes + a->offset, a->size);
        d->reads++;
    }
    d->last = *a;
}

static void pio(struct vdev *dev, struct vdev_access *a)
{
    struct test_device *d = vdev_state(dev);

    assert_int_equal(a->offset, 0);
    if (a->write) {
        memcpy(d->output + d->put, &a->value, a->size);
        d->put += a->size;
    } else {
        a->value = 0;
        memcpy(&a->value, d->input + d->taken, a->size);
        d->taken += a->size;
    }
}

static int create(struct vdev *dev)
{
    int error = vdev_claim(dev, VDEV_MMIO, TEST_DEVICE_BASE, TEST_DEVICE_SIZE, mmio);

    return error != 0 ? error : vdev_claim(dev, VDEV_PIO, TEST_PORT, 4, pio);
}

static const struct vdev_class test_class = {
    .name = "test",
    .state_size = sizeof(struct test_device),
    .create = create,
};

struct test_device *test_device_create(struct fixture *f)
{
    struct vdev *dev;

    assert_int_equal(vdev_create(f->vm, &test_class, &dev), 0);
    return vdev_state(dev);
}
