/* Split rings. What the device writes is not believed: an id that is not in flight is dropped. */

#include "drivers/virtio/virtio.h"

#include <string.h>

#include "base/errno.h"
#include "base/layout.h"
#include "base/platform.h"
#include "base/x86.h"
#include "mm/slab.h"

enum queue_register { /* in the common registers, section 4.1.4.3 */
                      QUEUE_SELECT = 22,
                      QUEUE_SIZE = 24,
                      QUEUE_VECTOR = 26,
                      QUEUE_ENABLE = 28,
                      QUEUE_NOTIFY_OFFSET = 30,
                      QUEUE_DESCRIPTORS = 32,
                      QUEUE_AVAIL = 40,
                      QUEUE_USED = 48,
};

#define NO_VECTOR       0xffff
#define USED_ALIGN      4
#define USED_NO_NOTIFY  1
#define DESCRIPTOR_NEXT 1
#define DESCRIPTOR_IN   2

struct virtio_descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;
};

struct virtio_avail {
    uint16_t flags, index;
    uint16_t ring[];
};

struct virtio_used {
    uint16_t flags, index;
    struct {
        uint32_t id, length;
    } ring[];
};

static size_t avail_offset(unsigned size)
{
    return size * sizeof(struct virtio_descriptor);
}

static size_t used_offset(unsigned size)
{
    return nk_align_up(avail_offset(size) + sizeof(struct virtio_avail) + size * sizeof(uint16_t),
                       USED_ALIGN);
}

static size_t ring_bytes(unsigned size)
{
    return used_offset(size) + sizeof(struct virtio_used) + size * 2 * sizeof(uint32_t);
}

void virtio_queue_free(struct virtio_queue *q)
{
    kfree((void *)q->descriptor);
    kfree(q->token);
    kfree(q->chain);
    *q = (struct virtio_queue){0};
}

static int allocate(struct virtio_queue *q, uint16_t size)
{
    char *memory = kmalloc_aligned(ring_bytes(size), sizeof(struct virtio_descriptor));
    q->descriptor = (volatile struct virtio_descriptor *)memory;
    q->token = kmalloc(size * sizeof(*q->token));
    q->chain = kmalloc(size * sizeof(*q->chain));
    if (memory == NULL || q->token == NULL || q->chain == NULL) {
        virtio_queue_free(q);
        return -ENOMEM;
    }
    q->size = size;
    q->avail = (volatile struct virtio_avail *)(memory + avail_offset(size));
    q->used = (volatile struct virtio_used *)(memory + used_offset(size));
    return 0;
}

static volatile uint16_t *register16(const struct virtio_device *v, enum queue_register r)
{
    return (volatile uint16_t *)(v->common + r);
}

/* In halves: section 4.1.3.1 allows it, and not every device takes 64 bits at once. */
static void write_address(const struct virtio_device *v, enum queue_register r,
                          const volatile void *va)
{
    uint64_t pa = nk_va_to_pa((const void *)va).v;
    *(volatile uint32_t *)(v->common + r) = (uint32_t)pa;
    *(volatile uint32_t *)(v->common + r + 4) = (uint32_t)(pa >> 32);
}

int virtio_queue_open(struct virtio_device *v, struct virtio_queue *q, unsigned index,
                      unsigned size_max)
{
    *register16(v, QUEUE_SELECT) = (uint16_t)index;
    uint16_t size = *register16(v, QUEUE_SIZE);
    uint32_t notify = *register16(v, QUEUE_NOTIFY_OFFSET) * v->notify_multiplier;
    if (size == 0 || (size & (size - 1)) != 0 || notify + sizeof(uint16_t) > v->notify_length) {
        return -ENODEV;
    }
    size = size < size_max ? size : (uint16_t)size_max;
    if (q->size == 0 && allocate(q, size) != 0) {
        return -ENOMEM;
    }
    memset((void *)q->descriptor, 0, ring_bytes(q->size));
    memset(q->token, 0, q->size * sizeof(*q->token));
    for (uint16_t i = 0; i < q->size; i++) {
        q->chain[i] = (uint16_t)(i + 1);
    }
    q->index = (uint16_t)index;
    q->free_head = q->used_seen = 0;
    q->free_count = q->size;
    q->notify = (volatile uint16_t *)(v->notify + notify);

    *register16(v, QUEUE_SIZE) = q->size;
    *register16(v, QUEUE_VECTOR) = v->f->irq_kind == PCI_IRQ_MSIX ? 0 : NO_VECTOR;
    write_address(v, QUEUE_DESCRIPTORS, q->descriptor);
    write_address(v, QUEUE_AVAIL, q->avail);
    write_address(v, QUEUE_USED, q->used);
    *register16(v, QUEUE_ENABLE) = 1;
    return 0;
}

int virtio_queue_add(struct virtio_queue *q, const struct virtio_segment *s, unsigned out,
                     unsigned in, void *token)
{
    unsigned count = out + in;
    if (count > q->free_count) {
        return -EBUSY;
    }
    uint16_t first = q->free_head;
    uint16_t at = first;
    for (unsigned i = 0; i < count; i++) {
        uint16_t flags =
            (uint16_t)((i + 1 < count ? DESCRIPTOR_NEXT : 0) | (i >= out ? DESCRIPTOR_IN : 0));
        q->descriptor[at].address = nk_va_to_pa(s[i].data).v;
        q->descriptor[at].length = s[i].length;
        q->descriptor[at].flags = flags;
        q->descriptor[at].next = q->chain[at];
        q->free_head = q->chain[at];
        at = q->chain[at];
    }
    q->free_count = (uint16_t)(q->free_count - count);
    q->token[first] = token;
    uint16_t index = q->avail->index;
    q->avail->ring[index & (q->size - 1)] = first;
    __atomic_thread_fence(__ATOMIC_RELEASE); /* the entry before the index that shows it */
    q->avail->index = (uint16_t)(index + 1);
    return 0;
}

void virtio_queue_kick(struct virtio_queue *q)
{
    /* The index must be out before the flag is read, or both sides may wait for each other. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!(q->used->flags & USED_NO_NOTIFY)) {
        *q->notify = q->index;
    }
}

/* Back to the free list; the chain's length is in our own descriptors' flags, which only we wrote,
 * but the device can too: never more than there are. */
static void release_chain(struct virtio_queue *q, uint16_t first)
{
    uint16_t last = first;
    uint16_t count = 1;
    while ((q->descriptor[last].flags & DESCRIPTOR_NEXT) && count + q->free_count < q->size) {
        last = q->chain[last];
        count++;
    }
    q->chain[last] = q->free_head;
    q->free_head = first;
    q->free_count = (uint16_t)(q->free_count + count);
}

void *virtio_queue_get(struct virtio_queue *q, uint32_t *length)
{
    while (q->used_seen != q->used->index) {
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        uint32_t id = q->used->ring[q->used_seen & (q->size - 1)].id;
        *length = q->used->ring[q->used_seen & (q->size - 1)].length;
        q->used_seen++;
        void *token = id < q->size ? q->token[id] : NULL;
        if (token != NULL) {
            q->token[id] = NULL;
            release_chain(q, (uint16_t)id);
            return token;
        }
    }
    return NULL;
}
