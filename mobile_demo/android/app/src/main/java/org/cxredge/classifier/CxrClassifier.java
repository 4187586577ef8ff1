package org.cxredge.classifier;

import java.io.File;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.locks.ReadWriteLock;
import java.util.concurrent.locks.ReentrantReadWriteLock;

/**
 * The classifier of a bundle folder: grey pixels in, answers out. Offline; for research and demonstration, not a
 * medical device.
 *
 * <pre>{@code
 * try (CxrClassifier classifier = CxrClassifier.open(folder)) {
 *     Prediction prediction = classifier.classify(image);
 * }
 * }</pre>
 *
 * <p>Safe from several threads: runs wait for each other, and {@link #close} waits for the run that is going on. Opening
 * and classifying take time: not on an app's main thread.
 */
public final class CxrClassifier implements AutoCloseable {
    /** What was opened. */
    public static final class Info {
        private final byte[][] texts;
        private final double[] numbers;
        private final List<String> labels;

        private Info(byte[][] texts, double[] numbers) {
            this.texts = texts;
            this.numbers = numbers;
            List<String> names = new ArrayList<>();
            for (int i = 4; i < texts.length; ++i) {
                names.add(text(i));
            }
            labels = Collections.unmodifiableList(names);
        }

        private String text(int index) {
            return new String(texts[index], StandardCharsets.UTF_8);
        }

        public String bundle() {
            return text(0);
        }

        /** Such as lite-fp32. */
        public String artifact() {
            return text(1);
        }

        /** fp32 or int8. */
        public String precision() {
            return text(2);
        }

        /** Version of libtorch and, of an int8 artifact, its quantized engine. */
        public String engine() {
            return text(3);
        }

        public List<String> labels() {
            return labels;
        }

        public int heatmapHeight() {
            return (int) numbers[0];
        }

        public int heatmapWidth() {
            return (int) numbers[1];
        }

        public int embeddingSize() {
            return (int) numbers[2];
        }

        public boolean hasGate() {
            return numbers[3] != 0;
        }

        public double gateThreshold() {
            return numbers[4];
        }

        /** The answers mean nothing for real radiographs then: say so wherever they are shown. */
        public boolean trainedOnSyntheticImages() {
            return numbers[5] != 0;
        }

        public long modelBytes() {
            return (long) numbers[6];
        }

        public double checkMillis() {
            return numbers[7];
        }

        public double loadMillis() {
            return numbers[8];
        }

        public double allowedProbabilityDifference() {
            return numbers[9];
        }

        public int allowedDifferingDecisions() {
            return (int) numbers[10];
        }

        public boolean hasPredictionSets() {
            return numbers[11] != 0;
        }
    }

    /** One golden vector against the full model. */
    public static final class Comparison {
        private final double[] numbers;

        private Comparison(double[] numbers) {
            this.numbers = numbers;
        }

        public double maxAbsProbabilityDifference() {
            return numbers[0];
        }

        /** For information, no limit. */
        public double maxAbsHeatmapDifference() {
            return numbers[1];
        }

        public boolean sameDecision() {
            return numbers[2] != 0;
        }

        public double runMillis() {
            return numbers[3];
        }
    }

    private static final class Library {
        static {
            System.loadLibrary("cxr_jni");
        }

        static void load() {}
    }

    private final ReadWriteLock lock = new ReentrantReadWriteLock();
    private final Info info;
    private long handle; // 0: closed

    private CxrClassifier(long handle) {
        this.handle = handle;
        this.info = new Info(infoTexts(handle), infoNumbers(handle));
    }

    /** Opens the artifact that the bundle recommends for phones; where it names none, lite-fp32 or the only one. */
    public static CxrClassifier open(File bundle) throws CxrException {
        return open(bundle, null, 0);
    }

