#include "kernel/vm_image.h"

#include <errno.h>
#include <string.h>

#include <vmm/vdev.h>

#include "base/layout.h"
#include "base/list.h"
#include "drivers/block.h"
#include "kernel/format.h"
#include "kernel/time.h"
#include "mm/buddy.h"
#include "mm/slab.h"
#include "mm/tag.h"

#define DEVICE_PREFIX "block:"
#define HEADER_MAGIC  UINT64_C(0x31474d49434f4e4b) /* "KNOCIMG1" */
#define HEADER_BYTES  4096                         /* the checkpoint follows at this offset */
#define BUFFER_BYTES  NK_KIB(64)
#define CHUNK_ORDER   4
#define CHUNK_BYTES   ((size_t)NK_PAGE_SIZE << CHUNK_ORDER)

/* --- in memory -------------------------------------------------------------------------------- */

struct chunk {
    struct nk_list link;
    pa_t block;
};

struct image {
    struct nk_list link;
    char name[VM_IMAGE_NAME_MAX];
    struct vm_image_info info;
    struct nk_list chunks;
};

static struct nk_list images = NK_LIST_INIT(images);
static uint8_t images_tag; /* whose pages they are; made with the first */

struct memory_stream {
    struct vdev_stream stream;
    struct image *image;
    struct chunk *chunk; /* of the byte at `at` when reading, the last one when writing */
    uint64_t at;
};

static int add_chunk(struct memory_stream *m)
{
    struct chunk *c = kzalloc(sizeof(*c));
    if (!c) {
        return -ENOMEM;
    }
    if (buddy_alloc(CHUNK_ORDER, BUDDY_NODE_ANY, &c->block) < 0) {
        kfree(c);
        return -ENOMEM;
    }
    mm_tag_pages(c->block, CHUNK_BYTES / NK_PAGE_SIZE, images_tag);
    nk_list_push_back(&m->image->chunks, &c->link);
    m->chunk = c;
    return 0;
}

static size_t part_of(const struct memory_stream *m, size_t count)
{
    size_t room = CHUNK_BYTES - m->at % CHUNK_BYTES;
    return count < room ? count : room;
}

static int memory_write(struct vdev_stream *s, void *bytes, size_t count)
{
    struct memory_stream *m = NK_CONTAINER_OF(s, struct memory_stream, stream);
    const char *from = bytes;
    while (count) {
        if (m->at % CHUNK_BYTES == 0 && add_chunk(m) < 0) {
            return -VMM_ENOSPC;
        }
        size_t part = part_of(m, count);
        memcpy((char *)nk_pa_to_va(m->chunk->block) + m->at % CHUNK_BYTES, from, part);
        m->at += part;
        from += part;
        count -= part;
    }
    return 0;
}

static int memory_read(struct vdev_stream *s, void *bytes, size_t count)
{
    struct memory_stream *m = NK_CONTAINER_OF(s, struct memory_stream, stream);
    char *to = bytes;
    if (count > m->image->info.bytes - m->at) {
        return -VMM_EIO;
    }
    while (count) {
        if (m->at % CHUNK_BYTES == 0) {
            struct nk_list *next = m->chunk ? m->chunk->link.next : m->image->chunks.next;
            m->chunk = nk_list_entry(next, struct chunk, link);
        }
        size_t part = part_of(m, count);
        memcpy(to, (char *)nk_pa_to_va(m->chunk->block) + m->at % CHUNK_BYTES, part);
        m->at += part;
        to += part;
        count -= part;
    }
    return 0;
}

static void free_image(struct image *i)
{
    while (!nk_list_empty(&i->chunks)) {
        struct chunk *c = nk_list_entry(i->chunks.next, struct chunk, link);
        nk_list_remove(&c->link);
        buddy_free(c->block, CHUNK_ORDER);
        kfree(c);
    }
    kfree(i);
}

static struct image *find_image(const char *name)
{
    struct nk_list *pos;
    nk_list_for_each(pos, &images)
    {
        struct image *i = nk_list_entry(pos, struct image, link);
        if (strcmp(i->name, name) == 0) {
            return i;
        }
    }
    return NULL;
}

static int fail(struct vmm_error *err, int error, const char *where, const char *why)
{
    nk_snprintf(err->text, sizeof(err->text), "image %s: %s", where, why);
    return error;
}

