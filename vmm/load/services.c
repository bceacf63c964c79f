/* A PC without its BIOS: the services that real-mode code calls (services.asm), and the entry of
 * vCPU 0 in real mode. */
#include "core/x86.h"
#include "load/boot.h"

#include "services_bin.h"

#define SERVICES_BASE UINT64_C(0xff000)
#define BIOS_SEGMENT  0xf000
#define E820_ROOM     32

#define BDA           UINT64_C(0x400) /* BIOS data area */
#define BDA_SIZE      256
#define BDA_COM1      0x00
#define BDA_EQUIPMENT 0x10
#define BDA_LOW_KIB   0x13
#define BDA_MODE      0x49
#define BDA_COLUMNS   0x4a
#define BDA_LAST_ROW  0x84

/* What services.asm begins with. */
struct services_head {
    uint16_t vector[256]; /* offsets in BIOS_SEGMENT */
    uint16_t entry;
    uint16_t target_ip, target_cs;
    uint16_t extended_kib, to_16_mib, above_16_mib;
    uint16_t e820_count;
    struct vmm_e820 e820[E820_ROOM];
} __attribute__((packed));

_Static_assert(sizeof(services_bin) == VMM_PAGE_SIZE, "the services are one page below 1 MiB");

static uint16_t at_most(uint64_t value, uint64_t limit)
{
    return (uint16_t)(value < limit ? value : limit);
}

static int write_data_area(const struct boot *b)
{
    uint8_t area[BDA_SIZE] = {0};
    static const struct {
        uint8_t offset;
        uint16_t value;
    } value_table[] = {
        {BDA_COM1, 0x3f8}, {BDA_EQUIPMENT, 0x0220}, {BDA_LOW_KIB, 639},
        {BDA_MODE, 3},     {BDA_COLUMNS, 80},       {BDA_LAST_ROW, 24},
    };

    for (unsigned i = 0; i < VMM_ARRAY_COUNT(value_table); i++) {
        __builtin_memcpy(area + value_table[i].offset, &value_table[i].value, sizeof(uint16_t));
    }
    return vmm_memory_write(b->vm, VMM_GPA(BDA), area, sizeof(area));
}

static void fill_head(const struct boot *b, struct services_head *h, uint16_t cs, uint16_t ip)
{
    uint64_t kib = (boot_ram_end(b->vm) - BOOT_LOWEST) / 1024;

    h->target_ip = ip;
    h->target_cs = cs;
    h->extended_kib = at_most(kib, UINT16_MAX);
    h->to_16_mib = at_most(kib, 15 * 1024);
    h->above_16_mib = at_most((kib - h->to_16_mib) / 64, UINT16_MAX);
    h->e820_count = (uint16_t)vmm_e820_build(b->vm, h->e820, E820_ROOM);
}

static int write_services(const struct boot *b, uint16_t cs, uint16_t ip, uint16_t *entry)
{
    struct services_head head;
    uint16_t vector[256][2];

    __builtin_memcpy(&head, services_bin, sizeof(head));
    fill_head(b, &head, cs, ip);
    for (unsigned i = 0; i < 256; i++) {
        vector[i][0] = head.vector[i];
        vector[i][1] = BIOS_SEGMENT;
    }
    *entry = head.entry;
    if (vmm_memory_write(b->vm, VMM_GPA(0), vector, sizeof(vector)) != 0 ||
        write_data_area(b) != 0 ||
        vmm_memory_write(b->vm, VMM_GPA(SERVICES_BASE), services_bin, sizeof(services_bin)) != 0 ||
        vmm_memory_write(b->vm, VMM_GPA(SERVICES_BASE), &head, sizeof(head)) != 0) {
        return boot_refuse(b, "no memory behind the guest's RAM");
    }
    return 0;
}

int boot_write_services(const struct boot *b)
{
    uint16_t entry;

    return write_services(b, 0, 0, &entry);
}

int boot_enter_real(const struct boot *b, uint16_t cs, uint16_t ip, uint16_t data, uint16_t sp)
{
    static const enum vmm_segment data_table[] = {VMM_SEG_DS, VMM_SEG_ES, VMM_SEG_SS, VMM_SEG_FS,
                                                  VMM_SEG_GS};
    const struct vmm_segment_state code = {BIOS_SEGMENT, 0x09b, 0xffff, BIOS_SEGMENT << 4};
    const struct vmm_segment_state other = {data, 0x093, 0xffff, (uint64_t)data << 4};
    struct vcpu *v = b->vm->vcpu[0];
    uint16_t entry;
    int error = write_services(b, cs, ip, &entry);

    if (error != 0) {
        return error;
    }
    v->backend->set_segment(v, VMM_SEG_CS, &code);
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(data_table); i++) {
        v->backend->set_segment(v, data_table[i], &other);
    }
    __builtin_memset(v->gpr, 0, sizeof(v->gpr));
    v->gpr[VMM_RSP] = sp;
    v->rflags = X86_RFLAGS_FIXED;
    v->rip = entry;
    return 0;
}
