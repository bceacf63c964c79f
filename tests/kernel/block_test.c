/* Block devices of every driver the machine has. Each disk holds its words' own indices, and has
 * one sector that cannot be read (tests/lib/kernel.py). */
#include "drivers/block.h"

#include <string.h>

#include "base/errno.h"
#include "base/layout.h"
#include "drivers/char.h"
#include "kernel/irq.h"
#include "mm/slab.h"
#include "sched/sync.h"
#include "sched/thread.h"
#include "tests/kernel/ktest.h"
#include "tests/kernel/vanish.h"

#define SECTOR_COUNT 4096
#define BAD_SECTOR   4000
#define WORDS        (512 / 4)
#define MS           UINT64_C(1000000)
#define SHORT_TIME   (1000 * MS)

#define SKIP_WITHOUT_DISKS() KTEST_SKIP_UNLESS(nk_block_get(0) != NULL, "needs block devices")

static uint32_t *buffer; /* 64 KiB, of the direct map */
#define BUFFER_SECTORS 128

static bool make_buffer(void)
{
    buffer = buffer != NULL ? buffer : kmalloc(BUFFER_SECTORS * 512);
    return buffer != NULL;
}

static bool holds_pattern(const uint32_t *words, uint64_t sector, unsigned count)
{
    for (unsigned i = 0; i < count * WORDS; i++) {
        if (words[i] != sector * WORDS + i) {
            ktest_note("sector %lu word %u is 0x%x", sector, i, words[i]);
            return false;
        }
    }
    return true;
}

static bool reads(struct nk_block_device *d, uint64_t sector, unsigned count)
{
    memset(buffer, 0xee, count * 512);
    int err = nk_block_read(d, sector, count, buffer);
    return EXPECT_EQ(err, 0) && holds_pattern(buffer, sector, count);
}

KTEST(block_devices)
{
    SKIP_WITHOUT_DISKS();
    struct nk_block_device *d;
    for (unsigned i = 0; (d = nk_block_get(i)) != NULL; i++) {
        EXPECT_EQ(d->sector_count, SECTOR_COUNT);
        EXPECT_EQ(d->sector_size, 512);
        EXPECT(!d->read_only);
        EXPECT(nk_block_find(d->name) == d);
        EXPECT(function_of(d->driver, d->irq) != NULL);
    }
    EXPECT(nk_block_find("none") == NULL);
}

/* A thread's stack is not in the direct map: this goes through a bounce buffer. */
static void read_to_stack(void *arg)
{
    uint32_t words[2 * WORDS];
    EXPECT_EQ(nk_block_read(arg, 5, 2, words), 0);
    EXPECT(holds_pattern(words, 5, 2));
}

KTEST(block_read)
{
    SKIP_WITHOUT_DISKS();
    ASSERT(make_buffer());
    struct nk_block_device *d;
    for (unsigned i = 0; (d = nk_block_get(i)) != NULL; i++) {
        EXPECT(reads(d, 0, 1));
        EXPECT(reads(d, SECTOR_COUNT - 1, 1));
        EXPECT(reads(d, 77, BUFFER_SECTORS));
        struct nk_thread *t;
        ASSERT_EQ(nk_thread_start(&t, NULL, read_to_stack, d), 0);
        EXPECT_EQ(nk_thread_join(t), 0);
        EXPECT_EQ(nk_thread_destroy(t), 0);
    }
}

KTEST(block_write)
{
    SKIP_WITHOUT_DISKS();
    ASSERT(make_buffer());
    struct nk_block_device *d;
    for (unsigned i = 0; (d = nk_block_get(i)) != NULL; i++) {
        for (unsigned w = 0; w < 3 * WORDS; w++) {
            buffer[w] = w * 2654435761u + i;
        }
        EXPECT_EQ(nk_block_write(d, 200, 3, buffer), 0);
        EXPECT_EQ(nk_block_flush(d), 0);
        memset(buffer, 0, 3 * 512);
        EXPECT_EQ(nk_block_read(d, 200, 3, buffer), 0);
        bool same = true;
        for (unsigned w = 0; w < 3 * WORDS; w++) {
            same &= buffer[w] == w * 2654435761u + i;
            buffer[w] = 200 * WORDS + w;
        }
        EXPECT(same);
        EXPECT(reads(d, 199, 1));
        EXPECT(reads(d, 203, 1));
        for (unsigned w = 0; w < 3 * WORDS; w++) {
            buffer[w] = 200 * WORDS + w;
        }
        EXPECT_EQ(nk_block_write(d, 200, 3, buffer), 0);
        EXPECT(reads(d, 199, 5));
    }
}

