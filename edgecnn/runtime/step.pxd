from libc.stddef cimport ptrdiff_t


cdef extern from "step.h" nogil:
    ctypedef struct ec_arrival:
        pass

    ctypedef struct ec_barrier:
        ec_arrival *arrivals

    size_t EC_APART

    ctypedef struct ec_watch:
        int stop
        double next
        int (*ask)(void *) noexcept nogil
        void *argument

    double EC_ASK_AFTER

    ctypedef struct ec_view:
        int buffer
        ptrdiff_t offset
        size_t height, width, channels, row, pixel

    ctypedef struct ec_context:
        float **buffers
        unsigned char *scratch
        const float *zeros
        const ec_context *team
        int backwards
        ec_watch *watch
        int asks

    ctypedef void (*ec_run)(const ec_step *, const ec_context *, int, int) noexcept nogil

    ctypedef void (*ec_finish)(const ec_step *, const ec_context *, int) noexcept nogil

    ctypedef void (*ec_rows)(const ec_step *, const ec_context *, const float *, float *, size_t, size_t) noexcept nogil

    ctypedef struct ec_step:
        ec_run run
        ec_finish finish
        ec_rows rows
        const void *arguments
        int serial
        int barrier
        int asks
        double portion
        int pieces

    float *ec_at(const ec_context *, const ec_view *) noexcept
    void ec_share(size_t count, int thread, int threads, size_t *first, size_t *last) noexcept
    double ec_now() noexcept
    int ec_look(ec_watch *, int asks) noexcept
    int ec_stopped(const ec_context *) noexcept
    void ec_walk(const ec_step *, size_t, const ec_context *, int, int, int more, ec_barrier *, double *,
                 double *) noexcept
    void ec_meet(ec_barrier *, int thread, int threads) noexcept
