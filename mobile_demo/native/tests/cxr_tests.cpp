// The library through its C interface, on a real bundle. cxr_tests CASE [BUNDLE]; exit code 77: skipped.
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "cxr_classifier.h"
#include "image_file.h"
#include "manifest.h"
#include "sha256.h"

namespace fs = std::filesystem;

#define CHECK(condition)                                                                       \
    do {                                                                                       \
        if (!(condition)) {                                                                    \
            std::fprintf(stderr, "%s:%d: CHECK(%s) failed\n", __FILE__, __LINE__, #condition); \
            std::exit(1);                                                                      \
        }                                                                                      \
    } while (false)

#define CHECK_STATUS(call, wanted)                                                                                     \
    do {                                                                                                               \
        error.message[0] = '\0';                                                                                       \
        const cxr_status status_ = (call);                                                                             \
        if (status_ != (wanted)) {                                                                                     \
            std::fprintf(stderr, "%s:%d: %s is %s (%s)\n", __FILE__, __LINE__, #call, cxr_status_name(status_),        \
                         error.message);                                                                               \
            std::exit(1);                                                                                              \
        }                                                                                                              \
        CHECK((wanted) == CXR_OK || (std::strlen(error.message) > 10 && std::strchr(error.message, '\n') == nullptr)); \
    } while (false)

namespace {

using Classifier = std::unique_ptr<cxr_classifier, void (*)(cxr_classifier*)>;
using Result = std::unique_ptr<cxr_result, void (*)(cxr_result*)>;

cxr_error error;

Classifier open_bundle(const fs::path& bundle, const char* artifact = nullptr) {
    const cxr_options options{artifact, 1};
    cxr_classifier* classifier = nullptr;
    CHECK_STATUS(cxr_open(bundle.c_str(), &options, &classifier, &error), CXR_OK);
    return Classifier(classifier, cxr_close);
}

cxr_status status_of_opening(const fs::path& bundle, const char* artifact = nullptr) {
    const cxr_options options{artifact, 0};
    cxr_classifier* classifier = nullptr;
    const cxr_status status = cxr_open(bundle.c_str(), &options, &classifier, &error);
    CHECK((status == CXR_OK) == (classifier != nullptr));
    cxr_close(classifier);
    return status;
}

Result classify(const Classifier& classifier, const GreyImage& image) {
    cxr_result* result = nullptr;
    cxr_error mine;
    if (cxr_classify(classifier.get(), image.pixels.data(), image.height, image.width, image.width, &result, &mine) !=
        CXR_OK) {
        std::fprintf(stderr, "%s\n", mine.message);
        std::exit(1);
    }
    return Result(result, cxr_result_free);
}

GreyImage waves(size_t height, size_t width) {
    GreyImage image{height, width, std::vector<uint8_t>(height * width)};
    for (size_t y = 0; y < height; ++y) {
        for (size_t x = 0; x < width; ++x) {
            image.pixels[y * width + x] = static_cast<uint8_t>(127 + 120 * std::sin(0.05 * static_cast<double>(x)) *
                                                                         std::cos(0.03 * static_cast<double>(y)));
        }
    }
    return image;
}

// A copy of the bundle that a case may spoil, gone with the object.
class Copy {
  public:
    explicit Copy(const fs::path& bundle) {
        std::string name = (fs::temp_directory_path() / "cxr-tests-XXXXXX").string();
        CHECK(mkdtemp(name.data()) != nullptr);
        root = name;
        for (const char* part : {"manifest.json", "golden"})
            fs::copy(bundle / part, root / part, fs::copy_options::recursive);
        fs::create_directory(root / "artifacts");
        for (const auto& file : fs::directory_iterator(bundle / "artifacts")) {
            if (file.path().extension() == ".ptl") fs::copy(file.path(), root / "artifacts");
        }
    }
    ~Copy() { fs::remove_all(root); }
    Copy(const Copy&) = delete;
    Copy& operator=(const Copy&) = delete;

    std::string text(const char* name) const {
        std::ifstream stream(root / name);
        std::stringstream all;
        all << stream.rdbuf();
        return all.str();
    }

    void write(const char* name, const std::string& text) const {
        std::ofstream(root / name, std::ios::binary) << text;
    }

    void replace(const std::string& from, const std::string& to) const {
        std::string manifest = text("manifest.json");
        const size_t at = manifest.find(from);
        CHECK(at != std::string::npos);
        write("manifest.json", manifest.replace(at, from.size(), to));
    }

    fs::path root;
};

constexpr const char* kModel = "artifacts/lite-fp32.ptl";

std::string sha256_of(const std::string& text) {
    cxr::Sha256 digest;
    // in uneven pieces, as a file's reads may come
    for (size_t at = 0; at < text.size(); at += 37) {
        const std::string piece = text.substr(at, 37);
        digest.update(reinterpret_cast<const uint8_t*>(piece.data()), piece.size());
    }
    return digest.hex();
}

// --- without a model ---

void sha256(const fs::path&) {
    // the examples of NIST's FIPS 180-4 test document
    CHECK(sha256_of("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK(sha256_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK(sha256_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    CHECK(sha256_of(std::string(1000000, 'a')) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

void paths(const fs::path&) {
    CHECK(status_of_opening("/no/such/folder") == CXR_BUNDLE_NOT_FOUND);
    CHECK(status_of_opening("") == CXR_BUNDLE_NOT_FOUND);
    CHECK(std::strstr(error.message, "remedy: ") != nullptr);
    CHECK(std::string(cxr_status_name(CXR_FILE_CHANGED)) == "file_changed");
    CHECK(std::string(cxr_refusal_name(CXR_TOO_SMALL)) == "too_small");
}

void colour(const fs::path&) {
    const size_t edge = 200;
    std::vector<uint8_t> rgb(edge * edge * 3), grey(edge * edge);
    cxr_refusal refusal = CXR_NO_CONTRAST;
    const auto judge = [&](const std::function<void(uint8_t*, size_t, size_t)>& paint) {
        for (size_t y = 0; y < edge; ++y) {
            for (size_t x = 0; x < edge; ++x) paint(&rgb[3 * (y * edge + x)], y, x);
        }
        CHECK_STATUS(cxr_grey_from_colour(rgb.data(), CXR_RGB, edge, edge, 3 * edge, grey.data(), &refusal, &error),
                     CXR_OK);
        return refusal;
    };
    // grey: every value comes through as it is
    CHECK(judge([](uint8_t* p, size_t, size_t x) { p[0] = p[1] = p[2] = static_cast<uint8_t>(x); }) == CXR_NOT_REFUSED);
    for (size_t x = 0; x < edge; ++x) CHECK(grey[x] == x);
    // a sepia tint: its colour is a function of its brightness
    CHECK(judge([](uint8_t* p, size_t y, size_t) {
              p[0] = static_cast<uint8_t>(y), p[1] = static_cast<uint8_t>(y * 0.92),
              p[2] = static_cast<uint8_t>(y * 0.8);
          }) == CXR_NOT_REFUSED);
    // a photograph: the same brightness in many colours
    CHECK(judge([](uint8_t* p, size_t y, size_t x) {
              p[0] = static_cast<uint8_t>(x), p[1] = static_cast<uint8_t>(y), p[2] = static_cast<uint8_t>(255 - x);
          }) == CXR_COLOUR_PHOTO);
    CHECK(std::strstr(error.message, "colour") != nullptr);
    // transparent parts are black
    const uint8_t pixels[] = {200, 200, 200, 0, 200, 200, 200, 255};
    CHECK_STATUS(cxr_grey_from_colour(pixels, CXR_RGBA, 1, 2, 8, grey.data(), &refusal, &error), CXR_OK);
    CHECK(grey[0] == 0 && grey[1] == 200);
}

void gate_reasons(const fs::path&) {
    // the rule of docs/bundle.md: from the threshold on refused, for reasons[min(int(score), R) - 1]
    const cxr::Gate gate{1.0, {"not_a_radiograph", "inverted", "lateral_view"}};
    CHECK(gate.lets_through(0) && gate.lets_through(0.99f) && !gate.lets_through(1) && !gate.lets_through(3.5f));
    CHECK(gate.reason(1) == "not_a_radiograph" && gate.reason(1.99f) == "not_a_radiograph");
    CHECK(gate.reason(2.2f) == "inverted" && gate.reason(3.9f) == "lateral_view" && gate.reason(40) == "lateral_view");
    CHECK(!gate.lets_through(NAN) && gate.reason(NAN) == "not_a_radiograph");
}

void content(const fs::path&) {
    cxr_refusal refusal = CXR_NOT_REFUSED;
    const GreyImage good = waves(200, 150), small = waves(127, 400);
    CHECK_STATUS(cxr_check_radiograph(good.pixels.data(), 200, 150, 150, &refusal, &error), CXR_OK);
    CHECK(refusal == CXR_NOT_REFUSED);
    CHECK_STATUS(cxr_check_radiograph(small.pixels.data(), 127, 400, 400, &refusal, &error), CXR_OK);
    CHECK(refusal == CXR_TOO_SMALL && std::strstr(error.message, "400 x 127") != nullptr);
    const std::vector<uint8_t> flat(200 * 200, 7);
    CHECK_STATUS(cxr_check_radiograph(flat.data(), 200, 200, 200, &refusal, &error), CXR_OK);
    CHECK(refusal == CXR_NO_CONTRAST);
}

void arguments(const fs::path&) {
    cxr_classifier* classifier = nullptr;
    cxr_result* result = nullptr;
    const uint8_t pixel = 0;
    CHECK_STATUS(cxr_open(nullptr, nullptr, &classifier, &error), CXR_INVALID_ARGUMENT);
    CHECK_STATUS(cxr_open("x", nullptr, nullptr, &error), CXR_INVALID_ARGUMENT);
    CHECK_STATUS(cxr_classify(nullptr, &pixel, 1, 1, 1, &result, &error), CXR_INVALID_ARGUMENT);
    CHECK_STATUS(cxr_golden_count(nullptr, nullptr, &error), CXR_INVALID_ARGUMENT);
    CHECK(cxr_open(nullptr, nullptr, &classifier, nullptr) == CXR_INVALID_ARGUMENT);  // without a place for the message
    CHECK(cxr_get_info(nullptr) == nullptr);
    cxr_close(nullptr);
    cxr_result_free(nullptr);
}

// --- with a model ---

void golden(const fs::path& bundle) {
    for (const char* artifact : {"lite-fp32", "lite-int8"}) {
        if (!fs::exists(bundle / "artifacts" / (std::string(artifact) + ".ptl"))) continue;
        const Classifier classifier = open_bundle(bundle, artifact);
        const cxr_info& info = *cxr_get_info(classifier.get());
        CHECK(std::string(info.artifact) == artifact);
        size_t count = 0, differing = 0;
        CHECK_STATUS(cxr_golden_count(classifier.get(), &count, &error), CXR_OK);
        CHECK(count > 0);
        double largest = 0;
        for (size_t i = 0; i < count; ++i) {
            const char* path = nullptr;
            CHECK_STATUS(cxr_golden_input(classifier.get(), i, &path, &error), CXR_OK);
            const GreyImage image = read_image_file(path);
            cxr_golden_result result{};
            CHECK_STATUS(cxr_golden_compare(classifier.get(), i, image.pixels.data(), image.height, image.width,
                                            image.width, &result, &error),
                         CXR_OK);
            largest = std::max(largest, result.max_abs_probability_difference);
            differing += result.same_decision ? 0 : 1;
        }
        std::printf("%s: %zu vectors, largest difference %.3g, other decisions %zu\n", artifact, count, largest,
                    differing);
        CHECK(largest <= info.allowed_probability_difference);
        CHECK(differing <= info.allowed_differing_decisions);
        if (info.allowed_differing_decisions == 0) CHECK(largest <= 1e-4);
        const char* path = nullptr;
        CHECK_STATUS(cxr_golden_input(classifier.get(), count, &path, &error), CXR_INVALID_ARGUMENT);
    }
}

void answers(const fs::path& bundle) {
    const Classifier classifier = open_bundle(bundle);
    const cxr_info& info = *cxr_get_info(classifier.get());
    CHECK(info.class_count == 3 && std::string(info.labels[2]) == "COVID-19");
    CHECK(std::string(info.engine).find("lite interpreter") != std::string::npos);
    CHECK(info.model_bytes == fs::file_size(bundle / kModel) && info.load_ms > 0);
    const Result result = classify(classifier, waves(300, 200));
    double sum = 0;
    for (size_t i = 0; i < info.class_count; ++i) {
        sum += result->probabilities[i];
        CHECK(result->probabilities[result->label] >= result->probabilities[i]);
    }
    CHECK(std::abs(sum - 1) < 1e-5);
    for (size_t i = 0; i < info.class_count * info.heatmap_height * info.heatmap_width; ++i) {
        CHECK(result->heatmap[i] >= 0 && result->heatmap[i] <= 1);
    }
    for (size_t i = 0; i < info.embedding_size; ++i) CHECK(std::isfinite(result->embedding[i]));
    CHECK(result->run_ms > 0);
}

void sizes(const fs::path& bundle) {
    const Classifier classifier = open_bundle(bundle);
    for (const auto& [height, width] : {std::pair<size_t, size_t>{1, 1}, {1, 5000}, {5000, 1}, {2, 3}, {2000, 1500}}) {
        const GreyImage image = waves(height, width);
        CHECK(classify(classifier, image)->probabilities != nullptr);
    }
    const uint8_t pixel = 0;
    cxr_result* result = nullptr;
    CHECK_STATUS(cxr_classify(classifier.get(), &pixel, 0, 0, 0, &result, &error), CXR_IMAGE_EMPTY);
    CHECK_STATUS(cxr_classify(classifier.get(), &pixel, 0, 10, 10, &result, &error), CXR_IMAGE_EMPTY);
    CHECK_STATUS(cxr_classify(classifier.get(), &pixel, 20000, 20000, 20000, &result, &error), CXR_IMAGE_TOO_LARGE);
    CHECK_STATUS(cxr_classify(classifier.get(), &pixel, SIZE_MAX, SIZE_MAX, SIZE_MAX, &result, &error),
                 CXR_IMAGE_TOO_LARGE);
    CHECK_STATUS(cxr_classify(classifier.get(), nullptr, 10, 10, 10, &result, &error), CXR_INVALID_ARGUMENT);
    CHECK_STATUS(cxr_classify(classifier.get(), &pixel, 10, 10, 9, &result, &error), CXR_INVALID_ARGUMENT);
    CHECK(result == nullptr);
}

void strides(const fs::path& bundle) {
    const Classifier classifier = open_bundle(bundle);
    const GreyImage plain = waves(140, 131);
    std::vector<uint8_t> padded(140 * 160, 255);
    for (size_t y = 0; y < 140; ++y) std::copy_n(&plain.pixels[y * 131], 131, &padded[y * 160]);
    // the last row ends with its pixels: nothing behind them may be read
    padded.resize(139 * 160 + 131);
    padded.shrink_to_fit();
    cxr_result* result = nullptr;
    CHECK_STATUS(cxr_classify(classifier.get(), padded.data(), 140, 131, 160, &result, &error), CXR_OK);
    const Result with_stride(result, cxr_result_free);
    const Result without = classify(classifier, plain);
    for (size_t i = 0; i < 3; ++i) CHECK(std::abs(with_stride->probabilities[i] - without->probabilities[i]) < 1e-6);
}

void damaged(const fs::path& bundle) {
    const Copy copy(bundle);
    const std::string model = copy.text(kModel);
    CHECK(status_of_opening(copy.root) == CXR_OK);
    copy.write(kModel, model.substr(0, model.size() / 2));
    CHECK(status_of_opening(copy.root) == CXR_FILE_CHANGED);
    copy.write(kModel, "");
    CHECK(status_of_opening(copy.root) == CXR_FILE_CHANGED);
    copy.write(kModel, model + "x");
    CHECK(status_of_opening(copy.root) == CXR_FILE_CHANGED);
    std::string changed = model;
    changed[changed.size() / 3] = static_cast<char>(changed[changed.size() / 3] ^ 1);
    copy.write(kModel, changed);
    CHECK(status_of_opening(copy.root) == CXR_FILE_CHANGED);
    CHECK(std::strstr(error.message, "SHA-256") != nullptr);
    fs::remove(copy.root / kModel);
    CHECK(status_of_opening(copy.root) == CXR_FILE_MISSING);
    fs::create_directory(copy.root / kModel);
    CHECK(status_of_opening(copy.root) == CXR_FILE_MISSING);
    // a manifest that vouches for a file that is no model: the interpreter's own error, not a crash
    fs::remove(copy.root / kModel);
    for (const std::string& content : {std::string("not a model"), model.substr(0, model.size() / 2), std::string()}) {
        const Copy vouched(bundle);
        vouched.write(kModel, content);
        vouched.replace(sha256_of(model), sha256_of(content));
        vouched.replace("\"bytes\": " + std::to_string(model.size()), "\"bytes\": " + std::to_string(content.size()));
        CHECK(status_of_opening(vouched.root) == CXR_MODEL_UNUSABLE);
    }
    const Copy spoilt(bundle);
    const Classifier classifier = open_bundle(spoilt.root);
    size_t count = 0;
    const char* path = nullptr;
    spoilt.write("golden/0001.png", "no image");
    CHECK_STATUS(cxr_golden_input(classifier.get(), 0, &path, &error), CXR_FILE_CHANGED);
    CHECK_STATUS(cxr_golden_count(classifier.get(), &count, &error), CXR_OK);
    const Classifier second = open_bundle(spoilt.root);
    spoilt.write("golden/vectors.json", "{}");
    CHECK_STATUS(cxr_golden_count(second.get(), &count, &error), CXR_FILE_CHANGED);
}

void wrong_bundle(const fs::path& bundle) {
    const std::string whole = Copy(bundle).text("manifest.json");
    const auto status_with = [&](const std::string& from, const std::string& to) {
        const Copy copy(bundle);
        copy.replace(from, to);
        return status_of_opening(copy.root);
    };
    for (const std::string& text :
         {std::string(), std::string("{"), std::string("[]"), std::string("null"), whole.substr(0, 400),
          std::string("\0{}", 3), std::string(5 << 20, ' '), std::string(100000, '[')}) {
        const Copy copy(bundle);
        copy.write("manifest.json", text);
        CHECK(status_of_opening(copy.root) == CXR_BUNDLE_INVALID);
    }
    CHECK(status_with("\"schema_version\": 1", "\"schema_version\": 2") == CXR_BUNDLE_INVALID);
    CHECK(status_with("\"labels\"", "\"lables\"") == CXR_BUNDLE_INVALID);
    CHECK(std::strstr(error.message, "labels") != nullptr);
    CHECK(status_with("artifacts/lite-fp32.ptl", "artifacts/../lite-fp32.ptl") == CXR_BUNDLE_INVALID);
    CHECK(status_with("artifacts/lite-fp32.ptl", "/etc/passwd") == CXR_BUNDLE_INVALID);
    CHECK(status_with("\"embedding\"", "\"features\"") == CXR_BUNDLE_INVALID);
    CHECK(status_with("\"lite-fp32\"", "\"lite-fp64\"") == CXR_BUNDLE_INVALID);
    CHECK(status_of_opening(bundle, "lite-fp16") == CXR_NO_SUCH_ARTIFACT);
    CHECK(status_of_opening(bundle, "onnx-fp32") == CXR_NO_SUCH_ARTIFACT);
    CHECK(status_of_opening(bundle / "manifest.json") == CXR_BUNDLE_NOT_FOUND);
    CHECK(status_of_opening(bundle / "golden") == CXR_BUNDLE_NOT_FOUND);
    // a graph that does not return what the manifest says
    const Copy swapped(bundle);
    swapped.replace("\"probabilities\"", "\"swap\"");
    swapped.replace("\"logits\"", "\"probabilities\"");
    swapped.replace("\"swap\"", "\"logits\"");
    CHECK(status_of_opening(swapped.root) == CXR_OK);  // same shapes: only the self-test can tell
    const Classifier classifier = open_bundle(swapped.root);
    const char* path = nullptr;
    CHECK_STATUS(cxr_golden_input(classifier.get(), 0, &path, &error), CXR_OK);
    const GreyImage image = read_image_file(path);
    cxr_golden_result result{};
    CHECK_STATUS(cxr_golden_compare(classifier.get(), 0, image.pixels.data(), image.height, image.width, image.width,
                                    &result, &error),
                 CXR_OK);
    CHECK(result.max_abs_probability_difference > 1e-4);
}

void recommended(const fs::path& bundle) {
    if (!fs::exists(bundle / "artifacts/lite-int8.ptl")) std::exit(77);
    const auto opened = [](const fs::path& folder) {
        return std::string(cxr_get_info(open_bundle(folder).get())->artifact);
    };
    const Copy copy(bundle);
    copy.replace("\"phone\": \"lite-fp32\"", "\"phone\": \"lite-int8\"");
    CHECK(opened(copy.root) == "lite-int8");
    copy.replace("\"phone\": \"lite-int8\"", "\"phone\": \"executorch-int8\"");
    CHECK(status_of_opening(copy.root) == CXR_NO_SUCH_ARTIFACT);  // never another one in its place
    copy.replace("\"phone\": \"executorch-int8\"", "\"tablet\": \"lite-int8\"");
    CHECK(opened(copy.root) == "lite-fp32");
}

void gate(const fs::path& bundle) {
    constexpr const char* kReasons = ", \"reasons\": [\"not_a_radiograph\", \"lateral_view\"]}";
    const Copy copy(bundle);
    const GreyImage image = waves(200, 200);
    const Classifier without = open_bundle(copy.root);
    const float score = classify(without, image)->gate_score;
    const std::string manifest = copy.text("manifest.json");
    const size_t start = manifest.find("\"gate\": ");
    CHECK(start != std::string::npos);
    const auto with_gate = [&](const std::string& section) {
        copy.write("manifest.json", manifest);
        copy.replace("\"gate\": null", "\"gate\": " + section);
    };
    if (manifest.compare(start, 12, "\"gate\": null") != 0) return;  // the bundle has one: see the bundles without
    with_gate("{\"threshold\": " + std::to_string(score + 1) + kReasons);
    const Classifier wide = open_bundle(copy.root);
    CHECK(cxr_get_info(wide.get())->has_gate && classify(wide, image)->refusal == CXR_NOT_REFUSED);
    with_gate("{\"threshold\": " + std::to_string(score - 1) + kReasons);
    const Classifier narrow = open_bundle(copy.root);
    const Result refused = classify(narrow, image);
    CHECK(refused->refusal == CXR_REFUSED_BY_GATE && refused->refusal_message != nullptr);
    CHECK(std::string(refused->refusal_reason) == "not_a_radiograph");
    CHECK(refused->probabilities == nullptr && refused->heatmap == nullptr && refused->embedding != nullptr);
    CHECK(cxr_get_info(narrow.get())->gate_threshold == std::stod(std::to_string(score - 1)));
    with_gate("{\"limit\": 3}");  // one that this library does not know is not passed by
    CHECK(status_of_opening(copy.root) == CXR_BUNDLE_INVALID);
}

void prediction_sets(const fs::path& bundle) {
    const GreyImage image = waves(200, 200);
    const Copy copy(bundle);
    const std::string manifest = copy.text("manifest.json");
    if (manifest.find("\"conformal\": null") == std::string::npos) return;
    const auto with_sets = [&](double normal, double pneumonia, double covid) {
        copy.write("manifest.json", manifest);
        copy.replace("\"conformal\": null", "\"conformal\": {\"thresholds\": {\"normal\": " + std::to_string(normal) +
                                                ", \"pneumonia\": " + std::to_string(pneumonia) +
                                                ", \"COVID-19\": " + std::to_string(covid) + "}}");
        return open_bundle(copy.root);
    };
    const Classifier all = with_sets(0, 0, 0), one = with_sets(1.1, 0, 1.1), none = with_sets(1.1, 1.1, 1.1);
    const Result of_all = classify(all, image), of_one = classify(one, image), of_none = classify(none, image);
    CHECK(cxr_get_info(all.get())->has_prediction_sets && of_all->refer == 1 && of_all->prediction_set[0] == 1);
    CHECK(of_one->refer == 0 && of_one->prediction_set[0] == 0 && of_one->prediction_set[1] == 1);
    CHECK(of_none->refer == 1 && of_none->prediction_set[1] == 0);
    copy.write("manifest.json", manifest);
    copy.replace("\"conformal\": null", "\"conformal\": {\"thresholds\": {\"normal\": 0.5}}");
    CHECK(status_of_opening(copy.root) == CXR_BUNDLE_INVALID);
}

void threads(const fs::path& bundle) {
    const Classifier classifier = open_bundle(bundle);
    const GreyImage first = waves(200, 150), second = waves(140, 300);
    const float wanted[2] = {classify(classifier, first)->probabilities[0],
                             classify(classifier, second)->probabilities[0]};
    std::vector<int> wrong(4, 0);
    std::vector<std::thread> workers;
    for (size_t t = 0; t < wrong.size(); ++t) {
        workers.emplace_back([&, t] {
            for (int i = 0; i < 5; ++i) {
                const float got = classify(classifier, t % 2 ? second : first)->probabilities[0];
                if (std::abs(got - wanted[t % 2]) > 1e-6f) ++wrong[t];
            }
        });
    }
    for (std::thread& worker : workers) worker.join();
    for (const int count : wrong) CHECK(count == 0);
}

void side_by_side(const fs::path& bundle) {
    const Classifier first = open_bundle(bundle), second = open_bundle(bundle);
    const GreyImage image = waves(200, 150);
    const float wanted = classify(first, image)->probabilities[0];
    float got[2] = {};
    std::thread other([&] { got[0] = classify(first, image)->probabilities[0]; });
    got[1] = classify(second, image)->probabilities[0];
    other.join();
    CHECK(std::abs(got[0] - wanted) < 1e-6f && std::abs(got[1] - wanted) < 1e-6f);
}

size_t resident_kib() {
    std::ifstream stream("/proc/self/statm");
    size_t total = 0, resident = 0;
    stream >> total >> resident;
    return resident * static_cast<size_t>(sysconf(_SC_PAGESIZE)) / 1024;
}

void repeated(const fs::path& bundle) {
    // Leaks of libtorch's allocator that LeakSanitizer cannot see: memory after many rounds against after few.
    const auto round = [&] {
        const Classifier classifier = open_bundle(bundle);
        for (int i = 0; i < 3; ++i) classify(classifier, waves(700, 700));
        uint8_t pixel = 0;
        cxr_result* result = nullptr;
        cxr_classify(classifier.get(), &pixel, 20000, 20000, 20000, &result, &error);
        status_of_opening(bundle, "no-such");
    };
    for (int i = 0; i < 5; ++i) round();
    const size_t before = resident_kib();
    const uint64_t model_kib = fs::file_size(bundle / kModel) / 1024;
    for (int i = 0; i < 15; ++i) round();
    const size_t after = resident_kib();
    std::printf("resident: %zu KiB, then %zu KiB; the model has %zu KiB\n", before, after,
                static_cast<size_t>(model_kib));
#if !defined(__SANITIZE_ADDRESS__)                  // its quarantine keeps what was freed
    CHECK(after < before + 5 * (model_kib + 512));  // one leak of the model or the image a round would be 15
#endif
}

void int8(const fs::path& bundle) {
    if (!fs::exists(bundle / "artifacts/lite-int8.ptl")) std::exit(77);
    // opened first, so that the engine is not a leftover; fp32 beside it must not change
    const Classifier quantized = open_bundle(bundle, "lite-int8");
    CHECK(std::string(cxr_get_info(quantized.get())->engine).find("qnnpack") != std::string::npos);
    const GreyImage image = waves(200, 150);
    const float first = classify(quantized, image)->probabilities[0];
    const Classifier plain = open_bundle(bundle, "lite-fp32");
    classify(plain, image);
    CHECK(classify(quantized, image)->probabilities[0] == first);
}

}  // namespace

int main(int argc, char** argv) {
    const std::map<std::string, void (*)(const fs::path&)> plain = {{"sha256", sha256},
                                                                    {"paths", paths},
                                                                    {"colour", colour},
                                                                    {"content", content},
                                                                    {"gate_reasons", gate_reasons},
                                                                    {"arguments", arguments}};
    const std::map<std::string, void (*)(const fs::path&)> with_model = {
        {"golden", golden},     {"answers", answers},
        {"sizes", sizes},       {"strides", strides},
        {"damaged", damaged},   {"wrong_bundle", wrong_bundle},
        {"gate", gate},         {"prediction_sets", prediction_sets},
        {"recommended", recommended},
        {"threads", threads},   {"side_by_side", side_by_side},
        {"repeated", repeated}, {"int8", int8}};
    const std::string name = argc > 1 ? argv[1] : "";
    const std::string bundle = argc > 2 ? argv[2] : "";
    if (plain.count(name)) {
        plain.at(name)(bundle);
        return 0;
    }
    if (!with_model.count(name)) {
        std::fprintf(stderr, "cxr_tests: no case %s\n", name.c_str());
        return 2;
    }
    if (bundle.empty()) {
        std::printf("skipped: CXR_TEST_BUNDLE names no bundle\n");
        return 77;
    }
    with_model.at(name)(bundle);
    return 0;
}