#define REQUESTS 100

static struct nk_semaphore done_count;

static void note_done(struct nk_block_request *r)
{
    (void)r;
    nk_semaphore_up(&done_count);
}

/* More at a time than any device has room for. */
KTEST(block_many_requests)
{
    SKIP_WITHOUT_DISKS();
    ASSERT(make_buffer());
    static struct nk_block_request request[REQUESTS];
    struct nk_block_device *d;
    for (unsigned i = 0; (d = nk_block_get(i)) != NULL; i++) {
        memset(buffer, 0, REQUESTS * 512);
        nk_semaphore_init(&done_count, 0);
        for (unsigned n = 0; n < REQUESTS; n++) {
            request[n] = (struct nk_block_request){
                .op = NK_BLOCK_READ,
                .sector = n * 7,
                .count = 1,
                .buffer = buffer + n * WORDS,
                .done = note_done,
            };
            ASSERT_EQ(nk_block_submit(d, &request[n]), 0);
        }
        for (unsigned n = 0; n < REQUESTS; n++) {
            nk_semaphore_down(&done_count);
        }
        for (unsigned n = 0; n < REQUESTS; n++) {
            EXPECT_EQ(request[n].status, 0);
            EXPECT(holds_pattern(buffer + n * WORDS, n * 7, 1));
        }
        EXPECT_EQ(d->stats.resets, 0);
        EXPECT_EQ(d->stats.lost_interrupts, 0);
    }
}

KTEST(block_arguments)
{
    SKIP_WITHOUT_DISKS();
    ASSERT(make_buffer());
    struct nk_block_device *d = nk_block_get(0);
    EXPECT_EQ(nk_block_read(d, SECTOR_COUNT, 1, buffer), -EINVAL);
    EXPECT_EQ(nk_block_read(d, SECTOR_COUNT - 1, 2, buffer), -EINVAL);
    EXPECT_EQ(nk_block_read(d, UINT64_MAX, 2, buffer), -EINVAL);
    EXPECT_EQ(nk_block_read(d, 0, 0, buffer), -EINVAL);
    struct nk_block_request r = {.op = NK_BLOCK_READ, .count = 1, .buffer = (void *)NK_STACKS_BASE};
    EXPECT_EQ(nk_block_submit(d, &r), -EINVAL); /* not in the direct map */
    d->read_only = true;
    EXPECT_EQ(nk_block_write(d, 0, 1, buffer), -EROFS);
    d->read_only = false;
}

KTEST(block_error)
{
    SKIP_WITHOUT_DISKS();
    ASSERT(make_buffer());
    struct nk_block_device *d;
    for (unsigned i = 0; (d = nk_block_get(i)) != NULL; i++) {
        uint64_t errors = d->stats.errors;
        EXPECT_EQ(nk_block_read(d, BAD_SECTOR, 1, buffer), -EIO);
        EXPECT_EQ(nk_block_read(d, BAD_SECTOR - 4, 8, buffer), -EIO);
        EXPECT_EQ(d->stats.errors, errors + 2);
        EXPECT(reads(d, BAD_SECTOR - 1, 1));
        EXPECT(reads(d, BAD_SECTOR + 1, 1));
        EXPECT_EQ(d->stats.resets, 0);
    }
}

KTEST(block_lost_interrupt)
{
    SKIP_WITHOUT_DISKS();
    ASSERT(make_buffer());
    struct nk_block_device *d;
    for (unsigned i = 0; (d = nk_block_get(i)) != NULL; i++) {
        uint64_t timeout = d->timeout_ns;
        uint64_t lost = d->stats.lost_interrupts;
        nk_block_set_timeout(d, SHORT_TIME);
        nk_irq_mask(d->irq);
        EXPECT(reads(d, 10, 1));
        EXPECT_EQ(d->stats.lost_interrupts, lost + 1);
        EXPECT_EQ(d->stats.resets, 0);
        nk_irq_unmask(d->irq);
        nk_block_set_timeout(d, timeout);
        EXPECT(reads(d, 11, 1));
        EXPECT_EQ(d->stats.lost_interrupts, lost + 1);
    }
}

