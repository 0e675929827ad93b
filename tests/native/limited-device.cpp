#include "limited-device.h"

#include "ggml-backend-impl.h"
#include "ggml-cpu.h"
#include "ggml-impl.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>

namespace fixture {
namespace {

// Memory of its own that nobody takes for the host's.

void   buffer_free(ggml_backend_buffer_t buffer) { free(buffer->context); }
void * buffer_base(ggml_backend_buffer_t buffer) { return buffer->context; }
void   buffer_memset(ggml_backend_buffer_t, ggml_tensor * tensor, uint8_t value, size_t offset, size_t size) {
    memset((char *) tensor->data + offset, value, size);
}
void buffer_set(ggml_backend_buffer_t, ggml_tensor * tensor, const void * data, size_t offset, size_t size) {
    memcpy((char *) tensor->data + offset, data, size);
}
void buffer_get(ggml_backend_buffer_t, const ggml_tensor * tensor, void * data, size_t offset, size_t size) {
    memcpy(data, (const char *) tensor->data + offset, size);
}
void buffer_clear(ggml_backend_buffer_t buffer, uint8_t value) { memset(buffer->context, value, buffer->size); }

constexpr size_t alignment = 256;

ggml_backend_buffer_t buft_alloc(ggml_backend_buffer_type_t buft, size_t size) {
    ggml_backend_buffer_i iface = {};
    iface.free_buffer   = buffer_free;
    iface.get_base      = buffer_base;
    iface.memset_tensor = buffer_memset;
    iface.set_tensor    = buffer_set;
    iface.get_tensor    = buffer_get;
    iface.clear         = buffer_clear;
    void * memory = nullptr;
    GGML_ASSERT(posix_memalign(&memory, alignment, std::max(size, alignment)) == 0);
    return ggml_backend_buffer_init(buft, iface, memory, size);
}

const char * buft_name(ggml_backend_buffer_type_t) { return "LIMITED"; }
size_t       buft_alignment(ggml_backend_buffer_type_t) { return alignment; }

// Bytes in use.

bool is_f32(const ggml_tensor * x) { return x->type == GGML_TYPE_F32; }
bool is_f16(const ggml_tensor * x) { return x->type == GGML_TYPE_F16; }

bool is_weight(ggml_type type) {
    switch (type) {
        case GGML_TYPE_F32:
        case GGML_TYPE_F16:
        case GGML_TYPE_BF16:
        case GGML_TYPE_Q4_0:
        case GGML_TYPE_Q4_1:
        case GGML_TYPE_Q5_0:
        case GGML_TYPE_Q5_1:
        case GGML_TYPE_Q8_0:
        case GGML_TYPE_Q4_K:
        case GGML_TYPE_Q6_K:
            return true;
        default:
            return false;
    }
}

// Vulkan: rows of a plane one after another.
bool dim01_contiguous(const ggml_tensor * x) {
    return x->nb[0] == ggml_type_size(x->type) && x->nb[1] == ggml_row_size(x->type, x->ne[0]);
}

bool takes_product(const ggml_tensor * a, const ggml_tensor * b) {
    if (!is_weight(a->type) || !(is_f32(b) || (is_f16(b) && is_f16(a)))) {
        return false;
    }
    if (a->nb[0] != ggml_type_size(a->type) || b->nb[0] != ggml_type_size(b->type) || a->ne[3] != b->ne[3]) {
        return false; // the strides: CUDA; the batches: Vulkan
    }
    if (ggml_is_quantized(a->type)) {
        return dim01_contiguous(a);
    }
    // Vulkan binds an operand at its own address.
    return a->view_offs % alignment == 0 && b->view_offs % alignment == 0;
}

bool takes_copy(ggml_type from, ggml_type to, bool contiguous) {
    if (from == GGML_TYPE_F32) {
        return to == GGML_TYPE_I32 || (is_weight(to) && to != GGML_TYPE_Q4_K && to != GGML_TYPE_Q6_K);
    }
    if (to == GGML_TYPE_F32) {
        return from == GGML_TYPE_I32 || (is_weight(from) && from != GGML_TYPE_Q4_K && from != GGML_TYPE_Q6_K);
    }
    return from == to && (contiguous || !ggml_is_quantized(from));
}

bool takes_attention(const ggml_tensor * op) {
    const ggml_tensor * q = op->src[0], * k = op->src[1], * v = op->src[2], * mask = op->src[3];
    // Head sizes that a backend leaves out, it leaves out without us too.
    return is_f32(q) && k->type == v->type && k->ne[0] % 8 == 0 && v->ne[0] % 8 == 0 && (!mask || is_f16(mask)) &&
        (k->type == GGML_TYPE_F16 || k->type == GGML_TYPE_Q8_0 || k->type == GGML_TYPE_Q4_0);
}

bool takes(const ggml_tensor * op) {
    const ggml_tensor * a = op->src[0];
    const ggml_tensor * b = op->src[1];

    switch (op->op) {
        case GGML_OP_NONE:
        case GGML_OP_RESHAPE:
        case GGML_OP_VIEW:
        case GGML_OP_PERMUTE:
        case GGML_OP_TRANSPOSE:
            return true;
        case GGML_OP_ADD:
        case GGML_OP_SUB:
        case GGML_OP_MUL:
        case GGML_OP_DIV: // one type, rows in one piece: Metal
            return a->type == b->type && (is_f32(a) || is_f16(a)) && ggml_is_contiguous_rows(a) && ggml_is_contiguous_rows(b);
        case GGML_OP_SCALE: // Vulkan
        case GGML_OP_CLAMP:
        case GGML_OP_ARGMAX: // Vulkan
        case GGML_OP_LOG:
            return is_f32(a) && ggml_is_contiguous(a);
        case GGML_OP_UNARY: // CUDA: in one piece
            return is_f32(a) && ggml_is_contiguous(a);
        case GGML_OP_GLU:
            return is_f32(a) && ggml_is_contiguous_1(a);
        case GGML_OP_NORM:
        case GGML_OP_RMS_NORM:
        case GGML_OP_SUM_ROWS:
        case GGML_OP_CUMSUM: // on Vulkan with subgroup arithmetic
            return is_f32(a) && ggml_is_contiguous_rows(a);
        case GGML_OP_SOFT_MAX: // Vulkan: in one piece; the mask bound at its own address
            return is_f32(a) && ggml_is_contiguous(a) && (!b || ((is_f32(b) || is_f16(b)) && b->view_offs % alignment == 0));
        case GGML_OP_MUL_MAT:
            return takes_product(a, b);
        case GGML_OP_FLASH_ATTN_EXT:
            return takes_attention(op);
        case GGML_OP_GET_ROWS: // Vulkan: both bound at their own address
            return (a->type == GGML_TYPE_I32 || is_weight(a->type)) && b->type == GGML_TYPE_I32 &&
                a->view_offs % alignment == 0 && b->view_offs % alignment == 0;
        case GGML_OP_SET_ROWS:
            return takes_copy(a->type, op->type, true) && is_f32(a) && op->type != GGML_TYPE_I32 &&
                (b->type == GGML_TYPE_I32 || b->type == GGML_TYPE_I64);
        case GGML_OP_CPY:
        case GGML_OP_CONT:
        case GGML_OP_DUP:
            return takes_copy(a->type, op->type, ggml_is_contiguous(a) && ggml_is_contiguous(op));
        case GGML_OP_REPEAT: // no integers: CUDA
            return is_f32(a) || is_f16(a);
        case GGML_OP_PAD: // Metal, Vulkan
            return is_f32(a);
        case GGML_OP_CONCAT:
            return a->type == b->type && a->type == op->type && !ggml_is_quantized(a->type);
        case GGML_OP_ROPE:
            return ggml_is_contiguous_2(a) && a->nb[0] == ggml_type_size(a->type) && ggml_is_contiguous_rows(op);
        case GGML_OP_IM2COL:
            return ggml_is_contiguous(a) && ggml_is_contiguous(b) && is_f32(b);
        case GGML_OP_ARANGE:
            return true;
        case GGML_OP_ARGSORT: // Vulkan without its memory model: one workgroup
            return ggml_is_contiguous(a) && ggml_is_contiguous(op) && op->ne[0] <= 1024;
        default:
            return false;
    }
}

// The backend hands its graphs to one of the CPU.

struct backend_context {
    ggml_backend_t cpu = ggml_backend_cpu_init();
    ~backend_context() { ggml_backend_free(cpu); }
};

const char * backend_name(ggml_backend_t) { return "LIMITED"; }

void backend_free(ggml_backend_t backend) {
    delete static_cast<backend_context *>(backend->context);
    delete backend;
}

ggml_status backend_compute(ggml_backend_t backend, ggml_cgraph * graph) {
    for (int i = 0; i < ggml_graph_n_nodes(graph); i++) {
        GGML_ASSERT(takes(ggml_graph_node(graph, i)) && "the scheduler asks first");
    }
    ggml_backend_t cpu = static_cast<backend_context *>(backend->context)->cpu;
    ggml_backend_cpu_set_n_threads(cpu, 1);
    return ggml_backend_graph_compute(cpu, graph);
}

const char * device_name(ggml_backend_dev_t) { return "LIMITED"; }
void device_memory(ggml_backend_dev_t, size_t * free, size_t * total) { *free = *total = size_t(8) << 30; }
enum ggml_backend_dev_type type_of_device(ggml_backend_dev_t) { return GGML_BACKEND_DEVICE_TYPE_GPU; }

void device_props(ggml_backend_dev_t device, ggml_backend_dev_props * props) {
    *props = {};
    props->name        = device_name(device);
    props->description = device_name(device);
    props->type        = type_of_device(device);
    device_memory(device, &props->memory_free, &props->memory_total);
}

ggml_backend_t device_init(ggml_backend_dev_t device, const char *) {
    ggml_backend_i iface = {};
    iface.get_name      = backend_name;
    iface.free          = backend_free;
    iface.graph_compute = backend_compute;
    static ggml_guid guid = { 'l', 'i', 'm', 'i', 't', 'e', 'd' };
    return new ggml_backend{ &guid, iface, device, new backend_context };
}

ggml_backend_buffer_type_t device_buft(ggml_backend_dev_t device) {
    static ggml_backend_buffer_type buft = [device] {
        ggml_backend_buffer_type_i iface = {};
        iface.get_name      = buft_name;
        iface.alloc_buffer  = buft_alloc;
        iface.get_alignment = buft_alignment;
        return ggml_backend_buffer_type{ iface, device, nullptr };
    }();
    return &buft;
}

bool device_takes(ggml_backend_dev_t, const ggml_tensor * op) { return takes(op); }
bool device_takes_buft(ggml_backend_dev_t device, ggml_backend_buffer_type_t buft) { return buft == device_buft(device); }

extern ggml_backend_reg registry;

ggml_backend_dev_t the_device() {
    static ggml_backend_device device = [] {
        ggml_backend_device_i iface = {};
        iface.get_name        = device_name;
        iface.get_description = device_name;
        iface.get_memory      = device_memory;
        iface.get_type        = type_of_device;
        iface.get_props       = device_props;
        iface.init_backend    = device_init;
        iface.get_buffer_type = device_buft;
        iface.supports_op     = device_takes;
        iface.supports_buft   = device_takes_buft;
        return ggml_backend_device{ iface, &registry, nullptr };
    }();
    return &device;
}

ggml_backend_reg registry = {
    GGML_BACKEND_API_VERSION,
    {
        [](ggml_backend_reg_t) { return "LIMITED"; },
        [](ggml_backend_reg_t) { return size_t(1); },
        [](ggml_backend_reg_t, size_t) { return the_device(); },
        [](ggml_backend_reg_t, const char *) -> void * { return nullptr; },
    },
    nullptr,
};

// The operation and its operands' types, shapes, strides and places.
std::string describe(const ggml_tensor * node) {
    std::string text = std::string(ggml_op_desc(node)) + " " + node->name;
    for (const ggml_tensor * src : node->src) {
        if (src) {
            char shape[200];
            snprintf(shape, sizeof(shape), ", %s [%d %d %d %d] nb [%d %d %d] at %d %s", ggml_type_name(src->type),
                    int(src->ne[0]), int(src->ne[1]), int(src->ne[2]), int(src->ne[3]),
                    int(src->nb[0]), int(src->nb[1]), int(src->nb[2]), int(src->view_offs), src->name);
            text += shape;
        }
    }
    return text;
}

split_recorder * recording = nullptr;
std::map<ggml_backend_t, ggml_status (*)(ggml_backend_t, ggml_cgraph *)> originals;

} // namespace

ggml_backend_dev_t register_limited_device() {
    ggml_backend_register(&registry);
    return the_device();
}

split_recorder::split_recorder(ggml_backend_sched_t sched) {
    GGML_ASSERT(!recording);
    recording = this;
    for (int i = 0; i < ggml_backend_sched_get_n_backends(sched); i++) {
        ggml_backend_t backend = ggml_backend_sched_get_backend(sched, i);
        originals[backend] = backend->iface.graph_compute;
        backend->iface.graph_compute = record;
    }
}

split_recorder::~split_recorder() {
    for (auto & [backend, compute] : originals) {
        backend->iface.graph_compute = compute;
    }
    originals.clear();
    recording = nullptr;
}

ggml_status split_recorder::record(ggml_backend_t backend, ggml_cgraph * graph) {
    for (int i = 0; i < ggml_graph_n_nodes(graph); i++) {
        const ggml_tensor * node = ggml_graph_node(graph, i);
        if (!ggml_op_is_empty(node->op)) {
            recording->nodes_.push_back({ node->op, backend->device == the_device(),
                node->op == GGML_OP_GET_ROWS && strcmp(node->src[0]->name, "token_embd.weight") == 0, describe(node) });
        }
    }
    return originals.at(backend)(backend, graph);
}

} // namespace fixture
