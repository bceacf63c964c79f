/* The multiboot 2 record: every kernel of ours understands it, whatever its version.
 * Spec: Multiboot2 Specification 2.0 section 3.6. */

#include "boot/rom/rom.h"

#define TAG_END     0
#define TAG_CMDLINE 1
#define TAG_LOADER  2
#define TAG_MODULE  3
#define TAG_MAP     6
#define TAG_RSDP_1  14
#define TAG_RSDP_2  15
#define TAG_ROM     0x4d4f524f /* "OROM", ours: the slot that the kernel is from */
#define MAP_ENTRY   24
#define RSDP_1      20 /* bytes of one of ACPI 1 */
#define RECORD_MAX  NK_KIB(16)

struct writer {
    uint8_t *start, *at;
};

static void put(struct writer *w, const void *data, size_t size)
{
    __builtin_memcpy(w->at, data, size);
    w->at += size;
}

static void put32(struct writer *w, uint32_t value)
{
    put(w, &value, sizeof(value));
}

static void put64(struct writer *w, uint64_t value)
{
    put(w, &value, sizeof(value));
}

static void put_text(struct writer *w, const char *text)
{
    do {
        *w->at++ = (uint8_t)*text;
    } while (*text++ != '\0');
}

static uint8_t *begin(struct writer *w, uint32_t tag)
{
    uint8_t *start = w->at;
    put32(w, tag);
    put32(w, 0);
    return start;
}

static void end(struct writer *w, uint8_t *start)
{
    uint32_t size = (uint32_t)(w->at - start);
    __builtin_memcpy(start + 4, &size, sizeof(size));
    while ((w->at - w->start) % 8 != 0) {
        *w->at++ = 0;
    }
}

static void put_map(struct writer *w)
{
    uint8_t *tag = begin(w, TAG_MAP);
    put32(w, MAP_ENTRY);
    put32(w, 0);
    for (unsigned i = 0; i < memory.count; i++) {
        put64(w, memory.range[i].base);
        put64(w, memory.range[i].length);
        put32(w, memory.range[i].kind);
        put32(w, 0);
    }
    end(w, tag);
}

static void put_tag_text(struct writer *w, uint32_t kind, const char *text)
{
    uint8_t *tag = begin(w, kind);
    put_text(w, text);
    end(w, tag);
}

uint32_t record_build(const struct rom_boot *boot)
{
    /* Every text in it has a limit, so RECORD_MAX holds all there can be. */
    struct writer w = {.start = memory_take(RECORD_MAX, NK_PAGE_SIZE)};
    if (w.start == NULL) {
        return 0;
    }
    w.at = w.start + 8;
    put_tag_text(&w, TAG_CMDLINE, boot->cmdline);
    put_tag_text(&w, TAG_LOADER,
                 boot->slot == 0 ? "Orthocone ROM, slot A" : "Orthocone ROM, slot B");
    for (unsigned i = 0; i < boot->module_count; i++) {
        uint8_t *tag = begin(&w, TAG_MODULE);
        put32(&w, boot->module[i].base);
        put32(&w, boot->module[i].base + boot->module[i].length);
        put_text(&w, boot->module[i].name);
        end(&w, tag);
    }
    put_map(&w);
    if (boot->rsdp != NULL) {
        uint8_t *tag = begin(&w, boot->rsdp_length == RSDP_1 ? TAG_RSDP_1 : TAG_RSDP_2);
        put(&w, boot->rsdp, boot->rsdp_length);
        end(&w, tag);
    }
    uint8_t *tag = begin(&w, TAG_ROM);
    put32(&w, boot->slot);
    end(&w, tag);
    end(&w, begin(&w, TAG_END));
    uint32_t size = (uint32_t)(w.at - w.start);
    __builtin_memcpy(w.start, &size, sizeof(size));
    __builtin_memset(w.start + 4, 0, 4);
    return (uint32_t)(uint64_t)w.start;
}
