#include "boot/pack/elf.h"

#include <stdbool.h>

#define ELF_X86_64   62
#define ELF_LOAD     1
#define SEGMENTS_MAX 16
#define LOWEST       UINT64_C(0x100000)
#define HIGHEST      (UINT64_C(1) << 32)

struct elf_header {
    uint8_t ident[16];
    uint16_t type, machine;
    uint32_t version;
    uint64_t entry, segments, sections;
    uint32_t flags;
    uint16_t size, segment_size, segment_count;
};

struct elf_segment {
    uint32_t kind, flags;
    uint64_t offset, virtual, physical, in_file, in_memory, align;
};

static const char *segment_error(const struct elf_segment *s, uint64_t size)
{
    if (s->in_file > s->in_memory || s->offset > size || s->in_file > size - s->offset) {
        return "a segment lies outside its file";
    }
    if (s->physical < LOWEST || s->physical > HIGHEST || s->in_memory > HIGHEST - s->physical) {
        return "a segment lies below 1 MiB or beyond 4 GiB";
    }
    return NULL;
}

/* The entry is named by its virtual or its physical address: both are in use. */
static bool holds_entry(const struct elf_segment *s, uint64_t address, uint32_t *entry)
{
    if (address - s->virtual < s->in_file) {
        *entry = (uint32_t)(address - s->virtual + s->physical);
        return true;
    }
    *entry = (uint32_t)address;
    return address - s->physical < s->in_file;
}

static bool header_good(const struct elf_header *h, size_t size)
{
    return size >= sizeof(*h) && __builtin_memcmp(h->ident, "\177ELF\2\1\1", 7) == 0 &&
           h->machine == ELF_X86_64 && h->segment_size == sizeof(struct elf_segment) &&
           h->segment_count <= SEGMENTS_MAX && h->segments % 8 == 0 && h->segments <= size &&
           h->segment_count * sizeof(struct elf_segment) <= size - h->segments;
}

const char *elf_check(const void *image, size_t size, struct elf_plan *out)
{
    const struct elf_header *h = image;
    if (!header_good(h, size)) {
        return "it is no 64-bit ELF image";
    }
    const struct elf_segment *segment = (const void *)((const uint8_t *)image + h->segments);
    bool entered = false;
    *out = (struct elf_plan){.base = HIGHEST};
    for (unsigned i = 0; i < h->segment_count; i++) {
        const struct elf_segment *s = &segment[i];
        const char *error = s->kind == ELF_LOAD ? segment_error(s, size) : NULL;
        if (error != NULL) {
            return error;
        }
        if (s->kind == ELF_LOAD) {
            entered = entered || holds_entry(s, h->entry, &out->entry);
            out->base = s->physical < out->base ? s->physical : out->base;
            uint64_t end = s->physical + s->in_memory;
            out->end = end > out->end ? end : out->end;
        }
    }
    return entered ? NULL : "its entry lies outside its segments";
}

void elf_place(const void *image, const struct elf_plan *plan, void *at)
{
    const struct elf_header *h = image;
    const struct elf_segment *segment = (const void *)((const uint8_t *)image + h->segments);
    for (unsigned i = 0; i < h->segment_count; i++) {
        const struct elf_segment *s = &segment[i];
        if (s->kind == ELF_LOAD) {
            uint8_t *to = (uint8_t *)at + (s->physical - plan->base);
            __builtin_memcpy(to, (const uint8_t *)image + s->offset, s->in_file);
            __builtin_memset(to + s->in_file, 0, s->in_memory - s->in_file);
        }
    }
}
