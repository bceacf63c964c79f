/* Files and character streams of the POSIX host. */
#include "posix_inner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int files_open(void *host, const char *name, const void **data, uint64_t *size)
{
    struct posix_host *h = host;

    for (unsigned i = 0; i < h->file_count; i++) {
        if (strcmp(h->file[i].name, name) == 0) {
            h->file[i].opened++;
            *data = h->file[i].data;
            *size = h->file[i].size;
            return 0;
        }
    }
    return -VMM_ENOENT;
}

static void files_close(void *host, const char *name, const void *data)
{
    struct posix_host *h = host;

    for (unsigned i = 0; i < h->file_count; i++) {
        if (strcmp(h->file[i].name, name) == 0 && h->file[i].data == data &&
            h->file[i].opened > 0) {
            h->file[i].opened--;
            return;
        }
    }
    posix_panic(host, "close of a file that is not open");
}

void posix_host_add_file(struct posix_host *h, const char *name, const void *data, uint64_t size)
{
    if (h->file_count == FILES_MAX) {
        posix_panic(h, "too many files");
    }
    h->file[h->file_count++] = (struct posix_file){.name = name, .data = data, .size = size};
}

static struct posix_stream *find_stream(struct posix_host *h, const char *name)
{
    for (unsigned i = 0; i < STREAMS_MAX; i++) {
        if (h->stream[i].name[0] != '\0' && strcmp(h->stream[i].name, name) == 0) {
            return &h->stream[i];
        }
    }
    return NULL;
}

static int chars_open(void *host, const char *name, const struct vmm_char_receiver *receiver,
                      void **stream)
{
    struct posix_host *h = host;
    struct posix_stream *s = find_stream(h, name);

    for (unsigned i = 0; s == NULL && i < STREAMS_MAX; i++) {
        if (h->stream[i].name[0] == '\0') {
            s = &h->stream[i];
            snprintf(s->name, sizeof(s->name), "%s", name);
        }
    }
    if (s == NULL || s->open) {
        return -VMM_EEXIST;
    }
    s->host = h;
    s->open = true;
    s->receiver = *receiver;
    s->room = SIZE_MAX;
    *stream = s;
    return 0;
}

static size_t chars_write(void *host, void *stream, const char *bytes, size_t count)
{
    struct posix_host *h = host;
    struct posix_stream *s = stream;

    pthread_mutex_lock(&h->mutex);
    count = count < s->room ? count : s->room;
    s->room -= s->room == SIZE_MAX ? 0 : count;
    posix_append(&s->text, &s->length, bytes, count);
    pthread_mutex_unlock(&h->mutex);
    return count;
}

static void chars_close(void *host, void *stream)
{
    struct posix_stream *s = stream;

    (void)host;
    s->open = false;
}

const char *posix_host_output(struct posix_host *h, const char *name)
{
    struct posix_stream *s = find_stream(h, name);

    return s != NULL && s->text != NULL ? s->text : "";
}

void posix_host_clear_output(struct posix_host *h, const char *name)
{
    struct posix_stream *s = find_stream(h, name);

    if (s != NULL && s->text != NULL) {
        s->length = 0;
        s->text[0] = '\0';
    }
}

void posix_host_type(struct posix_host *h, const char *name, const char *bytes, size_t count)
{
    struct posix_stream *s = find_stream(h, name);

    if (s == NULL || !s->open) {
        posix_panic(h, "typing at a stream that is not open");
    }
    s->receiver.input(s->receiver.arg, bytes, count);
}

void posix_host_break(struct posix_host *h, const char *name)
{
    struct posix_stream *s = find_stream(h, name);

    s->receiver.send_break(s->receiver.arg);
}

void posix_host_set_room(struct posix_host *h, const char *name, size_t room)
{
    pthread_mutex_lock(&h->mutex);
    find_stream(h, name)->room = room;
    pthread_mutex_unlock(&h->mutex);
}

const struct vmm_host_files posix_files = {.open = files_open, .close = files_close};
const struct vmm_host_chars posix_chars = {
    .open = chars_open, .write = chars_write, .close = chars_close};

unsigned posix_streams_exit(struct posix_host *h)
{
    unsigned leaks = 0;

    for (unsigned i = 0; i < h->file_count; i++) {
        leaks += posix_leak(h->file[i].name, h->file[i].opened);
    }
    for (unsigned i = 0; i < STREAMS_MAX; i++) {
        leaks += posix_leak("streams", h->stream[i].open);
        free(h->stream[i].text);
    }
    return leaks;
}