/* A device that may not reach memory fails, or does nothing and is reset; then it works again. */
KTEST(block_timeout)
{
    SKIP_WITHOUT_DISKS();
    ASSERT(make_buffer());
    struct nk_block_device *d;
    for (unsigned i = 0; (d = nk_block_get(i)) != NULL; i++) {
        uint64_t timeout = d->timeout_ns;
        nk_block_set_timeout(d, SHORT_TIME);
        pci_disable(function_of(d->driver, d->irq), PCI_COMMAND_MASTER);
        int err = nk_block_read(d, 10, 1, buffer);
        EXPECT(err == -ETIMEDOUT || err == -EIO);
        EXPECT_EQ(d->stats.resets, err == -ETIMEDOUT ? 1 : 0);
        pci_enable(function_of(d->driver, d->irq), PCI_COMMAND_MASTER);
        nk_block_set_timeout(d, timeout);
        EXPECT(reads(d, 11, 8));
        EXPECT_EQ(nk_block_flush(d), 0);
    }
}

/* The last test of the disks: there are none afterwards. */
KTEST(block_vanishes)
{
    SKIP_WITHOUT_DISKS();
    ASSERT(make_buffer());
    struct nk_block_device *d;
    for (unsigned i = 0; (d = nk_block_get(i)) != NULL; i++) {
        nk_block_set_timeout(d, SHORT_TIME);
        make_vanish(function_of(d->driver, d->irq));
        EXPECT_EQ(nk_block_read(d, 10, 1, buffer), -ENODEV);
        EXPECT(d->gone);
        EXPECT_EQ(nk_block_read(d, 10, 1, buffer), -ENODEV);
        EXPECT_EQ(nk_block_write(d, 10, 1, buffer), -ENODEV);
        EXPECT_EQ(nk_block_flush(d), -ENODEV);
    }
}

static char echoed[2000];
static size_t echoed_length;

static void receive(void *arg, const char *s, size_t length)
{
    (void)arg;
    size_t room = sizeof(echoed) - echoed_length;
    length = length < room ? length : room;
    memcpy(echoed + echoed_length, s, length);
    __atomic_store_n(&echoed_length, echoed_length + length, __ATOMIC_RELEASE);
}

KTEST(char_echo)
{
    struct nk_char_device *d = nk_char_get(0);
    KTEST_SKIP_UNLESS(d != NULL, "needs a virtio console");
    nk_char_set_receiver(d, receive, NULL);
    char text[sizeof(echoed)];
    for (unsigned i = 0; i < sizeof(text); i++) {
        text[i] = (char)('a' + i % 23);
    }
    size_t sent = 0;
    for (unsigned ms = 0; ms < 5000 && sent < sizeof(text); ms++) {
        sent += nk_char_write(d, text + sent, sizeof(text) - sent);
        nk_thread_sleep_ns(MS);
    }
    EXPECT_EQ(sent, sizeof(text));
    for (unsigned ms = 0; ms < 5000 && echoed_length < sizeof(echoed); ms++) {
        nk_thread_sleep_ns(MS);
    }
    EXPECT_EQ(echoed_length, sizeof(echoed));
    EXPECT_EQ(memcmp(echoed, text, sizeof(text)), 0);
    nk_char_set_receiver(d, NULL, NULL);
}

/* What its buffers hold it still takes; then nothing, and nobody waits for it. */
KTEST(char_vanishes)
{
    struct nk_char_device *d = nk_char_get(0);
    KTEST_SKIP_UNLESS(d != NULL, "needs a virtio console");
    static const char text[200];
    make_vanish(function_of(d->driver, ANY_LINE));
    size_t taken = 0, now;
    do {
        now = nk_char_write(d, text, sizeof(text));
        taken += now;
    } while (now > 0 && taken < NK_MIB(1));
    EXPECT_EQ(now, 0);
    EXPECT_EQ(nk_char_write(d, text, 1), 0);
    nk_char_set_receiver(d, receive, NULL);
    nk_char_set_receiver(d, NULL, NULL);
}
