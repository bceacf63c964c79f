/* The three ways into a Linux kernel.
 * Spec: Linux Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header" and "32-bit" and
 * "64-bit Boot Protocol"; zero-page.rst. */
#include "core/x86.h"
#include "load/linux.h"

/* Where the boot data lies; the kernel copies what it wants to keep and then uses this as RAM. */
#define GDT_GPA      UINT64_C(0x1000)
#define STACK_TOP    UINT64_C(0x2000)
#define TABLES_GPA   UINT64_C(0x2000) /* PML4, PDPT, 4 page directories */
#define TABLES_PAGES 6
#define PARAMS_GPA   UINT64_C(0x10000)
#define ARGS_GPA     UINT64_C(0x20000)

/* The setup code's segment: itself, then its heap and stack, then the command line. */
#define SETUP_SEGMENT   0x9000
#define SETUP_GPA       UINT64_C(0x90000)
#define SETUP_HEAP_END  0xe000
#define SETUP_HEAP_ROOM 0x2000 /* at least */
#define SETUP_STACK     0x200  /* the heap ends that much below the stack's end */
#define SETUP_ARGS      0xe000
#define CAN_USE_HEAP    0x80

#define LOADER_UNDEFINED 0xff

#define BOOT_CS     0x10
#define BOOT_DS     0x18
#define BOOT_TR     0x20
#define GDT_ENTRIES 6 /* the TSS descriptor takes two */

static void set_field(uint8_t *p, unsigned offset, unsigned size, uint64_t value)
{
    __builtin_memcpy(p + offset, &value, size);
}

/* What every boot loader fills in. */
static void fill_header(const struct boot *b, const struct linux_kernel *k, uint8_t *header,
                        uint64_t args)
{
    set_field(header, LINUX_LOADER_TYPE, 1, LOADER_UNDEFINED);
    set_field(header, LINUX_RAMDISK_IMAGE, 4, k->initrd);
    set_field(header, LINUX_RAMDISK_SIZE, 4, b->module.size);
    set_field(header, LINUX_ARGS, 4, args);
    if (k->version >= 0x209) {
        set_field(header, LINUX_SETUP_DATA, 8, 0);
    }
}

/* --- 64 and 32 bits: boot_params are ready ---------------------------------------------------- */

static int write_params(const struct boot *b, const struct linux_kernel *k, gpa_t rsdp)
{
    struct vmm_e820 map[LINUX_E820_MAX];
    unsigned count = vmm_e820_build(b->vm, map, LINUX_E820_MAX);
    uint8_t *params = vmm_memory_ptr_write(b->vm, VMM_GPA(PARAMS_GPA), LINUX_PARAMS_SIZE);

    if (params == NULL) {
        return -VMM_EFAULT;
    }
    __builtin_memset(params, 0, LINUX_PARAMS_SIZE);
    __builtin_memcpy(params + LINUX_HEADER, k->file + LINUX_HEADER, k->header_end - LINUX_HEADER);
    fill_header(b, k, params, ARGS_GPA);
    set_field(params, LINUX_CODE32_START, 4, k->address);
    set_field(params, LINUX_ACPI_RSDP, 8, rsdp.v);
    set_field(params, LINUX_E820_COUNT, 1, count);
    __builtin_memcpy(params + LINUX_E820, map, count * sizeof(map[0]));
    return vmm_memory_write(b->vm, VMM_GPA(ARGS_GPA), b->args, __builtin_strlen(b->args) + 1);
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
    v->rip = kernel + LINUX_ENTRY_64;
}

static int enter_64(const struct boot *b, const struct linux_kernel *k, gpa_t rsdp)
{
    if (write_params(b, k, rsdp) != 0 || write_gdt(b->vm) != 0 || write_tables(b->vm) != 0) {
        return boot_refuse(b, "no memory behind the guest's RAM");
    }
    set_registers(b->vm->vcpu[0], k->address);
    return 0;
}

static int enter_32(const struct boot *b, const struct linux_kernel *k, gpa_t rsdp)
{
    int error;

    if (write_params(b, k, rsdp) != 0) {
        return boot_refuse(b, "no memory behind the guest's RAM");
    }
    error = boot_enter_protected(b, (uint32_t)k->address, 0, 0);
    b->vm->vcpu[0]->gpr[VMM_RSI] = PARAMS_GPA;
    return error;
}

/* --- 16 bits: the kernel's own setup code asks the BIOS and fills boot_params -------------------
 */

static int enter_16(const struct boot *b, const struct linux_kernel *k)
{
    uint8_t header[LINUX_HEADER_END];

    if (k->setup_size > SETUP_HEAP_END - SETUP_HEAP_ROOM) {
        return boot_refuse(b, "setup code too large for its segment");
    }
    __builtin_memcpy(header, k->file, sizeof(header));
    fill_header(b, k, header, SETUP_GPA + SETUP_ARGS);
    header[LINUX_LOADFLAGS] |= CAN_USE_HEAP;
    set_field(header, LINUX_HEAP_END, 2,
              SETUP_HEAP_END - SETUP_STACK - 0x200); /* spec: less 0x200 */
    if (vmm_memory_zero(b->vm, VMM_GPA(SETUP_GPA), SETUP_HEAP_END) != 0 ||
        vmm_memory_write(b->vm, VMM_GPA(SETUP_GPA), k->file, k->setup_size) != 0 ||
        vmm_memory_write(b->vm, VMM_GPA(SETUP_GPA), header, sizeof(header)) != 0 ||
        vmm_memory_write(b->vm, VMM_GPA(SETUP_GPA + SETUP_ARGS), b->args,
                         __builtin_strlen(b->args) + 1) != 0) {
        return boot_refuse(b, "no memory behind the guest's RAM");
    }
    return boot_enter_real(b, SETUP_SEGMENT + 0x20, 0, SETUP_SEGMENT, SETUP_HEAP_END);
}

int linux_enter(const struct boot *b, const struct linux_kernel *k, gpa_t rsdp)
{
    switch (k->entry) {
    case VM_PROTOCOL_LINUX64:
        return enter_64(b, k, rsdp);
    case VM_PROTOCOL_LINUX32:
        return enter_32(b, k, rsdp);
    default:
        return enter_16(b, k);
    }
}
