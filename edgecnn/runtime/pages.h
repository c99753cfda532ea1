/* Large pages: fewer misses of the table that finds memory, fewer first touches. */
#ifndef EDGECNN_PAGES_H
#define EDGECNN_PAGES_H

#include <stddef.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#define EC_LARGE_PAGE ((size_t)1 << 21)

/* Memory that begins at a multiple of EC_LARGE_PAGE; what does not fill one is left alone. */
static inline void ec_ask_for_large_pages(void *memory, size_t size) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    size = size / EC_LARGE_PAGE * EC_LARGE_PAGE;
    if (size) madvise(memory, size, MADV_HUGEPAGE); /* a wish: kernels without them say no */
#else
    (void)memory;
    (void)size;
#endif
}

#endif
