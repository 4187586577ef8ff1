package org.cxredge.classifier;

/** What became of a call: {@code cxr_status} of the C header, same numbers, same names. */
public enum Status {
    OK,
    INVALID_ARGUMENT,
    BUNDLE_NOT_FOUND,
    BUNDLE_INVALID,
    FILE_MISSING,
    FILE_CHANGED,
    NO_SUCH_ARTIFACT,
    ENGINE_UNAVAILABLE,
    MODEL_UNUSABLE,
    IMAGE_EMPTY,
    IMAGE_TOO_LARGE,
    RUN_FAILED,
    OUT_OF_MEMORY,
    INTERNAL_ERROR;

    static Status of(int number) {
        Status[] all = values();
        return number >= 0 && number < all.length ? all[number] : INTERNAL_ERROR;
    }
}
