// A stand-in for libcudart: device memory is the host's, a stream runs at once, an event is a time.
#include <chrono>
#include <cstdlib>
#include <cstring>

typedef std::chrono::steady_clock Clock;

extern "C" {
int cudaGetDeviceCount(int* count) { return *count = 1, 0; }
int cudaSetDevice(int) { return 0; }
int cudaGetDeviceProperties(char* properties, int) { return strcpy(properties, "Stand-in GPU"), 0; }
int cudaDeviceGetAttribute(int* value, int attribute, int) {
    *value = attribute == 75 ? 8 : attribute == 76 ? 7 : 16;  // sm_87, 16 multiprocessors
    return 0;
}
int cudaMalloc(void** pointer, size_t bytes) { return *pointer = malloc(bytes), 0; }
int cudaFree(void* pointer) { return free(pointer), 0; }
int cudaMemcpyAsync(void* to, const void* from, size_t bytes, int, void*) { return memcpy(to, from, bytes), 0; }
int cudaStreamCreate(void** stream) { return *stream = malloc(1), 0; }
int cudaStreamSynchronize(void*) { return 0; }
int cudaStreamDestroy(void* stream) { return free(stream), 0; }
int cudaEventCreate(void** event) { return *event = new Clock::time_point, 0; }
int cudaEventRecord(void* event, void*) { return *(Clock::time_point*)event = Clock::now(), 0; }
int cudaEventElapsedTime(float* ms, void* from, void* to) {
    auto elapsed = *(Clock::time_point*)to - *(Clock::time_point*)from;
    return *ms = std::chrono::duration<float, std::milli>(elapsed).count(), 0;
}
int cudaEventDestroy(void* event) { return delete (Clock::time_point*)event, 0; }
}
