#include "sched/tls.h"

#include "base/errno.h"
#include "base/platform.h"
#include "sched/thread_impl.h"

static unsigned key_count; /* atomic */
static void (*destroy_table[NK_TLS_KEYS_MAX])(void *value);

int nk_tls_key_create(unsigned *out, void (*destroy)(void *value))
{
    unsigned key = __atomic_load_n(&key_count, __ATOMIC_RELAXED);
    do {
        if (key == NK_TLS_KEYS_MAX) {
            return -ENOSPC;
        }
    } while (!__atomic_compare_exchange_n(&key_count, &key, key + 1, false, __ATOMIC_ACQ_REL,
                                          __ATOMIC_RELAXED));
    destroy_table[key] = destroy;
    *out = key;
    return 0;
}

void nk_tls_set(unsigned key, void *value)
{
    nk_assert(key < NK_TLS_KEYS_MAX);
    nk_thread_current()->tls[key] = value;
}

void *nk_tls_get(unsigned key)
{
    nk_assert(key < NK_TLS_KEYS_MAX);
    return nk_thread_current()->tls[key];
}

void tls_destroy_all(struct nk_thread *t)
{
    for (unsigned key = 0; key < key_count; key++) {
        void *value = t->tls[key];
        t->tls[key] = NULL;
        if (value != NULL && destroy_table[key] != NULL) {
            destroy_table[key](value);
        }
    }
}
