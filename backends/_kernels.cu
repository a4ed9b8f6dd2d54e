// The W-steps of snmf/core/updates.py, each fused into one kernel; `real` is float or double.
//
// The wrapper compiles a body for a device, the tests compile it for the host: one index a thread.

// W ← W ∘ √( (A⁺ + W B⁻) / (A⁻ + W B⁺ + λ) ), with attract = W B⁻ and repel = W B⁺ given.
extern "C" __global__ void multiplicative(const real* A, const real* attract, const real* repel,
                                          const real l1, real* W, const long long size) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const real a = A[i];
    const real up = attract[i] + (a > 0 ? a : (real)0);
    const real down = repel[i] + (a < 0 ? -a : (real)0) + l1;
    W[i] *= sqrt(up / down);
}

// for j = 1…k:  w_j ← max(0, w_j + (a_j − W b_j − λ) / B_jj), one thread to a row of W.
// A and W are (k, n): neighbouring threads read side by side. Row j of B is b_j.
extern "C" __global__ void hals(const real* A, const real* B, const real l1, real* W,
                                const long long n, const int k, const int repeats) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    for (int step = 0; step < k * repeats; ++step) {
        const int j = step % k;
        const real diagonal = B[j * k + j];
        real descent = A[j * n + i] - l1;
        for (int l = 0; l < k; ++l) descent -= W[l * n + i] * B[j * k + l];
        const real w = W[j * n + i] + descent / diagonal;
        W[j * n + i] = diagonal > 0 && w > 0 ? w : (real)0;
    }
}
