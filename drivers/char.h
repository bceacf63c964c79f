/* Byte streams to a device, such as a virtual console. Nothing blocks: what the device has no room
 * for is refused. Threading: any context but NMI, except where said. */
#pragma once

#include "base/types.h"

struct nk_char_device {
    const char *driver;
    const struct nk_char_ops *ops;
    /* Bytes from the device; interrupt context. Set by nk_char_set_receiver(). */
    void (*receive)(void *arg, const char *s, size_t length);
    void *receive_arg;
};

struct nk_char_ops {
    size_t (*write)(struct nk_char_device *d, const char *s, size_t length);
    void (*set_receiver)(struct nk_char_device *d,
                         void (*fn)(void *arg, const char *s, size_t length), void *arg);
};

/* Returns how many bytes were taken; none are when the device does not take any more. */
size_t nk_char_write(struct nk_char_device *d, const char *s, size_t length);

/* NULL: bytes are dropped. On return the old function is not running. Thread context. */
void nk_char_set_receiver(struct nk_char_device *d,
                          void (*fn)(void *arg, const char *s, size_t length), void *arg);

struct nk_char_device *nk_char_get(unsigned i); /* NULL past the last */

int char_register(struct nk_char_device *d) NK_MUST_CHECK; /* for drivers. Errors: -ENOSPC */
