// The Java classes CxrClassifier and GreyImage over the C interface. Text crosses as UTF-8 bytes: JNI's own strings are
// "modified UTF-8", and one emoji in a path would end the process.
#include <jni.h>

#include <cstring>
#include <vector>

#include "cxr_classifier.h"

namespace {

cxr_classifier* classifier_of(jlong handle) { return reinterpret_cast<cxr_classifier*>(handle); }

// The bytes of a Java array for the length of a block, never written back.
class Bytes {
  public:
    Bytes(JNIEnv* env, jbyteArray array)
        : env_(env), array_(array), data_(array != nullptr ? env->GetByteArrayElements(array, nullptr) : nullptr) {}
    ~Bytes() {
        if (data_ != nullptr) env_->ReleaseByteArrayElements(array_, data_, JNI_ABORT);
    }
    Bytes(const Bytes&) = delete;
    Bytes& operator=(const Bytes&) = delete;

    bool failed() const { return array_ != nullptr && data_ == nullptr; }  // an OutOfMemoryError is pending
    const char* text() const { return reinterpret_cast<const char*>(data_); }
    const uint8_t* pixels() const { return reinterpret_cast<const uint8_t*>(data_); }

  private:
    JNIEnv* env_;
    jbyteArray array_;
    jbyte* data_;
};

jbyteArray bytes_of(JNIEnv* env, const char* text) {
    const auto size = static_cast<jsize>(std::strlen(text));
    jbyteArray array = env->NewByteArray(size);
    if (array != nullptr) env->SetByteArrayRegion(array, 0, size, reinterpret_cast<const jbyte*>(text));
    return array;
}

jobjectArray texts_of(JNIEnv* env, const char* const* texts, size_t count) {
    jclass type = env->FindClass("[B");
    if (type == nullptr) return nullptr;
    jobjectArray array = env->NewObjectArray(static_cast<jsize>(count), type, nullptr);
    for (size_t i = 0; array != nullptr && i < count; ++i) {
        jbyteArray text = bytes_of(env, texts[i]);
        if (text == nullptr) return nullptr;
        env->SetObjectArrayElement(array, static_cast<jsize>(i), text);
        if (env->ExceptionCheck()) return nullptr;
        env->DeleteLocalRef(text);
    }
    return array;
}

void throw_failure(JNIEnv* env, const cxr_error& error) {
    jclass type = env->FindClass("org/cxredge/classifier/CxrException");
    if (type == nullptr) return;
    jmethodID constructor = env->GetMethodID(type, "<init>", "(I[B)V");
    if (constructor == nullptr) return;
    jbyteArray message = bytes_of(env, error.message);
    if (message == nullptr) return;
    jobject exception = env->NewObject(type, constructor, static_cast<jint>(error.status), message);
    if (exception != nullptr) env->Throw(static_cast<jthrowable>(exception));
}

// The array, or nothing where the library turns the size down anyway: then hundreds of megabytes need no copy.
jbyteArray worth_copying(jbyteArray pixels, jint height, jint width) {
    return int64_t{height} * width <= int64_t{CXR_MAX_PIXELS} ? pixels : nullptr;
}

size_t size_of(jint n) { return n > 0 ? static_cast<size_t>(n) : 0; }

}  // namespace

#define CXR_NATIVE(type, name) extern "C" JNIEXPORT type JNICALL Java_org_cxredge_classifier_##name

CXR_NATIVE(jlong, CxrClassifier_open)(JNIEnv* env, jclass, jbyteArray bundle, jbyteArray artifact, jint threads) {
    const Bytes folder(env, bundle), name(env, artifact);
    if (folder.failed() || name.failed()) return 0;
    const cxr_options options{name.text(), threads};
    cxr_classifier* classifier = nullptr;
    cxr_error error;
    if (cxr_open(folder.text(), &options, &classifier, &error) != CXR_OK) throw_failure(env, error);
    return reinterpret_cast<jlong>(classifier);
}

CXR_NATIVE(void, CxrClassifier_close)(JNIEnv*, jclass, jlong handle) { cxr_close(classifier_of(handle)); }

CXR_NATIVE(jobjectArray, CxrClassifier_infoTexts)(JNIEnv* env, jclass, jlong handle) {
    const cxr_info& info = *cxr_get_info(classifier_of(handle));
    std::vector<const char*> texts{info.bundle, info.artifact, info.precision, info.engine};
    texts.insert(texts.end(), info.labels, info.labels + info.class_count);
    return texts_of(env, texts.data(), texts.size());
}

CXR_NATIVE(jdoubleArray, CxrClassifier_infoNumbers)(JNIEnv* env, jclass, jlong handle) {
    const cxr_info& info = *cxr_get_info(classifier_of(handle));
    const jdouble numbers[] = {static_cast<jdouble>(info.heatmap_height),
                               static_cast<jdouble>(info.heatmap_width),
                               static_cast<jdouble>(info.embedding_size),
                               static_cast<jdouble>(info.has_gate),
                               info.gate_threshold,
                               static_cast<jdouble>(info.trained_on_synthetic_images),
                               static_cast<jdouble>(info.model_bytes),
                               info.check_ms,
                               info.load_ms,
                               info.allowed_probability_difference,
                               static_cast<jdouble>(info.allowed_differing_decisions),
                               static_cast<jdouble>(info.has_prediction_sets)};
    constexpr jsize count = sizeof numbers / sizeof *numbers;
    jdoubleArray array = env->NewDoubleArray(count);
    if (array != nullptr) env->SetDoubleArrayRegion(array, 0, count, numbers);
    return array;
}

