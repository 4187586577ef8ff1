package org.cxredge.classifier;

import java.nio.charset.StandardCharsets;

/** A bundle, a model or an image that cannot be used. The message is one line: what; got; expected; remedy. */
public final class CxrException extends Exception {
    private static final long serialVersionUID = 1L;

    private final Status status;

    /** Called from native code. Bytes, because JNI's own strings are not UTF-8. */
    CxrException(int status, byte[] message) {
        super(new String(message, StandardCharsets.UTF_8));
        this.status = Status.of(status);
    }

    public Status status() {
        return status;
    }
}
