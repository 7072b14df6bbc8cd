// What a layer computes between its products and its attention. Each kernel reads and writes its
// numbers once, where PyTorch would need several operations.

#include "vectors.h"

#include <cmath>

namespace {

// Fewer numbers are computed before another thread would have begun.
constexpr int64_t WORTH_THREADS = 16384;

// 1 / root of the mean of the squares.
template <typename Number>
inline float inverse_root_mean_square(const Number *numbers, int64_t size, float epsilon) {
    Floats squares = Floats{};
    for (int64_t n = 0; n < size; n += LANES) {
        const Floats own = load(numbers + n);
        squares += own * own;
    }
    return 1.0f / sqrtf(sum(squares) / size + epsilon);
}

template <typename Number>
void norm(const Number *rows, const Number *weight, Number *results, int64_t count, int64_t size,
          float epsilon) {
#pragma omp parallel for if (count * size > WORTH_THREADS)
    for (int64_t row = 0; row < count; row++) {
        const Number *own = rows + row * size;
        const float factor = inverse_root_mean_square(own, size, epsilon);
        for (int64_t n = 0; n < size; n += LANES)
            store(results + row * size + n, load(own + n) * factor * load(weight + n));
    }
}

template <typename Number>
void turn(Number *states, const Number *weights, const Number *cosines, const Number *sines,
          int64_t tokens, int64_t stride, int64_t heads, int64_t size, float epsilon) {
    const int64_t half = size / 2;
#pragma omp parallel for if (tokens * heads * size > WORTH_THREADS)
    for (int64_t token = 0; token < tokens; token++) {
        const Number *cosine = cosines + token * size, *sine = sines + token * size;
        for (int64_t head = 0; head < heads; head++) {
            Number *own = states + token * stride + head * size;
            const float factor = weights ? inverse_root_mean_square(own, size, epsilon) : 1.0f;
            for (int64_t n = 0; n < half; n += LANES) {
                Floats low = load(own + n) * factor, high = load(own + half + n) * factor;
                if (weights) {
                    low *= load(weights + head * size + n);
                    high *= load(weights + head * size + half + n);
                }
                store(own + n, low * load(cosine + n) + high * load(sine + n));
                store(own + half + n, high * load(cosine + half + n) + low * load(sine + half + n));
            }
        }
    }
}

template <typename Number>
void gate(const Number *gates_and_ups, Number *results, int64_t tokens, int64_t size) {
#pragma omp parallel for if (tokens * size > WORTH_THREADS)
    for (int64_t token = 0; token < tokens; token++) {
        const Number *gates = gates_and_ups + 2 * token * size, *ups = gates + size;
        for (int64_t n = 0; n < size; n += LANES) {
            const Floats gate = load(gates + n);
            // 1 / (1 + exp(-x)), by the exponential of a number up to 0.
            const Floats power = exponential(gate < 0.0f ? gate : -gate);
            const Floats share = (gate < 0.0f ? power : Floats{} + 1.0f) / (power + 1.0f);
            store(results + token * size + n, gate * share * load(ups + n));
        }
    }
}

}  // namespace

// Root-mean-square norm (Zhang and Sennrich, 2019). rows, results: [count, size]. weight: [size].
// size: a multiple of LANES.
//
// Rotary positions (Su et al., 2021), in place, after the norm of each head. states: of each token
// [heads, size] contiguous, the next token's after `stride` numbers. weights: [heads, size], or null
// for no norm. cosines, sines: [tokens, size], the sines of the first half negative. size: a
// multiple of 2 LANES.
//
// SiLU of gates, times ups. gates_and_ups: [tokens, 2 size]. results: [tokens, size]. size: a
// multiple of LANES.
#define EXPORT(kind, Number)                                                                     \
    extern "C" void norm_##kind(const Number *rows, const Number *weight, Number *results,       \
                                int64_t count, int64_t size, float epsilon) {                    \
        norm(rows, weight, results, count, size, epsilon);                                       \
    }                                                                                            \
    extern "C" void turn_##kind(Number *states, const Number *weights, const Number *cosines,    \
                                const Number *sines, int64_t tokens, int64_t stride,             \
                                int64_t heads, int64_t size, float epsilon) {                    \
        turn(states, weights, cosines, sines, tokens, stride, heads, size, epsilon);             \
    }                                                                                            \
    extern "C" void gate_##kind(const Number *gates_and_ups, Number *results, int64_t tokens,    \
                                int64_t size) {                                                  \
        gate(gates_and_ups, results, tokens, size);                                              \
    }

EXPORT(float32, float)
EXPORT(bfloat16, bfloat16)