CXR_NATIVE(jobjectArray, CxrClassifier_classify)
(JNIEnv* env, jclass, jlong handle, jbyteArray pixels, jint height, jint width, jfloatArray probabilities,
 jfloatArray logits, jfloatArray heatmap, jfloatArray embedding, jbooleanArray set, jdoubleArray scalars) {
    cxr_classifier* classifier = classifier_of(handle);
    cxr_result* result = nullptr;
    cxr_error error;
    {
        const Bytes grey(env, worth_copying(pixels, height, width));
        if (grey.failed()) return nullptr;
        if (cxr_classify(classifier, grey.pixels(), size_of(height), size_of(width), size_of(width), &result, &error) !=
            CXR_OK) {
            throw_failure(env, error);
            return nullptr;
        }
    }
    const auto copy = [&](jfloatArray array, const float* values) {
        if (values != nullptr && !env->ExceptionCheck()) {
            env->SetFloatArrayRegion(array, 0, env->GetArrayLength(array), values);
        }
    };
    copy(probabilities, result->probabilities);
    copy(logits, result->logits);
    copy(heatmap, result->heatmap);
    copy(embedding, result->embedding);
    const jdouble numbers[] = {static_cast<jdouble>(result->refusal), static_cast<jdouble>(result->label),
                               static_cast<jdouble>(result->gate_score), result->run_ms,
                               static_cast<jdouble>(result->refer)};
    if (set != nullptr && result->prediction_set != nullptr && !env->ExceptionCheck()) {
        env->SetBooleanArrayRegion(set, 0, env->GetArrayLength(set), result->prediction_set);
    }
    if (!env->ExceptionCheck()) env->SetDoubleArrayRegion(scalars, 0, 5, numbers);
    jobjectArray why = nullptr;
    if (result->refusal != CXR_NOT_REFUSED && !env->ExceptionCheck()) {
        const char* const texts[] = {result->refusal_reason, result->refusal_message};
        why = texts_of(env, texts, 2);
    }
    cxr_result_free(result);
    return why;
}

CXR_NATIVE(jint, CxrClassifier_goldenCount)(JNIEnv* env, jclass, jlong handle) {
    size_t count = 0;
    cxr_error error;
    if (cxr_golden_count(classifier_of(handle), &count, &error) != CXR_OK) throw_failure(env, error);
    return static_cast<jint>(count);
}

CXR_NATIVE(jbyteArray, CxrClassifier_goldenInput)(JNIEnv* env, jclass, jlong handle, jint index) {
    const char* path = nullptr;
    cxr_error error;
    // a negative index becomes one that is out of range
    if (cxr_golden_input(classifier_of(handle), static_cast<size_t>(index), &path, &error) != CXR_OK) {
        throw_failure(env, error);
        return nullptr;
    }
    return bytes_of(env, path);
}

CXR_NATIVE(void, CxrClassifier_goldenCompare)
(JNIEnv* env, jclass, jlong handle, jint index, jbyteArray pixels, jint height, jint width, jdoubleArray numbers) {
    cxr_golden_result result;
    cxr_error error;
    {
        const Bytes grey(env, worth_copying(pixels, height, width));
        if (grey.failed()) return;
        if (cxr_golden_compare(classifier_of(handle), static_cast<size_t>(index), grey.pixels(), size_of(height),
                               size_of(width), size_of(width), &result, &error) != CXR_OK) {
            throw_failure(env, error);
            return;
        }
    }
    const jdouble values[] = {result.max_abs_probability_difference, result.max_abs_heatmap_difference,
                              static_cast<jdouble>(result.same_decision), result.run_ms};
    env->SetDoubleArrayRegion(numbers, 0, 4, values);
}

CXR_NATIVE(jbyteArray, GreyImage_greyFromRgba)
(JNIEnv* env, jclass, jobject rgba, jint height, jint width, jbyteArray grey, jintArray refusal) {
    jbyte* pixels = env->GetByteArrayElements(grey, nullptr);
    if (pixels == nullptr) return nullptr;
    cxr_refusal verdict = CXR_NOT_REFUSED;
    cxr_error error;
    const cxr_status status =
        cxr_grey_from_colour(static_cast<const uint8_t*>(env->GetDirectBufferAddress(rgba)), CXR_RGBA, size_of(height),
                             size_of(width), 4 * size_of(width), reinterpret_cast<uint8_t*>(pixels), &verdict, &error);
    env->ReleaseByteArrayElements(grey, pixels, 0);
    if (status != CXR_OK) {
        throw_failure(env, error);
        return nullptr;
    }
    const jint number = verdict;
    env->SetIntArrayRegion(refusal, 0, 1, &number);
    return env->ExceptionCheck() ? nullptr : bytes_of(env, error.message);
}

CXR_NATIVE(jbyteArray, GreyImage_checkRadiograph)
(JNIEnv* env, jclass, jbyteArray pixels, jint height, jint width, jintArray refusal) {
    cxr_refusal verdict = CXR_NOT_REFUSED;
    cxr_error error;
    {
        const Bytes grey(env, worth_copying(pixels, height, width));
        if (grey.failed()) return nullptr;
        if (cxr_check_radiograph(grey.pixels(), size_of(height), size_of(width), size_of(width), &verdict, &error) !=
            CXR_OK) {
            throw_failure(env, error);
            return nullptr;
        }
    }
    const jint number = verdict;
    env->SetIntArrayRegion(refusal, 0, 1, &number);
    return env->ExceptionCheck() ? nullptr : bytes_of(env, error.message);
}
