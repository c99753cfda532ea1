/* Where the threads of a call meet between two steps.

   A thread that waits spins for some tens of microseconds, which is longer than neighbours usually differ, and then sleeps.
   Spinning on, as OpenMP's own barrier does for milliseconds, is costly where other work wants the core: the thread that
   all wait for may be the one that was put aside for the spinning. */
#ifndef EC_BARRIER_H
#define EC_BARRIER_H

#include <stdatomic.h>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif !defined(_WIN32)
#include <sched.h>
#endif

#define EC_SPINS 1000

/* All zeros to begin with. `generation` counts the meetings; `sleepers` tells the last to come whether to wake anybody. */
typedef struct {
    atomic_int arrived, generation, sleepers;
} ec_barrier;

static inline void ec_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || (defined(__arm__) && __ARM_ARCH >= 7)
    __asm__ volatile("yield");
#endif
}

static inline void ec_sleep(ec_barrier *b, int generation) {
#if defined(__linux__) && defined(SYS_futex)
    atomic_fetch_add(&b->sleepers, 1);
    /* The kernel looks at the generation again: a thread that comes too late for the wake does not sleep. */
    while (atomic_load(&b->generation) == generation)
        syscall(SYS_futex, (int *)&b->generation, FUTEX_WAIT_PRIVATE, generation, (void *)0, (void *)0, 0);
    atomic_fetch_sub(&b->sleepers, 1);
#else
    while (atomic_load(&b->generation) == generation) {
#if defined(_WIN32)
        ec_pause();
#else
        sched_yield();
#endif
    }
#endif
}

/* Returns when all `threads` have called it. */
static inline void ec_meet(ec_barrier *b, int threads) {
    int generation = atomic_load(&b->generation);
    if (atomic_fetch_add(&b->arrived, 1) == threads - 1) {
        atomic_store(&b->arrived, 0);
        atomic_fetch_add(&b->generation, 1);
#if defined(__linux__) && defined(SYS_futex)
        if (atomic_load(&b->sleepers)) syscall(SYS_futex, (int *)&b->generation, FUTEX_WAKE_PRIVATE, threads, (void *)0, (void *)0, 0);
#endif
        return;
    }
    for (int i = 0; i < EC_SPINS; i++) {
        if (atomic_load_explicit(&b->generation, memory_order_acquire) != generation) return;
        ec_pause();
    }
    ec_sleep(b, generation);
}
#endif
