/* Loading a kernel: an ELF image whose segments name physical addresses.
 * Spec: System V ABI chapter 5 "Program Loading". */

#include "boot/rom/rom.h"

#define ELF_X86_64   62
#define ELF_LOAD     1
#define SEGMENTS_MAX 16

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
    if (s->physical < ROM_HIGH || s->in_memory > memory.top || s->physical > memory.top ||
        s->in_memory > memory.top - s->physical || !memory_is_ram(s->physical, s->in_memory)) {
        return "there is no RAM for it";
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

const char *elf_load(const void *image, size_t size, uint32_t *entry)
{
    const struct elf_header *h = image;
    const uint8_t *bytes = image;
    if (size < sizeof(*h) || __builtin_memcmp(h->ident, "\177ELF\2\1\1", 7) != 0 ||
        h->machine != ELF_X86_64 || h->segment_size != sizeof(struct elf_segment) ||
        h->segment_count > SEGMENTS_MAX || h->segments % 8 != 0 || h->segments > size ||
        h->segment_count * sizeof(struct elf_segment) > size - h->segments) {
        return "it is no 64-bit ELF image";
    }
    const struct elf_segment *segment = (const void *)(bytes + h->segments);
    bool entered = false;
    for (unsigned i = 0; i < h->segment_count; i++) {
        const struct elf_segment *s = &segment[i];
        const char *error = s->kind == ELF_LOAD ? segment_error(s, size) : NULL;
        if (error != NULL) {
            return error;
        }
        entered = entered || (s->kind == ELF_LOAD && holds_entry(s, h->entry, entry));
    }
    if (!entered) {
        return "its entry lies outside its segments";
    }
    for (unsigned i = 0; i < h->segment_count; i++) {
        const struct elf_segment *s = &segment[i];
        if (s->kind == ELF_LOAD) {
            uint8_t *to = (uint8_t *)s->physical;
            __builtin_memcpy(to, bytes + s->offset, s->in_file);
            __builtin_memset(to + s->in_file, 0, s->in_memory - s->in_file);
        }
    }
    return NULL;
}
