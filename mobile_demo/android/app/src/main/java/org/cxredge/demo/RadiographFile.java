package org.cxredge.demo;

import android.content.ContentResolver;
import android.graphics.Bitmap;
import android.graphics.BitmapFactory;
import android.media.ExifInterface;
import android.net.Uri;
import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import org.cxredge.classifier.CxrException;
import org.cxredge.classifier.GreyImage;
import org.cxredge.classifier.RefusedException;

/** A PNG or JPEG as grey pixels, decoded by Android, never scaled: the model's graph resizes. */
final class RadiographFile {
    /** The picture for the screen, and its grey pixels for the model. */
    static final class Picture {
        final Bitmap bitmap;
        final GreyImage grey;

        private Picture(Bitmap bitmap, GreyImage grey) {
            this.bitmap = bitmap;
            this.grey = grey;
        }
    }

    private interface Source {
        InputStream open() throws IOException;
    }

    private RadiographFile() {}

    /**
     * @throws IOException it cannot be read, or is no picture that this app takes; the message says why
     */
    static Picture read(ContentResolver resolver, Uri uri) throws IOException, CxrException, RefusedException {
        Source source =
                () -> {
                    InputStream stream;
                    try {
                        stream = resolver.openInputStream(uri);
                    } catch (SecurityException denied) {
                        throw new IOException("this app may not read the file", denied);
                    }
                    if (stream == null) {
                        throw new IOException("the file is gone");
                    }
                    return stream;
                };
        Bitmap bitmap = decode(source);
        return new Picture(bitmap, GreyImage.fromRgba(rgba(bitmap), bitmap.getHeight(), bitmap.getWidth()));
    }

    /** A golden input: grey values as they are, of any size. */
    static GreyImage readGolden(File png) throws IOException {
        Bitmap bitmap = decode(() -> new FileInputStream(png));
        ByteBuffer rgba = rgba(bitmap);
        byte[] pixels = new byte[bitmap.getHeight() * bitmap.getWidth()];
        for (int i = 0; i < pixels.length; ++i) {
            pixels[i] = rgba.get(4 * i);
        }
        return new GreyImage(pixels, bitmap.getHeight(), bitmap.getWidth());
    }

    private static Bitmap decode(Source source) throws IOException {
        BitmapFactory.Options options = new BitmapFactory.Options();
        options.inJustDecodeBounds = true;
        try (InputStream stream = source.open()) {
            BitmapFactory.decodeStream(stream, null, options);
        }
        if (options.outWidth <= 0 || options.outHeight <= 0) {
            throw new IOException("no picture that Android reads; DICOM is read on a computer by edge-runtime");
        }
        if ((long) options.outWidth * options.outHeight > GreyImage.MAX_PIXELS) {
            throw new IOException(
                    "too large: " + options.outWidth + " x " + options.outHeight + " pixels, at most 50 megapixels");
        }
        if ("image/jpeg".equals(options.outMimeType)) {
            try (InputStream stream = source.open()) {
                int turned =
                        new ExifInterface(stream)
                                .getAttributeInt(
                                        ExifInterface.TAG_ORIENTATION, ExifInterface.ORIENTATION_NORMAL);
                if (turned > ExifInterface.ORIENTATION_NORMAL) {
                    throw new IOException("marked as rotated, which this app does not turn: save it upright");
                }
            }
        }
        options.inJustDecodeBounds = false;
        options.inPreferredConfig = Bitmap.Config.ARGB_8888;
        options.inPremultiplied = false;
        options.inScaled = false;
        try (InputStream stream = source.open()) {
            Bitmap bitmap = BitmapFactory.decodeStream(stream, null, options);
            if (bitmap == null || bitmap.getConfig() != Bitmap.Config.ARGB_8888) {
                throw new IOException("a damaged picture, or one of more than 8 bits");
            }
            return bitmap;
        } catch (OutOfMemoryError error) {
            throw new IOException("too large for this phone's memory", error);
        }
    }

    private static ByteBuffer rgba(Bitmap bitmap) throws IOException {
        try {
            ByteBuffer buffer = ByteBuffer.allocateDirect(4 * bitmap.getHeight() * bitmap.getWidth());
            bitmap.copyPixelsToBuffer(buffer);
            return buffer;
        } catch (OutOfMemoryError error) {
            throw new IOException("too large for this phone's memory", error);
        }
    }
}
