package org.cxredge.classifier;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;

/** Grey pixels as the model takes them: uint8, 0 black, row after row, without gaps. */
public final class GreyImage {
    /** Pixels above which an image is turned down before anything is allocated. */
    public static final int MAX_PIXELS = 50_000_000;

    private final byte[] pixels;
    private final int height;
    private final int width;

    /**
     * @param pixels height * width bytes; not copied, and not to be changed afterwards
     * @throws IllegalArgumentException the length does not fit the size
     */
    public GreyImage(byte[] pixels, int height, int width) {
        if (height < 0 || width < 0 || pixels.length != (long) height * width) {
            throw new IllegalArgumentException(
                    pixels.length + " bytes for " + width + " x " + height + " pixels");
        }
        this.pixels = pixels;
        this.height = height;
        this.width = width;
    }

    /**
     * Turns a decoded picture that is grey in fact into grey pixels, and checks that it can be judged at all.
     *
     * @param rgba a direct buffer: red, green, blue, alpha (straight), a byte each; on Android
     *     {@code Bitmap.copyPixelsToBuffer} of an ARGB_8888 bitmap decoded with {@code inPremultiplied = false}
     * @throws RefusedException it is coloured, too small, or one even grey
     * @throws CxrException it has no pixels or too many
     */
    public static GreyImage fromRgba(ByteBuffer rgba, int height, int width) throws CxrException, RefusedException {
        CxrClassifier.loadNativeCode();
        // of what is turned down by its size alone no buffer is read, and none is asked for
        boolean fits = (long) height * width <= MAX_PIXELS;
        if (!rgba.isDirect() || height < 0 || width < 0 || (fits && rgba.capacity() < 4L * height * width)) {
            throw new IllegalArgumentException("no direct buffer of " + width + " x " + height + " RGBA pixels");
        }
        byte[] pixels = new byte[fits ? height * width : 0];
        int[] refusal = {0};
        byte[] why = greyFromRgba(rgba, height, width, pixels, refusal);
        refuse(refusal[0], why);
        GreyImage image = new GreyImage(pixels, height, width);
        image.check();
        return image;
    }

    /**
     * Refuses what is too small to be judged, or one even grey.
     *
     * @throws CxrException it has no pixels or too many
     */
    public void check() throws CxrException, RefusedException {
        CxrClassifier.loadNativeCode();
        int[] refusal = {0};
        byte[] why = checkRadiograph(pixels, height, width, refusal);
        refuse(refusal[0], why);
    }

    private static void refuse(int refusal, byte[] why) throws RefusedException {
        if (refusal != 0) {
            throw new RefusedException(Refusal.of(refusal), new String(why, StandardCharsets.UTF_8));
        }
    }

    byte[] pixels() {
        return pixels;
    }

    /** The grey value, 0 to 255, in row y and column x. */
    public int at(int y, int x) {
        return pixels[y * width + x] & 0xff;
    }

    public int height() {
        return height;
    }

    public int width() {
        return width;
    }

    private static native byte[] greyFromRgba(ByteBuffer rgba, int height, int width, byte[] grey, int[] refusal)
            throws CxrException;

    private static native byte[] checkRadiograph(byte[] pixels, int height, int width, int[] refusal)
            throws CxrException;
}
