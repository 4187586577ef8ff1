#include "lite_model.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/jit/mobile/import.h>
#include <torch/csrc/jit/mobile/module.h>

#include <algorithm>
#include <new>

#include "failure.h"

#if __has_include(<torch/version.h>)
#include <torch/version.h>
#else
#define TORCH_VERSION "(version unknown)"
#endif

namespace cxr {
namespace {

// First line of an exception's text: libtorch appends its own stack.
std::string first_line(const std::exception& error) {
    const std::string text = error.what();
    return text.substr(0, std::min<size_t>(text.find('\n'), 300));
}

bool is_out_of_memory(const std::string& line) {
    return line.find("not enough memory") != std::string::npos || line.find("alloc_cpu") != std::string::npos ||
           line.find("posix_memalign") != std::string::npos;
}

// int8 was prepared for phones: the desktop's default engine answers otherwise. The setting is the process's.
void select_qnnpack(const std::string& artifact) {
    auto& context = at::globalContext();
    if (context.qEngine() == at::QEngine::QNNPACK) return;
    const auto& engines = context.supportedQEngines();
    if (std::find(engines.begin(), engines.end(), at::QEngine::QNNPACK) == engines.end()) {
        throw Failure(CXR_ENGINE_UNAVAILABLE, "artifact " + artifact + " needs libtorch's QNNPACK engine",
                      "a libtorch without it", "QNNPACK", "use the fp32 artifact on this machine");
    }
    context.setQEngine(at::QEngine::QNNPACK);
}

}  // namespace

struct LiteModel::State {
    torch::jit::mobile::Module module;
    std::string name;
    bool int8;
};

LiteModel::LiteModel(const std::string& path, const Artifact& artifact, int threads) {
    const bool int8 = artifact.precision == "int8";
    if (int8) select_qnnpack(artifact.name);
    if (threads > 0) at::set_num_threads(threads);
    try {
        const c10::InferenceMode guard;
        state_.reset(new State{torch::jit::_load_for_mobile(path, at::Device(at::kCPU)), artifact.name, int8});
    } catch (const std::bad_alloc&) {
        throw;
    } catch (const std::exception& error) {
        const std::string line = first_line(error);
        if (is_out_of_memory(line)) throw std::bad_alloc();
        throw Failure(CXR_MODEL_UNUSABLE, "the lite interpreter cannot open artifact " + artifact.name, line,
                      "bytecode and operators that this libtorch knows",
                      "use the libtorch that the bundle was validated with, or one not older");
    }
}

LiteModel::~LiteModel() = default;

std::string LiteModel::engine() const {
    return std::string("torch ") + TORCH_VERSION + " lite interpreter" + (state_->int8 ? ", qnnpack" : "");
}

Outputs LiteModel::run(const uint8_t* pixels, size_t height, size_t width, size_t stride,
                       const std::vector<OutputSpec>& specs) {
    const auto mismatch = [&](const std::string& what, const std::string& got, const std::string& expected) {
        return Failure(CXR_MODEL_UNUSABLE, "artifact " + state_->name + ": " + what + " is not what the manifest says",
                       got, expected, "build the bundle anew");
    };
    if (state_->int8) select_qnnpack(state_->name);
    try {
        const c10::InferenceMode guard;
        const auto h = static_cast<int64_t>(height), w = static_cast<int64_t>(width), s = static_cast<int64_t>(stride);
        // The graph only reads its input.
        const at::Tensor image = at::from_blob(const_cast<uint8_t*>(pixels), {1, 1, h, w}, {h * s, h * s, s, 1},
                                               at::TensorOptions().dtype(at::kByte));
        const c10::IValue answer = state_->module.forward({image});
        if (!answer.isTuple() || answer.toTupleRef().elements().size() != specs.size()) {
            throw mismatch("what it returns", "something else", "a tuple of " + std::to_string(specs.size()));
        }
        Outputs outputs;
        for (size_t i = 0; i < specs.size(); ++i) {
            const c10::IValue& value = answer.toTupleRef().elements()[i];
            if (!value.isTensor() || value.toTensor().scalar_type() != at::kFloat ||
                value.toTensor().sizes() != at::IntArrayRef(specs[i].shape)) {
                throw mismatch("output " + specs[i].name, "another type or shape", "float32 of the manifest's shape");
            }
            const at::Tensor tensor = value.toTensor().contiguous();
            const float* data = tensor.data_ptr<float>();
            outputs.emplace_back(data, data + tensor.numel());
        }
        return outputs;
    } catch (const Failure&) {
        throw;
    } catch (const std::bad_alloc&) {
        throw;
    } catch (const std::exception& error) {
        const std::string line = first_line(error);
        if (is_out_of_memory(line)) throw std::bad_alloc();
        throw Failure(CXR_RUN_FAILED, "the lite interpreter failed on artifact " + state_->name, line, "",
                      "run the self-test; if it passes, the image's size is at fault");
    }
}

}  // namespace cxr
