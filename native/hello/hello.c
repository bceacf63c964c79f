/* The smallest application that shows something: arguments, floating point, threads. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 4

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static double total;

/* Its share of the sum of 1/k^2, which goes to pi^2/6. */
static void *sum(void *arg)
{
    long first = *(long *)arg;
    double part = 0;
    for (long k = first; k <= 1000000; k += THREADS) {
        part += 1.0 / ((double)k * (double)k);
    }
    pthread_mutex_lock(&lock);
    total += part;
    pthread_mutex_unlock(&lock);
    return NULL;
}

int main(int argc, char **argv)
{
    printf("hello from %s, with %d arguments", argv[0], argc - 1);
    for (int i = 1; i < argc; i++) {
        printf(" [%s]", argv[i]);
    }
    printf("\n");

    pthread_t thread[THREADS];
    long first[THREADS];
    int count = 0;
    for (; count < THREADS; count++) {
        first[count] = count + 1;
        if (pthread_create(&thread[count], NULL, sum, &first[count]) != 0) {
            fprintf(stderr, "no thread %d\n", count);
            break;
        }
    }
    for (int i = 0; i < count; i++) { /* they use this function's variables */
        pthread_join(thread[i], NULL);
    }
    if (count < THREADS) {
        return EXIT_FAILURE;
    }
    printf("%d threads say that pi is about %.5f\n", THREADS, sqrt(6 * total));
    return argc > 1 && strcmp(argv[1], "status") == 0 ? atoi(argv[argc - 1]) : EXIT_SUCCESS;
}
