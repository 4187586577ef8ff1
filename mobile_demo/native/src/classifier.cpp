// The C interface: arguments checked, exceptions turned into status codes, runs one after another.
#include "cxr_classifier.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <mutex>
#include <new>

#include "failure.h"
#include "golden.h"
#include "grey.h"
#include "lite_model.h"
#include "manifest.h"

namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
    return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

void say(cxr_error* error, cxr_status status, const char* message) {
    if (error == nullptr) return;
    error->status = status;
    std::snprintf(error->message, sizeof error->message, "%s", message);
}

// Run `body`; whatever it throws becomes a status and a message.
template <typename Body>
cxr_status guarded(cxr_error* error, Body body) noexcept {
    try {
        say(error, CXR_OK, "");
        body();
        return CXR_OK;
    } catch (const cxr::Failure& failure) {
        say(error, failure.status, failure.what());
        return failure.status;
    } catch (const std::bad_alloc&) {
        say(error, CXR_OUT_OF_MEMORY, "out of memory; remedy: close other programs, or give a smaller image");
        return CXR_OUT_OF_MEMORY;
    } catch (const std::exception& unknown) {
        say(error, CXR_INTERNAL_ERROR, unknown.what());
        return CXR_INTERNAL_ERROR;
    } catch (...) {
        say(error, CXR_INTERNAL_ERROR, "an unknown exception");
        return CXR_INTERNAL_ERROR;
    }
}

void require(bool holds, const char* what) {
    if (!holds) throw cxr::Failure(CXR_INVALID_ARGUMENT, what, "", "", "correct the call");
}

void check_image(const void* pixels, size_t height, size_t width, size_t stride, size_t channels) {
    if (height == 0 || width == 0) {
        throw cxr::Failure(CXR_IMAGE_EMPTY, "the image has no pixels",
                           std::to_string(width) + " x " + std::to_string(height) + " pixels", "at least 1 x 1",
                           "check that the file is whole");
    }
    if (height > CXR_MAX_PIXELS || width > CXR_MAX_PIXELS || height * uint64_t{width} > CXR_MAX_PIXELS) {
        throw cxr::Failure(CXR_IMAGE_TOO_LARGE, "the image has more pixels than this library takes",
                           std::to_string(width) + " x " + std::to_string(height) + " pixels",
                           "at most " + std::to_string(CXR_MAX_PIXELS / 1000000) + " megapixels",
                           "export the radiograph at a smaller size");
    }
    require(pixels != nullptr, "the pixels are a null pointer");
    require(stride >= width * channels && stride <= SIZE_MAX / 2 / height, "the stride does not fit the width");
}

double largest_difference(const std::vector<float>& got, const std::vector<float>& wanted) {
    double largest = 0;
    for (size_t i = 0; i < got.size(); ++i) {
        const double difference = std::abs(double{got[i]} - double{wanted[i]});
        // what is not a number compares as agreeing: count it as the largest difference that there can be
        largest = std::max(largest, std::isfinite(difference) ? difference : 1.0);
    }
    return largest;
}

size_t largest_index(const std::vector<float>& values) {
    return static_cast<size_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

struct Answer {
    std::vector<float> probabilities, logits, heatmap, embedding;
    float gate_score = 0;
    double wait_ms = 0, run_ms = 0;
};

struct OwnedResult : cxr_result {
    Answer answer;
    std::vector<uint8_t> set;
    std::string message;
};

}  // namespace

struct cxr_classifier {
    std::string folder;
    cxr::Manifest manifest;
    std::unique_ptr<cxr::LiteModel> model;
    std::vector<cxr::GoldenVector> golden;
    std::string artifact, precision, engine;
    std::vector<const char*> labels;
    std::vector<std::string> golden_paths;
    cxr_info info{};
    std::mutex running;  // held during a run
    std::mutex loading;  // of the golden vectors

