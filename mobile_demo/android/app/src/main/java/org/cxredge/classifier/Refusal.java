package org.cxredge.classifier;

/** Why an image gets no answer: {@code cxr_refusal} of the C header, same numbers, same names. */
public enum Refusal {
    NOT_REFUSED,
    /** Unlike the training radiographs; {@link Prediction#refusalReason} says as what. */
    BY_GATE,
    COLOUR_PHOTO,
    TOO_SMALL,
    NO_CONTRAST;

    static Refusal of(int number) {
        return values()[number];
    }
}
