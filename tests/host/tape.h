/* A stream of bytes in memory, for whatever saves and loads. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <vmm/vdev.h>

struct tape {
    struct vdev_stream stream;
    uint8_t *bytes;
    size_t length; /* recorded; where it ends for who plays it */
    size_t at;     /* played so far */
    size_t limit;  /* room */
};

/* An empty one, whose bytes the test frees. */
struct tape tape_create(size_t limit);
/* From the start; -VMM_ENOSPC when it is full, -VMM_EIO behind its end. */
struct vdev_stream *tape_record(struct tape *t);
struct vdev_stream *tape_play(struct tape *t);
