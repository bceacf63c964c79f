/* Loads an application: a relocatable ELF file with everything in it but the kernel's functions.
 *
 * The file is data from outside: every offset, size and index in it is checked before use. Segments
 * are filled and relocated through the direct map, and only then mapped, each with its own rights.
 */
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/layout.h"
#include "kernel/elf.h"
#include "kernel/format.h"
#include "kernel/native_impl.h"
#include "mm/buddy.h"
#include "mm/paging.h"
#include "mm/slab.h"
#include "mm/tag.h"

#define SECTIONS_MAX 4096
#define IMAGE_MAX    NK_MIB(768)
#define TLS_MAX      NK_MIB(16)
#define ENTRY_NAME   "native_start"

struct loader {
    struct native_image *image;
    const uint8_t *file;
    uint64_t size;
    const struct elf_section *section;
    unsigned section_count;
    const struct elf_symbol *symbol;
    uint64_t symbol_count;
    const char *names; /* of the symbols, terminated */
    uint64_t names_size;
    char *why;
};

static struct {
    struct nk_mutex lock;
    struct nk_list list; /* images by address */
} images;

void native_images_init(void)
{
    nk_mutex_init(&images.lock);
    nk_list_init(&images.list);
}

static NK_PRINTF(2, 3) int refuse(struct loader *l, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    nk_vsnprintf(l->why, NATIVE_WHY_MAX, fmt, ap);
    va_end(ap);
    return -ENOEXEC;
}

static bool inside(uint64_t offset, uint64_t length, uint64_t size)
{
    return offset <= size && length <= size - offset;
}

static int read_header(struct loader *l)
{
    const struct elf_header *h = (const void *)l->file;
    if (l->size < sizeof(*h) || h->ident != ELF_IDENT) {
        return refuse(l, "not a 64-bit ELF file");
    }
    if (h->type != ELF_REL || h->machine != ELF_X86_64) {
        return refuse(l, "not a relocatable ELF file for x86-64 (type %u, machine %u)", h->type,
                      h->machine);
    }
    if (h->section_count == 0 || h->section_count > SECTIONS_MAX || h->sections % 8 != 0 ||
        h->section_size != sizeof(struct elf_section) ||
        !inside(h->sections, h->section_count * sizeof(struct elf_section), l->size)) {
        return refuse(l, "its section table is damaged or cut off");
    }
    l->section = (const void *)(l->file + h->sections);
    l->section_count = h->section_count;
    return 0;
}

static int check_sections(struct loader *l)
{
    for (unsigned i = 0; i < l->section_count; i++) {
        const struct elf_section *s = &l->section[i];
        if (s->type != ELF_NOBITS && !inside(s->offset, s->size, l->size)) {
            return refuse(l, "section %u lies beyond the end of the file", i);
        }
        if (!(s->flags & ELF_ALLOC)) {
            continue;
        }
        if ((s->flags & ELF_WRITE) && (s->flags & ELF_EXEC)) {
            return refuse(l, "section %u is both writable and executable", i);
        }
        if (s->align > NK_PAGE_SIZE || (s->align & (s->align - 1)) || s->size > IMAGE_MAX) {
            return refuse(l, "section %u is too large or too much aligned", i);
        }
    }
    return 0;
}

static int find_symbols(struct loader *l)
{
    for (unsigned i = 0; i < l->section_count; i++) {
        const struct elf_section *s = &l->section[i];
        if (s->type != ELF_SYMTAB) {
            continue;
        }
        if (s->link >= l->section_count || s->offset % 8 != 0) {
            return refuse(l, "its symbol table is damaged");
        }
        const struct elf_section *names = &l->section[s->link];
        if (names->type != ELF_STRTAB || names->size == 0 ||
            l->file[names->offset + names->size - 1] != '\0') {
            return refuse(l, "its symbol names are damaged");
        }
        l->symbol = (const void *)(l->file + s->offset);
        l->symbol_count = s->size / sizeof(struct elf_symbol);
        l->names = (const char *)l->file + names->offset;
        l->names_size = names->size;
        return 0;
    }
    return refuse(l, "it has no symbol table");
}

static const char *name_of(const struct loader *l, const struct elf_symbol *s)
{
    return s->name < l->names_size ? l->names + s->name : "?";
}

/* Thread-local zeros are in each thread's block only. */
static bool is_loaded(const struct elf_section *s)
{
    return (s->flags & ELF_ALLOC) && !((s->flags & ELF_TLS) && s->type == ELF_NOBITS);
}