static int save_memory(struct vm *vm, const struct vm_image_info *info, const char *name,
                       struct vmm_error *err)
{
    if (strlen(name) >= VM_IMAGE_NAME_MAX) {
        return fail(err, -EINVAL, name, "the name is longer than 31 characters");
    }
    struct image *i = kzalloc(sizeof(*i));
    if (!i) {
        return fail(err, -ENOMEM, name, "out of memory");
    }
    if (images_tag == MM_TAG_NONE) {
        images_tag = mm_tag_create("images");
    }
    nk_list_init(&i->chunks);
    nk_snprintf(i->name, sizeof(i->name), "%s", name);
    i->info = *info;
    struct memory_stream m = {.stream.transfer = memory_write, .image = i};
    int status = vmm_vm_checkpoint(vm, &m.stream, err);
    if (status < 0) {
        free_image(i);
        return status;
    }
    i->info.bytes = m.at;
    struct image *old = find_image(name);
    if (old) {
        nk_list_remove(&old->link);
        free_image(old);
    }
    nk_list_push_back(&images, &i->link);
    return 0;
}

int vm_image_drop(const char *name)
{
    struct image *i = find_image(name);
    if (!i) {
        return -ENOENT;
    }
    nk_list_remove(&i->link);
    free_image(i);
    return 0;
}

bool vm_image_get(unsigned i, const char **name, struct vm_image_info *out)
{
    struct nk_list *pos;
    nk_list_for_each(pos, &images)
    {
        if (i-- == 0) {
            const struct image *image = nk_list_entry(pos, struct image, link);
            *name = image->name;
            *out = image->info;
            return true;
        }
    }
    return false;
}

/* --- on a block device ------------------------------------------------------------------------ */

struct device_header {
    uint64_t magic;
    struct vm_image_info info;
};

struct device_stream {
    struct vdev_stream stream;
    struct nk_block_device *device;
    char *buffer;
    size_t at, filled; /* in the buffer */
    uint64_t offset;   /* on the device, behind the buffer's bytes when reading */
    uint64_t bytes;    /* in all */
};

static int transfer_bytes(struct nk_block_device *d, bool write, uint64_t offset, void *bytes,
                          size_t count)
{
    uint64_t sector = offset / d->sector_size;
    uint32_t sectors = (uint32_t)(count / d->sector_size);
    if (sector + sectors > d->sector_count) {
        return -ENOSPC;
    }
    return write ? nk_block_write(d, sector, sectors, bytes)
                 : nk_block_read(d, sector, sectors, bytes);
}

static int flush_buffer(struct device_stream *s)
{
    size_t count = (s->at + s->device->sector_size - 1) & -(size_t)s->device->sector_size;
    memset(s->buffer + s->at, 0, count - s->at);
    int status = transfer_bytes(s->device, true, s->offset, s->buffer, count);
    s->offset += count;
    s->at = 0;
    return status == -ENOSPC ? -VMM_ENOSPC : status < 0 ? -VMM_EIO : 0;
}

static int device_write(struct vdev_stream *stream, void *bytes, size_t count)
{
    struct device_stream *s = NK_CONTAINER_OF(stream, struct device_stream, stream);
    const char *from = bytes;
    s->bytes += count;
    while (count) {
        size_t room = BUFFER_BYTES - s->at;
        size_t part = count < room ? count : room;
        memcpy(s->buffer + s->at, from, part);
        s->at += part;
        from += part;
        count -= part;
        if (s->at == BUFFER_BYTES) {
            int status = flush_buffer(s);
            if (status < 0) {
                return status;
            }
        }
    }
    return 0;
}

/* What the device has left, when that is less than a buffer. */
static size_t readable(const struct device_stream *s)
{
    uint64_t size = s->device->sector_count * s->device->sector_size;
    uint64_t left = s->offset < size ? size - s->offset : 0;
    return left < BUFFER_BYTES ? (size_t)left : BUFFER_BYTES;
}

static int device_read(struct vdev_stream *stream, void *bytes, size_t count)
{
    struct device_stream *s = NK_CONTAINER_OF(stream, struct device_stream, stream);
    char *to = bytes;
    if (count > s->bytes) {
        return -VMM_EIO;
    }
    s->bytes -= count;
    while (count) {
        if (s->at == s->filled) {
            s->filled = readable(s);
            s->at = 0;
            if (!s->filled ||
                transfer_bytes(s->device, false, s->offset, s->buffer, s->filled) < 0) {
                return -VMM_EIO;
            }
            s->offset += s->filled;
        }
        size_t part = s->filled - s->at < count ? s->filled - s->at : count;
        memcpy(to, s->buffer + s->at, part);
        s->at += part;
        to += part;
        count -= part;
    }
    return 0;
}

