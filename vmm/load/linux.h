/* Inside load/ only: between linux.c and linux_enter.c. */
#pragma once

#include "load/boot.h"

/* boot_params and, inside it, the header that begins a kernel's file. */
#define LINUX_PARAMS_SIZE    4096
#define LINUX_ACPI_RSDP      0x070
#define LINUX_E820_COUNT     0x1e8
#define LINUX_HEADER         0x1f1
#define LINUX_SETUP_SECTS    0x1f1
#define LINUX_SYSSIZE        0x1f4
#define LINUX_BOOT_FLAG      0x1fe
#define LINUX_HEADER_LENGTH  0x201 /* of what follows 0x202 */
#define LINUX_MAGIC          0x202
#define LINUX_VERSION        0x206
#define LINUX_LOADER_TYPE    0x210
#define LINUX_LOADFLAGS      0x211
#define LINUX_CODE32_START   0x214
#define LINUX_RAMDISK_IMAGE  0x218
#define LINUX_RAMDISK_SIZE   0x21c
#define LINUX_HEAP_END       0x224
#define LINUX_ARGS           0x228
#define LINUX_INITRD_MAX     0x22c
#define LINUX_HEADER_END_202 0x22c /* of the oldest that is taken */
#define LINUX_ALIGNMENT      0x230
#define LINUX_RELOCATABLE    0x234
#define LINUX_XLOADFLAGS     0x236
#define LINUX_ARGS_SIZE      0x238
#define LINUX_SETUP_DATA     0x250
#define LINUX_PREF_ADDRESS   0x258
#define LINUX_INIT_SIZE      0x260
#define LINUX_HEADER_END     0x268
#define LINUX_E820           0x2d0
#define LINUX_E820_MAX       128

#define LINUX_ENTRY_64  0x200
#define LINUX_ARGS_ROOM UINT64_C(0x1000)

/* What the header says, checked; where it all goes. */
struct linux_kernel {
    const uint8_t *file;
    unsigned version;
    uint64_t setup_size, image_size; /* the file: the setup code, and what follows it */
    uint64_t alignment, preferred, init_size, initrd_max, args_max, header_end;
    bool relocatable, loaded_high;
    enum vm_protocol entry;
    uint64_t address, initrd; /* of the image and the initial RAM disk in RAM */
};

/* The kernel is in RAM: boot data and vCPU 0's registers. */
int linux_enter(const struct boot *b, const struct linux_kernel *k, gpa_t rsdp) VMM_MUST_CHECK;
