// The W-steps of snmf/core/updates.py, each fused into one kernel; `real` is float or double.
//
// A thread has one row of W in its registers; a block has the small matrix B in shared memory. A
// and W are (K, n), so that neighbouring threads read side by side, and each is read and written
// once. The wrapper compiles a body for a number of columns K, the tests compile it for the host.

#define VECTOR (16 / sizeof(real))
#define STRIDE ((K + VECTOR - 1) / VECTOR * VECTOR)  // a row of B begins at a whole vector

// W ← W ∘ √( (A⁺ + W B⁻) / (A⁻ + W B⁺ + λ) )
extern "C" __global__ void multiplicative(const real* A, const real* B, const real l1, real* W,
                                          const long long n, const int repeats) {
    __shared__ __align__(16) real plus[K * STRIDE];
    __shared__ __align__(16) real minus[K * STRIDE];
    for (int at = threadIdx.x; at < K * STRIDE; at += blockDim.x) {
        const int j = at / STRIDE, l = at % STRIDE;
        const real b = l < K ? B[j * K + l] : (real)0;
        plus[at] = b > 0 ? b : (real)0;
        minus[at] = b < 0 ? -b : (real)0;
    }
    __syncthreads();
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    real w[STRIDE];
    for (int step = 0; step < repeats; ++step) {
#pragma unroll
        for (int l = 0; l < STRIDE; ++l) w[l] = l < K ? W[l * n + i] : (real)0;
#pragma unroll 1
        for (int j = 0; j < K; ++j) {
            const real a = A[j * n + i];
            real up = a > 0 ? a : (real)0, down = (a < 0 ? -a : (real)0) + l1;
#pragma unroll
            for (int l = 0; l < STRIDE; ++l) {
                up += w[l] * minus[j * STRIDE + l];
                down += w[l] * plus[j * STRIDE + l];
            }
            W[j * n + i] *= sqrt(up / down);
        }
    }
}

// The same for more columns than registers: attract = W B⁻ and repel = W B⁺ are given, K is 1.
extern "C" __global__ void multiplicative_of_products(const real* A, const real* attract,
                                                      const real* repel, const real l1, real* W,
                                                      const long long size) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const real a = A[i];
    const real up = attract[i] + (a > 0 ? a : (real)0);
    const real down = repel[i] + (a < 0 ? -a : (real)0) + l1;
    W[i] *= sqrt(up / down);
}

// for j = 1…K:  w_j ← max(0, (a_j − λ − Σ_{l ≠ j} w_l B_lj) / B_jj)
extern "C" __global__ void hals(const real* A, const real* B, const real l1, real* W,
                                const long long n, const int repeats) {
    __shared__ __align__(16) real others[K * STRIDE];  // B without its diagonal
    __shared__ real diagonal[K];
    for (int at = threadIdx.x; at < K * STRIDE; at += blockDim.x) {
        const int j = at / STRIDE, l = at % STRIDE;
        const real b = l < K ? B[j * K + l] : (real)0;
        others[at] = l == j ? (real)0 : b;
        if (l == j) diagonal[j] = b;
    }
    __syncthreads();
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    real w[STRIDE];
#pragma unroll
    for (int l = 0; l < STRIDE; ++l) w[l] = l < K ? W[l * n + i] : (real)0;
    for (int step = 0; step < repeats; ++step) {
#pragma unroll 1
        for (int j = 0; j < K; ++j) {
            real left = A[j * n + i] - l1;
#pragma unroll
            for (int l = 0; l < STRIDE; ++l) left -= w[l] * others[j * STRIDE + l];
            const real best = diagonal[j] > 0 && left > 0 ? left / diagonal[j] : (real)0;
#pragma unroll
            for (int l = 0; l < K; ++l) w[l] = l == j ? best : w[l];  // no index into registers
        }
    }
#pragma unroll
    for (int l = 0; l < K; ++l) W[l * n + i] = w[l];
}