/* Its header's room is there, and sectors divide it. */
static int open_device(const char *where, struct device_stream *s, struct vmm_error *err)
{
    *s = (struct device_stream){.offset = HEADER_BYTES};
    s->device = nk_block_find(where + strlen(DEVICE_PREFIX));
    if (!s->device) {
        return fail(err, -ENODEV, where, "no such block device");
    }
    if (HEADER_BYTES % s->device->sector_size != 0) {
        return fail(err, -EINVAL, where, "its sectors are too large");
    }
    s->buffer = kmalloc(BUFFER_BYTES);
    return s->buffer ? 0 : fail(err, -ENOMEM, where, "out of memory");
}

static int write_header(struct device_stream *s, const struct device_header *h)
{
    memset(s->buffer, 0, HEADER_BYTES);
    memcpy(s->buffer, h, sizeof(*h));
    int status = transfer_bytes(s->device, true, 0, s->buffer, HEADER_BYTES);
    return status < 0 ? status : nk_block_flush(s->device);
}

/* The header comes last: what is not complete has none. */
static int save_device_open(struct vm *vm, const struct vm_image_info *info, const char *where,
                            struct device_stream *s, struct vmm_error *err)
{
    struct device_header h = {0};
    if (write_header(s, &h) < 0) {
        return fail(err, -EIO, where, "the device cannot be written");
    }
    s->stream.transfer = device_write;
    int status = vmm_vm_checkpoint(vm, &s->stream, err);
    if (status < 0) {
        return status;
    }
    if (s->at) {
        status = flush_buffer(s);
    }
    h.magic = HEADER_MAGIC;
    h.info = *info;
    h.info.bytes = s->bytes;
    if (status < 0 || nk_block_flush(s->device) < 0 || write_header(s, &h) < 0) {
        return fail(err, -EIO, where, "the device cannot be written, or is full");
    }
    return 0;
}

static int save_device(struct vm *vm, const struct vm_image_info *info, const char *where,
                       struct vmm_error *err)
{
    struct device_stream s;
    int status = open_device(where, &s, err);
    if (status == 0) {
        status = save_device_open(vm, info, where, &s, err);
    }
    kfree(s.buffer);
    return status;
}

static int read_header(struct device_stream *s, const char *where, struct vm_image_info *out,
                       struct vmm_error *err)
{
    struct device_header h;
    if (transfer_bytes(s->device, false, 0, s->buffer, HEADER_BYTES) < 0) {
        return fail(err, -EIO, where, "the device cannot be read");
    }
    memcpy(&h, s->buffer, sizeof(h));
    if (h.magic != HEADER_MAGIC || !memchr(h.info.vm, 0, sizeof(h.info.vm)) ||
        !memchr(h.info.manifest, 0, sizeof(h.info.manifest))) {
        return fail(err, -EINVAL, where, "no checkpoint is on it");
    }
    *out = h.info;
    return 0;
}

static bool is_device(const char *where)
{
    return strncmp(where, DEVICE_PREFIX, strlen(DEVICE_PREFIX)) == 0;
}

/* --- either ----------------------------------------------------------------------------------- */

int vm_image_save(struct vm *vm, const char *manifest, const char *where, struct vmm_error *err)
{
    struct vm_image_info info = {.taken_ns = nk_wall_clock_ns()};
    nk_snprintf(info.vm, sizeof(info.vm), "%s", vmm_vm_config(vm)->name);
    nk_snprintf(info.manifest, sizeof(info.manifest), "%s", manifest);
    return is_device(where) ? save_device(vm, &info, where, err)
                            : save_memory(vm, &info, where, err);
}

int vm_image_find(const char *where, struct vm_image_info *out, struct vmm_error *err)
{
    if (!is_device(where)) {
        const struct image *i = find_image(where);
        if (!i) {
            return fail(err, -ENOENT, where, "there is none of this name");
        }
        *out = i->info;
        return 0;
    }
    struct device_stream s;
    int status = open_device(where, &s, err);
    if (status == 0) {
        status = read_header(&s, where, out, err);
    }
    kfree(s.buffer);
    return status;
}

int vm_image_restore(struct vm *vm, const char *where, struct vmm_error *err)
{
    if (!is_device(where)) {
        struct image *i = find_image(where);
        if (!i) {
            return fail(err, -ENOENT, where, "there is none of this name");
        }
        struct memory_stream m = {.stream.transfer = memory_read, .image = i};
        return vmm_vm_restore(vm, &m.stream, err);
    }
    struct device_stream s;
    struct vm_image_info info;
    int status = open_device(where, &s, err);
    if (status == 0) {
        status = read_header(&s, where, &info, err);
    }
    if (status == 0) {
        s.stream.transfer = device_read;
        s.bytes = info.bytes;
        status = vmm_vm_restore(vm, &s.stream, err);
    }
    kfree(s.buffer);
    return status;
}
