/* A ROM's container: the first byte chooses whether the checksums are made right, so that what lies
 * behind them is reached, too; and whether the rest is an LZ4 block or an ELF image instead. */
#include <stdlib.h>
#include <string.h>

#include "boot/pack/crc32c.h"
#include "boot/pack/elf.h"
#include "boot/pack/lz4.h"
#include "boot/pack/pack.h"
#include "fuzz.h"

#define ROOM 65536

static void unpack_block(const uint8_t *data, size_t size)
{
    uint8_t *out = malloc(ROOM);
    ptrdiff_t got = out == NULL ? 0 : lz4_unpack(data, size, out, ROOM);

    if (got > ROOM) {
        abort();
    }
    free(out);
}

static void check_image(const uint8_t *data, size_t size)
{
    uint8_t *image = malloc(size + 1); /* aligned, which the input need not be */
    struct elf_plan plan;

    if (image == NULL) {
        return;
    }
    memcpy(image, data, size);
    if (elf_check(image, size, &plan) == NULL && plan.end - plan.base < (1 << 20)) {
        uint8_t *memory = malloc(plan.end - plan.base + 1);

        if (memory != NULL) {
            elf_place(image, &plan, memory);
        }
        free(memory);
    }
    free(image);
}

static void seal(uint8_t *image, size_t size)
{
    struct pack_header *h = (void *)image;
    struct pack_entry *e = (void *)(h + 1);

    memcpy(h->magic, PACK_MAGIC, sizeof(h->magic));
    h->version = PACK_VERSION;
    h->count %= PACK_ENTRIES_MAX + 1;
    h->size = (uint32_t)size;
    for (uint32_t i = 0; i < h->count; i++) {
        if (e[i].offset < size && e[i].stored <= size - e[i].offset) {
            e[i].crc = crc32c(0, image + e[i].offset, e[i].stored);
        }
    }
    h->crc = 0;
    h->crc = crc32c(0, h, sizeof(*h) + h->count * sizeof(*e));
}

static void read_parts(const struct pack *p)
{
    for (uint32_t i = 0; i < p->header->count; i++) {
        const struct pack_entry *e = &p->entry[i];
        uint8_t *out = e->unpacked <= ROOM ? malloc(e->unpacked) : NULL;

        if (out != NULL) {
            (void)pack_read(p, e, out);
        }
        free(out);
    }
}

void fuzz_pack(const uint8_t *data, size_t size)
{
    size_t whole = PACK_PAGE * (size / PACK_PAGE + 2);
    struct pack p;
    uint8_t *image;

    if (size == 0) {
        return;
    }
    if (data[0] & 2) {
        unpack_block(data + 1, size - 1);
        return;
    }
    if (data[0] & 4) {
        check_image(data + 1, size - 1);
        return;
    }
    image = calloc(1, whole);
    if (image == NULL) {
        return;
    }
    memcpy(image, data + 1, size - 1);
    if (data[0] & 1) {
        seal(image, whole);
    }
    if (pack_open(&p, image, whole, 0) == NULL) {
        read_parts(&p);
    }
    free(image);
}
