"""Updates of the optimizers in C: one pass over weights, gradient and the optimizer's numbers."""

UPDATES = """
enum { SGD, ADAM, ADAMW };
typedef struct { double kind, beta1, beta2, eps, correction1, correction2, momentum, nesterov; } rule_t;

/* torch.optim's updates; decay is 0 for what does not decay */
#define UPDATE(T, SQRT) \\
    static void update_##T(T *restrict p, T *restrict m, T *restrict v, const T *restrict g, int64_t n, \\
                           const rule_t *rule, double rate, double decay) { \\
        const T w = decay, lr = rate; \\
        if (rule->kind == SGD) { \\
            const T momentum = rule->momentum; \\
            if (!m) { \\
                for (int64_t i = 0; i < n; ++i) p[i] -= lr * (g[i] + w * p[i]); \\
                return; \\
            } \\
            const T ahead = rule->nesterov ? momentum : 1, plain = rule->nesterov; \\
            for (int64_t i = 0; i < n; ++i) { \\
                const T d = g[i] + w * p[i], b = momentum * m[i] + d; \\
                m[i] = b; \\
                p[i] -= lr * (ahead * b + plain * d); \\
            } \\
            return; \\
        } \\
        const T keep = rule->kind == ADAMW ? (T)(1 - rate * decay) : 1, add = rule->kind == ADAMW ? 0 : w; \\
        const T b1 = rule->beta1, b2 = rule->beta2, eps = rule->eps, c1 = 1 - rule->beta1, c2 = 1 - rule->beta2; \\
        const T size = rate / rule->correction1, root = 1 / sqrt(rule->correction2); \\
        for (int64_t i = 0; i < n; ++i) { \\
            const T q = p[i] * keep, d = g[i] + add * q; \\
            const T first = b1 * m[i] + c1 * d, second = b2 * v[i] + c2 * d * d; \\
            m[i] = first, v[i] = second; \\
            p[i] = q - size * first / (SQRT(second) * root + eps); \\
        } \\
    }
UPDATE(float, sqrtf)
UPDATE(double, sqrt)
"""
