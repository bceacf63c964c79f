#include "tape.h"

#include <stdlib.h>
#include <string.h>
#include "fixture.h"

static int record(struct vdev_stream *s, void *bytes, size_t count)
{
    struct tape *t = VMM_CONTAINER_OF(s, struct tape, stream);

    if (count > t->limit - t->length) {
        return -VMM_ENOSPC;
    }
    memcpy(t->bytes + t->length, bytes, count);
    t->length += count;
    return 0;
}

static int play(struct vdev_stream *s, void *bytes, size_t count)
{
    struct tape *t = VMM_CONTAINER_OF(s, struct tape, stream);

    if (count > t->length - t->at) {
        return -VMM_EIO;
    }
    memcpy(bytes, t->bytes + t->at, count);
    t->at += count;
    return 0;
}

struct tape tape_create(size_t limit)
{
    struct tape t = {.bytes = malloc(limit), .limit = limit};

    assert_non_null(t.bytes);
    return t;
}

struct vdev_stream *tape_record(struct tape *t)
{
    t->length = 0;
    t->stream.transfer = record;
    return &t->stream;
}

struct vdev_stream *tape_play(struct tape *t)
{
    t->at = 0;
    t->stream.transfer = play;
    return &t->stream;
}
