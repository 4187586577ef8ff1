// A .ptl file on libtorch's lite interpreter. The only part that sees libtorch.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "manifest.h"

namespace cxr {

// The five outputs without their batch axis, flattened, in the order of Manifest::outputs.
using Outputs = std::vector<std::vector<float>>;

class LiteModel {
  public:
    // Failure: the interpreter cannot open the file, or an int8 artifact finds no QNNPACK.
    LiteModel(const std::string& path, const Artifact& artifact, int threads);
    ~LiteModel();

    // Run uint8 pixels; not safe for calls from several threads at once. Failure: as the manifest does not say.
    Outputs run(const uint8_t* pixels, size_t height, size_t width, size_t stride,
                const std::vector<OutputSpec>& specs);

    // Version of libtorch and, of an int8 artifact, its quantized engine.
    std::string engine() const;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace cxr
