/* Two teams at once, thousands of works each: what ThreadSanitizer says of the places where threads meet. Its own arithmetic is
   checked too: a share that is lost or done twice changes the sum. .ci/sanitize.sh runs it. */
#define _GNU_SOURCE /* syscall */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "barrier.h"
#include "worker.h"

enum { THREADS = 4, WORKS = 500, STEPS = 8 };

typedef struct {
    ec_barrier barrier;
    long long values[THREADS][16];
} work;

/* Each step reads what the neighbour wrote in the step before. */
static void job(void *given, int thread, int threads) {
    work *w = (work *)given;
    for (int step = 0; step < STEPS; step++) {
        long long next = w->values[(thread + 1) % threads][0];
        ec_meet(&w->barrier, thread, threads);
        w->values[thread][0] = next + 1;
        ec_meet(&w->barrier, thread, threads);
    }
}

static void *serve(void *worker) {
    ec_serve(worker);
    return NULL;
}

static void *team(void *unused) {
    ec_worker *workers[THREADS - 1];
    for (int i = 0; i < THREADS - 1; i++) {
        pthread_t thread;
        workers[i] = calloc(1, sizeof(ec_worker));
        if (!workers[i] || pthread_create(&thread, NULL, serve, workers[i]) || pthread_detach(thread)) abort();
        while (!ec_is_ready(workers[i])) {}
    }
    work *w = calloc(1, sizeof(work));
    ec_arrival *arrivals = calloc(THREADS, sizeof(ec_arrival));
    if (!w || !arrivals) abort();
    w->barrier.arrivals = arrivals;
    for (int i = 0; i < WORKS; i++) ec_share_out(workers, THREADS - 1, job, w, i % 2);
    long long sum = 0;
    for (int i = 0; i < THREADS; i++) sum += w->values[i][0];
    if (sum != (long long)THREADS * WORKS * STEPS) {
        printf("the shares add up to %lld, wanted %lld\n", sum, (long long)THREADS * WORKS * STEPS);
        exit(1);
    }
    (void)unused;
    return NULL;
}

int main(void) {
    pthread_t second;
    if (pthread_create(&second, NULL, team, NULL)) abort();
    team(NULL);
    pthread_join(second, NULL);
    printf("threads: %d works of %d steps by two teams of %d: no data race\n", WORKS, STEPS, THREADS);
    return 0;
}
