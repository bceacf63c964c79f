#include "mm/slab.h"

#include "base/layout.h"
#include "base/platform.h"
#include "mm/buddy_impl.h"
#include "mm/slab_impl.h"

#include <string.h>

#define SLAB_HEADER      64 /* struct slab, a cache line */
#define SLAB_OBJECTS_MIN 8  /* a slab is made large enough for so many */
#define SLAB_ORDER_MAX   3
#define SLAB_EMPTY_KEEP  1 /* slabs without a used object that a cache keeps */
#define MAGAZINE_BYTES   NK_KIB(8)
#define MAGAZINE_MIN     2
#define MAGAZINE_MAX     32

_Static_assert(sizeof(struct slab) <= SLAB_HEADER, "slab header");

struct slab_cache slab_cache_table[SLAB_CACHES_MAX];
static unsigned cache_count; /* table entries in use, entry 0 included */
static struct nk_spinlock create_lock = NK_SPINLOCK_INIT(NK_RANK_SLAB);

static struct slab_cpu boot_cpu_magazines;

static uint64_t slab_bytes(const struct slab_cache *cache)
{
    return NK_PAGE_SIZE << cache->slab_order;
}

static uint32_t objects_per_slab(const struct slab_cache *cache)
{
    return (uint32_t)((slab_bytes(cache) - cache->first) / cache->stride);
}

/* The block's frames say from now on which cache they belong to. */
static void *block_own(struct slab_cache *cache, pa_t pa)
{
    void *block = nk_pa_to_va(pa);
    struct buddy_frame *frame = frame_of_va(block);
    for (unsigned i = 0; i < 1u << cache->slab_order; i++) {
        frame[i].cache = cache->index;
    }
    cache->slab_count++;
    return block;
}

static void block_free(struct slab_cache *cache, void *block)
{
    struct buddy_frame *frame = frame_of_va(block);
    for (unsigned i = 0; i < 1u << cache->slab_order; i++) {
        frame[i].cache = 0;
    }
    cache->slab_count--;
    buddy_free(nk_va_to_pa(block), cache->slab_order);
}

/* A new slab with all objects free, on its node's partial list; NULL: out of memory. Lock held. */
static struct slab *slab_add(struct slab_cache *cache, int node)
{
    pa_t pa;
    if (buddy_block_alloc(cache->slab_order, node, &pa) != 0) {
        return NULL;
    }
    struct slab *slab = block_own(cache, pa);
    slab->node = buddy_node_of(nk_va_to_pa(slab));
    slab->used = 0;
    slab->total = objects_per_slab(cache);
    slab->free = NULL;
    for (uint32_t i = slab->total; i-- > 0;) {
        void *object = (char *)slab + cache->first + i * cache->stride;
        slab_debug_fill(cache, object);
        *(void **)object = slab->free;
        slab->free = object;
    }
    nk_list_push_front(&cache->partial[slab->node], &slab->link);
    cache->empty_count++;
    cache->slab_free += slab->total;
    cache->object_count += slab->total;
    return slab;
}

/* Memory is short: a slab of any node. */
static struct slab *far_slab(struct slab_cache *cache)
{
    for (unsigned node = 0; node < BUDDY_NODES_MAX; node++) {
        if (!nk_list_empty(&cache->partial[node])) {
            return nk_list_entry(cache->partial[node].next, struct slab, link);
        }
    }
    return NULL;
}

/* A slab with a free object, or NULL. Far memory makes a new one only when all others are full: on
 * a node without memory every object would else get a slab of its own. */
static struct slab *slab_with_room(struct slab_cache *cache)
{
    const struct nk_list *partial = &cache->partial[this_cpu->node];
    if (!nk_list_empty(partial)) {
        return nk_list_entry(partial->next, struct slab, link);
    }
    if (mm_fault_due()) {
        return NULL;
    }
    struct slab *slab = slab_add(cache, (int)this_cpu->node);
    slab = slab != NULL ? slab : far_slab(cache);
    return slab != NULL ? slab : slab_add(cache, BUDDY_NODE_ANY);
}