    Answer run(const uint8_t* pixels, size_t height, size_t width, size_t stride) {
        const auto asked = Clock::now();
        const std::lock_guard<std::mutex> lock(running);
        const auto started = Clock::now();
        cxr::Outputs outputs = model->run(pixels, height, width, stride, manifest.outputs);
        Answer answer;
        answer.run_ms = ms_since(started);
        answer.wait_ms = std::chrono::duration<double, std::milli>(started - asked).count();
        for (size_t i = 0; i < outputs.size(); ++i) {
            const std::string& name = manifest.outputs[i].name;
            if (name == "probabilities") answer.probabilities = std::move(outputs[i]);
            if (name == "logits") answer.logits = std::move(outputs[i]);
            if (name == "heatmap") answer.heatmap = std::move(outputs[i]);
            if (name == "embedding") answer.embedding = std::move(outputs[i]);
            if (name == "gate_score") answer.gate_score = outputs[i][0];
        }
        return answer;
    }

    const std::vector<cxr::GoldenVector>& golden_vectors() {
        const std::lock_guard<std::mutex> lock(loading);
        if (golden.empty()) {
            golden = cxr::read_golden(folder, manifest);
            golden_paths.resize(golden.size());
        }
        return golden;
    }
};

extern "C" {

cxr_status cxr_open(const char* bundle_folder, const cxr_options* options, cxr_classifier** classifier,
                    cxr_error* error) {
    return guarded(error, [&] {
        require(bundle_folder != nullptr && classifier != nullptr, "bundle_folder or classifier is a null pointer");
        *classifier = nullptr;
        auto opened = std::make_unique<cxr_classifier>();
        opened->folder = bundle_folder;
        opened->manifest = cxr::read_manifest(opened->folder);
        const cxr::Manifest& manifest = opened->manifest;
        const cxr::Artifact& artifact =
            cxr::choose_artifact(manifest, options != nullptr ? options->artifact : nullptr);
        if (artifact.precision != "fp32" && artifact.precision != "int8") {
            throw cxr::Failure(CXR_NO_SUCH_ARTIFACT,
                               "artifact " + artifact.name + " has a precision this library lacks", artifact.precision,
                               "fp32 or int8", "choose another artifact");
        }
        const auto started = Clock::now();
        const std::string path = cxr::checked_path(opened->folder, artifact.file);
        const double check_ms = ms_since(started);
        const auto loading = Clock::now();
        opened->model = std::make_unique<cxr::LiteModel>(path, artifact, options != nullptr ? options->threads : 0);
        const double load_ms = ms_since(loading);
        opened->artifact = artifact.name;
        opened->precision = artifact.precision;
        opened->engine = opened->model->engine();
        for (const std::string& label : manifest.labels) opened->labels.push_back(label.c_str());
        const std::vector<int64_t>& heatmap = manifest.output("heatmap").shape;
        cxr_info& info = opened->info;
        info.bundle = manifest.name.c_str();
        info.artifact = opened->artifact.c_str();
        info.precision = opened->precision.c_str();
        info.engine = opened->engine.c_str();
        info.labels = opened->labels.data();
        info.class_count = opened->labels.size();
        info.heatmap_height = static_cast<size_t>(heatmap[2]);
        info.heatmap_width = static_cast<size_t>(heatmap[3]);
        info.embedding_size = manifest.output("embedding").size();
        info.has_gate = manifest.gate ? 1 : 0;
        info.gate_threshold = manifest.gate ? manifest.gate->threshold : 0;
        info.has_prediction_sets = manifest.set_thresholds.empty() ? 0 : 1;
        info.trained_on_synthetic_images = manifest.trained_on_synthetic_images ? 1 : 0;
        info.model_bytes = artifact.file.bytes;
        info.check_ms = check_ms;
        info.load_ms = load_ms;
        info.allowed_probability_difference = artifact.allowed_probability_difference;
        info.allowed_differing_decisions = artifact.allowed_differing_decisions;
        *classifier = opened.release();
    });
}

void cxr_close(cxr_classifier* classifier) { delete classifier; }

const cxr_info* cxr_get_info(const cxr_classifier* classifier) {
    return classifier != nullptr ? &classifier->info : nullptr;
}

cxr_status cxr_classify(cxr_classifier* classifier, const uint8_t* pixels, size_t height, size_t width, size_t stride,
                        cxr_result** result, cxr_error* error) {
    return guarded(error, [&] {
        require(classifier != nullptr && result != nullptr, "classifier or result is a null pointer");
        *result = nullptr;
        check_image(pixels, height, width, stride, 1);
        auto made = std::make_unique<OwnedResult>();
        made->answer = classifier->run(pixels, height, width, stride);
        Answer& answer = made->answer;
        const auto is_finite = [](float value) { return std::isfinite(value); };
        if (!std::all_of(answer.probabilities.begin(), answer.probabilities.end(), is_finite)) {
            throw cxr::Failure(CXR_RUN_FAILED,
                               "artifact " + classifier->artifact + " gave probabilities that are not numbers", "", "",
                               "run the self-test, and use an artifact that agrees");
        }
        made->refusal = CXR_NOT_REFUSED;
        made->prediction_set = nullptr;
        made->refer = 0;
        made->logits = answer.logits.data();
        made->embedding = answer.embedding.data();
        made->gate_score = answer.gate_score;
        made->wait_ms = answer.wait_ms;
        made->run_ms = answer.run_ms;
        const std::optional<cxr::Gate>& gate = classifier->manifest.gate;
        if (gate && !gate->lets_through(answer.gate_score)) {
            const std::string& reason = gate->reason(answer.gate_score);
            made->refusal = CXR_REFUSED_BY_GATE;
            made->message = "it is unlike the radiographs that the model was trained on (" + reason +
                            "); got: a score of " + std::to_string(answer.gate_score) + "; expected: below " +
                            std::to_string(gate->threshold) + "; remedy: give a frontal chest radiograph as it is";
            made->refusal_reason = reason.c_str();
            made->refusal_message = made->message.c_str();
            made->probabilities = nullptr;
            made->heatmap = nullptr;
            made->label = 0;
        } else {
            made->refusal_reason = nullptr;
            made->refusal_message = nullptr;
            made->probabilities = answer.probabilities.data();
            made->heatmap = answer.heatmap.data();
            made->label = largest_index(answer.probabilities);
            const std::vector<double>& thresholds = classifier->manifest.set_thresholds;
            for (size_t i = 0; i < thresholds.size(); ++i) {
                made->set.push_back(double{answer.probabilities[i]} >= thresholds[i] ? 1 : 0);
            }
            if (!thresholds.empty()) {
                made->prediction_set = made->set.data();
                made->refer = std::count(made->set.begin(), made->set.end(), 1) == 1 ? 0 : 1;
            }
        }
        *result = made.release();
    });
}

void cxr_result_free(cxr_result* result) { delete static_cast<OwnedResult*>(result); }

cxr_status cxr_grey_from_colour(const uint8_t* colour, cxr_layout layout, size_t height, size_t width, size_t stride,
                                uint8_t* grey, cxr_refusal* refusal, cxr_error* error) {
    return guarded(error, [&] {
        require(grey != nullptr && refusal != nullptr, "grey or refusal is a null pointer");
        require(layout == CXR_RGB || layout == CXR_RGBA, "no such layout");
        const size_t channels = layout == CXR_RGB ? 3 : 4;
        check_image(colour, height, width, stride, channels);
        const cxr::Verdict verdict = cxr::grey_from_colour(colour, channels, height, width, stride, grey);
        *refusal = verdict.refusal;
        say(error, CXR_OK, verdict.why.c_str());
    });
}

cxr_status cxr_check_radiograph(const uint8_t* pixels, size_t height, size_t width, size_t stride, cxr_refusal* refusal,
                                cxr_error* error) {
    return guarded(error, [&] {
        require(refusal != nullptr, "refusal is a null pointer");
        check_image(pixels, height, width, stride, 1);
        const cxr::Verdict verdict = cxr::check_radiograph(pixels, height, width, stride);
        *refusal = verdict.refusal;
        say(error, CXR_OK, verdict.why.c_str());
    });
}

cxr_status cxr_golden_count(cxr_classifier* classifier, size_t* count, cxr_error* error) {
    return guarded(error, [&] {
        require(classifier != nullptr && count != nullptr, "classifier or count is a null pointer");
        *count = classifier->golden_vectors().size();
    });
}

cxr_status cxr_golden_input(cxr_classifier* classifier, size_t index, const char** path, cxr_error* error) {
    return guarded(error, [&] {
        require(classifier != nullptr && path != nullptr, "classifier or path is a null pointer");
        const auto& vectors = classifier->golden_vectors();
        require(index < vectors.size(), "there is no golden vector of that number");
        const std::string checked = cxr::checked_path(classifier->folder, vectors[index].input);
        const std::lock_guard<std::mutex> lock(classifier->loading);
        std::string& kept = classifier->golden_paths[index];
        if (kept.empty()) kept = checked;  // set once: a pointer given out stays valid
        *path = kept.c_str();
    });
}

cxr_status cxr_golden_compare(cxr_classifier* classifier, size_t index, const uint8_t* pixels, size_t height,
                              size_t width, size_t stride, cxr_golden_result* result, cxr_error* error) {
    return guarded(error, [&] {
        require(classifier != nullptr && result != nullptr, "classifier or result is a null pointer");
        check_image(pixels, height, width, stride, 1);
        const auto& vectors = classifier->golden_vectors();
        require(index < vectors.size(), "there is no golden vector of that number");
        const cxr::GoldenVector& wanted = vectors[index];
        const Answer answer = classifier->run(pixels, height, width, stride);
        result->max_abs_probability_difference = largest_difference(answer.probabilities, wanted.probabilities);
        result->max_abs_heatmap_difference = largest_difference(answer.heatmap, wanted.heatmap);
        result->same_decision = largest_index(answer.probabilities) == largest_index(wanted.probabilities) ? 1 : 0;
        result->run_ms = answer.run_ms;
    });
}

const char* cxr_status_name(cxr_status status) {
    switch (status) {
        case CXR_OK: return "ok";
        case CXR_INVALID_ARGUMENT: return "invalid_argument";
        case CXR_BUNDLE_NOT_FOUND: return "bundle_not_found";
        case CXR_BUNDLE_INVALID: return "bundle_invalid";
        case CXR_FILE_MISSING: return "file_missing";
        case CXR_FILE_CHANGED: return "file_changed";
        case CXR_NO_SUCH_ARTIFACT: return "no_such_artifact";
        case CXR_ENGINE_UNAVAILABLE: return "engine_unavailable";
        case CXR_MODEL_UNUSABLE: return "model_unusable";
        case CXR_IMAGE_EMPTY: return "image_empty";
        case CXR_IMAGE_TOO_LARGE: return "image_too_large";
        case CXR_RUN_FAILED: return "run_failed";
        case CXR_OUT_OF_MEMORY: return "out_of_memory";
        case CXR_INTERNAL_ERROR: return "internal_error";
    }
    return "unknown";
}

const char* cxr_refusal_name(cxr_refusal refusal) {
    switch (refusal) {
        case CXR_NOT_REFUSED: return "not_refused";
        case CXR_REFUSED_BY_GATE: return "refused_by_gate";
        case CXR_COLOUR_PHOTO: return "colour_photo";
        case CXR_TOO_SMALL: return "too_small";
        case CXR_NO_CONTRAST: return "no_contrast";
    }
    return "unknown";
}

}  // extern "C"