static enum native_segment_kind segment_of(const struct elf_section *s)
{
    return s->flags & ELF_EXEC ? NATIVE_TEXT : s->flags & ELF_WRITE ? NATIVE_DATA : NATIVE_RODATA;
}

static bool is_tls(const struct elf_section *s)
{
    return (s->flags & (ELF_ALLOC | ELF_TLS)) == (ELF_ALLOC | ELF_TLS);
}

/* In a thread's block the initialised variables come first. Two sections at the most: native.ld
 * makes one of each kind. */
static int lay_out_tls(struct loader *l)
{
    struct native_tls *tls = &l->image->tls;
    *tls = (struct native_tls){.align = sizeof(void *)};
    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < l->section_count; i++) {
            const struct elf_section *s = &l->section[i];
            if (!is_tls(s) || (s->type == ELF_NOBITS) != (pass == 1)) {
                continue;
            }
            if (pass == 0 ? tls->filled != 0 : tls->size > tls->filled) {
                return refuse(l, "it has several sections of __thread variables");
            }
            uint64_t from = nk_align_up(tls->size, s->align ? s->align : 1);
            tls->size = from + s->size;
            tls->filled = pass == 0 ? tls->size : tls->filled;
            tls->align = s->align > tls->align ? s->align : tls->align;
        }
    }
    tls->size = nk_align_up(tls->size, tls->align);
    return tls->size <= TLS_MAX ? 0 : refuse(l, "it has too many __thread variables");
}

/* Sizes of the segments; offsets of the sections in them, for the moment, in image->address. */
static int lay_out(struct loader *l)
{
    struct native_image *image = l->image;
    for (unsigned i = 0; i < l->section_count; i++) {
        const struct elf_section *s = &l->section[i];
        if (is_loaded(s)) {
            struct native_segment *to = &image->segment[segment_of(s)];
            image->address[i] = nk_align_up(to->size, s->align ? s->align : 1);
            to->size = image->address[i] + s->size;
        }
    }
    uint64_t total = 0;
    for (unsigned k = 0; k < NATIVE_SEGMENT_COUNT; k++) {
        image->segment[k].size = nk_align_up(image->segment[k].size, NK_PAGE_SIZE);
        total += image->segment[k].size;
    }
    return total <= IMAGE_MAX ? 0
                              : refuse(l, "it needs %llu MiB of code and static data",
                                       (unsigned long long)(total >> 20));
}

/* The first gap between loaded images that is large enough; a page stays free between them. */
static int place(struct loader *l)
{
    struct native_image *image = l->image;
    uint64_t total = 0, base = NK_NATIVE_IMAGES_BASE;
    for (unsigned k = 0; k < NATIVE_SEGMENT_COUNT; k++) {
        total += image->segment[k].size;
    }
    nk_mutex_lock(&images.lock);
    struct nk_list *before = &images.list, *pos;
    nk_list_for_each(pos, &images.list)
    {
        const struct native_image *other = nk_list_entry(pos, struct native_image, link);
        if (other->base - base > total) {
            break;
        }
        base = other->end + NK_PAGE_SIZE;
        before = pos;
    }
    bool fits = base + total <= NK_NATIVE_IMAGES_END;
    if (fits) {
        image->base = base;
        image->end = base + total;
        nk_list_push_front(before, &image->link);
    }
    nk_mutex_unlock(&images.lock);
    if (!fits) {
        refuse(l, "no room for %llu KiB beside the applications that run",
               (unsigned long long)(total >> 10));
        return -ENOMEM;
    }
    for (unsigned k = 0; k < NATIVE_SEGMENT_COUNT; k++) {
        image->segment[k].va = base;
        base += image->segment[k].size;
    }
    return 0;
}

