/* The instruction sets that this build holds, best first, and which of them this CPU and its operating system run. */
#ifndef EC_CPU_H
#define EC_CPU_H
#include "table.h"

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

#if defined(__x86_64__) || defined(_M_X64)
#define EC_X86 1
#elif defined(__aarch64__) || defined(_M_ARM64)
#define EC_ARM 64
#elif defined(__arm__) && defined(__ARM_PCS_VFP) /* floats pass in registers, as code with NEON expects them */
#define EC_ARM 32
#endif

#if EC_ARM && defined(__linux__)
#include <sys/auxv.h>
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

/* What an ARM CPU has, as Linux tells it; bits of our own, since the kernel's differ between 32 and 64 bits. */
enum { EC_NEON_UNIT = 1, EC_FUSED = 2, EC_UNKNOWN = 4 };

static inline int ec_arm_features(void) {
#if EC_ARM && defined(__linux__)
    unsigned long words = getauxval(AT_HWCAP);
    if (words == 0) return EC_UNKNOWN;
#if EC_ARM == 64
    return words >> 1 & 1 ? EC_NEON_UNIT | EC_FUSED : 0; /* HWCAP_ASIMD */
#else
    return (words >> 12 & 1 ? EC_NEON_UNIT : 0) | (words >> 16 & 1 ? EC_FUSED : 0); /* HWCAP_NEON, HWCAP_VFPv4 */
#endif
#elif EC_ARM == 64
    return EC_NEON_UNIT | EC_FUSED; /* macOS and Windows run on nothing less */
#else
    return 0;
#endif
}

#if EC_X86
#define EC_INSTRUCTION_SETS 3
#elif EC_ARM
#define EC_INSTRUCTION_SETS 2
#else
#define EC_INSTRUCTION_SETS 1
#endif

/* features: `ec_arm_features`, or what else tells them. */
static inline void ec_instruction_sets(ec_instruction_set *sets, int features) {
#if EC_X86
    (void)features;
    __builtin_cpu_init();
    /* The builtins also ask the operating system whether it saves the wide registers. */
    int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
               __builtin_cpu_supports("popcnt");
    int avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                 __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    sets[0] = (ec_instruction_set){&ec_table_avx512, "AVX-512 F, BW, VL, DQ", avx512};
    sets[1] = (ec_instruction_set){&ec_table_avx2, "AVX2, FMA, POPCNT", avx2};
    sets[2] = (ec_instruction_set){&ec_table_portable, "SSE2", 1};
#elif EC_ARM
    int neon = (features & EC_NEON_UNIT) && (features & EC_FUSED);
    sets[0] = (ec_instruction_set){&ec_table_neon, EC_ARM == 64 ? "NEON" : "NEON, VFPv4", neon};
    sets[1] = (ec_instruction_set){&ec_table_portable, "nothing", 1};
#else
    (void)features;
    sets[0] = (ec_instruction_set){&ec_table_portable, "nothing", 1};
#endif
}
#endif
