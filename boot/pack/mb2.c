#include "boot/pack/mb2.h"

#define TAG_END     0
#define TAG_CMDLINE 1
#define TAG_LOADER  2
#define TAG_MODULE  3
#define TAG_MAP     6
#define TAG_SCREEN  8
#define TAG_RSDP_1  14
#define TAG_RSDP_2  15

#define MAP_ENTRY  24
#define RSDP_1     20 /* bytes of one of ACPI 1 */
#define SCREEN_RGB 1

struct writer {
    uint8_t *start;
    size_t size, room; /* size counts what did not fit, too */
    size_t tag;        /* where the tag at work begins */
};

static void put(struct writer *w, const void *data, size_t size)
{
    if (size <= w->room && w->size <= w->room - size) {
        __builtin_memcpy(w->start + w->size, data, size);
    }
    w->size += size;
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
        put(w, text, 1);
    } while (*text++ != '\0');
}

static void put32_at(struct writer *w, size_t at, uint32_t value)
{
    if (w->size <= w->room) {
        __builtin_memcpy(w->start + at, &value, sizeof(value));
    }
}

static void begin(struct writer *w, uint32_t tag)
{
    w->tag = w->size;
    put32(w, tag);
    put32(w, 0);
}

static void end(struct writer *w)
{
    static const uint8_t zero[8];
    put32_at(w, w->tag + 4, (uint32_t)(w->size - w->tag));
    put(w, zero, -w->size % 8);
}

static void put_modules(struct writer *w, const struct mb2_info *info)
{
    for (unsigned i = 0; i < info->module_count; i++) {
        begin(w, TAG_MODULE);
        put32(w, info->module[i].base);
        put32(w, info->module[i].base + info->module[i].length);
        put_text(w, info->module[i].name);
        end(w);
    }
}

static void put_map(struct writer *w, const struct mb2_info *info)
{
    begin(w, TAG_MAP);
    put32(w, MAP_ENTRY);
    put32(w, 0);
    for (unsigned i = 0; i < info->range_count; i++) {
        put64(w, info->range[i].base);
        put64(w, info->range[i].length);
        put32(w, info->range[i].kind);
        put32(w, 0);
    }
    end(w);
}

/* Pixels are 32 bits wide, red, green and blue 8 each: which is first, our kernel does not ask. */
static void put_screen(struct writer *w, const struct mb2_screen *screen)
{
    static const uint8_t colours[6] = {16, 8, 8, 8, 0, 8}; /* position and size of each */
    static const uint8_t kind[4] = {32, SCREEN_RGB};       /* and two reserved bytes */
    begin(w, TAG_SCREEN);
    put64(w, screen->base);
    put32(w, screen->pitch);
    put32(w, screen->width);
    put32(w, screen->height);
    put(w, kind, sizeof(kind));
    put(w, colours, sizeof(colours));
    end(w);
}

uint32_t mb2_write(void *at, size_t room, const struct mb2_info *info)
{
    struct writer w = {.start = at, .room = room};
    put64(&w, 0); /* the size, below */
    begin(&w, TAG_CMDLINE);
    put_text(&w, info->cmdline);
    end(&w);
    begin(&w, TAG_LOADER);
    put_text(&w, info->loader);
    end(&w);
    put_modules(&w, info);
    put_map(&w, info);
    if (info->screen.base != 0) {
        put_screen(&w, &info->screen);
    }
    if (info->rsdp != NULL) {
        begin(&w, info->rsdp_length == RSDP_1 ? TAG_RSDP_1 : TAG_RSDP_2);
        put(&w, info->rsdp, info->rsdp_length);
        end(&w);
    }
    if (info->slot != MB2_NO_SLOT) {
        begin(&w, MB2_ROM_TAG);
        put32(&w, info->slot);
        put32(&w, info->watchdog);
        end(&w);
    }
    begin(&w, TAG_END);
    end(&w);
    put32_at(&w, 0, (uint32_t)w.size);
    return w.size <= room ? (uint32_t)w.size : 0;
}
