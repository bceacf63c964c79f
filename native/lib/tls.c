/* Variables declared __thread: a block for each thread, reached by FS. */
#include <malloc.h>
#include <string.h>

#include "native/lib/runtime.h"

bool rt_tls_make(struct rt_thread *t, struct native_thread *self)
{
    struct native_tls tls;
    native_tls_layout(self, &tls);
    size_t align = tls.align > sizeof(void *) ? tls.align : sizeof(void *);
    char *block = memalign(align, tls.size + align); /* behind it, the thread pointer */
    if (!block) {
        return false;
    }
    if (tls.filled) {
        memcpy(block, tls.image, tls.filled);
    }
    memset(block + tls.filled, 0, tls.size - tls.filled);
    void **pointer = (void **)(block + tls.size);
    *pointer = pointer;
    t->tls = block;
    t->thread_pointer = pointer;
    return true;
}

void rt_tls_free(struct rt_thread *t)
{
    free(t->tls);
}
