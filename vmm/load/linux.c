/* Linux kernels: what their header says, and where kernel and initial RAM disk go; linux_enter.c
 * does the rest, by one of the protocol's three entries. Spec: Linux
 * Documentation/arch/x86/boot.rst. */
#include "load/linux.h"

#include "core/x86.h"

#define HIGH_MEMORY UINT64_C(0x100000)
#define LOW_LOAD    UINT64_C(0x10000) /* of a zImage */
#define LOW_END     UINT64_C(0x90000)
#define SECTOR      512
#define PARAGRAPH   16

#define BOOT_FLAG     0xaa55
#define HEADER_MAGIC  0x53726448 /* "HdrS" */
#define VERSION_MIN   0x0202     /* the command line's address */
#define LOADED_HIGH   (1U << 0)
#define XLF_KERNEL_64 (1U << 0)

/* Before the header had fields for them. */
#define OLD_INITRD_MAX UINT64_C(0x37ffffff)
#define OLD_ARGS_MAX   255

/* A field of the header, or what held before the version that brought it. */
static uint64_t since(const struct linux_kernel *k, unsigned version, unsigned offset,
                      unsigned size, uint64_t before)
{
    return k->version >= version ? boot_get(k->file, offset, size) : before;
}

static enum vm_protocol natural_entry(const struct linux_kernel *k)
{
    if ((since(k, 0x20c, LINUX_XLOADFLAGS, 2, 0) & XLF_KERNEL_64) != 0) {
        return VM_PROTOCOL_LINUX64;
    }
    /* Boot loaders that only look like Linux have no code there. */
    return k->loaded_high && boot_get(k->file, LINUX_CODE32_START, 4) != 0 ? VM_PROTOCOL_LINUX32
                                                                           : VM_PROTOCOL_LINUX16;
}

static const char *choose_entry(struct linux_kernel *k, enum vm_protocol wanted)
{
    enum vm_protocol natural = natural_entry(k);

    k->entry = wanted == VM_PROTOCOL_AUTO ? natural : wanted;
    if (k->entry == VM_PROTOCOL_LINUX64 && natural != VM_PROTOCOL_LINUX64) {
        return "no 64-bit entry: not an x86-64 kernel";
    }
    if (k->entry == VM_PROTOCOL_LINUX32 && natural == VM_PROTOCOL_LINUX16) {
        return "no 32-bit entry";
    }
    return NULL;
}

/* Is this a kernel that can be entered at all? */
static const char *identify(const struct boot_file *f)
{
    if (f->size < LINUX_HEADER_END) {
        return "too short for a Linux kernel";
    }
    if (!boot_is_linux(f)) {
        return "not a Linux kernel (bzImage)";
    }
    return boot_get(f->data, LINUX_VERSION, 2) < VERSION_MIN ? "boot protocol older than 2.02"
                                                             : NULL;
}

static void read_header(const struct boot_file *f, struct linux_kernel *k)
{
    uint64_t setup_sectors = f->data[LINUX_SETUP_SECTS] != 0 ? f->data[LINUX_SETUP_SECTS] : 4;
    uint64_t paragraphs;

    *k = (struct linux_kernel){
        .file = f->data,
        .version = (unsigned)boot_get(f->data, LINUX_VERSION, 2),
        .setup_size = (setup_sectors + 1) * SECTOR,
        .loaded_high = (f->data[LINUX_LOADFLAGS] & LOADED_HIGH) != 0,
        .header_end = LINUX_MAGIC + (uint64_t)f->data[LINUX_HEADER_LENGTH],
    };
    paragraphs = boot_get(f->data, LINUX_SYSSIZE, k->version >= 0x204 ? 4 : 2);
    k->image_size = paragraphs * PARAGRAPH;
    k->relocatable = since(k, 0x205, LINUX_RELOCATABLE, 1, 0) != 0;
    k->alignment = k->relocatable ? boot_get(f->data, LINUX_ALIGNMENT, 4) : VMM_PAGE_SIZE;
    k->preferred = since(k, 0x20a, LINUX_PREF_ADDRESS, 8, k->loaded_high ? HIGH_MEMORY : LOW_LOAD);
    k->init_size = since(k, 0x20a, LINUX_INIT_SIZE, 4, k->image_size);
    k->initrd_max = since(k, 0x203, LINUX_INITRD_MAX, 4, OLD_INITRD_MAX);
    k->args_max = since(k, 0x206, LINUX_ARGS_SIZE, 4, OLD_ARGS_MAX);
}

static const char *check_header(const struct boot_file *f, struct linux_kernel *k)
{
    uint64_t rest = f->size > k->setup_size ? f->size - k->setup_size : 0;
    uint64_t shortest = k->version >= 0x20a ? LINUX_HEADER_END : LINUX_HEADER_END_202;

    /* It counts in paragraphs, and the last one need not be whole. */
    if (k->image_size > rest && k->image_size - rest < PARAGRAPH) {
        k->image_size = rest;
    }
    if (k->image_size > rest) {
        return "truncated: shorter than its header says";
    }
    if (k->image_size <= LINUX_ENTRY_64) {
        return "header says that the kernel is empty";
    }
    if (k->header_end < shortest || k->header_end > LINUX_E820 || k->header_end > f->size) {
        return "header has an impossible length";
    }
    if (k->alignment < VMM_PAGE_SIZE || (k->alignment & (k->alignment - 1)) != 0) {
        return "header has an impossible kernel_alignment";
    }
    if (k->init_size < k->image_size) {
        return "header's init_size is less than the kernel itself";
    }
    return NULL;
}

