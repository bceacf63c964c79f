#include "drivers/char.h"

#include "base/errno.h"

#define DEVICES_MAX 8

static struct nk_char_device *device[DEVICES_MAX];
static unsigned device_count; /* atomic; registered one after the other, by the probing thread */

size_t nk_char_write(struct nk_char_device *d, const char *s, size_t length)
{
    return d->ops->write(d, s, length);
}

void nk_char_set_receiver(struct nk_char_device *d,
                          void (*fn)(void *arg, const char *s, size_t length), void *arg)
{
    d->ops->set_receiver(d, fn, arg);
}

struct nk_char_device *nk_char_get(unsigned i)
{
    return i < __atomic_load_n(&device_count, __ATOMIC_ACQUIRE) ? device[i] : NULL;
}

int char_register(struct nk_char_device *d)
{
    if (device_count == DEVICES_MAX) {
        return -ENOSPC;
    }
    device[device_count] = d;
    __atomic_store_n(&device_count, device_count + 1, __ATOMIC_RELEASE);
    return 0;
}
