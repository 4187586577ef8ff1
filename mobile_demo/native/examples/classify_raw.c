/* The least that uses the library, in C: classify raw grey pixels. classify_raw BUNDLE ARTIFACT HEIGHT WIDTH FILE... */
#include <stdio.h>
#include <stdlib.h>

#include "cxr_classifier.h"

static int fail(const char* message) {
    fprintf(stderr, "classify_raw: %s\n", message);
    return 1;
}

static int classify_file(cxr_classifier* classifier, const char* path, size_t height, size_t width) {
    cxr_error error;
    cxr_result* result = NULL;
    const cxr_info* info = cxr_get_info(classifier);
    uint8_t* pixels = malloc(height * width);
    FILE* file = fopen(path, "rb");
    const size_t count = pixels != NULL && file != NULL ? fread(pixels, 1, height * width, file) : 0;
    if (file != NULL) fclose(file);
    if (count != height * width) {
        free(pixels);
        return fail("the file cannot be read, or is too short");
    }
    const cxr_status status = cxr_classify(classifier, pixels, height, width, width, &result, &error);
    free(pixels);
    if (status != CXR_OK) return fail(error.message);
    if (result->refusal != CXR_NOT_REFUSED) {
        puts(result->refusal_message);
    } else {
        for (size_t i = 0; i < info->class_count; ++i) {
            printf("%s %.9g%s", info->labels[i], result->probabilities[i], i + 1 < info->class_count ? ", " : "\n");
        }
    }
    cxr_result_free(result);
    return 0;
}

int main(int argc, char** argv) {
    if (argc < 6) return fail("usage: classify_raw BUNDLE ARTIFACT HEIGHT WIDTH FILE...");
    const cxr_options options = {argv[2], 1};
    const size_t height = strtoul(argv[3], NULL, 10), width = strtoul(argv[4], NULL, 10);
    cxr_error error;
    cxr_classifier* classifier = NULL;
    if (height == 0 || width == 0 || height > CXR_MAX_PIXELS / width) return fail("no such size");
    if (cxr_open(argv[1], &options, &classifier, &error) != CXR_OK) return fail(error.message);
    int failed = 0;
    for (int i = 5; i < argc && !failed; ++i) failed = classify_file(classifier, argv[i], height, width);
    cxr_close(classifier);
    return failed;
}
