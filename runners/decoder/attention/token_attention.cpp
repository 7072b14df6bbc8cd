// Attention of single tokens over the columns of their own rows, on a CPU.
//
// A thread takes a token and a key-value head at a time, with the query heads that share it. It
// reads the row's keys and values once, with FlashAttention's online softmax (Dao et al., 2022).
// compiled_tokens.py compiles this file.

#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

constexpr int LANES = 16;
constexpr int CHUNK = 256;        // columns whose scores are held at a time
constexpr int MOST_SHARED = 16;   // query heads of a key-value head that are computed together
constexpr int MOST_VECTORS = 16;  // vectors of a head: 256 numbers

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
// is left.
inline Floats exponential(Floats x) {
    const Floats least = Floats{} - 87.0f;
    x = x < least ? least : x;
    const Floats shifted = x * 1.44269504f + 12582912.0f;  // adding 1.5 * 2^23 rounds
    const Floats power = shifted - 12582912.0f;
    x = x - power * 0.693359375f + power * 2.12194440e-4f;
    Floats y = x * 1.9875691500e-4f + 1.3981999507e-3f;
    y = y * x + 8.3334519073e-3f;
    y = y * x + 4.1665795894e-2f;
    y = y * x + 1.6666665459e-1f;
    y = y * x + 5.0000001201e-1f;
    y = y * x * x + x + 1.0f;
    return y * same_bits<Floats>((same_bits<Ints>(shifted) - 0x4b400000 + 127) << 23);
}

template <typename Number>
struct Head {
    const Number *queries;  // of the query heads, one after the other
    const Number *keys, *values;
    Number *results;
    const int64_t *pieces;  // first column and column after the last of each
    int64_t piece_count, column_stride;
    float scale;
};

// The sizes of the known models are constants, so that what a column adds to stays in registers.
// 0 stands for a size that is only known when it runs.
template <int KNOWN_SHARED, int KNOWN_VECTORS, typename Number>
void attend_head(const Head<Number> &of, int any_shared, int any_vectors) {
    const int shared = KNOWN_SHARED ? KNOWN_SHARED : any_shared;
    const int vectors = KNOWN_VECTORS ? KNOWN_VECTORS : any_vectors;
    constexpr int most_shared = KNOWN_SHARED ? KNOWN_SHARED : MOST_SHARED;
    constexpr int most_vectors = KNOWN_VECTORS ? KNOWN_VECTORS : MOST_VECTORS;
    Floats query[most_shared][most_vectors], mixed[most_shared][most_vectors];
    float scores[most_shared][CHUNK];
    float high[most_shared], total[most_shared];
    for (int head = 0; head < shared; head++) {
        for (int n = 0; n < vectors; n++) {
            query[head][n] = load(of.queries + (head * vectors + n) * LANES) * of.scale;
            mixed[head][n] = Floats{};
        }
        high[head] = -INFINITY;
        total[head] = 0;
    }
    for (int64_t piece = 0; piece < of.piece_count; piece++) {
        const int64_t end = of.pieces[2 * piece + 1];
        for (int64_t first = of.pieces[2 * piece]; first < end; first += CHUNK) {
            const int columns = end - first < CHUNK ? end - first : CHUNK;
            const int filled = (columns + LANES - 1) / LANES * LANES;
            const Number *keys = of.keys + first * of.column_stride;
            const Number *values = of.values + first * of.column_stride;
            for (int column = 0; column < columns; column++) {
                for (int head = 0; head < shared; head++) {
                    Floats products = Floats{};
                    for (int n = 0; n < vectors; n++)
                        products += query[head][n] * load(keys + column * of.column_stride + n * LANES);
                    scores[head][column] = sum(products);
                }
            }
            for (int head = 0; head < shared; head++) {
                for (int column = columns; column < filled; column++)
                    scores[head][column] = -INFINITY;
                Floats highs = load(scores[head]);
                for (int column = LANES; column < filled; column += LANES) {
                    const Floats next = load(scores[head] + column);
                    highs = next > highs ? next : highs;
                }
                const float before = high[head], now = highest(highs);
                high[head] = now > before ? now : before;
                Floats sums = Floats{};
                for (int column = 0; column < filled; column += LANES) {
                    const Floats weights = exponential(load(scores[head] + column) - high[head]);
                    store(scores[head] + column, weights);
                    sums += weights;
                }
                const float kept = expf(before - high[head]);
                total[head] = total[head] * kept + sum(sums);
                for (int n = 0; n < vectors; n++) mixed[head][n] *= kept;
            }
            for (int column = 0; column < columns; column++)
                for (int n = 0; n < vectors; n++) {
                    const Floats value = load(values + column * of.column_stride + n * LANES);
                    for (int head = 0; head < shared; head++)
                        mixed[head][n] += value * scores[head][column];
                }
        }
    }
    for (int head = 0; head < shared; head++)
        for (int n = 0; n < vectors; n++)
            store(of.results + (head * vectors + n) * LANES, mixed[head][n] / total[head]);
}

template <typename Number>
void attend(const Number *queries, const Number *keys, const Number *values, Number *results,
            const int64_t *pieces, const int64_t *first_pieces, int64_t tokens, int64_t kv_heads,
            int64_t shared, int64_t size, int64_t head_stride, int64_t column_stride,
            float scale) {
    const int vectors = size / LANES;
    auto attend_one = shared == 2 && vectors == 8   ? attend_head<2, 8, Number>
                      : shared == 2 && vectors == 4 ? attend_head<2, 4, Number>
                      : shared == 4 && vectors == 8 ? attend_head<4, 8, Number>
                      : shared == 6 && vectors == 8 ? attend_head<6, 8, Number>
                      : shared == 7 && vectors == 8 ? attend_head<7, 8, Number>
                      : shared == 1 && vectors == 4 ? attend_head<1, 4, Number>
                                                    : attend_head<0, 0, Number>;
#pragma omp parallel for schedule(dynamic)
    for (int64_t item = 0; item < tokens * kv_heads; item++) {
        const int64_t head = item / tokens, token = item % tokens;
        const int64_t own = (token * kv_heads + head) * shared * size;
        for (int64_t first = 0; first < shared; first += MOST_SHARED) {
            const Head<Number> of = {
                queries + own + first * size,
                keys + head * head_stride,
                values + head * head_stride,
                results + own + first * size,
                pieces + 2 * first_pieces[token],
                first_pieces[token + 1] - first_pieces[token],
                column_stride,
                scale,
            };
            attend_one(of, shared - first < MOST_SHARED ? shared - first : MOST_SHARED, vectors);
        }
    }
}

}  // namespace

// queries, results: [tokens, heads, size]. keys, values: a column of a head has `size` numbers, the
// next column begins after column_stride numbers, the next head after head_stride. pieces: first
// column and column after the last of each piece of each token's row; those of token n are
// first_pieces[n] to first_pieces[n + 1] - 1. shared: query heads of a key-value head. size: a
// multiple of 16, at most 256.
#define EXPORT(name, Number)                                                                     \
    extern "C" void name(const Number *queries, const Number *keys, const Number *values,        \
                         Number *results, const int64_t *pieces, const int64_t *first_pieces,    \
                         int64_t tokens, int64_t kv_heads, int64_t shared, int64_t size,         \
                         int64_t head_stride, int64_t column_stride, float scale) {              \
        attend(queries, keys, values, results, pieces, first_pieces, tokens, kv_heads, shared,   \
               size, head_stride, column_stride, scale);                                         \
    }

EXPORT(attend_float32, float)
EXPORT(attend_bfloat16, bfloat16)
