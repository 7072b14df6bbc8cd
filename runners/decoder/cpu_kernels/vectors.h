// Vectors of floats, read from and written to float32 and bfloat16.

#pragma once

#include <cstdint>
#include <cstring>

namespace {

constexpr int LANES = 16;

// Extensions of GCC and Clang, which turn them into the registers of the CPU at hand.
typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t Words __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));

typedef float Eight __attribute__((vector_size(32)));
typedef float Four __attribute__((vector_size(16)));

template <typename Half>
struct Pair {
    Half low, high;
};

struct bfloat16 {
    uint16_t bits;  // the upper half of a float
};

template <typename To, typename From>
inline To same_bits(From from) {
    To to;
    static_assert(sizeof to == sizeof from, "other size");
    memcpy(&to, &from, sizeof to);
    return to;
}

inline Floats load(const float *numbers) {
    Floats loaded;
    memcpy(&loaded, numbers, sizeof loaded);
    return loaded;
}

inline Floats load(const bfloat16 *numbers) {
    Halves packed;
    memcpy(&packed, numbers, sizeof packed);
    return same_bits<Floats>(__builtin_convertvector(packed, Words) << 16);
}

inline void store(float *numbers, Floats stored) { memcpy(numbers, &stored, sizeof stored); }

inline void store(bfloat16 *numbers, Floats stored) {
    Words bits = same_bits<Words>(stored);
    bits = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // to the nearest, ties to even
    Halves packed = __builtin_convertvector(bits, Halves);
    memcpy(numbers, &packed, sizeof packed);
}

// Added up in halves: in the order of the lanes each addition would wait for the one before it.
inline float sum(Floats numbers) {
    const auto eights = same_bits<Pair<Eight>>(numbers);
    const auto fours = same_bits<Pair<Four>>(eights.low + eights.high);
    const Four four = fours.low + fours.high;
    return (four[0] + four[2]) + (four[1] + four[3]);
}

inline float highest(Floats numbers) {
    float high = numbers[0];
    for (int lane = 1; lane < LANES; lane++) high = numbers[lane] > high ? numbers[lane] : high;
    return high;
}

// The exponential of numbers up to 0, as in Cephes' expf: a power of two, and a polynomial of what
// is left. It is 0 where a float could hardly hold it.
inline Floats exponential(Floats x) {
    const Ints vanishes = x < -87.0f;
    const Floats shifted = x * 1.44269504f + 12582912.0f;  // adding 1.5 * 2^23 rounds
    const Floats power = shifted - 12582912.0f;
    x = x - power * 0.693359375f + power * 2.12194440e-4f;
    Floats y = x * 1.9875691500e-4f + 1.3981999507e-3f;
    y = y * x + 8.3334519073e-3f;
    y = y * x + 4.1665795894e-2f;
    y = y * x + 1.6666665459e-1f;
    y = y * x + 5.0000001201e-1f;
    y = y * x * x + x + 1.0f;
    y *= same_bits<Floats>((same_bits<Ints>(shifted) - 0x4b400000 + 127) << 23);
    return vanishes ? Floats{} : y;
}

}  // namespace
