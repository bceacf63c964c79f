/* newlib's malloc family on kmalloc. Every member is here, so that the linker never takes one from
 * the archive, which would bring newlib's own allocator and its heap with it. */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "base/types.h"
#include "mm/slab.h"

void *_malloc_r(struct _reent *reent, size_t size)
{
    void *p = kmalloc(size ? size : 1);
    if (!p) {
        reent->_errno = ENOMEM;
    }
    return p;
}

void _free_r(struct _reent *reent, void *p)
{
    (void)reent;
    kfree(p);
}

void *_realloc_r(struct _reent *reent, void *p, size_t size)
{
    if (p && !size) {
        kfree(p);
        return NULL;
    }
    void *q = krealloc(p, size ? size : 1);
    if (!q) {
        reent->_errno = ENOMEM;
    }
    return q;
}

void *_calloc_r(struct _reent *reent, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        reent->_errno = ENOMEM;
        return NULL;
    }
    void *p = _malloc_r(reent, bytes);
    return p ? memset(p, 0, bytes) : NULL;
}

void *_memalign_r(struct _reent *reent, size_t align, size_t size)
{
    if (!align || (align & (align - 1))) {
        reent->_errno = EINVAL;
        return NULL;
    }
    void *p = kmalloc_aligned(size ? size : 1, align);
    if (!p) {
        reent->_errno = ENOMEM;
    }
    return p;
}

size_t _malloc_usable_size_r(struct _reent *reent, void *p)
{
    (void)reent;
    return p ? kmalloc_usable(p) : 0;
}

void *malloc(size_t size)
{
    return _malloc_r(_REENT, size);
}

void free(void *p)
{
    kfree(p);
}

void *realloc(void *p, size_t size)
{
    return _realloc_r(_REENT, p, size);
}

void *calloc(size_t count, size_t size)
{
    return _calloc_r(_REENT, count, size);
}

void *memalign(size_t align, size_t size)
{
    return _memalign_r(_REENT, align, size);
}

void *aligned_alloc(size_t align, size_t size)
{
    return _memalign_r(_REENT, align, size);
}

size_t malloc_usable_size(void *p)
{
    return _malloc_usable_size_r(_REENT, p);
}
