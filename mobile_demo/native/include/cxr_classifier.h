/*
 * cxr_classifier: a bundle's TorchScript model on PyTorch's lite interpreter, behind a C interface.
 *
 * Pixels in, answers out: the graph in the bundle holds resize, normalisation, temperature and Grad-CAM, so a caller
 * decodes its file to grey pixels and does nothing else. For research and demonstration; not a medical device.
 *
 *     cxr_error error;
 *     cxr_classifier* classifier = NULL;
 *     if (cxr_open("bundle", NULL, &classifier, &error) != CXR_OK) { puts(error.message); return 1; }
 *     cxr_result* result = NULL;
 *     if (cxr_classify(classifier, pixels, height, width, width, &result, &error) == CXR_OK) {
 *         if (result->refusal == CXR_NOT_REFUSED) puts(cxr_get_info(classifier)->labels[result->label]);
 *         else puts(result->refusal_message);
 *     }
 *     cxr_result_free(result);
 *     cxr_close(classifier);
 *
 * Threads: one classifier may be used from several threads; its runs wait for each other. Closing it while another
 * thread is inside a call is an error of the caller. Different classifiers run side by side.
 *
 * Process-wide settings of libtorch that this library touches: the number of threads, where cxr_options.threads is
 * above 0, and the quantized engine, which is set to QNNPACK when an int8 artifact is opened and before each of its
 * runs.
 *
 * No function throws, prints, or opens a network connection. Text is UTF-8.
 */
#ifndef CXR_CLASSIFIER_H
#define CXR_CLASSIFIER_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define CXR_API __attribute__((visibility("default")))
#else
#define CXR_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Pixels (height x width) above which an image is turned down before anything is allocated, as edge_runtime does. */
#define CXR_MAX_PIXELS 50000000u
/* Shorter side in pixels below which cxr_check_radiograph refuses, as edge_runtime does. */
#define CXR_MIN_EDGE 128u

/* What became of a call. The numbers are part of the interface and do not change. */
typedef enum cxr_status {
    CXR_OK = 0,
    CXR_INVALID_ARGUMENT = 1,   /* a null pointer, a stride below the width, an index out of range */
    CXR_BUNDLE_NOT_FOUND = 2,   /* no folder there, or no manifest.json in it (a zip: unpack it first) */
    CXR_BUNDLE_INVALID = 3,     /* the manifest or the golden vectors do not follow the schema this library reads */
    CXR_FILE_MISSING = 4,       /* a file that the manifest lists is absent or not a plain file */
    CXR_FILE_CHANGED = 5,       /* its size or SHA-256 is not the manifest's: truncated, damaged, tampered with */
    CXR_NO_SUCH_ARTIFACT = 6,   /* the bundle has no such artifact, or none for the lite interpreter */
    CXR_ENGINE_UNAVAILABLE = 7, /* an int8 artifact where libtorch has no QNNPACK */
    CXR_MODEL_UNUSABLE = 8,     /* the interpreter cannot open the file, or its outputs are not the manifest's */
    CXR_IMAGE_EMPTY = 9,        /* height or width is 0 */
    CXR_IMAGE_TOO_LARGE = 10,   /* more than CXR_MAX_PIXELS */
    CXR_RUN_FAILED = 11,        /* the interpreter failed, or gave probabilities that are not numbers */
    CXR_OUT_OF_MEMORY = 12,
    CXR_INTERNAL_ERROR = 13
} cxr_status;

/* Why an image gets no answer: not a fault, but an image that is not to be judged. */
typedef enum cxr_refusal {
    CXR_NOT_REFUSED = 0,
    CXR_REFUSED_BY_GATE = 1, /* unlike the training radiographs; cxr_result.refusal_reason says as what */
    CXR_COLOUR_PHOTO = 2,
    CXR_TOO_SMALL = 3,
    CXR_NO_CONTRAST = 4
} cxr_refusal;

/* What went wrong, in one line: what; got; expected; remedy. Filled by every call that does not return CXR_OK. */
typedef struct cxr_error {
    cxr_status status;
    char message[1024];
} cxr_error;

typedef struct cxr_classifier cxr_classifier;

typedef struct cxr_options {
    const char* artifact; /* such as "lite-int8"; NULL: what the manifest recommends for "phone"; where it names
                             none, lite-fp32, or the only one for the lite interpreter (cxr_info.artifact says) */
    int threads;          /* libtorch's number of threads, for the whole process; 0 leaves it alone */
} cxr_options;

/* What was opened. Everything belongs to the classifier. */
typedef struct cxr_info {
    const char* bundle;    /* the bundle's name */
    const char* artifact;  /* such as "lite-fp32" */
    const char* precision; /* "fp32" or "int8" */
    const char* engine;    /* such as "torch 2.1.0 lite interpreter, qnnpack" */
    const char* const* labels;
    size_t class_count;
    size_t heatmap_height;
    size_t heatmap_width;
    size_t embedding_size;
    int has_gate;
    double gate_threshold; /* refused from it on; meaningless where has_gate is 0 */
    int has_prediction_sets;
    int trained_on_synthetic_images; /* 1: the answers mean nothing for real radiographs; say so */
    uint64_t model_bytes;
    double check_ms; /* hashing the model file */
    double load_ms;  /* opening it */
    /* What the bundle allows this artifact on its golden vectors. */
    double allowed_probability_difference;
    size_t allowed_differing_decisions;
} cxr_info;

