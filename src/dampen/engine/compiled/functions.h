#include <math.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <stdlib.h>

#define BITS(A, B) \
    static inline B bits_##A##_##B(A a) { union { A a; B b; } u; u.a = a; return u.b; }
BITS(int32_t, float)
BITS(float, int32_t)
BITS(int64_t, double)
BITS(double, int64_t)

typedef void (*sgemm_t)(const char *, const char *, const int *, const int *, const int *, const float *, const float *,
                        const int *, const float *, const int *, const float *, float *, const int *);
typedef void (*dgemm_t)(const char *, const char *, const int *, const int *, const int *, const double *,
                        const double *, const int *, const double *, const int *, const double *, double *, const int *);
typedef int (*threads_t)(int);
static sgemm_t sgemm;
static dgemm_t dgemm;
static threads_t blas_threads;

void start(void *single, void *both, void *threads) {
    sgemm = (sgemm_t)single, dgemm = (dgemm_t)both, blas_threads = (threads_t)threads;
}

/* C = A B with rows in order; the BLAS's columns are our rows, so that it computes the transposed product */
#define GEMM(T, NAME) \
    static inline void gemm_##T(char at, char bt, int n, int m, int k, const T *a, int la, const T *b, int lb, T *c, \
                                int lc) { \
        const T one = 1, zero = 0; \
        NAME(&bt, &at, &m, &n, &k, &one, b, &lb, a, &la, &zero, c, &lc); \
    }
GEMM(float, sgemm)
GEMM(double, dgemm)

/* e^x by a polynomial on [-ln 2 / 2, ln 2 / 2] (Cephes, expf): within 2 units in the last place */
static inline float exp_rest(float y, float n) { /* e^y / 2^n */
    float r = y - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    return p * r * r + r + 1.0f;
}
static inline float exp_float(float x) {
    float y = x > 88.72284f ? 88.72284f : (x < -87.33655f ? -87.33655f : x);
    float n = rintf(y * 1.44269504088896341f);
    float p = exp_rest(y, n);
    int32_t half = (int32_t)n / 2, rest = (int32_t)n - half;
    union { int32_t i; float f; } a, b;
    a.i = (half + 127) << 23, b.i = (rest + 127) << 23;
    float e = p * a.f * b.f;
    e = x > 88.72284f ? INFINITY : (x < -87.33655f ? 0.0f : e);
    return x == x ? e : x;
}
static inline double exp_double(double x) { return exp(x); }
static inline float sigmoid_float(float x) { /* of normal numbers, for which one power of 2 is enough; below them 0 */
    float y = x > 87.0f ? -87.0f : -x;
    float n = rintf(y * 1.44269504088896341f);
    union { int32_t i; float f; } power;
    power.i = ((int32_t)n + 127) << 23;
    float s = 1.0f / (1.0f + exp_rest(y, n) * power.f);
    return x < -87.0f ? 0.0f : s;
}
static inline double sigmoid_double(double x) { return 1.0 / (1.0 + exp(-x)); }
static inline float tanh_float(float x) {
    float a = x < 0 ? -x : x, s = x * x;
    float e = exp_float(-2.0f * a), large = (1.0f - e) / (1.0f + e);
    float p = -5.70498872745e-3f;
    p = p * s + 2.06390887954e-2f;
    p = p * s - 5.37397155531e-2f;
    p = p * s + 1.33314422036e-1f;
    p = p * s - 3.33332819422e-1f;
    float small = x + x * s * p;
    return a < 0.625f ? small : (x < 0 ? -large : large);
}
static inline double tanh_double(double x) { return tanh(x); }
static inline float silu_slope_float(float x) { float s = sigmoid_float(x); return s * (1.0f + x * (1.0f - s)); }
static inline double silu_slope_double(double x) { double s = sigmoid_double(x); return s * (1.0 + x * (1.0 - s)); }
/* The normal distribution's share below x, erfc(-x / sqrt 2) / 2, by Chebyshev's fit of the logarithm (Press et al.,
   Numerical Recipes, section 6.2): within 1.2e-7 of itself, also where it is small; loops of it run as vectors. */