    /**
     * Checks the model's size and SHA-256 against the manifest and loads it.
     *
     * @param bundle the bundle's folder
     * @param artifact such as {@code lite-int8}; null leaves the choice to the bundle
     * @param threads libtorch's number of threads, for the whole process; 0 leaves it alone
     */
    public static CxrClassifier open(File bundle, String artifact, int threads) throws CxrException {
        loadNativeCode();
        byte[] name = artifact == null ? null : terminated(artifact);
        return new CxrClassifier(open(terminated(bundle.getPath()), name, threads));
    }

    public Info info() {
        return info;
    }

    /**
     * @throws CxrException the image is empty or too large, or the model failed
     * @throws IllegalStateException closed
     */
    public Prediction classify(GreyImage image) throws CxrException {
        float[] probabilities = new float[info.labels().size()];
        float[] logits = new float[probabilities.length];
        float[] heatmap = new float[probabilities.length * info.heatmapHeight() * info.heatmapWidth()];
        float[] embedding = new float[info.embeddingSize()];
        boolean[] set = info.hasPredictionSets() ? new boolean[probabilities.length] : null;
        double[] scalars = new double[5];
        lock.readLock().lock();
        try {
            byte[][] refusal =
                    classify(
                            opened(),
                            image.pixels(),
                            image.height(),
                            image.width(),
                            probabilities,
                            logits,
                            heatmap,
                            embedding,
                            set,
                            scalars);
            String reason = refusal == null ? null : new String(refusal[0], StandardCharsets.UTF_8);
            String why = refusal == null ? null : new String(refusal[1], StandardCharsets.UTF_8);
            return new Prediction(info, reason, why, probabilities, logits, heatmap, embedding, set, scalars);
        } finally {
            lock.readLock().unlock();
        }
    }

    /** How many golden vectors the bundle has; their hash is checked. */
    public int goldenCount() throws CxrException {
        lock.readLock().lock();
        try {
            return goldenCount(opened());
        } finally {
            lock.readLock().unlock();
        }
    }

    /** One golden input, an 8-bit grey PNG whose hash was checked. */
    public File goldenInput(int index) throws CxrException {
        lock.readLock().lock();
        try {
            return new File(new String(goldenInput(opened(), index), StandardCharsets.UTF_8));
        } finally {
            lock.readLock().unlock();
        }
    }

    /** Runs the decoded pixels of one golden input, without the gate, and compares with the full model. */
    public Comparison goldenCompare(int index, GreyImage image) throws CxrException {
        double[] numbers = new double[4];
        lock.readLock().lock();
        try {
            goldenCompare(opened(), index, image.pixels(), image.height(), image.width(), numbers);
            return new Comparison(numbers);
        } finally {
            lock.readLock().unlock();
        }
    }

    /** Lets go of the model, after the run that is going on; a second call does nothing. */
    @Override
    public void close() {
        lock.writeLock().lock();
        try {
            if (handle != 0) {
                close(handle);
                handle = 0;
            }
        } finally {
            lock.writeLock().unlock();
        }
    }

    static void loadNativeCode() {
        Library.load();
    }

    private long opened() {
        if (handle == 0) {
            throw new IllegalStateException("the classifier is closed");
        }
        return handle;
    }

    private static byte[] terminated(String text) {
        return (text + "\0").getBytes(StandardCharsets.UTF_8);
    }

    private static native long open(byte[] bundle, byte[] artifact, int threads) throws CxrException;

    private static native void close(long handle);

    private static native byte[][] infoTexts(long handle);

    private static native double[] infoNumbers(long handle);

    private static native byte[][] classify(
            long handle,
            byte[] pixels,
            int height,
            int width,
            float[] probabilities,
            float[] logits,
            float[] heatmap,
            float[] embedding,
            boolean[] set,
            double[] scalars)
            throws CxrException;

    private static native int goldenCount(long handle) throws CxrException;

    private static native byte[] goldenInput(long handle, int index) throws CxrException;

    private static native void goldenCompare(
            long handle, int index, byte[] pixels, int height, int width, double[] numbers) throws CxrException;
}
