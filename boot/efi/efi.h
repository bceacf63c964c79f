/* What of UEFI the application uses. Spec: UEFI 2.10; chapters and names are its own. */
#pragma once

#include "base/types.h"

#define EFIAPI __attribute__((ms_abi))

typedef uint64_t efi_status; /* 0: success */
typedef void *efi_handle;

struct efi_guid {
    uint32_t a;
    uint16_t b, c;
    uint8_t d[8];
};

struct efi_header { /* 4.2 EFI_TABLE_HEADER */
    uint64_t signature;
    uint32_t revision, size, crc, reserved;
};

struct efi_text_output { /* 12.4 EFI_SIMPLE_TEXT_OUTPUT_PROTOCOL */
    void *reset;
    efi_status(EFIAPI *output)(struct efi_text_output *self, const uint16_t *text);
};

enum efi_allocate { EFI_ANY, EFI_BELOW, EFI_AT };

enum efi_memory_kind { /* 7.2 EFI_MEMORY_TYPE */
                       EFI_RESERVED,
                       EFI_LOADER_CODE,
                       EFI_LOADER_DATA,
                       EFI_BOOT_CODE,
                       EFI_BOOT_DATA,
                       EFI_RUNTIME_CODE,
                       EFI_RUNTIME_DATA,
                       EFI_CONVENTIONAL,
                       EFI_UNUSABLE,
                       EFI_ACPI_RECLAIM,
                       EFI_ACPI_NVS,
};

struct efi_memory { /* 7.2 EFI_MEMORY_DESCRIPTOR */
    uint32_t kind, pad;
    uint64_t base, virtual, pages, attributes;
};

struct efi_boot { /* 4.4 EFI_BOOT_SERVICES */
    struct efi_header header;
    void *tpl[2];
    efi_status(EFIAPI *allocate_pages)(uint32_t how, uint32_t kind, uint64_t pages, uint64_t *at);
    efi_status(EFIAPI *free_pages)(uint64_t at, uint64_t pages);
    efi_status(EFIAPI *get_memory_map)(uint64_t *size, void *map, uint64_t *key, uint64_t *entry,
                                       uint32_t *version);
    void *pool_and_events[8];
    void *protocols[3];
    efi_status(EFIAPI *handle_protocol)(efi_handle handle, const struct efi_guid *which,
                                        void **out);
    void *handles[9];
    efi_status(EFIAPI *exit_boot_services)(efi_handle image, uint64_t key);
    void *more[10];
    efi_status(EFIAPI *locate_protocol)(const struct efi_guid *which, void *registration,
                                        void **out);
};
_Static_assert(offsetof(struct efi_boot, handle_protocol) == 24 + 16 * 8, "boot services layout");
_Static_assert(offsetof(struct efi_boot, exit_boot_services) == 24 + 26 * 8, "boot services");
_Static_assert(offsetof(struct efi_boot, locate_protocol) == 24 + 37 * 8, "boot services layout");

struct efi_system { /* 4.3 EFI_SYSTEM_TABLE */
    struct efi_header header;
    const uint16_t *vendor;
    uint32_t revision;
    efi_handle input_handle;
    void *input;
    efi_handle output_handle;
    struct efi_text_output *output;
    efi_handle error_handle;
    void *error;
    void *runtime;
    struct efi_boot *boot;
    uint64_t table_count;
    const struct {
        struct efi_guid which;
        const void *table;
    } * table;
};

struct efi_loaded_image { /* 9.1 EFI_LOADED_IMAGE_PROTOCOL */
    uint32_t revision;
    efi_handle parent;
    struct efi_system *system;
    efi_handle device;
    void *path, *reserved;
    uint32_t options_size;
    const uint16_t *options;
    const uint8_t *base;
    uint64_t size;
};

struct efi_file { /* 13.5 EFI_FILE_PROTOCOL */
    uint64_t revision;
    efi_status(EFIAPI *open)(struct efi_file *self, struct efi_file **out, const uint16_t *name,
                             uint64_t mode, uint64_t attributes);
    efi_status(EFIAPI *close)(struct efi_file *self);
    void *remove;
    efi_status(EFIAPI *read)(struct efi_file *self, uint64_t *size, void *out);
    void *write;
    efi_status(EFIAPI *get_position)(struct efi_file *self, uint64_t *at);
    efi_status(EFIAPI *set_position)(struct efi_file *self, uint64_t at);
};

struct efi_file_system { /* 13.4 EFI_SIMPLE_FILE_SYSTEM_PROTOCOL */
    uint64_t revision;
    efi_status(EFIAPI *open_volume)(struct efi_file_system *self, struct efi_file **out);
};

struct efi_screen_mode { /* 12.9 EFI_GRAPHICS_OUTPUT_MODE_INFORMATION */
    uint32_t version, width, height, format, masks[4], pixels_per_line;
};

struct efi_screen { /* 12.9 EFI_GRAPHICS_OUTPUT_PROTOCOL */
    void *functions[3];
    const struct {
        uint32_t count, current;
        const struct efi_screen_mode *mode;
        uint64_t mode_size, base, size;
    } * state;
};
