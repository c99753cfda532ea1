/* A plan in plain C: steps that a loop can walk without Python. */
#ifndef EC_STEP_H
#define EC_STEP_H

#include <stddef.h>
#include <stdint.h>

#include "barrier.h"
#include "watch.h"

/* Where a tensor of one image lies: floats of buffer `buffer` from `offset` on, as [height, width, channels]; channels are
   contiguous, `pixel` floats lie from one pixel to the next, `row` from one row to the next. Buffer 0 is the arena, then
   come the model's inputs, then its outputs. */
typedef struct {
    int buffer;
    ptrdiff_t offset;
    size_t height, width, channels, row, pixel;
} ec_view;

/* What the steps of one image work on. `buffers` are shared by the threads of a team, `scratch` is each thread's own. */
typedef struct ec_context ec_context;
struct ec_context {
    float **buffers;
    unsigned char *scratch;
    const float *zeros;     /* as many zeros as the plan's widest pixel */
    const ec_context *team; /* of all threads, by their numbers */
    int backwards;          /* every second call: what is read once is read from its end, which may still be in a cache */
    ec_watch *watch;        /* NULL: the step is short, or nobody can end the call */
    int asks;               /* whether this thread may ask the watch */
};

typedef struct ec_step ec_step;
/* Computes rows [first, last) of the output alone. x, out: where row 0 of input and output lies or would lie: memory need
   exist only for the rows that are read and written. */
typedef void (*ec_rows)(const ec_step *, const ec_context *, const float *x, float *out, size_t first, size_t last);
/* Does thread's share of the step; shares depend on (thread, threads) only, results on neither. */
typedef void (*ec_run)(const ec_step *, const ec_context *, int thread, int threads);
/* Puts together what the threads of a team, more than one, left in their scratch memory. */
typedef void (*ec_finish)(const ec_step *, const ec_context *, int threads);
struct ec_step {
    ec_run run;
    ec_finish finish;      /* what thread 0 does when all have done their shares; or NULL */
    ec_rows rows;          /* NULL: the family computes whole images only */
    const void *arguments; /* of the kernel family */
    int serial;            /* too small to share: thread 0 does it alone */
    int barrier;           /* whether the threads must meet before the next step */
    int asks;              /* `run` looks whether to stop (ec_stopped) wherever it works for long */
    double portion;        /* its work, as a part of what may be done between two looks */
    int pieces;            /* each thread's share is cut into so many, with a look before each */
};

/* Whether the call shall end: what is left of the step need not be computed. */
static inline int ec_stopped(const ec_context *context) {
    return context->watch && ec_look(context->watch, context->asks);
}

static inline float *ec_at(const ec_context *context, const ec_view *view) {
    return context->buffers[view->buffer] + view->offset;
}

/* The share [*first, *last) of `count` equal parts. */
static inline void ec_share(size_t count, int thread, int threads, size_t *first, size_t *last) {
    /* In 64 bits: of large counts in many pieces the products exceed 32. */
    *first = (size_t)((uint64_t)count * (uint64_t)thread / (uint64_t)threads);
    *last = (size_t)((uint64_t)count * ((uint64_t)thread + 1) / (uint64_t)threads);
}

/* What lies between a step and the next one, for more than one thread. Only those wait who have something to wait for: nobody
   for threads that have done nothing, and no thread that does nothing next. */
static inline void ec_pass(ec_barrier *barrier, int thread, int threads, int serial, int next_serial) {
    int times = ec_arrive(barrier, thread);
    if (thread == 0 && !serial) ec_await_others(barrier, thread, threads, times);
    if (thread != 0 && !next_serial) {
        if (serial) ec_await(barrier, 0, times);
        else ec_await_others(barrier, thread, threads, times);
    }
}

/* A thread's share of a step, with a look at the watch before each piece of it. */
static inline void ec_do(const ec_step *step, const ec_context *context, int thread, int threads) {
    for (int piece = 0; piece < step->pieces && !ec_stopped(context); piece++)
        step->run(step, context, thread * step->pieces + piece, threads * step->pieces);
}

/* Walks the steps of one image; called by every thread of the team. more: whether another image of the team follows, else the
   threads may still be at work when the first returns; barrier: the team's, for more than one thread; seconds: where to put
   each step's time, or NULL; done: the thread's work since its last look at the watch. When the call shall end, the steps that are
   left are passed by and not computed, so that the threads still meet as often. */
static inline void ec_walk(const ec_step *steps, size_t count, const ec_context *context, int thread, int threads, int more,
                           ec_barrier *barrier, double *seconds, double *done) {
    double before = seconds && thread == 0 ? ec_now() : 0;
    ec_context unwatched = *context; /* for short steps, whose loops need not look */
    unwatched.watch = NULL;
    for (size_t i = 0; i < count; i++) {
        int last = i + 1 == count, serial = steps[i].serial, stopped = 0;
        if (context->watch) {
            *done += steps[i].portion;
            if (*done < 1) stopped = atomic_load_explicit(&context->watch->stop, memory_order_relaxed);
            else stopped = ec_look(context->watch, context->asks), *done = 0;
        }
        if (!stopped && (!serial || thread == 0))
            ec_do(&steps[i], steps[i].portion > 1 ? context : &unwatched, thread, serial ? 1 : threads);
        if (threads > 1 && !serial && steps[i].finish) {
            serial = 1;
            ec_pass(barrier, thread, threads, 0, serial);
            if (thread == 0 && !stopped) steps[i].finish(&steps[i], context, threads);
        }
        if (threads > 1 && steps[i].barrier && (!last || more || seconds))
            ec_pass(barrier, thread, threads, serial, last ? !more || steps[0].serial : steps[i + 1].serial);
        if (seconds && thread == 0) {
            double after = ec_now();
            seconds[i] = after - before;
            before = after;
        }
    }
}
#endif
