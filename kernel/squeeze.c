#include "kernel/squeeze.h"

#include "base/layout.h"

#define WORDS (NK_PAGE_SIZE / sizeof(uint32_t))

/* A word is a code of two bits and what follows it. */
enum code {
    CODE_ZERO,    /* nothing */
    CODE_SAME,    /* which recent word it is */
    CODE_SIMILAR, /* which one it shares its upper bits with; its lower bits */
    CODE_NEW,     /* all of it */
};

#define CODE_BITS   2
#define RECENT_BITS 4
#define LOW_BITS    10
#define LOW_MASK    ((1u << LOW_BITS) - 1)

/* The recent words, each at the place that its upper bits choose. */
struct recent {
    uint32_t word[1 << RECENT_BITS];
};

static unsigned place_of(uint32_t word)
{
    return ((word >> LOW_BITS) * 0x9e3779b1u) >> (32 - RECENT_BITS);
}

/* Bits, the lower ones first. */
struct bits {
    uint8_t *at, *end;
    uint64_t held;
    unsigned count; /* of held */
    bool overrun;
};

static void put(struct bits *b, uint32_t value, unsigned count)
{
    b->held |= (uint64_t)value << b->count;
    for (b->count += count; b->count >= 8; b->count -= 8) {
        if (b->at == b->end) {
            b->overrun = true;
            return;
        }
        *b->at++ = (uint8_t)b->held;
        b->held >>= 8;
    }
}

static uint32_t get(struct bits *b, unsigned count)
{
    while (b->count < count) {
        b->overrun |= b->at == b->end;
        b->held |= (uint64_t)(b->overrun ? 0 : *b->at++) << b->count;
        b->count += 8;
    }
    uint32_t value = (uint32_t)(b->held & ((UINT64_C(1) << count) - 1));
    b->held >>= count;
    b->count -= count;
    return value;
}

static void put_word(struct bits *b, struct recent *recent, uint32_t word)
{
    uint32_t *place = &recent->word[place_of(word)];
    if (word == 0) {
        put(b, CODE_ZERO, CODE_BITS);
    } else if (*place == word) {
        put(b, CODE_SAME | (uint32_t)(place - recent->word) << CODE_BITS, CODE_BITS + RECENT_BITS);
    } else if (((*place ^ word) & ~LOW_MASK) == 0) {
        put(b, CODE_SIMILAR | (uint32_t)(place - recent->word) << CODE_BITS,
            CODE_BITS + RECENT_BITS);
        put(b, word & LOW_MASK, LOW_BITS);
        *place = word;
    } else {
        put(b, CODE_NEW, CODE_BITS);
        put(b, word, 32);
        *place = word;
    }
}

size_t squeeze_page(const void *page, void *out, size_t room)
{
    struct bits b = {.at = out, .end = (uint8_t *)out + room};
    struct recent recent = {{0}};
    const uint32_t *word = page;
    for (unsigned i = 0; i < WORDS && !b.overrun; i++) {
        put_word(&b, &recent, word[i]);
    }
    put(&b, 0, 7); /* what is held goes out */
    return b.overrun ? 0 : (size_t)(b.at - (uint8_t *)out);
}

static uint32_t get_word(struct bits *b, struct recent *recent)
{
    enum code code = (enum code)get(b, CODE_BITS);
    uint32_t *place, word;
    switch (code) {
    case CODE_ZERO:
        return 0;
    case CODE_SAME:
        return recent->word[get(b, RECENT_BITS)];
    case CODE_SIMILAR:
        place = &recent->word[get(b, RECENT_BITS)];
        *place = (*place & ~LOW_MASK) | get(b, LOW_BITS);
        return *place;
    default:
        word = get(b, 32);
        recent->word[place_of(word)] = word;
        return word;
    }
}

bool expand_page(const void *in, size_t size, void *page)
{
    struct bits b = {.at = (uint8_t *)in, .end = (uint8_t *)in + size};
    struct recent recent = {{0}};
    uint32_t *word = page;
    for (unsigned i = 0; i < WORDS && !b.overrun; i++) {
        word[i] = get_word(&b, &recent);
    }
    return !b.overrun;
}