static int fill(struct loader *l)
{
    struct native_image *image = l->image;
    for (unsigned k = 0; k < NATIVE_SEGMENT_COUNT; k++) {
        struct native_segment *s = &image->segment[k];
        if (s->size &&
            buddy_alloc_pages(s->size / NK_PAGE_SIZE, NK_PAGE_SIZE, BUDDY_NODE_ANY, &s->pa) < 0) {
            s->pa = NK_PA(0);
            refuse(l, "no memory for %llu KiB of it", (unsigned long long)(s->size >> 10));
            return -ENOMEM;
        }
        if (s->size) {
            mm_tag_pages(s->pa, s->size / NK_PAGE_SIZE, MM_TAG_NATIVE);
            memset(nk_pa_to_va(s->pa), 0, s->size);
        }
    }
    for (unsigned i = 0; i < l->section_count; i++) {
        const struct elf_section *s = &l->section[i];
        if (is_loaded(s)) {
            const struct native_segment *to = &image->segment[segment_of(s)];
            if (s->type != ELF_NOBITS) {
                memcpy((char *)nk_pa_to_va(to->pa) + image->address[i], l->file + s->offset,
                       s->size);
            }
            image->address[i] += to->va;
            if (is_tls(s)) {
                image->tls.image = (const void *)image->address[i];
            }
        }
    }
    return 0;
}

static int resolve(struct loader *l, uint32_t index, uint64_t *value)
{
    if (index >= l->symbol_count) {
        return refuse(l, "a relocation names symbol %u of %llu", index,
                      (unsigned long long)l->symbol_count);
    }
    const struct elf_symbol *s = &l->symbol[index];
    if (s->section == ELF_ABSOLUTE) {
        *value = s->value;
        return 0;
    }
    if (s->section == ELF_UNDEFINED) {
        *value = native_export(name_of(l, s));
        bool weak = s->info >> 4 == ELF_WEAK;
        return *value || weak || index == 0
                   ? 0
                   : refuse(l, "the kernel has no \"%.80s\"", name_of(l, s));
    }
    if (s->section >= l->section_count || !l->image->address[s->section]) {
        return refuse(l, "symbol \"%.80s\" lies in a section that is not loaded", name_of(l, s));
    }
    *value = l->image->address[s->section] + s->value;
    return 0;
}

/* How far a thread-local symbol is from the end of a thread's block. */
static int resolve_tls(struct loader *l, uint32_t index, uint64_t *value)
{
    const struct native_tls *tls = &l->image->tls;
    const struct elf_symbol *s = index < l->symbol_count ? &l->symbol[index] : NULL;
    if (s == NULL || s->section >= l->section_count || !is_tls(&l->section[s->section])) {
        return refuse(l, "a relocation wants a __thread variable that is not there");
    }
    const struct elf_section *section = &l->section[s->section];
    uint64_t align = section->align ? section->align : 1;
    uint64_t from = section->type == ELF_NOBITS ? nk_align_up(tls->filled, align) : 0;
    *value = from + s->value - tls->size;
    return 0;
}

static bool fits_signed(uint64_t v)
{
    return (int64_t)v == (int32_t)v;
}

/* One relocation: at virtual address `place`, which is written at `at`, with `room` bytes left. */
static int relocate(struct loader *l, const struct elf_rela *r, uint8_t *at, uint64_t place_va,
                    uint64_t room)
{
    uint64_t value = 0;
    bool from_thread = r->type == ELF_R_TPOFF32;
    int err = (from_thread ? resolve_tls : resolve)(l, r->symbol, &value);
    if (err < 0) {
        return err;
    }
    value += (uint64_t)r->addend;
    bool wide = r->type == ELF_R_64 || r->type == ELF_R_PC64;
    bool relative = r->type == ELF_R_PC32 || r->type == ELF_R_PLT32 || r->type == ELF_R_PC64;
    if (!wide && !relative && !from_thread && r->type != ELF_R_32S && r->type != ELF_R_32) {
        return refuse(l, "relocation type %u is not supported: compile as docs/native.md says",
                      r->type);
    }
    value -= relative ? place_va : 0;
    if (room < (wide ? 8 : 4)) {
        return refuse(l, "a relocation lies beyond the end of its section");
    }
    if (!wide && !(r->type == ELF_R_32 ? value == (uint32_t)value : fits_signed(value))) {
        return refuse(l, "\"%.80s\" is out of reach: compile as docs/native.md says",
                      name_of(l, &l->symbol[r->symbol]));
    }
    memcpy(at, &value, wide ? 8 : 4);
    return 0;
}

