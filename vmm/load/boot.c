/* What the loaders share. */
#include "load/boot.h"

#include "core/x86.h"

#define CODE_SELECTOR 0x10
#define DATA_SELECTOR 0x18
#define TASK_SELECTOR 0x20
#define GDT_ENTRIES   5

int boot_refuse(const struct boot *b, const char *why)
{
    return vmm_fail(b->vm->vmm, b->err, VMM_EINVAL, "%s: %s: %s", b->vm->config.name,
                    b->kernel.name, why);
}

uint64_t boot_ram_end(const struct vm *vm)
{
    const struct vmm_region *r = vmm_memory_find(vm, VMM_GPA(BOOT_LOWEST));

    return r != NULL && r->kind == VMM_REGION_RAM ? r->base.v + r->size : BOOT_LOWEST;
}

static int place(const struct boot *b, const struct boot_file *f, uint64_t floor, uint64_t limit,
                 uint64_t *address)
{
    uint64_t end = boot_ram_end(b->vm);

    if (end > limit) {
        end = limit;
    }
    if (end < floor || ((end - floor) & -VMM_PAGE_SIZE) < f->size) {
        return vmm_fail(b->vm->vmm, b->err, VMM_ENOSPC,
                        "%s: %s: %llu KiB do not fit between the kernel's end at %#llx and %#llx",
                        b->vm->config.name, f->name, (unsigned long long)(f->size + 1023) / 1024,
                        (unsigned long long)floor, (unsigned long long)end);
    }
    *address = (end - f->size) & -VMM_PAGE_SIZE;
    if (vmm_memory_write(b->vm, VMM_GPA(*address), f->data, f->size) != 0) {
        return boot_refuse(b, "no memory behind the guest's RAM");
    }
    return 0;
}

int boot_place_module(const struct boot *b, uint64_t floor, uint64_t limit, uint64_t *address)
{
    return place(b, &b->module, floor, limit, address);
}

int boot_place_modules(const struct boot *b, uint64_t floor, struct boot_modules *out)
{
    uint64_t limit = UINT32_MAX;
    int error = 0;

    out->count = 0;
    if (b->module.size != 0) {
        out->entry[out->count++].file = &b->module;
    }
    for (unsigned i = 0; i < b->more_count; i++) {
        out->entry[out->count++].file = &b->more[i];
    }
    for (unsigned i = out->count; i > 0 && error == 0; i--) {
        error = place(b, out->entry[i - 1].file, floor, limit, &out->entry[i - 1].address);
        limit = out->entry[i - 1].address;
    }
    return error;
}

int boot_write_args(const struct boot *b, bool named)
{
    uint64_t name = named ? __builtin_strlen(b->kernel.name) : 0;
    uint64_t args = __builtin_strlen(b->args);
    uint64_t at = BOOT_ARGS;

    if (name + 1 + args + 1 > BOOT_ARGS_MAX) {
        return boot_refuse(b, "boot_args are too long");
    }
    if (named) {
        if (vmm_memory_write(b->vm, VMM_GPA(at), b->kernel.name, name) != 0 ||
            vmm_memory_write(b->vm, VMM_GPA(at + name), " ", 1) != 0) {
            return boot_refuse(b, "no memory behind the guest's RAM");
        }
        at += name + 1;
    }
    if (vmm_memory_write(b->vm, VMM_GPA(at), b->args, args + 1) != 0) {
        return boot_refuse(b, "no memory behind the guest's RAM");
    }
    return 0;
}

int boot_load_addresses(const struct boot *b, const struct boot_addresses *a, uint64_t *end)
{
    uint64_t before = (uint64_t)a->header - a->load; /* bytes of the image before the header */
    uint64_t offset = a->offset - before;
    uint64_t bytes;

    if (a->header < a->load || before > a->offset) {
        return boot_refuse(b, "multiboot header: impossible load address");
    }
    bytes = a->load_end == 0 ? b->kernel.size - offset : (uint64_t)a->load_end - a->load;
    if ((a->load_end != 0 && a->load_end < a->load) || bytes > b->kernel.size - offset) {
        return boot_refuse(b, "multiboot header: the image is longer than the file");
    }
    *end = a->bss_end == 0 ? a->load + bytes : a->bss_end;
    if (a->load < BOOT_LOWEST || *end < a->load + bytes || *end > boot_ram_end(b->vm)) {
        return boot_refuse(b, "multiboot header: the image does not fit into the guest's RAM");
    }
    if (vmm_memory_write(b->vm, VMM_GPA(a->load), b->kernel.data + offset, bytes) != 0 ||
        vmm_memory_zero(b->vm, VMM_GPA(a->load + bytes), *end - a->load - bytes) != 0) {
        return boot_refuse(b, "no memory behind the guest's RAM");
    }
    return 0;
}

static void set_segments(struct vcpu *v)
{
    static const struct vmm_segment_state code = {CODE_SELECTOR, 0xc9b, 0xffffffff, 0};
    static const struct vmm_segment_state data = {DATA_SELECTOR, 0xc93, 0xffffffff, 0};
    static const struct vmm_segment_state task = {TASK_SELECTOR, 0x08b, 0x67, 0};
    static const struct vmm_segment_state none = {0, 0x082, 0, 0};
    static const struct vmm_segment_state gdt = {0, 0, GDT_ENTRIES * 8 - 1, BOOT_GDT};
    static const struct vmm_segment_state idt = {0, 0, 0, 0};
    static const enum vmm_segment data_table[] = {VMM_SEG_DS, VMM_SEG_ES, VMM_SEG_SS, VMM_SEG_FS,
                                                  VMM_SEG_GS};
    const struct vmm_backend *b = v->backend;

    b->set_segment(v, VMM_SEG_CS, &code);
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(data_table); i++) {
        b->set_segment(v, data_table[i], &data);
    }
    b->set_segment(v, VMM_SEG_TR, &task);
    b->set_segment(v, VMM_SEG_LDTR, &none);
    b->set_segment(v, VMM_SEG_GDTR, &gdt);
    b->set_segment(v, VMM_SEG_IDTR, &idt);
}

int boot_enter_protected(const struct boot *b, uint32_t entry, uint32_t eax, uint32_t ebx)
{
    static const uint64_t gdt[GDT_ENTRIES] = {
        [CODE_SELECTOR / 8] = UINT64_C(0x00cf9b000000ffff),
        [DATA_SELECTOR / 8] = UINT64_C(0x00cf93000000ffff),
        [TASK_SELECTOR / 8] = UINT64_C(0x00008b0000000067),
    };
    struct vcpu *v = b->vm->vcpu[0];

    if (vmm_memory_write(b->vm, VMM_GPA(BOOT_GDT), gdt, sizeof(gdt)) != 0) {
        return boot_refuse(b, "no memory behind the guest's RAM");
    }
    v->backend->set_sysreg(v, VMM_CR0, X86_CR0_PE | X86_CR0_ET | X86_CR0_NE);
    set_segments(v);
    __builtin_memset(v->gpr, 0, sizeof(v->gpr));
    v->gpr[VMM_RAX] = eax;
    v->gpr[VMM_RBX] = ebx;
    v->gpr[VMM_RSP] = BOOT_STACK;
    v->rflags = X86_RFLAGS_FIXED;
    v->rip = entry;
    return 0;
}
