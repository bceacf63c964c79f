/* Inside kernel/native*.c: an application in memory. */
#pragma once

#include "base/list.h"
#include "base/spinlock.h"
#include "kernel/module.h"
#include "kernel/native_abi.h"
#include "sched/sync.h"

#define NATIVE_WHY_MAX 160

enum native_segment_kind { NATIVE_TEXT, NATIVE_RODATA, NATIVE_DATA, NATIVE_SEGMENT_COUNT };

struct native_segment {
    uint64_t va, size; /* size: whole pages; 0: there is none */
    pa_t pa;
};

/* kernel/native_load.c: the module's sections, relocated, each kind with its own rights. */
struct native_image {
    struct native_segment segment[NATIVE_SEGMENT_COUNT];
    uint64_t base, end; /* of all of them */
    uint64_t entry;
    uint64_t *address; /* of each section, 0: not loaded */
    struct native_tls tls;
    struct nk_module module;
    struct nk_list link; /* on the list of loaded images, by address */
};

void native_images_init(void);

/* On failure nothing is left, and `why` (NATIVE_WHY_MAX) says what is wrong in one line. */
int native_image_load(struct native_image *image, const struct nk_module *module,
                      char *why) NK_MUST_CHECK;
void native_image_unload(struct native_image *image);

/* Name of the application's symbol at or before va; NULL: none. */
const char *native_image_symbol(const struct native_image *image, uint64_t va, uint64_t *offset);

/* kernel/native_input.c: what is typed, by lines. */
struct native_input {
    struct nk_mutex lock; /* all below */
    char text[256];
    size_t length, taken;
    bool complete; /* a line is there, of which `taken` bytes have been read */
};

void native_input_init(struct native_input *in);
/* Waits for a line, and gives what is left of it, at most max bytes; none at the input's end, or
 * when *ending is set meanwhile. False: Ctrl-C was typed. */
bool native_input_read(struct native_input *in, const bool *ending, char *out, size_t max,
                       size_t *count) NK_MUST_CHECK;

/* kernel/native_exports.c: address of a function applications may use, 0: there is none. */
uint64_t native_export(const char *name);

/* kernel/native_heap.c: memory of one application, in an address window of its own. */
struct native_heap {
    struct nk_mutex lock;
    uint64_t base, end, mapped; /* end: of what was given; mapped: of what is there */
    struct native_block *blocks;
    unsigned block_count, block_room;
    uint64_t stack_used[NATIVE_THREADS_MAX / 64];
};

/* Errors: -EAGAIN no window is free, -ENOMEM. */
int native_heap_init(struct native_heap *heap) NK_MUST_CHECK;
void native_heap_destroy(struct native_heap *heap);
void *native_heap_grow(struct native_heap *heap, ptrdiff_t increment) NK_MUST_CHECK;

struct native_stack {
    uint64_t top, size;
    pa_t pa;
    unsigned slot;
};
/* Errors: -EAGAIN too many, -ENOMEM, -EINVAL size. */
int native_stack_alloc(struct native_heap *heap, size_t size,
                       struct native_stack *out) NK_MUST_CHECK;
void native_stack_free(struct native_heap *heap, const struct native_stack *stack);