static void *whole_block_take(struct slab_cache *cache)
{
    pa_t pa;
    if (buddy_alloc(cache->slab_order, BUDDY_NODE_ANY, &pa) != 0) {
        return NULL;
    }
    void *block = block_own(cache, pa);
    slab_debug_fill(cache, block);
    cache->object_count++;
    return block;
}

/* One free object from the slabs, or NULL. Lock held. */
static void *object_take(struct slab_cache *cache)
{
    if (cache->whole_blocks) {
        return whole_block_take(cache);
    }
    struct slab *slab = slab_with_room(cache);
    if (slab == NULL) {
        return NULL;
    }
    void *object = slab->free;
    slab->free = *(void **)object;
    cache->empty_count -= slab->used == 0;
    cache->slab_free--;
    if (++slab->used == slab->total) {
        nk_list_remove(&slab->link);
    }
    return object;
}

/* An object goes back to its slab, and an empty slab to the page allocator. Lock held. */
static void object_put(struct slab_cache *cache, void *object)
{
    if (cache->whole_blocks) {
        cache->object_count--;
        block_free(cache, object);
        return;
    }
    struct slab *slab = (struct slab *)nk_align_down((uint64_t)object, slab_bytes(cache));
    *(void **)object = slab->free;
    slab->free = object;
    cache->slab_free++;
    if (slab->used-- == slab->total) {
        nk_list_push_front(&cache->partial[slab->node], &slab->link);
    }
    if (slab->used > 0) {
        return;
    }
    if (cache->empty_count < SLAB_EMPTY_KEEP) {
        cache->empty_count++;
        return;
    }
    nk_list_remove(&slab->link);
    cache->slab_free -= slab->total;
    cache->object_count -= slab->total;
    block_free(cache, slab);
}

/* Fill half of an empty magazine and return one object more. Interrupts off. NULL: no memory. */
NK_NOINLINE void *slab_refill(struct slab_cache *cache, struct slab_magazine *magazine)
{
    /* Blocks are large: none in advance. */
    uint32_t target = cache->whole_blocks ? 0 : cache->limit / 2;
    nk_spinlock_acquire(&cache->lock);
    void *result = object_take(cache);
    void *object;
    while (result != NULL && magazine->count < target && (object = object_take(cache)) != NULL) {
        *(void **)object = magazine->head;
        magazine->head = object;
        magazine->count++;
    }
    nk_spinlock_release(&cache->lock);
    return result;
}

/* Give objects back until `keep` are left. Interrupts off. */
NK_NOINLINE void slab_flush(struct slab_cache *cache, struct slab_magazine *magazine, uint32_t keep)
{
    nk_spinlock_acquire(&cache->lock);
    while (magazine->count > keep) {
        void *object = magazine->head;
        magazine->head = *(void **)object;
        magazine->count--;
        object_put(cache, object);
    }
    nk_spinlock_release(&cache->lock);
}

void *slab_alloc(struct slab_cache *cache)
{
    return slab_take(cache->index);
}

void slab_free(struct slab_cache *cache, void *object)
{
    slab_put(cache->index, object);
}

void slab_drain(void)
{
    uint64_t flags = nk_irq_save();
    for (unsigned i = 1; i < cache_count; i++) {
        slab_flush(&slab_cache_table[i], &this_cpu->slab->magazine[i], 0);
    }
    nk_irq_restore(flags);
}

static void layout(struct slab_cache *cache, size_t size, size_t align)
{
    cache->size = size;
    cache->whole_blocks = size >= NK_PAGE_SIZE && size == align;
    if (cache->whole_blocks) {
        cache->stride = size;
        cache->slab_order = (uint8_t)buddy_order_of(size);
        return;
    }
    cache->stride = nk_align_up(size + SLAB_RED_ZONE, align);
    cache->first = nk_align_up(SLAB_HEADER, align);
    while (cache->slab_order < SLAB_ORDER_MAX && objects_per_slab(cache) < SLAB_OBJECTS_MIN) {
        cache->slab_order++;
    }
    nk_assert(objects_per_slab(cache) > 0);
}

