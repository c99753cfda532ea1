/* Where the threads of a call meet between two steps. */
#ifndef EC_BARRIER_H
#define EC_BARRIER_H

#include "waiting.h"

/* All zeros to begin with. `generation` counts the meetings; `sleepers` tells the last to come whether to wake anybody. */
typedef struct {
    atomic_int arrived, generation, sleepers;
} ec_barrier;

/* Returns when all `threads` have called it. */
static inline void ec_meet(ec_barrier *b, int threads) {
    int generation = atomic_load(&b->generation);
    if (atomic_fetch_add(&b->arrived, 1) == threads - 1) {
        atomic_store(&b->arrived, 0);
        atomic_fetch_add(&b->generation, 1);
        if (atomic_load(&b->sleepers)) ec_wake(&b->generation);
        return;
    }
    ec_wait_while(&b->generation, generation, &b->sleepers, EC_SPINS);
}
#endif
