// Preloaded into a Python process: lets one chosen allocation of edgecnn's compiled code fail, and counts what that code has
// allocated and not freed. Linux with glibc.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

#define EXPORT __attribute__((visibility("default")))
enum { PLACES = 1 << 16, FRAMES = 24 };

static atomic_long waited = -1;  // allocations until the one that fails; negative: none will
static atomic_long asked;
static void *known[PLACES];      // blocks that edgecnn's own C code holds
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

EXPORT void fail_after(long count) { atomic_store(&asked, 0); atomic_store(&waited, count); }
EXPORT long stop_failing(void) { atomic_store(&waited, -1); return atomic_load(&asked); }
EXPORT long held(void) {
    long count = 0;
    for (size_t i = 0; i < PLACES; i++) count += known[i] != NULL && known[i] != known;
    return count;
}

static int is_ours(const void *address) {
    Dl_info found;
    return dladdr(address, &found) && found.dli_fname && strstr(found.dli_fname, "/edgecnn/") != NULL;
}

// Whether an allocation is made for compiled code of edgecnn: Python code and NumPy have places of their own where memory
// runs out.
static int is_for_us(void) {
    void *frames[FRAMES];
    int count = backtrace(frames, FRAMES);
    for (int i = 2; i < count; i++) {
        Dl_info found;
        if (!dladdr(frames[i], &found)) continue;
        if (found.dli_sname && strcmp(found.dli_sname, "_PyEval_EvalFrameDefault") == 0) return 0;
        if (found.dli_fname && strstr(found.dli_fname, "/numpy/")) return 0;
        if (found.dli_fname && strstr(found.dli_fname, "/edgecnn/")) return 1;
    }
    return 0;
}

static int fails(void) {
    static __thread int looking;  // backtrace() allocates
    if (looking || atomic_load(&waited) < 0) return 0;
    looking = 1;
    int counts = is_for_us();
    looking = 0;
    if (!counts) return 0;
    atomic_fetch_add(&asked, 1);
    if (atomic_fetch_sub(&waited, 1) != 0) return 0;
    errno = ENOMEM;
    return 1;
}

static void *kept(void *block, const void *caller) {
    if (block && is_ours(caller)) {
        pthread_mutex_lock(&lock);
        size_t i = (uintptr_t)block / 16 % PLACES;
        while (known[i] != NULL && known[i] != known) i = (i + 1) % PLACES;
        known[i] = block;
        pthread_mutex_unlock(&lock);
    }
    return block;
}

static void forget(void *block) {
    pthread_mutex_lock(&lock);
    for (size_t i = (uintptr_t)block / 16 % PLACES; known[i] != NULL; i = (i + 1) % PLACES) {
        if (known[i] == block) {
            known[i] = known;  // something else was put behind it meanwhile
            break;
        }
    }
    pthread_mutex_unlock(&lock);
}

#define CALLER __builtin_return_address(0)
EXPORT void *malloc(size_t size) { return fails() ? NULL : kept(__libc_malloc(size), CALLER); }
EXPORT void *calloc(size_t count, size_t size) { return fails() ? NULL : kept(__libc_calloc(count, size), CALLER); }
EXPORT void *memalign(size_t alignment, size_t size) { return fails() ? NULL : kept(__libc_memalign(alignment, size), CALLER); }
EXPORT void *aligned_alloc(size_t alignment, size_t size) {
    return fails() ? NULL : kept(__libc_memalign(alignment, size), CALLER);
}
EXPORT int posix_memalign(void **block, size_t alignment, size_t size) {
    void *made = fails() ? NULL : kept(__libc_memalign(alignment, size), CALLER);
    if (made) *block = made;
    return made ? 0 : ENOMEM;
}
EXPORT void *realloc(void *block, size_t size) {
    if (fails()) return NULL;
    if (block) forget(block);
    return kept(__libc_realloc(block, size), CALLER);
}
EXPORT void free(void *block) {
    if (block) forget(block);
    __libc_free(block);
}
EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*work)(void *), void *argument) {
    static int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (!create) *(void **)&create = dlsym(RTLD_NEXT, "pthread_create");
    return fails() ? EAGAIN : create(thread, attributes, work, argument);
}
