/* ELF kernels, 32 and 64 bit, loaded to their physical addresses.
 * Spec: System V ABI, chapter 5, "Program Loading"; Xen's "ELF notes" for the PVH entry. */
#include "load/boot.h"

#define EI_CLASS    4
#define CLASS_32    1
#define CLASS_64    2
#define EI_DATA     5
#define DATA_LITTLE 1
#define HEADER_SIZE 64 /* of the larger class */
#define PT_LOAD     1
#define PT_NOTE     4
#define NOTE_PVH    18 /* XEN_ELFNOTE_PHYS32_ENTRY */
#define NOTE_HEADER 12
#define ADDRESS_MAX (UINT64_C(1) << 32) /* 32-bit entries reach no further */

struct program {
    uint32_t type;
    uint64_t offset, vaddr, paddr, file_size, memory_size;
};

bool boot_is_elf(const struct boot_file *f)
{
    static const uint8_t magic[4] = {0x7f, 'E', 'L', 'F'};

    return f->size >= HEADER_SIZE && __builtin_memcmp(f->data, magic, sizeof(magic)) == 0 &&
           f->data[EI_DATA] == DATA_LITTLE &&
           (f->data[EI_CLASS] == CLASS_32 || f->data[EI_CLASS] == CLASS_64);
}

static bool is_64(const struct boot_file *f)
{
    return f->data[EI_CLASS] == CLASS_64;
}

static unsigned program_count(const struct boot_file *f)
{
    return (unsigned)boot_get(f->data, is_64(f) ? 56 : 44, 2);
}

/* False: it is not within the file. */
static bool program_get(const struct boot_file *f, unsigned i, struct program *out)
{
    uint64_t offset = is_64(f) ? boot_get(f->data, 32, 8) : boot_get(f->data, 28, 4);
    uint64_t size = boot_get(f->data, is_64(f) ? 54 : 42, 2);
    const unsigned least = is_64(f) ? 56 : 32;
    const uint8_t *p;

    if (size < least || offset > f->size || (f->size - offset) / size <= i) {
        return false;
    }
    p = f->data + offset + i * size;
    out->type = (uint32_t)boot_get(p, 0, 4);
    if (is_64(f)) {
        out->offset = boot_get(p, 8, 8);
        out->vaddr = boot_get(p, 16, 8);
        out->paddr = boot_get(p, 24, 8);
        out->file_size = boot_get(p, 32, 8);
        out->memory_size = boot_get(p, 40, 8);
    } else {
        out->offset = boot_get(p, 4, 4);
        out->vaddr = boot_get(p, 8, 4);
        out->paddr = boot_get(p, 12, 4);
        out->file_size = boot_get(p, 16, 4);
        out->memory_size = boot_get(p, 20, 4);
    }
    return out->offset <= f->size && out->file_size <= f->size - out->offset;
}

static uint64_t align_4(uint64_t n)
{
    return (n + 3) & ~UINT64_C(3);
}

static uint64_t find_pvh_entry(const uint8_t *note, uint64_t size)
{
    while (size >= NOTE_HEADER) {
        uint64_t name = align_4(boot_get(note, 0, 4));
        uint64_t bytes = boot_get(note, 4, 4);
        uint64_t all = NOTE_HEADER + name + align_4(bytes);

        if (all > size) {
            return 0;
        }
        if (boot_get(note, 8, 4) == NOTE_PVH && name == 4 &&
            __builtin_memcmp(note + NOTE_HEADER, "Xen", 4) == 0 && (bytes == 4 || bytes == 8)) {
            return boot_get(note, NOTE_HEADER + name, (unsigned)bytes);
        }
        note += all;
        size -= all;
    }
    return 0;
}

static const char *check_load(const struct program *p, uint64_t ram_end)
{
    if (p->file_size > p->memory_size) {
        return "a segment of the file is larger than in memory";
    }
    if (p->paddr < BOOT_LOWEST) {
        return "a segment lies below 1 MiB";
    }
    if (p->paddr > ram_end || p->memory_size > ram_end - p->paddr) {
        return "a segment lies beyond the guest's RAM";
    }
    return NULL;
}

int boot_elf_check(const struct boot *b, struct boot_elf *out)
{
    const struct boot_file *f = &b->kernel;
    uint64_t entry = boot_get(f->data, 24, is_64(f) ? 8 : 4);
    uint64_t ram_end = boot_ram_end(b->vm);
    unsigned loads = 0;

    *out = (struct boot_elf){.entry = entry};
    for (unsigned i = 0; i < program_count(f); i++) {
        const char *why;
        struct program p;

        if (!program_get(f, i, &p)) {
            return boot_refuse(b, "truncated: a program header or segment lies beyond its end");
        }
        if (p.type == PT_NOTE && out->pvh_entry == 0) {
            out->pvh_entry = find_pvh_entry(f->data + p.offset, p.file_size);
        }
        if (p.type != PT_LOAD || p.memory_size == 0) {
            continue;
        }
        why = check_load(&p, ram_end);
        if (why != NULL) {
            return boot_refuse(b, why);
        }
        /* Kernels linked high name their entry by its virtual address. */
        if (entry - p.vaddr < p.memory_size) {
            out->entry = entry - p.vaddr + p.paddr;
        }
        if (p.paddr + p.memory_size > out->end) {
            out->end = p.paddr + p.memory_size;
        }
        loads++;
    }
    if (loads == 0) {
        return boot_refuse(b, "no segment to load");
    }
    if (out->entry >= ADDRESS_MAX || out->pvh_entry >= ADDRESS_MAX) {
        return boot_refuse(b, "its entry lies beyond 4 GiB");
    }
    return 0;
}

int boot_elf_load(const struct boot *b)
{
    const struct boot_file *f = &b->kernel;
    struct program p;

    for (unsigned i = 0; i < program_count(f) && program_get(f, i, &p); i++) {
        if (p.type != PT_LOAD || p.memory_size == 0) {
            continue;
        }
        if (vmm_memory_write(b->vm, VMM_GPA(p.paddr), f->data + p.offset, p.file_size) != 0 ||
            vmm_memory_zero(b->vm, VMM_GPA(p.paddr + p.file_size), p.memory_size - p.file_size) !=
                0) {
            return boot_refuse(b, "no memory behind the guest's RAM");
        }
    }
    return 0;
}

/* Only whether there is an entry: boot_elf_check() says what is wrong with it. */
bool boot_is_pvh(const struct boot_file *f)
{
    if (!boot_is_elf(f)) {
        return false;
    }
    for (unsigned i = 0; i < program_count(f); i++) {
        struct program p;

        if (program_get(f, i, &p) && p.type == PT_NOTE &&
            find_pvh_entry(f->data + p.offset, p.file_size) != 0) {
            return true;
        }
    }
    return false;
}
