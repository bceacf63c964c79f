/* A checkpoint of a whole VM, damaged: bytes changed and checksums made right again, or nothing but
 * the input's own bytes. The VM is restored and runs, or it is refused with a line and can be
 * started. */
#include <stdlib.h>
#include <string.h>
#include "core/checkpoint.h"
#include "fuzz.h"
#include "scripted.h"
#include "tape.h"

#define STREAM_MAX  VMM_MIB(3)
#define RECORDS_MAX 256

/* Where the records are, before any is damaged. */
struct index {
    size_t at[RECORDS_MAX], length[RECORDS_MAX]; /* with the header */
    unsigned count;
};

static void find_records(const struct tape *t, struct index *index)
{
    size_t at = sizeof(struct checkpoint_header);

    index->count = 0;
    while (at < t->length) {
        const struct checkpoint_record *r = (const struct checkpoint_record *)(t->bytes + at);

        assert_true(index->count < RECORDS_MAX);
        index->at[index->count] = at;
        index->length[index->count] = sizeof(*r) + r->length;
        at += index->length[index->count++];
    }
}

/* Records of pages are many and alike: the last ones are chosen as often as all. */
static void damage(struct tape *t, const struct index *index, struct fuzz_bytes *b)
{
    unsigned n = fuzz_byte(b);
    unsigned which = (n & 1) != 0 ? index->count - 1 - n / 2 % 4 : n / 2 % index->count;
    uint8_t *bytes = t->bytes + index->at[which];
    struct checkpoint_record *r = (struct checkpoint_record *)bytes;

    for (unsigned i = 0; i < 4; i++) {
        uint64_t at = fuzz_number(b, 2) % index->length[which];

        bytes[at] ^= fuzz_byte(b);
    }
    if (r->length <= index->length[which] - sizeof(*r)) {
        r->sum = vmm_checksum(vmm_checksum_record(r), r + 1, r->length);
    }
}

static struct scripted *make_vm(void)
{
    struct scripted *m = scripted_host(2);

    m->config.mem_bytes = VMM_MIB(4);
    m->config.lazy_memory = true;
    m->config.huge_pages =
        VM_HUGE_PAGES_NONE; /* no time goes into clearing what is not looked at */
    assert_int_equal(vmm_vm_create(m->vmm, &m->config, &m->vm, &m->err), 0);
    return m;
}

static void restore(struct scripted *m, struct tape *t)
{
    m->err.text[0] = '\0';
    if (vmm_vm_restore(m->vm, tape_play(t), &m->err) != 0) {
        assert_true(m->err.text[0] != '\0' && strchr(m->err.text, '\n') == NULL);
        assert_int_equal(vmm_vm_state(m->vm), VM_STOPPED);
        assert_int_equal(vmm_vm_start(m->vm, &m->err), 0);
    } else {
        assert_int_equal(vmm_vm_resume(m->vm), 0);
    }
    (void)!vmm_vm_stop(m->vm); /* it may have ended by itself */
}

void fuzz_restore(const uint8_t *data, size_t size)
{
    struct fuzz_bytes b = {data, data + size};
    struct tape tape = tape_create(STREAM_MAX);
    struct tape raw = {.bytes = (uint8_t *)data, .length = size};
    struct scripted *m = make_vm();
    struct index index;

    assert_int_equal(vmm_vm_start(m->vm, &m->err), 0);
    assert_int_equal(vmm_vm_checkpoint(m->vm, tape_record(&tape), &m->err), 0);
    assert_int_equal(vmm_vm_stop(m->vm), 0);
    find_records(&tape, &index);
    while (b.at < b.end) {
        damage(&tape, &index, &b);
    }
    restore(m, &tape);
    restore(m, &raw);
    free(tape.bytes);
    scripted_destroy(m);
}
