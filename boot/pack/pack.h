/* The container that kernels, manifests and guests' files travel in: a flash image, or the data
 * of the UEFI application. tools/romtool writes it; docs/rom.md describes it.
 *
 * A directory is one page. A flash image has two, which say the same; who changes a flash part
 * writes the second one first, and at every moment one of them is good. All offsets count from the
 * container's first byte. Nothing in it is believed before it is checked.
 * Threading: none needed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PACK_PAGE      4096u
#define PACK_MAGIC     "OCPACK\r\n" /* a transfer that mends line ends breaks it */
#define PACK_VERSION   1u
#define PACK_NAME_MAX  52u
#define PACK_PART_MAX  (UINT32_C(256) << 20) /* bytes of an unpacked part */
#define PACK_SLOT_NONE 0xffu

enum pack_kind {
    PACK_KERNEL = 1,  /* an ELF image, in a slot */
    PACK_MODULE = 2,  /* a file: manifest, guest's kernel, initrd, native application */
    PACK_CMDLINE = 3, /* the kernel's command line */
};

enum pack_method {
    PACK_STORED = 0,
    PACK_LZ4 = 1, /* one block */
};

struct pack_header {
    uint8_t magic[8];
    uint32_t version;
    uint32_t count;
    uint32_t active; /* slot of the kernel to start: 0 is A, 1 is B */
    uint32_t size;   /* of the container */
    uint32_t zero;
    uint32_t crc; /* of header and entries, this field taken as zero */
};

struct pack_entry {
    char name[PACK_NAME_MAX]; /* ends with a zero */
    uint8_t kind, slot, method, zero;
    uint32_t offset, stored, unpacked; /* bytes; offset is a multiple of PACK_PAGE */
    uint32_t crc;                      /* of the stored bytes */
    uint32_t reserved[2];              /* zero */
};
_Static_assert(sizeof(struct pack_header) == 32, "header layout");
_Static_assert(sizeof(struct pack_entry) == 80, "entry layout");

#define PACK_ENTRIES_MAX ((PACK_PAGE - sizeof(struct pack_header)) / sizeof(struct pack_entry))

struct pack {
    const uint8_t *base;
    size_t size;
    const struct pack_header *header;
    const struct pack_entry *entry; /* header->count of them */
};

/* Check the directory at `at` of the container and open it.
 * Returns NULL, or in a few words what is wrong with it. */
const char *pack_open(struct pack *p, const void *base, size_t size, size_t at);

/* The kernel in a slot; NULL when there is none. */
const struct pack_entry *pack_kernel(const struct pack *p, unsigned slot);

/* Check a part's stored bytes against its checksum. Returns NULL, or what is wrong. */
const char *pack_check(const struct pack *p, const struct pack_entry *e);

/* Copy or unpack a part to `out`, which has room for e->unpacked bytes, and check it.
 * Returns NULL, or what is wrong; then what is at `out` is of no use. */
const char *pack_read(const struct pack *p, const struct pack_entry *e, void *out);
