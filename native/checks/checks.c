/* What the runtime promises, checked from the inside; tests/system/test_native.py runs it.
 * Arguments choose an end: "fault", "abort", "exit" with threads that wait or sleep, "echo" of what
 * is typed, "spin". */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define THREADS 8
#define ROUNDS  100

static int failed;

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("failed: %s, line %d\n", #condition, __LINE__);                                 \
            failed++;                                                                              \
        }                                                                                          \
    } while (0)

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_barrier_t barrier;
static pthread_key_t key;
static int counter, once_count, destroyed, serial, stage;

static void start_all(pthread_t *thread, void *(*fn)(void *))
{
    for (long i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&thread[i], NULL, fn, (void *)i) == 0);
    }
}

static void join_all(pthread_t *thread)
{
    for (long i = 0; i < THREADS; i++) {
        void *result;
        CHECK(pthread_join(thread[i], &result) == 0);
        CHECK(result == (void *)(i * i));
    }
}

static void count_once(void)
{
    usleep(1000);
    once_count++;
}

static void destroy(void *value)
{
    pthread_mutex_lock(&mutex);
    destroyed += *(int *)value;
    pthread_mutex_unlock(&mutex);
    free(value);
}

static void *locks(void *arg)
{
    pthread_once(&once, count_once);
    CHECK(once_count == 1);
    CHECK(pthread_getspecific(key) == NULL);
    int *value = malloc(sizeof(*value));
    *value = 1;
    CHECK(pthread_setspecific(key, value) == 0);
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&mutex);
        int seen = counter;
        if (i % 50 == 0) {
            usleep(10);
        }
        counter = seen + 1;
        pthread_mutex_unlock(&mutex);
    }
    errno = (int)(long)arg;
    usleep(100);
    CHECK(errno == (int)(long)arg);
    return (void *)((long)arg * (long)arg);
}

static void *barriers(void *arg)
{
    for (int i = 0; i < ROUNDS; i++) {
        int last = pthread_barrier_wait(&barrier);
        if (last == PTHREAD_BARRIER_SERIAL_THREAD) {
            serial++;
        }
        pthread_barrier_wait(&barrier);
        CHECK(serial == i + 1);
        pthread_barrier_wait(&barrier);
    }
    pthread_exit((void *)((long)arg * (long)arg));
}

/* Each thread waits for its turn. */
static void *turns(void *arg)
{
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&mutex);
        while (stage % THREADS != (int)(long)arg) {
            pthread_cond_wait(&cond, &mutex);
        }
        stage++;
        pthread_cond_broadcast(&cond);
        pthread_mutex_unlock(&mutex);
    }
    return (void *)((long)arg * (long)arg);
}

static void *numbers(void *arg)
{
    double x = (double)(long)arg + 0.5;
    char text[64], expected[64];
    for (int i = 0; i < ROUNDS; i++) {
        CHECK(fabs(exp(log(x)) - x) < 1e-12);
        snprintf(text, sizeof(text), "%.3f", x);
        snprintf(expected, sizeof(expected), "%ld.500", (long)arg);
        CHECK(strcmp(text, expected) == 0);
        free(realloc(malloc((size_t)i * 64 + 1), (size_t)i * 640 + 1));
    }
    return (void *)((long)arg * (long)arg);
}

static void timeouts(void)
{
    struct timespec deadline, start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += (deadline.tv_nsec + 20000000) / 1000000000;
    deadline.tv_nsec = (deadline.tv_nsec + 20000000) % 1000000000;
    pthread_mutex_lock(&mutex);
    CHECK(pthread_cond_timedwait(&cond, &mutex, &deadline) == ETIMEDOUT);
    CHECK(pthread_mutex_trylock(&mutex) == EBUSY);
    CHECK(pthread_mutex_timedlock(&mutex, &deadline) == ETIMEDOUT);
    pthread_mutex_unlock(&mutex);
    clock_gettime(CLOCK_MONOTONIC, &end);
    CHECK((end.tv_sec - start.tv_sec) * 1000 + (end.tv_nsec - start.tv_nsec) / 1000000 >= 19);
}

