/* How a call that takes long ends early: its threads look at a flag, and one of them asks now and then whether to set it. */
#ifndef EC_WATCH_H
#define EC_WATCH_H

#include <stdatomic.h>
#include <time.h>

/* Seconds between two questions: a call ends well within a second, and asking may mean waiting for the interpreter's lock. */
#define EC_ASK_AFTER 0.05

/* Seconds since some moment. A clock that nobody sets, where there is one. */
static inline double ec_now(void) {
    struct timespec t;
#ifdef CLOCK_MONOTONIC
    clock_gettime(CLOCK_MONOTONIC, &t);
#else
    timespec_get(&t, TIME_UTC);
#endif
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* One for each call. All zeros to begin with, but for `next`, `ask` and `argument`. */
typedef struct {
    atomic_int stop;          /* what has not been computed yet is skipped */
    double next;              /* when to ask again, by ec_now() */
    int (*ask)(void *);       /* gives nonzero for "stop" */
    void *argument;           /* of `ask` */
} ec_watch;

/* Whether to stop. asks: whether the calling thread is the one that may ask; of each watch there is one. */
static inline int ec_look(ec_watch *w, int asks) {
    if (asks && !atomic_load_explicit(&w->stop, memory_order_relaxed) && ec_now() >= w->next) {
        if (w->ask(w->argument)) atomic_store_explicit(&w->stop, 1, memory_order_relaxed);
        w->next = ec_now() + EC_ASK_AFTER;
    }
    return atomic_load_explicit(&w->stop, memory_order_relaxed);
}
#endif