static inline float normal_share_float(float x) {
    float z = (x < 0 ? -x : x) * 0.70710678118654752f, t = 1.0f / (1.0f + 0.5f * z);
    float p = 0.17087277f;
    p = p * t - 0.82215223f;
    p = p * t + 1.48851587f;
    p = p * t - 1.13520398f;
    p = p * t + 0.27886807f;
    p = p * t - 0.18628806f;
    p = p * t + 0.09678418f;
    p = p * t + 0.37409196f;
    p = p * t + 1.00002368f;
    p = p * t - 1.26551223f;
    float tail = 0.5f * t * exp_float(p - z * z);
    return x < 0 ? tail : 1.0f - tail;
}
static inline float gelu_erf_float(float x) { return x * normal_share_float(x); }
static inline double gelu_erf_double(double x) { return x * 0.5 * (1.0 + erf(x * 0.70710678118654752440)); }
static inline float gelu_erf_slope_float(float x) {
    return normal_share_float(x) + x * exp_float(-0.5f * x * x) * 0.39894228040143268f;
}
static inline double gelu_erf_slope_double(double x) {
    return 0.5 * (1.0 + erf(x * 0.70710678118654752440)) + x * exp(-0.5 * x * x) * 0.39894228040143267794;
}
#define GELU_TANH(T) \
    static inline T gelu_tanh_##T(T x) { \
        T u = (T)0.79788456080286535588 * (x + (T)0.044715 * x * x * x); \
        return (T)0.5 * x * (1 + tanh_##T(u)); \
    } \
    static inline T gelu_tanh_slope_##T(T x) { \
        T u = (T)0.79788456080286535588 * (x + (T)0.044715 * x * x * x), h = tanh_##T(u); \
        T du = (T)0.79788456080286535588 * (1 + (T)0.134145 * x * x); \
        return (T)0.5 * (1 + h) + (T)0.5 * x * (1 - h * h) * du; \
    }
GELU_TANH(float)
GELU_TANH(double)
static inline float softplus_float(float x, float b, float t) { return x * b > t ? x : log1pf(exp_float(x * b)) / b; }
static inline double softplus_double(double x, double b, double t) { return x * b > t ? x : log1p(exp(x * b)) / b; }
static inline float mish_slope_float(float x) {
    float h = tanh_float(softplus_float(x, 1, 20));
    return h + x * sigmoid_float(x) * (1 - h * h);
}
static inline double mish_slope_double(double x) {
    double h = tanh(softplus_double(x, 1, 20));
    return h + x * sigmoid_double(x) * (1 - h * h);
}
static inline float softplus_slope_float(float g, float x, float b, float t) {
    return x * b > t ? g : g * sigmoid_float(x * b);
}
static inline double softplus_slope_double(double g, double x, double b, double t) {
    return x * b > t ? g : g * sigmoid_double(x * b);
}

enum { SGD, ADAM, ADAMW };
typedef struct { double kind, beta1, beta2, eps, correction1, correction2, momentum, nesterov; } rule_t;

/* torch.optim's updates; decay is 0 for what does not decay */
#define UPDATE(T, SQRT) \
    static void update_##T(T *restrict p, T *restrict m, T *restrict v, const T *restrict g, int64_t n, \
                           const rule_t *rule, double rate, double decay) { \
        const T w = decay, lr = rate; \
        if (rule->kind == SGD) { \
            const T momentum = rule->momentum; \
            if (!m) { \
                for (int64_t i = 0; i < n; ++i) p[i] -= lr * (g[i] + w * p[i]); \
                return; \
            } \
            const T ahead = rule->nesterov ? momentum : 1, plain = rule->nesterov; \
            for (int64_t i = 0; i < n; ++i) { \
                const T d = g[i] + w * p[i], b = momentum * m[i] + d; \
                m[i] = b; \
                p[i] -= lr * (ahead * b + plain * d); \
            } \
            return; \
        } \
        const T keep = rule->kind == ADAMW ? (T)(1 - rate * decay) : 1, add = rule->kind == ADAMW ? 0 : w; \
        const T b1 = rule->beta1, b2 = rule->beta2, eps = rule->eps, c1 = 1 - rule->beta1, c2 = 1 - rule->beta2; \
        const T size = rate / rule->correction1, root = 1 / sqrt(rule->correction2); \
        for (int64_t i = 0; i < n; ++i) { \
            const T q = p[i] * keep, d = g[i] + add * q; \
            const T first = b1 * m[i] + c1 * d, second = b2 * v[i] + c2 * d * d; \
            m[i] = first, v[i] = second; \
            p[i] = q - size * first / (SQRT(second) * root + eps); \
        } \
    }
UPDATE(float, sqrtf)
UPDATE(double, sqrt)

/* What a member does to its weights after that: move them towards 0, and take them into an average. */
#define AFTERWARDS(T) \
    static void soft_threshold_##T(T *restrict p, int64_t n, double threshold) { \
        const T t = threshold; \
        for (int64_t i = 0; i < n; ++i) p[i] -= p[i] < -t ? -t : p[i] > t ? t : p[i]; \
    } \
    static void average_##T(T *restrict a, const T *restrict p, int64_t n, double share) { \
        const T w = share, rest = 1 - w; /* as torch's lerp, exact where the share is 1 */ \
        if (share < 0.5) for (int64_t i = 0; i < n; ++i) a[i] += w * (p[i] - a[i]); \
        else for (int64_t i = 0; i < n; ++i) a[i] = p[i] - (p[i] - a[i]) * rest; \
    }
AFTERWARDS(float)
AFTERWARDS(double)
