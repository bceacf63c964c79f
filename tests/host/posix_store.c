/* The POSIX host's store of guests' pages: memory of the process. */
#include <stdlib.h>
#include <string.h>
#include "posix_inner.h"

static int store_put(void *host, const void *page, uint64_t *slot)
{
    struct posix_host *h = host;
    uint64_t at = 0;

    if (*(const uint8_t *)page == POSIX_UNWANTED) {
        return -VMM_E2BIG;
    }
    pthread_mutex_lock(&h->mutex);
    if (h->stored_count >= h->stored_limit || posix_allocation_fails(h)) {
        pthread_mutex_unlock(&h->mutex);
        return -VMM_ENOSPC;
    }
    while (at < h->stored_room && h->stored[at] != NULL) {
        at++;
    }
    if (at == h->stored_room) {
        h->stored_room = h->stored_room * 2 + 16;
        h->stored = posix_must(realloc(h->stored, h->stored_room * sizeof(*h->stored)));
        memset(h->stored + at, 0, (h->stored_room - at) * sizeof(*h->stored));
    }
    h->stored[at] = posix_must(malloc(VMM_PAGE_SIZE));
    memcpy(h->stored[at], page, VMM_PAGE_SIZE);
    h->stored_count++;
    *slot = at;
    pthread_mutex_unlock(&h->mutex);
    return 0;
}

static uint8_t *stored_at(struct posix_host *h, uint64_t slot)
{
    if (slot >= h->stored_room || h->stored[slot] == NULL) {
        posix_panic(h, "store: no such page");
    }
    return h->stored[slot];
}

static int store_get(void *host, uint64_t slot, void *page)
{
    struct posix_host *h = host;

    if (h->store_loses) {
        return -VMM_EIO;
    }
    pthread_mutex_lock(&h->mutex);
    memcpy(page, stored_at(h, slot), VMM_PAGE_SIZE);
    pthread_mutex_unlock(&h->mutex);
    return 0;
}

static void store_drop(void *host, uint64_t slot)
{
    struct posix_host *h = host;

    pthread_mutex_lock(&h->mutex);
    free(stored_at(h, slot));
    h->stored[slot] = NULL;
    h->stored_count--;
    pthread_mutex_unlock(&h->mutex);
}

const struct vmm_host_store posix_store = {store_put, store_get, store_drop};

void posix_host_store_limit(struct posix_host *h, uint64_t pages)
{
    h->stored_limit = pages;
}

uint64_t posix_host_stored(const struct posix_host *h)
{
    return h->stored_count;
}

void posix_host_store_lose(struct posix_host *h, bool lose)
{
    h->store_loses = lose;
}

unsigned posix_store_exit(struct posix_host *h)
{
    unsigned leaks = posix_leak("stored pages", h->stored_count);

    for (uint64_t i = 0; i < h->stored_room; i++) {
        free(h->stored[i]);
    }
    free(h->stored);
    return leaks;
}
