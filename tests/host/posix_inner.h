/* Shared by the files of the POSIX host. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include "posix_host.h"

#define CPUS_MAX    64
#define FILES_MAX   16
#define STREAMS_MAX 8
#define MSRS_MAX    32
#define NS_PER_S    UINT64_C(1000000000)

struct vmm_thread {
    struct vmm_thread *next;
    char name[32];
    int cpu;
    void (*fn)(void *arg);
    void *arg;
    pthread_t id;
    bool started, created; /* created: by thread_create, not adopted */
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    bool token;
};

struct vmm_host_timer {
    struct vmm_host_timer *next;
    void (*fn)(void *arg);
    void *arg;
    uint64_t deadline; /* cycles */
    bool armed;
};

struct posix_file {
    const char *name;
    const void *data;
    uint64_t size;
    unsigned opened;
};

struct posix_stream {
    struct posix_host *host;
    char name[64];
    bool open;
    struct vmm_char_receiver receiver;
    size_t room; /* bytes that it takes; SIZE_MAX: any number */
    char *text;
    size_t length;
};

struct posix_host {
    struct vmm_host_ops ops;
    enum posix_clock clock;
    unsigned cpu_count;
    pthread_mutex_t mutex; /* protects: everything below but the atomics */

    uint8_t *arena;
    uint64_t page_count;
    uint8_t *page_used;
    int8_t *page_node;    /* that was asked for */
    uint64_t *allocation; /* of each page that begins one: its pages */
    uint64_t pages_used;
    _Atomic uint64_t small_used;
    _Atomic long alloc_calls, fail_from, fail_to;

    uint8_t **stored; /* by slot; NULL: free */
    uint64_t stored_room;
    _Atomic uint64_t stored_count, stored_limit;
    _Atomic bool store_loses;

    _Atomic uint64_t virtual_ns;
    _Atomic uint64_t stolen_ns; /* of those */
    uint64_t real_start_ns;
    struct vmm_host_timer *timers;
    pthread_t timer_thread;
    pthread_cond_t timer_change;
    bool closing, callback_running;

    struct vmm_thread *threads;
    struct posix_file file[FILES_MAX];
    unsigned file_count;
    struct posix_stream stream[STREAMS_MAX];
    struct {
        uint32_t number;
        uint64_t value;
    } msr[MSRS_MAX];
    unsigned msr_count;
    char *log;
    size_t log_length;
    struct posix_event event;
    _Atomic unsigned kicks[CPUS_MAX];
};

extern const struct vmm_host_files posix_files;
extern const struct vmm_host_chars posix_chars;
extern const struct vmm_host_store posix_store;

/* Fills its hooks into h->ops. */
void posix_threads_init(struct posix_host *h);
void posix_clock_init(struct posix_host *h);
/* Return how many things leaked. */
unsigned posix_threads_exit(struct posix_host *h);
unsigned posix_clock_exit(struct posix_host *h);
unsigned posix_streams_exit(struct posix_host *h);
unsigned posix_store_exit(struct posix_host *h);

void posix_panic(void *host, const char *why) VMM_NORETURN;
void *posix_must(void *p); /* for the host's own memory */
void posix_append(char **text, size_t *length, const char *bytes, size_t count);
bool posix_allocation_fails(struct posix_host *h); /* counts, too */
unsigned posix_leak(const char *what, uint64_t count);
