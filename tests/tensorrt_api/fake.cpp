// A stand-in for the native libraries that NVIDIA's Python bindings of TensorRT load; it holds nothing of theirs.
// Every object is {vptr, impl = self}, and every virtual function forwards to one hook, which faketrt.py installs.
#include <typeinfo>
#include <utility>

struct Any {
    virtual ~Any() {}
};

extern "C" {
typedef long (*Hook)(long, long, long, long, long, long, long);
Hook fake_hook = nullptr;
void* fake_table[2 + 256];  // what stands in front of a vtable (offset, type), and 256 virtual functions
}

template <int K>
long slot(long a, long b, long c, long d, long e, long f) {
    return fake_hook(K, a, b, c, d, e, f);
}

template <int... K>
static void fill(std::integer_sequence<int, K...>) {
    fake_table[0] = nullptr;
    fake_table[1] = (void*)&typeid(Any);  // pybind11 asks for the type
    ((fake_table[2 + K] = (void*)&slot<K>), ...);
}

extern "C" {
void** fake_vtable() {
    if (!fake_table[1]) fill(std::make_integer_sequence<int, 256>{});
    return fake_table + 2;
}

// The names that the bindings import. The first argument of the hook says which was called.
void* createInferBuilder_INTERNAL(void* logger, int) { return (void*)fake_hook(-1, (long)logger, 0, 0, 0, 0, 0); }
void* createInferRuntime_INTERNAL(void* logger, int) { return (void*)fake_hook(-2, (long)logger, 0, 0, 0, 0, 0); }
void* createInferRefitter_INTERNAL(void*, void*, int) { return nullptr; }
void* createNvOnnxParser_INTERNAL(void* network, void*, int) { return (void*)fake_hook(-3, (long)network, 0, 0, 0, 0, 0); }
void* createNvOnnxParserRefitter_INTERNAL(void*, void*, int) { return nullptr; }
void* getBuilderPluginRegistry(int) { return (void*)fake_hook(-4, 0, 0, 0, 0, 0, 0); }
void* getPluginRegistry() { return (void*)fake_hook(-4, 0, 0, 0, 0, 0, 0); }
int getNvOnnxParserVersion() { return 0; }
int getInferLibVersion() { return 0; }
bool initLibNvInferPlugins(void*, const char*) { return true; }
}