static __thread int own = 7;
static __thread struct {
    double value[4];
    char text[20];
} own_record __attribute__((aligned(64)));

static void *thread_locals(void *arg)
{
    CHECK(own == 7);
    CHECK(own_record.value[3] == 0 && own_record.text[0] == 0);
    CHECK((unsigned long)&own_record % 64 == 0);
    own = (int)(long)arg;
    snprintf(own_record.text, sizeof(own_record.text), "thread %d", own);
    for (int i = 0; i < ROUNDS; i++) {
        own_record.value[i % 4] += own;
        usleep(1);
    }
    char expected[20];
    snprintf(expected, sizeof(expected), "thread %ld", (long)arg);
    CHECK(own == (int)(long)arg);
    CHECK(strcmp(own_record.text, expected) == 0);
    CHECK(own_record.value[0] == (double)own * ROUNDS / 4);
    return (void *)((long)arg * (long)arg);
}

static pthread_mutex_t recursive, checking;
static int inside;

static void *recursion(void *arg)
{
    for (int i = 0; i < ROUNDS; i++) {
        CHECK(pthread_mutex_lock(&recursive) == 0);
        CHECK(pthread_mutex_trylock(&recursive) == 0);
        CHECK(pthread_mutex_lock(&recursive) == 0);
        CHECK(inside++ == 0);
        CHECK(pthread_mutex_unlock(&recursive) == 0);
        CHECK(pthread_mutex_unlock(&recursive) == 0);
        if (i % 10 == 0) {
            usleep(10);
        }
        CHECK(--inside == 0);
        CHECK(pthread_mutex_unlock(&recursive) == 0);
    }
    CHECK(pthread_mutex_unlock(&recursive) == EPERM);
    CHECK(pthread_mutex_lock(&checking) == 0);
    CHECK(pthread_mutex_lock(&checking) == EDEADLK);
    CHECK(pthread_mutex_trylock(&checking) == EBUSY);
    CHECK(pthread_mutex_unlock(&checking) == 0);
    return (void *)((long)arg * (long)arg);
}

static void *holder(void *arg)
{
    CHECK(pthread_mutex_trylock(&recursive) == EBUSY);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    CHECK(pthread_mutex_timedlock(&recursive, &now) == ETIMEDOUT);
    CHECK(pthread_mutex_unlock(&recursive) == EPERM);
    return arg;
}

static void mutex_kinds(void)
{
    pthread_mutexattr_t attr;
    pthread_t thread[THREADS];
    int type;
    CHECK(pthread_mutexattr_init(&attr) == 0);
    CHECK(pthread_mutexattr_settype(&attr, 17) == EINVAL);
    CHECK(pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE) == 0);
    CHECK(pthread_mutexattr_gettype(&attr, &type) == 0 && type == PTHREAD_MUTEX_RECURSIVE);
    CHECK(pthread_mutex_init(&recursive, &attr) == 0);
    CHECK(pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ERRORCHECK) == 0);
    CHECK(pthread_mutex_init(&checking, &attr) == 0);
    start_all(thread, recursion);
    join_all(thread);
    CHECK(pthread_mutex_lock(&recursive) == 0);
    CHECK(pthread_mutex_destroy(&recursive) == EBUSY);
    CHECK(pthread_create(&thread[0], NULL, holder, NULL) == 0);
    CHECK(pthread_join(thread[0], NULL) == 0);
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    CHECK(pthread_cond_timedwait(&cond, &recursive, &deadline) == ETIMEDOUT);
    CHECK(pthread_mutex_unlock(&recursive) == 0);
    CHECK(pthread_mutex_destroy(&recursive) == 0);
}

/* What is typed comes back line by line, until the end. */
static int echo_lines(void)
{
    char line[100];
    int count = 0;
    printf("type\n");
    while (fgets(line, sizeof(line), stdin)) {
        printf("line %d: %s", ++count, line);
    }
    printf("%d lines, end %d\n", count, feof(stdin) != 0);
    return count;
}

