/* The instruction sets that this build holds, best first, and which of them this CPU and its operating system run. */
#ifndef EC_CPU_H
#define EC_CPU_H
#include "table.h"

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

/* Bytes of a core's second-level cache; 0 where the system does not tell. */
static inline long ec_second_level_bytes(void) {
#if defined(_SC_LEVEL2_CACHE_SIZE)
    return sysconf(_SC_LEVEL2_CACHE_SIZE);
#else
    return 0;
#endif
}

typedef struct {
    const ec_table *table;
    const char *needs;
    int supported;
} ec_instruction_set;

#if defined(__x86_64__) || defined(_M_X64)
#define EC_INSTRUCTION_SETS 3
#else
#define EC_INSTRUCTION_SETS 1
#endif

static inline void ec_instruction_sets(ec_instruction_set *sets) {
#if EC_INSTRUCTION_SETS == 3
    __builtin_cpu_init();
    /* The builtins also ask the operating system whether it saves the wide registers. */
    int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
               __builtin_cpu_supports("popcnt");
    int avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                 __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    sets[0] = (ec_instruction_set){&ec_table_avx512, "AVX-512 F, BW, VL, DQ", avx512};
    sets[1] = (ec_instruction_set){&ec_table_avx2, "AVX2, FMA, POPCNT", avx2};
    sets[2] = (ec_instruction_set){&ec_table_portable, "SSE2", 1};
#else
    sets[0] = (ec_instruction_set){&ec_table_portable, "nothing", 1};
#endif
}
#endif