static int relocate_all(struct loader *l)
{
    const struct native_image *image = l->image;
    for (unsigned i = 0; i < l->section_count; i++) {
        const struct elf_section *s = &l->section[i];
        if (s->type != ELF_RELA || s->info >= l->section_count || !image->address[s->info]) {
            continue;
        }
        const struct elf_section *target = &l->section[s->info];
        const struct native_segment *segment = &image->segment[segment_of(target)];
        uint8_t *bytes =
            (uint8_t *)nk_pa_to_va(segment->pa) + (image->address[s->info] - segment->va);
        const struct elf_rela *r = (const void *)(l->file + s->offset);
        for (uint64_t n = 0; n < s->size / sizeof(*r); n++) {
            struct elf_rela rela;
            memcpy(&rela, &r[n], sizeof(rela)); /* the section may lie anywhere */
            uint64_t room = rela.offset < target->size ? target->size - rela.offset : 0;
            int err = relocate(l, &rela, bytes + rela.offset, image->address[s->info] + rela.offset,
                               room);
            if (err < 0) {
                return err;
            }
        }
    }
    return 0;
}

static int find_entry(struct loader *l)
{
    for (uint64_t i = 0; i < l->symbol_count; i++) {
        const struct elf_symbol *s = &l->symbol[i];
        if (strcmp(name_of(l, s), ENTRY_NAME) == 0 && s->section != ELF_UNDEFINED) {
            return resolve(l, (uint32_t)i, &l->image->entry);
        }
    }
    return refuse(l, "it has no " ENTRY_NAME ": not linked with native/lib");
}

static int map(struct loader *l)
{
    static const unsigned prot_table[NATIVE_SEGMENT_COUNT] = {
        [NATIVE_TEXT] = PAGING_EXEC,
        [NATIVE_RODATA] = PAGING_READ,
        [NATIVE_DATA] = PAGING_WRITE,
    };
    for (unsigned k = 0; k < NATIVE_SEGMENT_COUNT; k++) {
        const struct native_segment *s = &l->image->segment[k];
        if (s->size && paging_map(s->va, s->pa, s->size, prot_table[k]) < 0) {
            while (k-- > 0) {
                paging_unmap(l->image->segment[k].va, l->image->segment[k].size);
            }
            refuse(l, "no memory for its page tables");
            return -ENOMEM;
        }
    }
    return 0;
}

static void release(struct native_image *image)
{
    if (image->base) {
        nk_mutex_lock(&images.lock);
        nk_list_remove(&image->link);
        nk_mutex_unlock(&images.lock);
    }
    for (unsigned k = 0; k < NATIVE_SEGMENT_COUNT; k++) {
        const struct native_segment *s = &image->segment[k];
        if (s->pa.v) {
            buddy_free_pages(s->pa, s->size / NK_PAGE_SIZE);
        }
    }
    kfree(image->address);
}

int native_image_load(struct native_image *image, const struct nk_module *module, char *why)
{
    *image = (struct native_image){.module = *module};
    struct loader l = {.image = image, .file = module->data, .size = module->size, .why = why};
    int (*const step_table[])(struct loader *) = {lay_out_tls,  lay_out,    place, fill,
                                                  relocate_all, find_entry, map};
    int err = read_header(&l);
    err = err < 0 ? err : check_sections(&l);
    err = err < 0 ? err : find_symbols(&l);
    if (err < 0) {
        return err;
    }
    image->address = kzalloc(l.section_count * sizeof(*image->address));
    if (!image->address) {
        refuse(&l, "no memory");
        return -ENOMEM;
    }
    for (unsigned i = 0; i < NK_ARRAY_COUNT(step_table) && err == 0; i++) {
        err = step_table[i](&l);
    }
    if (err < 0) {
        release(image);
    }
    return err;
}

void native_image_unload(struct native_image *image)
{
    for (unsigned k = 0; k < NATIVE_SEGMENT_COUNT; k++) {
        if (image->segment[k].size) {
            paging_unmap(image->segment[k].va, image->segment[k].size);
        }
    }
    release(image);
}

/* The file's tables were checked when it was loaded. */
const char *native_image_symbol(const struct native_image *image, uint64_t va, uint64_t *offset)
{
    char why[NATIVE_WHY_MAX];
    struct loader l = {.file = image->module.data, .size = image->module.size, .why = why};
    if (read_header(&l) < 0 || find_symbols(&l) < 0) {
        return NULL;
    }
    const char *name = NULL;
    *offset = UINT64_MAX;
    for (uint64_t i = 0; i < l.symbol_count; i++) {
        const struct elf_symbol *s = &l.symbol[i];
        if ((s->info & 15) != ELF_FUNCTION || s->section >= l.section_count) {
            continue;
        }
        uint64_t start = image->address[s->section] + s->value;
        if (start <= va && va - start < *offset) {
            *offset = va - start;
            name = name_of(&l, s);
        }
    }
    return name;
}
