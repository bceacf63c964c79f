/* Linux kernels, by the 64-bit entry of the boot protocol.
 * Spec: Linux Documentation/arch/x86/boot.rst, "64-bit Boot Protocol"; zero-page.rst. */
#include "core/x86.h"
#include "load/boot.h"

/* Where the boot data lies; the kernel copies what it wants to keep and then uses this as RAM. */
#define GDT_GPA      UINT64_C(0x1000)
#define STACK_TOP    UINT64_C(0x2000)
#define TABLES_GPA   UINT64_C(0x2000) /* PML4, PDPT, 4 page directories */
#define TABLES_PAGES 6
#define PARAMS_GPA   UINT64_C(0x10000)
#define ARGS_GPA     UINT64_C(0x20000)
#define ARGS_ROOM    UINT64_C(0x10000)

#define HIGH_MEMORY UINT64_C(0x100000)
#define SECTOR      512

/* boot_params and the header inside it (at 0x1f1), which begins the file. */
#define PARAMS_SIZE     4096
#define P_ACPI_RSDP     0x070
#define P_E820_COUNT    0x1e8
#define P_HEADER        0x1f1
#define P_SETUP_SECTS   0x1f1
#define P_SYSSIZE       0x1f4
#define P_BOOT_FLAG     0x1fe
#define P_HEADER_LENGTH 0x201 /* of what follows 0x202 */
#define P_MAGIC         0x202
#define P_VERSION       0x206
#define P_LOADER_TYPE   0x210
#define P_LOADFLAGS     0x211
#define P_RAMDISK_IMAGE 0x218
#define P_RAMDISK_SIZE  0x21c
#define P_ARGS          0x228
#define P_INITRD_MAX    0x22c
#define P_ALIGNMENT     0x230
#define P_RELOCATABLE   0x234
#define P_XLOADFLAGS    0x236
#define P_ARGS_SIZE     0x238
#define P_SETUP_DATA    0x250
#define P_PREF_ADDRESS  0x258
#define P_INIT_SIZE     0x260
#define P_HEADER_END    0x268
#define P_E820          0x2d0
#define E820_MAX        128

#define BOOT_FLAG        0xaa55
#define HEADER_MAGIC     0x53726448 /* "HdrS" */
#define VERSION_MIN      0x020c     /* xloadflags */
#define LOADED_HIGH      (1U << 0)
#define XLF_KERNEL_64    (1U << 0)
#define LOADER_UNDEFINED 0xff
#define ENTRY_64         0x200

#define BOOT_CS     0x10
#define BOOT_DS     0x18
#define BOOT_TR     0x20
#define GDT_ENTRIES 6 /* the TSS descriptor takes two */

/* What the header says, checked. */
struct kernel {
    const uint8_t *file;
    uint64_t image_offset, image_size; /* the part that is loaded */
    uint64_t alignment, preferred, init_size, initrd_max, args_max;
    bool relocatable;
    uint64_t header_end;
};

static uint64_t field(const uint8_t *p, unsigned offset, unsigned size)
{
    uint64_t value = 0;

    __builtin_memcpy(&value, p + offset, size);
    return value;
}

static void set_field(uint8_t *p, unsigned offset, unsigned size, uint64_t value)
{
    __builtin_memcpy(p + offset, &value, size);
}

static int refuse(struct vm *vm, struct vmm_error *err, const char *why)
{
    return vmm_fail(vm->vmm, err, VMM_EINVAL, "%s: %s: %s", vm->config.name, vm->config.kernel_path,
                    why);
}

