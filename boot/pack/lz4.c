#include "boot/pack/lz4.h"

#define LENGTH_MORE 15  /* in the token: bytes follow that add to the length */
#define BYTE_MORE   255 /* of those: one more follows */
#define MATCH_LEAST 4
#define WORD        8

struct input {
    const uint8_t *at, *end;
};

static uint64_t load64(const uint8_t *at)
{
    uint64_t v;
    __builtin_memcpy(&v, at, sizeof(v));
    return v;
}

static void store64(uint8_t *at, uint64_t v)
{
    __builtin_memcpy(at, &v, sizeof(v));
}

/* Add the bytes that continue a length. Returns -1 when the input ends within them. No sum wraps:
 * every byte of input adds at most 255. */
static int read_length(struct input *in, size_t *length)
{
    uint8_t more = BYTE_MORE;
    if (*length != LENGTH_MORE) {
        return 0;
    }
    while (more == BYTE_MORE) {
        if (in->at == in->end) {
            return -1;
        }
        more = *in->at++;
        *length += more;
    }
    return 0;
}

/* Word by word from the lower end: right for a source that lies a word or more below. */
static uint8_t *copy_words(uint8_t *to, const uint8_t *from, size_t size)
{
    for (; size >= WORD; size -= WORD, to += WORD, from += WORD) {
        store64(to, load64(from));
    }
    for (; size > 0; size--) {
        *to++ = *from++;
    }
    return to;
}

static uint8_t *copy_bytes(uint8_t *to, const uint8_t *from, size_t size)
{
    for (; size > 0; size--) {
        *to++ = *from++;
    }
    return to;
}

ptrdiff_t lz4_unpack(const uint8_t *in_start, size_t size_in, uint8_t *out, size_t size_out)
{
    struct input in = {in_start, in_start + size_in};
    uint8_t *to = out;
    const uint8_t *out_end = out + size_out;
    for (;;) {
        if (in.at == in.end) {
            return -1;
        }
        uint8_t token = *in.at++;
        size_t literals = token >> 4;
        if (read_length(&in, &literals) != 0 || literals > (size_t)(in.end - in.at) ||
            literals > (size_t)(out_end - to)) {
            return -1;
        }
        to = copy_words(to, in.at, literals);
        in.at += literals;
        if (in.at == in.end) {
            return to - out; /* the last sequence has no match */
        }
        if (in.end - in.at < 2) {
            return -1;
        }
        size_t distance = in.at[0] | (size_t)in.at[1] << 8;
        in.at += 2;
        size_t match = token & LENGTH_MORE;
        if (read_length(&in, &match) != 0) {
            return -1;
        }
        match += MATCH_LEAST;
        if (distance == 0 || distance > (size_t)(to - out) || match > (size_t)(out_end - to)) {
            return -1;
        }
        to = distance >= WORD ? copy_words(to, to - distance, match)
                              : copy_bytes(to, to - distance, match);
    }
}