/* One answer. Everything belongs to the result; where `refusal` is set, probabilities, prediction_set and
 * heatmap are NULL. */
typedef struct cxr_result {
    cxr_refusal refusal;
    const char* refusal_reason;    /* a code of the bundle's gate such as "not_a_radiograph", NULL where not refused */
    const char* refusal_message;   /* a plain sentence, NULL where not refused */
    size_t label;                  /* index of the largest probability; of equals the first */
    const float* probabilities;    /* [class_count], calibrated, sum 1 */
    const uint8_t* prediction_set; /* [class_count], 1: the class is in it; NULL where the bundle has no sets */
    int refer;                     /* 1: not exactly one class in the set: refer to a reader, show no single label */
    const float* logits;           /* [class_count] */
    const float* heatmap;          /* [class_count][heatmap_height][heatmap_width], 0..1, over the whole image */
    const float* embedding;        /* [embedding_size] */
    float gate_score;              /* below the gate's threshold: let through; 0 where the bundle has no gate */
    double wait_ms;                /* for another thread's run */
    double run_ms;                 /* pixels to outputs */
} cxr_result;

/*
 * Open a bundle folder: read its manifest, check the model file's size and SHA-256, load it.
 * `options` and `error` may be NULL. On success *classifier is to be closed with cxr_close.
 */
CXR_API cxr_status cxr_open(const char* bundle_folder, const cxr_options* options, cxr_classifier** classifier,
                            cxr_error* error);

/* Let go of everything; NULL is ignored. */
CXR_API void cxr_close(cxr_classifier* classifier);

/* What was opened; NULL for NULL. */
CXR_API const cxr_info* cxr_get_info(const cxr_classifier* classifier);

/*
 * Classify one radiograph.
 *
 * pixels: uint8 grey, 0 black, `height` rows of `width` pixels, rows `stride` bytes apart (>= width). Read only during
 * the call. Any size from 1 x 1 to CXR_MAX_PIXELS pixels. `error` may be NULL; *result is to be freed with
 * cxr_result_free. An image that the bundle's gate turns down gives CXR_OK and result->refusal.
 */
CXR_API cxr_status cxr_classify(cxr_classifier* classifier, const uint8_t* pixels, size_t height, size_t width,
                                size_t stride, cxr_result** result, cxr_error* error);

CXR_API void cxr_result_free(cxr_result* result);

/* --- From a decoded file to grey pixels: the rules of edge_runtime's reader, for hosts that decode themselves. --- */

typedef enum cxr_layout { CXR_RGB = 0, CXR_RGBA = 1 } cxr_layout; /* alpha is straight, not premultiplied */

/*
 * Turn a colour image that is grey in fact into grey (ITU-R BT.601 luma; transparent parts on black); refuse one that
 * is really coloured.
 *
 * colour: 3 or 4 bytes a pixel, rows `stride` bytes apart; grey: height * width bytes, filled where *refusal is
 * CXR_NOT_REFUSED. Where it refuses, it returns CXR_OK and error->message says why.
 */
CXR_API cxr_status cxr_grey_from_colour(const uint8_t* colour, cxr_layout layout, size_t height, size_t width,
                                        size_t stride, uint8_t* grey, cxr_refusal* refusal, cxr_error* error);

/* Refuse what is too small or one even grey; as above, CXR_OK with *refusal set and the sentence in error->message. */
CXR_API cxr_status cxr_check_radiograph(const uint8_t* pixels, size_t height, size_t width, size_t stride,
                                        cxr_refusal* refusal, cxr_error* error);

/* --- Self-test: the full model's answers on the bundle's golden inputs. --- */

typedef struct cxr_golden_result {
    double max_abs_probability_difference;
    double max_abs_heatmap_difference; /* for information, no limit */
    int same_decision;
    double run_ms;
} cxr_golden_result;

/* Load the golden vectors (hash checked, once) and say how many there are. */
CXR_API cxr_status cxr_golden_count(cxr_classifier* classifier, size_t* count, cxr_error* error);

/* Path of one input, an 8-bit grey PNG whose hash was checked; it belongs to the classifier. */
CXR_API cxr_status cxr_golden_input(cxr_classifier* classifier, size_t index, const char** path, cxr_error* error);

/* Run the decoded pixels of one input and compare with the full model's outputs. The gate does not refuse here. */
CXR_API cxr_status cxr_golden_compare(cxr_classifier* classifier, size_t index, const uint8_t* pixels, size_t height,
                                      size_t width, size_t stride, cxr_golden_result* result, cxr_error* error);

/* Names for programs and logs: "file_changed", "too_small"; of an unknown number "unknown". */
CXR_API const char* cxr_status_name(cxr_status status);
CXR_API const char* cxr_refusal_name(cxr_refusal refusal);

#ifdef __cplusplus
}
#endif

#endif
