// cxr_classify: the classifier of a bundle on the command line, as an app would call it.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "cJSON.h"
#include "cxr_classifier.h"
#include "image_file.h"

namespace {

constexpr const char* kUsage =
    "Usage: cxr_classify BUNDLE IMAGE... [--artifact NAME] [--threads N] [--json] [--heatmap FILE.pgm]\n"
    "       cxr_classify BUNDLE --self-test [--artifact NAME] [--threads N] [--json]\n"
    "\n"
    "Classify radiographs (PGM, PNG, JPEG) with a bundle's TorchScript model on the lite interpreter, or test the "
    "model\n"
    "on the bundle's golden vectors. BUNDLE is a folder. For research and demonstration; not a medical device.\n"
    "\n"
    "Exit code: 0 done; 1 a file ended in an error, or the self-test differs; 2 wrong usage.\n";

struct Arguments {
    std::string bundle, artifact, heatmap;
    std::vector<std::string> images;
    int threads = 0;
    bool json = false, self_test = false;
};

[[noreturn]] void wrong_usage(const std::string& what) {
    std::fprintf(stderr, "cxr_classify: %s\n%s", what.c_str(), kUsage);
    std::exit(2);
}

Arguments parse(int argc, char** argv) {
    Arguments arguments;
    for (int i = 1; i < argc; ++i) {
        const std::string word = argv[i];
        const auto value = [&]() -> std::string {
            if (i + 1 >= argc) wrong_usage(word + " needs a value");
            return argv[++i];
        };
        if (word == "--help" || word == "-h") {
            std::fputs(kUsage, stdout);
            std::exit(0);
        } else if (word == "--artifact") {
            arguments.artifact = value();
        } else if (word == "--heatmap") {
            arguments.heatmap = value();
        } else if (word == "--threads") {
            char* end = nullptr;
            const std::string text = value();
            const long threads = std::strtol(text.c_str(), &end, 10);
            if (text.empty() || *end != '\0' || threads < 1 || threads > 1024) wrong_usage("--threads takes 1 to 1024");
            arguments.threads = static_cast<int>(threads);
        } else if (word == "--json") {
            arguments.json = true;
        } else if (word == "--self-test") {
            arguments.self_test = true;
        } else if (word.size() > 1 && word[0] == '-') {
            wrong_usage("no such option: " + word);
        } else if (arguments.bundle.empty()) {
            arguments.bundle = word;
        } else {
            arguments.images.push_back(word);
        }
    }
    if (arguments.bundle.empty()) wrong_usage("no bundle given");
    if (arguments.self_test != arguments.images.empty()) wrong_usage("give images, or --self-test");
    if (!arguments.heatmap.empty() && arguments.images.size() != 1) wrong_usage("--heatmap takes one image");
    return arguments;
}

using Json = std::unique_ptr<cJSON, void (*)(cJSON*)>;

void print_line(const Json& object) {
    const std::unique_ptr<char, void (*)(void*)> text(cJSON_PrintUnformatted(object.get()), cJSON_free);
    std::puts(text ? text.get() : "{}");
}

void add_text(cJSON* object, const char* key, const char* value) {
    if (value != nullptr)
        cJSON_AddStringToObject(object, key, value);
    else
        cJSON_AddNullToObject(object, key);
}

// One file's answer, with the keys of `edge-runtime predict --json`.
struct Answer {
    std::string status = "ok", reason, message;
    std::shared_ptr<cxr_result> result;
    double read_ms = 0, total_ms = 0;
};

Answer answer_file(cxr_classifier* classifier, const std::string& path) {
    const auto start = std::chrono::steady_clock::now();
    const auto elapsed = [&] {
        return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    };
    Answer answer;
    const auto refuse = [&](const std::string& status, const std::string& reason, const std::string& message) {
        answer.status = status, answer.reason = reason, answer.message = message;
    };
    try {
        const GreyImage image = read_image_file(path);
        answer.read_ms = elapsed();
        cxr_error error;
        cxr_refusal refusal = CXR_NOT_REFUSED;
        cxr_status status =
            cxr_check_radiograph(image.pixels.data(), image.height, image.width, image.width, &refusal, &error);
        if (status == CXR_OK && refusal != CXR_NOT_REFUSED) {
            refuse("refused", cxr_refusal_name(refusal), error.message);
        } else if (status == CXR_OK) {
            cxr_result* result = nullptr;
            status =
                cxr_classify(classifier, image.pixels.data(), image.height, image.width, image.width, &result, &error);
            answer.result.reset(result, cxr_result_free);
            if (status == CXR_OK && result->refusal != CXR_NOT_REFUSED) {
                refuse("refused", result->refusal_reason, result->refusal_message);
            }
        }
        if (status != CXR_OK) refuse("error", cxr_status_name(status), error.message);
    } catch (const ImageFailure& failure) {
        refuse(failure.is_refusal ? "refused" : "error", failure.reason, failure.message);
    } catch (const std::bad_alloc&) {
        refuse("error", "out_of_memory", "out of memory");
    }
    answer.total_ms = elapsed();
    return answer;
}

void print_json(const cxr_info& info, const std::string& path, const Answer& answer) {
    const Json object(cJSON_CreateObject(), cJSON_Delete);
    const bool ok = answer.status == "ok";
    add_text(object.get(), "file", path.c_str());
    add_text(object.get(), "status", answer.status.c_str());
    add_text(object.get(), "reason", ok ? nullptr : answer.reason.c_str());
    add_text(object.get(), "label", ok ? info.labels[answer.result->label] : nullptr);
    if (ok) {
        cJSON* probabilities = cJSON_AddObjectToObject(object.get(), "probabilities");
        for (size_t i = 0; i < info.class_count; ++i) {
            cJSON_AddNumberToObject(probabilities, info.labels[i], answer.result->probabilities[i]);
        }
    } else {
        cJSON_AddNullToObject(object.get(), "probabilities");
    }
    if (ok && answer.result->prediction_set != nullptr) {
        cJSON* set = cJSON_AddArrayToObject(object.get(), "prediction_set");
        for (size_t i = 0; i < info.class_count; ++i) {
            if (answer.result->prediction_set[i]) cJSON_AddItemToArray(set, cJSON_CreateString(info.labels[i]));
        }
        cJSON_AddBoolToObject(object.get(), "refer", answer.result->refer);
    } else {
        cJSON_AddNullToObject(object.get(), "prediction_set");
        cJSON_AddNullToObject(object.get(), "refer");
    }
    if (answer.result)
        cJSON_AddNumberToObject(object.get(), "gate_score", answer.result->gate_score);
    else
        cJSON_AddNullToObject(object.get(), "gate_score");
    add_text(object.get(), "artifact", info.artifact);
    add_text(object.get(), "backend", "native-lite");
    add_text(object.get(), "precision", info.precision);
    cJSON* timings = cJSON_AddObjectToObject(object.get(), "timings_ms");
    cJSON_AddNumberToObject(timings, "read", answer.read_ms);
    cJSON_AddNumberToObject(timings, "predict", answer.result ? answer.result->run_ms : 0);
    cJSON_AddNumberToObject(timings, "total", answer.total_ms);
    add_text(object.get(), "message", ok ? nullptr : answer.message.c_str());
    print_line(object);
}

void print_text(const cxr_info& info, const std::string& path, const Answer& answer) {
    if (answer.status != "ok") {
        std::printf("%s: %s (%s): %s\n", path.c_str(), answer.status.c_str(), answer.reason.c_str(),
                    answer.message.c_str());
        return;
    }
    std::printf("%s: %s", path.c_str(),
                answer.result->refer ? "refer to a reader:" : info.labels[answer.result->label]);
    for (size_t i = 0; i < info.class_count; ++i) {
        std::printf("%s %s %.4f", i == 0 ? " " : ",", info.labels[i], answer.result->probabilities[i]);
    }
    std::printf("  (%.1f ms)\n", answer.result->run_ms);
}

bool write_heatmap(const cxr_info& info, const Answer& answer, const std::string& path) {
    const std::string temporary = path + ".part";
    std::FILE* file = std::fopen(temporary.c_str(), "wb");
    if (file == nullptr) return false;
    const float* map = answer.result->heatmap + answer.result->label * info.heatmap_height * info.heatmap_width;
    std::fprintf(file, "P5\n%zu %zu\n255\n", info.heatmap_width, info.heatmap_height);
    for (size_t i = 0; i < info.heatmap_height * info.heatmap_width; ++i) {
        std::fputc(static_cast<int>(std::min(1.0f, std::max(0.0f, map[i])) * 255 + 0.5f), file);
    }
    const bool written = std::ferror(file) == 0;
    return std::fclose(file) == 0 && written && std::rename(temporary.c_str(), path.c_str()) == 0;
}

int self_test(cxr_classifier* classifier, const cxr_info& info, bool json) {
    cxr_error error;
    size_t count = 0, differing = 0;
    double probability = 0, heatmap = 0;
    std::vector<double> times;
    const auto failed = [&](const char* message) {
        std::fprintf(stderr, "cxr_classify: %s\n", message);
        return 1;
    };
    if (cxr_golden_count(classifier, &count, &error) != CXR_OK) return failed(error.message);
    for (size_t i = 0; i < count; ++i) {
        const char* path = nullptr;
        cxr_golden_result result;
        if (cxr_golden_input(classifier, i, &path, &error) != CXR_OK) return failed(error.message);
        try {
            const GreyImage image = read_image_file(path);
            if (cxr_golden_compare(classifier, i, image.pixels.data(), image.height, image.width, image.width, &result,
                                   &error) != CXR_OK) {
                return failed(error.message);
            }
        } catch (const ImageFailure& failure) {
            return failed((std::string(path) + ": " + failure.message).c_str());
        }
        probability = std::max(probability, result.max_abs_probability_difference);
        heatmap = std::max(heatmap, result.max_abs_heatmap_difference);
        differing += result.same_decision ? 0 : 1;
        times.push_back(result.run_ms);
    }
    std::sort(times.begin(), times.end());
    const bool agrees =
        probability <= info.allowed_probability_difference && differing <= info.allowed_differing_decisions;
    if (json) {
        const Json object(cJSON_CreateObject(), cJSON_Delete);
        add_text(object.get(), "artifact", info.artifact);
        add_text(object.get(), "engine", info.engine);
        add_text(object.get(), "status", agrees ? "agrees" : "differs");
        cJSON_AddNumberToObject(object.get(), "vectors", static_cast<double>(count));
        cJSON_AddNumberToObject(object.get(), "max_abs_probability_difference", probability);
        cJSON_AddNumberToObject(object.get(), "allowed_probability_difference", info.allowed_probability_difference);
        cJSON_AddNumberToObject(object.get(), "differing_decisions", static_cast<double>(differing));
        cJSON_AddNumberToObject(object.get(), "allowed_differing_decisions",
                                static_cast<double>(info.allowed_differing_decisions));
        cJSON_AddNumberToObject(object.get(), "max_abs_heatmap_difference", heatmap);
        cJSON_AddNumberToObject(object.get(), "check_ms", info.check_ms);
        cJSON_AddNumberToObject(object.get(), "load_ms", info.load_ms);
        cJSON_AddNumberToObject(object.get(), "p50_ms", times[times.size() / 2]);
        print_line(object);
    } else {
        std::printf(
            "%s %s on %zu golden vectors: largest difference of a probability %.2g (allowed %.2g), other decisions "
            "%zu (allowed %zu), of a heat map %.2g; p50 %.1f ms; %s\n",
            info.artifact, agrees ? "agrees" : "DIFFERS", count, probability, info.allowed_probability_difference,
            differing, info.allowed_differing_decisions, heatmap, times[times.size() / 2], info.engine);
    }
    return agrees ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    const Arguments arguments = parse(argc, argv);
    const cxr_options options{arguments.artifact.empty() ? nullptr : arguments.artifact.c_str(), arguments.threads};
    cxr_error error;
    cxr_classifier* opened = nullptr;
    if (cxr_open(arguments.bundle.c_str(), &options, &opened, &error) != CXR_OK) {
        std::fprintf(stderr, "cxr_classify: %s (%s)\n", error.message, cxr_status_name(error.status));
        return error.status == CXR_NO_SUCH_ARTIFACT ? 2 : 1;
    }
    const std::unique_ptr<cxr_classifier, void (*)(cxr_classifier*)> classifier(opened, cxr_close);
    const cxr_info& info = *cxr_get_info(opened);
    if (info.trained_on_synthetic_images) {
        std::fputs("note: the model was trained on synthetic images; its answers mean nothing for real radiographs\n",
                   stderr);
    }
    if (arguments.self_test) return self_test(opened, info, arguments.json);
    bool faulty = false;
    for (const std::string& path : arguments.images) {
        const Answer answer = answer_file(opened, path);
        faulty = faulty || answer.status == "error";
        if (arguments.json)
            print_json(info, path, answer);
        else
            print_text(info, path, answer);
        if (!arguments.heatmap.empty() && answer.status == "ok" && !write_heatmap(info, answer, arguments.heatmap)) {
            std::fprintf(stderr, "cxr_classify: %s cannot be written\n", arguments.heatmap.c_str());
            return 1;
        }
    }
    return faulty ? 1 : 0;
}