static uint32_t magazine_limit(size_t stride)
{
    size_t count = MAGAZINE_BYTES / stride;
    return (uint32_t)(count < MAGAZINE_MIN   ? MAGAZINE_MIN
                      : count > MAGAZINE_MAX ? MAGAZINE_MAX
                                             : count);
}

struct slab_cache *slab_cache_create(const char *name, size_t size, size_t align)
{
    nk_assert(size >= sizeof(void *) && align >= 8 && (align & (align - 1)) == 0);
    uint64_t flags = nk_spin_lock_irqsave(&create_lock);
    unsigned index = cache_count;
    if (index == SLAB_CACHES_MAX) {
        nk_panic("slab: more than %d caches", SLAB_CACHES_MAX - 1);
    }
    struct slab_cache *cache = &slab_cache_table[index];
    cache->lock = (struct nk_spinlock)NK_SPINLOCK_INIT(NK_RANK_SLAB);
    cache->index = (uint8_t)index;
    cache->name = name;
    for (unsigned node = 0; node < BUDDY_NODES_MAX; node++) {
        nk_list_init(&cache->partial[node]);
    }
    layout(cache, size, align);
    cache->limit = magazine_limit(cache->stride);
    for (unsigned i = 0; i < CONFIG_NR_CPUS; i++) {
        if (nk_cpu_table[i].slab != NULL) {
            nk_cpu_table[i].slab->magazine[index].limit = cache->limit;
        }
    }
    __atomic_store_n(&cache_count, index + 1, __ATOMIC_RELEASE);
    nk_spin_unlock_irqrestore(&create_lock, flags);
    return cache;
}

static void magazines_init(unsigned cpu, struct slab_cpu *magazines)
{
    for (unsigned i = 1; i < cache_count; i++) {
        magazines->magazine[i].limit = slab_cache_table[i].limit;
    }
    nk_cpu_table[cpu].slab = magazines;
}

void slab_init(void)
{
    cache_count = 1;
    magazines_init(0, &boot_cpu_magazines);
    kmalloc_init();
}

void slab_init_cpu(unsigned cpu)
{
    struct slab_cpu *magazines = kzalloc(sizeof(*magazines));
    if (magazines == NULL) {
        nk_panic("slab: no memory for CPU %u", cpu);
    }
    uint64_t flags = nk_spin_lock_irqsave(&create_lock);
    magazines_init(cpu, magazines);
    nk_spin_unlock_irqrestore(&create_lock, flags);
}

uint64_t slab_pages(void)
{
    struct slab_stats s;
    uint64_t pages = 0;
    for (unsigned i = 0; slab_get_stats(i, &s); i++) {
        pages += s.pages;
    }
    return pages;
}

bool slab_get_stats(unsigned i, struct slab_stats *out)
{
    unsigned index = i + 1;
    if (index >= __atomic_load_n(&cache_count, __ATOMIC_ACQUIRE)) {
        return false;
    }
    struct slab_cache *cache = &slab_cache_table[index];
    uint64_t free_count = 0;
    for (unsigned cpu = 0; cpu < CONFIG_NR_CPUS; cpu++) {
        const struct slab_cpu *magazines = nk_cpu_table[cpu].slab;
        free_count += magazines == NULL ? 0 : magazines->magazine[index].count;
    }
    uint64_t flags = nk_spin_lock_irqsave(&cache->lock);
    free_count += cache->slab_free;
    *out = (struct slab_stats){
        .name = cache->name,
        .object_size = cache->size,
        .objects_used = cache->object_count - free_count,
        .objects_total = cache->object_count,
        .pages = cache->slab_count << cache->slab_order,
    };
    nk_spin_unlock_irqrestore(&cache->lock, flags);
    return true;
}