static int no_room(const struct boot *b, const struct linux_kernel *k, uint64_t at, uint64_t end)
{
    return vmm_fail(b->vm->vmm, b->err, VMM_ENOSPC,
                    "%s: %s: needs %llu KiB of RAM at %#llx, and RAM ends at %#llx",
                    b->vm->config.name, b->kernel.name,
                    (unsigned long long)((k->init_size + 1023) / 1024), (unsigned long long)at,
                    (unsigned long long)end);
}

/* The kernel wants init_size bytes from its load address: it decompresses itself in place. */
static int place_kernel(const struct boot *b, struct linux_kernel *k)
{
    uint64_t ram_end = boot_ram_end(b->vm);
    uint64_t lowest = (HIGH_MEMORY + k->alignment - 1) & ~(k->alignment - 1);
    bool preferred_fits = k->preferred >= HIGH_MEMORY && k->preferred < ram_end &&
                          ram_end - k->preferred >= k->init_size &&
                          (!k->relocatable || k->preferred % k->alignment == 0);

    if (preferred_fits) {
        k->address = k->preferred;
        return 0;
    }
    if (k->relocatable && lowest < ram_end && ram_end - lowest >= k->init_size) {
        k->address = lowest;
        return 0;
    }
    return no_room(b, k, k->relocatable ? lowest : k->preferred, ram_end);
}

/* The setup code expects the kernel where every boot loader has put it since the first bzImage;
 * from there the kernel goes to its preferred place by itself. */
static int place_for_setup(const struct boot *b, struct linux_kernel *k)
{
    uint64_t ram_end = boot_ram_end(b->vm);

    k->address = k->loaded_high ? HIGH_MEMORY : LOW_LOAD;
    if (!k->loaded_high && k->image_size > LOW_END - LOW_LOAD) {
        return boot_refuse(b, "a zImage too large for the memory below 576 KiB");
    }
    if (k->loaded_high && (ram_end - HIGH_MEMORY < k->image_size || k->preferred > ram_end ||
                           (k->version >= 0x20a && ram_end - k->preferred < k->init_size))) {
        return no_room(b, k, k->version >= 0x20a ? k->preferred : HIGH_MEMORY, ram_end);
    }
    return 0;
}

/* Where the kernel's own memory ends, above which an initial RAM disk is safe. */
static uint64_t kernel_end(const struct linux_kernel *k)
{
    uint64_t end = k->address + k->image_size;
    uint64_t later =
        k->entry == VM_PROTOCOL_LINUX16 && k->version >= 0x20a ? k->preferred : k->address;

    if (later + k->init_size > end) {
        end = later + k->init_size;
    }
    return end < HIGH_MEMORY ? HIGH_MEMORY : end;
}

static int check_args(const struct boot *b, const struct linux_kernel *k)
{
    uint64_t length = __builtin_strlen(b->args);

    if (length > k->args_max || length >= LINUX_ARGS_ROOM) {
        return vmm_fail(b->vm->vmm, b->err, VMM_E2BIG,
                        "%s: boot_args: %llu characters, %s takes at most %llu", b->vm->config.name,
                        (unsigned long long)length, b->kernel.name,
                        (unsigned long long)k->args_max);
    }
    return 0;
}

static int parse(const struct boot *b, struct linux_kernel *k)
{
    const char *why = identify(&b->kernel);

    if (why == NULL) {
        read_header(&b->kernel, k);
        why = check_header(&b->kernel, k);
    }
    if (why == NULL) {
        why = choose_entry(k, b->vm->config.protocol);
    }
    return why == NULL ? check_args(b, k) : boot_refuse(b, why);
}

bool boot_is_linux(const struct boot_file *f)
{
    return f->size >= LINUX_HEADER_END && boot_get(f->data, LINUX_BOOT_FLAG, 2) == BOOT_FLAG &&
           boot_get(f->data, LINUX_MAGIC, 4) == HEADER_MAGIC;
}

int boot_load_linux(const struct boot *b)
{
    struct linux_kernel k = {0};
    gpa_t rsdp = VMM_GPA(0);
    int error = parse(b, &k);

    if (error == 0) {
        error = k.entry == VM_PROTOCOL_LINUX16 ? place_for_setup(b, &k) : place_kernel(b, &k);
    }
    if (error == 0 && b->module.size != 0) {
        error = boot_place_module(b, kernel_end(&k), k.initrd_max + 1, &k.initrd);
    }
    if (error == 0) {
        error = vmm_acpi_build(b->vm, &rsdp, b->err);
    }
    if (error == 0 &&
        vmm_memory_write(b->vm, VMM_GPA(k.address), k.file + k.setup_size, k.image_size) != 0) {
        error = boot_refuse(b, "no memory behind the guest's RAM");
    }
    return error == 0 ? linux_enter(b, &k, rsdp) : error;
}