/* Is this a kernel that can be entered in 64-bit mode at all? */
static const char *identify(const uint8_t *file, uint64_t size)
{
    if (size < P_HEADER_END) {
        return "too short for a Linux kernel";
    }
    if (field(file, P_BOOT_FLAG, 2) != BOOT_FLAG || field(file, P_MAGIC, 4) != HEADER_MAGIC) {
        return "not a Linux kernel (bzImage)";
    }
    if (field(file, P_VERSION, 2) < VERSION_MIN) {
        return "boot protocol older than 2.12, which the 64-bit entry needs";
    }
    if ((file[P_LOADFLAGS] & LOADED_HIGH) == 0) {
        return "a zImage, which loads below 1 MiB; a bzImage is needed";
    }
    if ((field(file, P_XLOADFLAGS, 2) & XLF_KERNEL_64) == 0) {
        return "no 64-bit entry: not an x86-64 kernel";
    }
    return NULL;
}

static const char *parse(const uint8_t *file, uint64_t size, struct kernel *k)
{
    uint64_t setup_sectors = file[P_SETUP_SECTS] != 0 ? file[P_SETUP_SECTS] : 4;

    *k = (struct kernel){
        .file = file,
        .image_offset = (setup_sectors + 1) * SECTOR,
        .image_size = field(file, P_SYSSIZE, 4) * 16,
        .alignment = field(file, P_ALIGNMENT, 4),
        .preferred = field(file, P_PREF_ADDRESS, 8),
        .init_size = field(file, P_INIT_SIZE, 4),
        .initrd_max = field(file, P_INITRD_MAX, 4),
        .args_max = field(file, P_ARGS_SIZE, 4),
        .relocatable = file[P_RELOCATABLE] != 0,
        .header_end = P_MAGIC + (uint64_t)file[P_HEADER_LENGTH],
    };
    if (k->image_offset > size || k->image_size > size - k->image_offset) {
        return "truncated: shorter than its header says";
    }
    if (k->image_size <= ENTRY_64) {
        return "header says that the kernel is empty";
    }
    if (k->header_end < P_HEADER_END || k->header_end > P_E820 || k->header_end > size) {
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

/* The kernel wants init_size bytes from its load address: it decompresses itself in place. */
static int place_kernel(struct vm *vm, const struct kernel *k, uint64_t *address,
                        struct vmm_error *err)
{
    uint64_t ram_end = boot_ram_end(vm);
    uint64_t lowest = (HIGH_MEMORY + k->alignment - 1) & ~(k->alignment - 1);
    bool preferred_fits = k->preferred >= HIGH_MEMORY && k->preferred < ram_end &&
                          ram_end - k->preferred >= k->init_size &&
                          (!k->relocatable || k->preferred % k->alignment == 0);

    if (preferred_fits) {
        *address = k->preferred;
        return 0;
    }
    if (k->relocatable && lowest < ram_end && ram_end - lowest >= k->init_size) {
        *address = lowest;
        return 0;
    }
    return vmm_fail(
        vm->vmm, err, VMM_ENOSPC, "%s: %s: needs %llu KiB of RAM at %#llx, and RAM ends at %#llx",
        vm->config.name, vm->config.kernel_path, (unsigned long long)((k->init_size + 1023) / 1024),
        (unsigned long long)(k->relocatable ? lowest : k->preferred), (unsigned long long)ram_end);
}

/* As high as the kernel can reach, as boot loaders do: out of the way of what it unpacks. */
static int place_initrd(struct vm *vm, const struct kernel *k, uint64_t kernel_end, uint64_t size,
                        uint64_t *address, struct vmm_error *err)
{
    uint64_t limit = k->initrd_max + 1;
    uint64_t end = boot_ram_end(vm);

    if (end > limit) {
        end = limit;
    }
    if (end < kernel_end || ((end - kernel_end) & ~(VMM_PAGE_SIZE - 1)) < size) {
        return vmm_fail(vm->vmm, err, VMM_ENOSPC,
                        "%s: %s: %llu KiB do not fit between the kernel's end at %#llx and %#llx",
                        vm->config.name, vm->config.initrd_path,
                        (unsigned long long)((size + 1023) / 1024), (unsigned long long)kernel_end,
                        (unsigned long long)end);
    }
    *address = (end - size) & ~(VMM_PAGE_SIZE - 1);
    return 0;
}

static int write_args(struct vm *vm, const struct kernel *k, const char *args,
                      struct vmm_error *err)
{
    uint64_t length = __builtin_strlen(args);

    if (length > k->args_max || length >= ARGS_ROOM) {
        return vmm_fail(vm->vmm, err, VMM_E2BIG,
                        "%s: boot_args: %llu characters, %s takes at most %llu", vm->config.name,
                        (unsigned long long)length, vm->config.kernel_path,
                        (unsigned long long)k->args_max);
    }
    return vmm_memory_write(vm, VMM_GPA(ARGS_GPA), args, length + 1);
}

static int write_params(struct vm *vm, const struct kernel *k, uint64_t initrd,
                        uint64_t initrd_size, gpa_t rsdp)
{
    struct vmm_e820 map[E820_MAX];
    unsigned count = vmm_e820_build(vm, map, E820_MAX);
    uint8_t *params = vmm_memory_ptr_write(vm, VMM_GPA(PARAMS_GPA), PARAMS_SIZE);

    if (params == NULL) {
        return -VMM_EFAULT;
    }
    __builtin_memset(params, 0, PARAMS_SIZE);
    __builtin_memcpy(params + P_HEADER, k->file + P_HEADER, k->header_end - P_HEADER);
    set_field(params, P_LOADER_TYPE, 1, LOADER_UNDEFINED);
    set_field(params, P_RAMDISK_IMAGE, 4, initrd);
    set_field(params, P_RAMDISK_SIZE, 4, initrd_size);
    set_field(params, P_ARGS, 4, ARGS_GPA);
    set_field(params, P_SETUP_DATA, 8, 0);
    set_field(params, P_ACPI_RSDP, 8, rsdp.v);
    set_field(params, P_E820_COUNT, 1, count);
    __builtin_memcpy(params + P_E820, map, count * sizeof(map[0]));
    return 0;
}

/* Flat segments at the selectors the protocol names, and a task state segment, which VMX demands.
 */
static int write_gdt(struct vm *vm)
{
    static const uint64_t gdt[GDT_ENTRIES] = {
        [BOOT_CS / 8] = UINT64_C(0x00af9b000000ffff),
        [BOOT_DS / 8] = UINT64_C(0x00cf93000000ffff),
        [BOOT_TR / 8] = UINT64_C(0x00008b0000000067),
    };

    return vmm_memory_write(vm, VMM_GPA(GDT_GPA), gdt, sizeof(gdt));
}

/* Identity map of the first 4 GiB in 2 MiB pages: 1 GiB pages need not be there. */
static int write_tables(struct vm *vm)
{
    const uint64_t present = 0x3, large = 0x83; /* P, W; and PS */

    for (unsigned page = 0; page < TABLES_PAGES; page++) {
        uint64_t gpa = TABLES_GPA + page * VMM_PAGE_SIZE;
        uint64_t *entry = vmm_memory_ptr_write(vm, VMM_GPA(gpa), VMM_PAGE_SIZE);

        if (entry == NULL) {
            return -VMM_EFAULT;
        }
        __builtin_memset(entry, 0, VMM_PAGE_SIZE);
        if (page == 0) {
            entry[0] = (gpa + VMM_PAGE_SIZE) | present;
        } else if (page == 1) {
            for (unsigned i = 0; i < 4; i++) {
                entry[i] = (gpa + (1 + i) * VMM_PAGE_SIZE) | present;
            }
        } else {
            for (uint64_t i = 0; i < 512; i++) {
                entry[i] = ((page - 2) * 512 + i) << 21 | large;
            }
        }
    }
    return 0;
}

static void set_registers(struct vcpu *v, uint64_t kernel)
{
    static const struct vmm_segment_state code = {BOOT_CS, 0xa9b, 0xffffffff, 0};
    static const struct vmm_segment_state data = {BOOT_DS, 0xc93, 0xffffffff, 0};
    static const struct vmm_segment_state task = {BOOT_TR, 0x08b, 0x67, 0};
    static const struct vmm_segment_state none = {0, 0x082, 0, 0};
    static const struct vmm_segment_state gdt = {0, 0, GDT_ENTRIES * 8 - 1, GDT_GPA};
    static const struct vmm_segment_state idt = {0, 0, 0, 0};
    const struct vmm_backend *b = v->backend;

    b->set_sysreg(v, VMM_CR4, X86_CR4_PAE);
    b->set_sysreg(v, VMM_CR3, TABLES_GPA);
    b->set_sysreg(v, VMM_EFER, X86_EFER_LME | X86_EFER_LMA);
    b->set_sysreg(v, VMM_CR0, X86_CR0_PG | X86_CR0_PE | X86_CR0_ET | X86_CR0_NE);
    b->set_segment(v, VMM_SEG_CS, &code);
    b->set_segment(v, VMM_SEG_DS, &data);
    b->set_segment(v, VMM_SEG_ES, &data);
    b->set_segment(v, VMM_SEG_SS, &data);
    b->set_segment(v, VMM_SEG_FS, &data);
    b->set_segment(v, VMM_SEG_GS, &data);
    b->set_segment(v, VMM_SEG_TR, &task);
    b->set_segment(v, VMM_SEG_LDTR, &none);
    b->set_segment(v, VMM_SEG_GDTR, &gdt);
    b->set_segment(v, VMM_SEG_IDTR, &idt);
    __builtin_memset(v->gpr, 0, sizeof(v->gpr));
    v->gpr[VMM_RSI] = PARAMS_GPA;
    v->gpr[VMM_RSP] = STACK_TOP;
    v->rflags = X86_RFLAGS_FIXED;
    v->rip = kernel + ENTRY_64;
}

int vmm_load_bzimage(struct vm *vm, const void *kernel, uint64_t kernel_size, const void *initrd,
                     uint64_t initrd_size, const char *args, struct vmm_error *err)
{
    const char *why = identify(kernel, kernel_size);
    uint64_t address = 0, initrd_address = 0;
    gpa_t rsdp = VMM_GPA(0);
    struct kernel k;
    int error;

    if (why == NULL) {
        why = parse(kernel, kernel_size, &k);
    }
    if (why != NULL) {
        return refuse(vm, err, why);
    }
    error = place_kernel(vm, &k, &address, err);
    if (error == 0 && initrd_size != 0) {
        error = place_initrd(vm, &k, address + k.init_size, initrd_size, &initrd_address, err);
    }
    if (error == 0) {
        error = vmm_acpi_build(vm, &rsdp, err);
    }
    if (error == 0) {
        error = write_args(vm, &k, args, err);
    }
    if (error != 0) {
        return error;
    }
    if (vmm_memory_write(vm, VMM_GPA(address), k.file + k.image_offset, k.image_size) != 0 ||
        (initrd_size != 0 &&
         vmm_memory_write(vm, VMM_GPA(initrd_address), initrd, initrd_size) != 0) ||
        write_params(vm, &k, initrd_address, initrd_size, rsdp) != 0 || write_gdt(vm) != 0 ||
        write_tables(vm) != 0) {
        return vmm_fail(vm->vmm, err, VMM_ENOMEM, "%s: no memory behind the guest's RAM",
                        vm->config.name);
    }
    set_registers(vm->vcpu[0], address);
    return 0;
}

bool boot_is_linux(const struct boot_file *f)
{
    return f->size >= P_HEADER_END && field(f->data, P_BOOT_FLAG, 2) == BOOT_FLAG &&
           field(f->data, P_MAGIC, 4) == HEADER_MAGIC;
}

int boot_load_linux(const struct boot *b)
{
    return vmm_load_bzimage(b->vm, b->kernel.data, b->kernel.size, b->module.data, b->module.size,
                            b->args, b->err);
}
