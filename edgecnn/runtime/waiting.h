/* How a thread waits for another: it spins, and then sleeps. Spinning for long is costly where other work wants the core: the
   thread that all wait for may be the one that was put aside for the spinning. */
#ifndef EC_WAITING_H
#define EC_WAITING_H

#include <limits.h>
#include <stdatomic.h>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#pragma comment(lib, "synchronization")
#else
#include <pthread.h>
#endif

/* Between the threads of a call, some tens of microseconds: longer than neighbours usually differ. */
#define EC_SPINS 1000
/* For a new thread, about as long as an idle core needs to start it. */
#define EC_STARTING_SPINS 1000
/* Between calls, some milliseconds: a thread that was woken from sleep may start late, and on the core that woke it. */
#define EC_IDLE_SPINS 300000

static inline void ec_pause(void) {
#if defined(__x86_64__) || defined(__i386__) || defined(_M_X64)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || (defined(__arm__) && __ARM_ARCH >= 7)
    /* Takes about as long as x86's pause; `yield` does nothing on most cores. */
    __asm__ volatile("isb");
#endif
}

#if !defined(__linux__) && !defined(_WIN32)
static pthread_mutex_t ec_sleep_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ec_changed = PTHREAD_COND_INITIALIZER;
#endif

/* Sleeps while *word is `value`; may return earlier. Who changes the word wakes the sleepers after that. */
static inline void ec_sleep_while(atomic_int *word, int value) {
#if defined(__linux__)
    /* The kernel looks at the word again: a thread that comes too late for the wake does not sleep. */
    syscall(SYS_futex, (int *)word, FUTEX_WAIT_PRIVATE, value, (void *)0, (void *)0, 0);
#elif defined(_WIN32)
    WaitOnAddress((volatile void *)word, &value, sizeof(value), INFINITE);
#else
    pthread_mutex_lock(&ec_sleep_lock);
    while (atomic_load(word) == value) pthread_cond_wait(&ec_changed, &ec_sleep_lock);
    pthread_mutex_unlock(&ec_sleep_lock);
#endif
}

static inline void ec_wake(atomic_int *word) {
#if defined(__linux__)
    syscall(SYS_futex, (int *)word, FUTEX_WAKE_PRIVATE, INT_MAX, (void *)0, (void *)0, 0);
#elif defined(_WIN32)
    WakeByAddressAll((void *)word);
#else
    (void)word;
    pthread_mutex_lock(&ec_sleep_lock);
    pthread_cond_broadcast(&ec_changed);
    pthread_mutex_unlock(&ec_sleep_lock);
#endif
}

/* Returns when *word is no longer `value`. `sleepers` tells who changes it whether anybody must be woken. */
static inline void ec_wait_while(atomic_int *word, int value, atomic_int *sleepers, int spins) {
    for (int i = 0; i < spins; i++) {
        if (atomic_load_explicit(word, memory_order_acquire) != value) return;
        ec_pause();
    }
    atomic_fetch_add(sleepers, 1);
    while (atomic_load(word) == value) ec_sleep_while(word, value);
    atomic_fetch_sub(sleepers, 1);
}
#endif
