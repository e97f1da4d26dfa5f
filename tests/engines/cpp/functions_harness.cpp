// Every function of the vector layer, over arrays of whole vectors; for test_functions.py.
#include <sys/mman.h>
#include <unistd.h>

#include "functions.h"

using throughtime::LANES, throughtime::loadu, throughtime::real, throughtime::storeu;
using throughtime::broadcast, throughtime::mask, throughtime::vec;

static vec number(vec a) { return a; }
static vec number(mask a) { return throughtime::where(a, broadcast(1), broadcast(0)); }
static mask truth(vec a) { return throughtime::ne(a, broadcast(0)); }

#define UNARY(name, expression)                                \
    extern "C" void name##_of(const real* x, real* y, long n) { \
        for (long i = 0; i < n; i += LANES) {                  \
            const vec a = loadu(x + i);                        \
            storeu(y + i, number(expression));                 \
        }                                                      \
    }
#define BINARY(name, expression)                                              \
    extern "C" void name##_of(const real* x, const real* y, real* z, long n) { \
        for (long i = 0; i < n; i += LANES) {                                 \
            const vec a = loadu(x + i), b = loadu(y + i);                     \
            storeu(z + i, number(expression));                                \
        }                                                                     \
    }
#define U(name) UNARY(name, throughtime::name(a))
#define B(name) BINARY(name, throughtime::name(a, b))

U(neg) U(abs) U(sign) U(floor) U(ceil) U(round) U(trunc)
U(exp) U(expm1) U(log) U(log1p) U(tanh) U(sigmoid) U(erf) U(sqrt) U(sin) U(cos)
B(add) B(sub) B(mul) B(div) B(minimum) B(maximum) B(pow) B(lt) B(le) B(gt) B(ge) B(eq) B(ne)
UNARY(logical_not, throughtime::logical_not(truth(a)))
BINARY(logical_and, throughtime::logical_and(truth(a), truth(b)))
BINARY(logical_or, throughtime::logical_or(truth(a), truth(b)))
BINARY(where, throughtime::where(throughtime::lt(a, b), a, b))
UNARY(softplus, throughtime::where(throughtime::gt(a, broadcast(20)), a,
                                   throughtime::log1p(throughtime::exp(a))))

extern "C" int lanes() { return LANES; }
extern "C" void broadcast_of(const real* x, real* y) { storeu(y, broadcast(*x)); }
extern "C" void load_of(const real* x, real* y, long n) { storeu(y, throughtime::load(x, n)); }
extern "C" void store_of(const real* x, real* y, long n) { throughtime::store(y, loadu(x), n); }

// Load and store n lanes on both sides of pages that cannot be touched.
extern "C" int borders() {
    const long page = sysconf(_SC_PAGESIZE);
    char* pages = (char*)mmap(nullptr, 3 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages + page, page, PROT_READ | PROT_WRITE)) return 2;
    real *first = (real*)(pages + page), *end = (real*)(pages + 2 * page);
    for (long n = 0; n <= LANES; n++) {
        throughtime::store(first, throughtime::load(end - n, n), n);
        throughtime::store(end - n, throughtime::load(first, n), n);
    }
    return 0;
}
