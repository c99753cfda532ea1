/* Threads that wait for work: those of a call beside the one that calls. */
#ifndef EC_WORKER_H
#define EC_WORKER_H

#include "waiting.h"

/* Does thread's share of `work`. */
typedef void (*ec_job)(void *work, int thread, int threads);

/* One thread, which lives as long as the process: nothing frees this. All zeros to begin with. */
typedef struct {
    atomic_int busy, sleepers; /* sleepers: on `busy`; the worker while it has no work, its caller while it has */
    atomic_int ready;          /* whether the system has let it run yet */
    ec_job job;
    void *work;
    int thread, threads;
    atomic_int spins; /* what the worker reads once it has no work, when the next work may already be given */
} ec_worker;

/* What the thread of a worker runs. It knows nothing of Python. */
static inline void ec_serve(void *worker) {
    ec_worker *w = (ec_worker *)worker;
    atomic_store(&w->ready, 1);
    for (;;) {
        ec_wait_while(&w->busy, 0, &w->sleepers, atomic_load_explicit(&w->spins, memory_order_relaxed));
        w->job(w->work, w->thread, w->threads);
        atomic_store(&w->busy, 0);
        if (atomic_load(&w->sleepers)) ec_wake(&w->busy);
    }
}

/* Whether a worker runs, which takes a new one some tens of microseconds, or milliseconds where other work holds the cores. Waits for
   the former. */
static inline int ec_is_ready(ec_worker *w) {
    for (int i = 0; i < EC_STARTING_SPINS; i++) {
        if (atomic_load_explicit(&w->ready, memory_order_acquire)) return 1;
        ec_pause();
    }
    return 0;
}

/* Does all shares of `work`, those beside the first by `workers`, which must be idle and the caller's own. Returns when all
   are done. crowded: there are more threads than cores, so that idle ones must not spin for long. */
static inline void ec_share_out(ec_worker *const *workers, int count, ec_job job, void *work, int crowded) {
    for (int i = 0; i < count; i++) {
        ec_worker *w = workers[i];
        w->job = job, w->work = work, w->thread = i + 1, w->threads = count + 1;
        atomic_store_explicit(&w->spins, crowded ? EC_SPINS : EC_IDLE_SPINS, memory_order_relaxed);
        atomic_store(&w->busy, 1);
        if (atomic_load(&w->sleepers)) ec_wake(&w->busy);
    }
    job(work, 0, count + 1);
    for (int i = 0; i < count; i++) ec_wait_while(&workers[i]->busy, 1, &workers[i]->sleepers, EC_SPINS);
}
#endif
