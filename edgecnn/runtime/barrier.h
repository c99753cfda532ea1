/* Where the threads of a call meet between two steps. */
#ifndef EC_BARRIER_H
#define EC_BARRIER_H

#include "waiting.h"

/* Bytes: two lines, since some CPUs fetch them in pairs. */
#define EC_APART 128

/* How many times a thread has arrived. Each thread writes to a line of its own, which travels once to whoever waits; of a
   common counter the waiting threads would take the line away from those that still have to count. */
typedef struct {
    atomic_int times;
    char apart[EC_APART - sizeof(atomic_int)];
} ec_arrival;

/* arrivals: one for each thread, all zeros to begin with; `sleepers` tells who arrives whether to wake anybody. */
typedef struct {
    ec_arrival *arrivals;
    atomic_int sleepers;
} ec_barrier;

/* Tells the others that a thread is here; gives how many times it has been. */
static inline int ec_arrive(ec_barrier *b, int thread) {
    atomic_int *own = &b->arrivals[thread].times;
    int times = (int)((unsigned)atomic_load_explicit(own, memory_order_relaxed) + 1);
    atomic_store(own, times);
    if (atomic_load(&b->sleepers)) ec_wake(own);
    return times;
}

/* Returns when a thread has arrived so many times. */
static inline void ec_await(ec_barrier *b, int thread, int times) {
    atomic_int *word = &b->arrivals[thread].times;
    int seen = atomic_load_explicit(word, memory_order_acquire);
    /* The difference, since the numbers may have gone round. */
    while ((int)((unsigned)seen - (unsigned)times) < 0) {
        ec_wait_while(word, seen, &b->sleepers, EC_SPINS);
        seen = atomic_load_explicit(word, memory_order_acquire);
    }
}

/* Returns when all others have arrived so many times. */
static inline void ec_await_others(ec_barrier *b, int thread, int threads, int times) {
    for (int other = 0; other < threads; other++)
        if (other != thread) ec_await(b, other, times);
}

/* Returns when all `threads` have called it. */
static inline void ec_meet(ec_barrier *b, int thread, int threads) {
    ec_await_others(b, thread, threads, ec_arrive(b, thread));
}
#endif