static void *detached(void *arg)
{
    pthread_mutex_lock(&mutex);
    (*(int *)arg)++;
    pthread_cond_signal(&cond);
    pthread_mutex_unlock(&mutex);
    return NULL;
}

/* They end while others want the heap, and while somebody detaches them. */
static void *ending(void *arg)
{
    free(malloc(100));
    pthread_mutex_lock(&mutex);
    stage++;
    pthread_cond_signal(&cond);
    pthread_mutex_unlock(&mutex);
    return arg;
}

static void many_detached(void)
{
    stage = 0;
    int started = 0;
    for (int i = 0; i < ROUNDS; i++) {
        pthread_t thread;
        int err = pthread_create(&thread, NULL, ending, NULL);
        if (err == 0) {
            started++;
            CHECK(pthread_detach(thread) == 0);
        } else { /* too many have not ended yet */
            CHECK(err == EAGAIN);
            usleep(1000);
        }
    }
    pthread_mutex_lock(&mutex);
    while (stage < started) {
        pthread_cond_wait(&cond, &mutex);
    }
    pthread_mutex_unlock(&mutex);
    CHECK(started > 0);
}

static void detaching(void)
{
    pthread_t thread;
    int runs = 0;
    CHECK(pthread_create(&thread, NULL, detached, &runs) == 0);
    CHECK(pthread_detach(thread) == 0);
    pthread_mutex_lock(&mutex);
    while (!runs) {
        pthread_cond_wait(&cond, &mutex);
    }
    pthread_mutex_unlock(&mutex);
    CHECK(pthread_join(pthread_self(), NULL) == EDEADLK);
    CHECK(pthread_join(4711, NULL) == ESRCH);
}

static void memory(void)
{
    char *large = calloc(1, 5 << 20);
    CHECK(large != NULL);
    int sum = 0;
    for (int i = 0; large && i < 5 << 20; i += 512) {
        sum += large[i];
        large[i] = 1;
    }
    CHECK(sum == 0);
    void *huge = malloc((size_t)1 << 45);
    CHECK(huge == NULL && errno == ENOMEM);
    free(huge);
    free(large);
}

static void *wait_forever(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&mutex);
    while (pthread_cond_wait(&cond, &mutex) == 0) {
    }
    return NULL;
}

static void *sleep_long(void *arg)
{
    (void)arg;
    sleep(1000);
    return NULL;
}

static void end_with_threads(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, wait_forever, NULL);
    pthread_create(&thread, NULL, sleep_long, NULL);
    usleep(10000);
    exit(5);
}

static void at_exit(void)
{
    printf("at exit\n");
}

int main(int argc, char **argv)
{
    const char *end = argc > 1 ? argv[1] : "";
    if (strcmp(end, "fault") == 0) {
        *(volatile int *)(argc == 2 ? 8 : 0x5555555555555555) = 1;
    } else if (strcmp(end, "abort") == 0) {
        abort();
    } else if (strcmp(end, "exit") == 0) {
        end_with_threads();
    } else if (strcmp(end, "echo") == 0) {
        return echo_lines();
    } else if (strcmp(end, "spin") == 0) {
        printf("spinning\n");
        for (;;) {
            sched_yield();
        }
    }
    pthread_t thread[THREADS];
    atexit(at_exit);
    CHECK(pthread_key_create(&key, destroy) == 0);
    CHECK(pthread_barrier_init(&barrier, NULL, THREADS) == 0);
    start_all(thread, locks);
    join_all(thread);
    CHECK(counter == THREADS * ROUNDS);
    CHECK(destroyed == THREADS);
    start_all(thread, barriers);
    join_all(thread);
    start_all(thread, turns);
    join_all(thread);
    CHECK(stage == THREADS * ROUNDS);
    start_all(thread, numbers);
    join_all(thread);
    start_all(thread, thread_locals);
    join_all(thread);
    CHECK(own == 7);
    mutex_kinds();
    timeouts();
    detaching();
    many_detached();
    memory();
    printf("checks: %d failed\n", failed);
    return failed;
}
