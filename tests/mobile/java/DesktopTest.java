import java.awt.image.BufferedImage;
import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Stream;
import javax.imageio.ImageIO;
import org.cxredge.classifier.CxrClassifier;
import org.cxredge.classifier.CxrException;
import org.cxredge.classifier.GreyImage;
import org.cxredge.classifier.Prediction;
import org.cxredge.classifier.Refusal;
import org.cxredge.classifier.RefusedException;
import org.cxredge.classifier.SelfTest;
import org.cxredge.classifier.Status;

/** The app's own classes on a desktop JVM: DesktopTest CASE BUNDLE [FILE...]. Exit code 1 and a stack trace: failed. */
public final class DesktopTest {
    private interface Call {
        void run() throws Exception;
    }

    private static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    private static void fails(Status wanted, Call call) throws Exception {
        try {
            call.run();
        } catch (CxrException failure) {
            check(failure.status() == wanted, failure.status() + " instead of " + wanted + ": " + failure.getMessage());
            check(failure.getMessage().length() > 10, "no message");
            return;
        }
        throw new AssertionError("no " + wanted);
    }

    /** Grey PNG or JPEG, values as they are. */
    private static GreyImage decodeGrey(File file) throws IOException {
        BufferedImage image = ImageIO.read(file);
        check(image != null && image.getType() == BufferedImage.TYPE_BYTE_GRAY, file + " is not 8-bit grey");
        byte[] pixels = new byte[image.getHeight() * image.getWidth()];
        image.getRaster().getDataElements(0, 0, image.getWidth(), image.getHeight(), pixels);
        return new GreyImage(pixels, image.getHeight(), image.getWidth());
    }

    /** As the app hands a bitmap over: RGBA in a direct buffer. */
    private static ByteBuffer rgba(GreyImage image) {
        ByteBuffer buffer = ByteBuffer.allocateDirect(4 * image.height() * image.width());
        for (int y = 0; y < image.height(); ++y) {
            for (int x = 0; x < image.width(); ++x) {
                byte value = (byte) image.at(y, x);
                buffer.put(value).put(value).put(value).put((byte) 255);
            }
        }
        return buffer;
    }

    private static void selfTest(File bundle, String artifact) throws Exception {
        try (CxrClassifier classifier = CxrClassifier.open(bundle, artifact, 1)) {
            AtomicInteger told = new AtomicInteger();
            SelfTest test = SelfTest.run(classifier, DesktopTest::decodeGrey, (done, of) -> told.set(done));
            check(told.get() == test.vectors() && test.vectors() > 0, "progress");
            System.out.printf(
                    "%s %s vectors=%d probability=%.9g decisions=%d heatmap=%.9g check_ms=%.1f load_ms=%.1f p50_ms=%.1f%n",
                    artifact,
                    test.agrees() ? "agrees" : "differs",
                    test.vectors(),
                    test.maxAbsProbabilityDifference(),
                    test.differingDecisions(),
                    test.maxAbsHeatmapDifference(),
                    classifier.info().checkMillis(),
                    classifier.info().loadMillis(),
                    test.medianMillis());
            check(test.agrees(), "differs");
        }
    }

    private static void predict(File bundle, String artifact, List<File> files) throws Exception {
        try (CxrClassifier classifier = CxrClassifier.open(bundle, artifact, 1)) {
            for (File file : files) {
                GreyImage decoded = decodeGrey(file);
                GreyImage image = GreyImage.fromRgba(rgba(decoded), decoded.height(), decoded.width());
                Prediction prediction = classifier.classify(image);
                if (prediction.refusal() != Refusal.NOT_REFUSED) {
                    System.out.println("refused\t" + prediction.refusalReason());
                    continue;
                }
                StringBuilder line = new StringBuilder(prediction.label());
                for (float value : prediction.probabilities().values()) {
                    line.append('\t').append(value);
                }
                System.out.println(line);
            }
        }
    }

    /** What becomes of opening a bundle without naming an artifact: its name, or the status and the message. */
    private static void open(File bundle) {
        try (CxrClassifier classifier = CxrClassifier.open(bundle)) {
            System.out.println("OK\t" + classifier.info().artifact());
        } catch (CxrException failure) {
            System.out.println(failure.status() + "\t" + failure.getMessage());
        }
    }

    private static GreyImage waves(int height, int width) {
        byte[] pixels = new byte[height * width];
        for (int i = 0; i < pixels.length; ++i) {
            pixels[i] = (byte) (127 + 120 * Math.sin(0.05 * (i % width)) * Math.cos(0.03 * (i / width)));
        }
        return new GreyImage(pixels, height, width);
    }

    private static void badImages(File bundle) throws Exception {
        try (CxrClassifier classifier = CxrClassifier.open(bundle)) {
            fails(Status.IMAGE_EMPTY, () -> classifier.classify(new GreyImage(new byte[0], 0, 0)));
            fails(Status.IMAGE_EMPTY, () -> classifier.goldenCompare(0, new GreyImage(new byte[0], 0, 5)));
            fails(Status.IMAGE_EMPTY, () -> new GreyImage(new byte[0], 0, 0).check());
            fails(Status.IMAGE_EMPTY, () -> GreyImage.fromRgba(ByteBuffer.allocateDirect(0), 0, 0));
            fails(Status.IMAGE_TOO_LARGE, () -> GreyImage.fromRgba(ByteBuffer.allocateDirect(4), 20_000, 20_000));
            // 20,000 x 20,000: 400 MB that the JVM may well have
            GreyImage large = new GreyImage(new byte[400_000_000], 20_000, 20_000);
            fails(Status.IMAGE_TOO_LARGE, () -> classifier.classify(large));
            fails(Status.IMAGE_TOO_LARGE, () -> classifier.goldenCompare(0, large));
            fails(Status.IMAGE_TOO_LARGE, large::check);
            fails(Status.INVALID_ARGUMENT, () -> classifier.goldenInput(-1));
            fails(Status.INVALID_ARGUMENT, () -> classifier.goldenCompare(1_000_000, waves(10, 10)));
            Prediction prediction = classifier.classify(waves(1, 1));
            check(prediction.refusal() == Refusal.NOT_REFUSED, "refused");
        }
        for (Call call :
                new Call[] {
                    () -> new GreyImage(new byte[3], 2, 2),
                    () -> GreyImage.fromRgba(ByteBuffer.allocateDirect(10), 2, 2),
                    () -> GreyImage.fromRgba(ByteBuffer.allocate(16), 2, 2),
                }) {
            try {
                call.run();
                throw new AssertionError("no IllegalArgumentException");
            } catch (IllegalArgumentException wanted) {
                check(wanted.getMessage() != null, "no message");
            }
        }
        refused(Refusal.TOO_SMALL, waves(100, 300));
        refused(Refusal.NO_CONTRAST, new GreyImage(new byte[40_000], 200, 200));
        ByteBuffer colours = ByteBuffer.allocateDirect(4 * 200 * 200);
        for (int i = 0; i < 200 * 200; ++i) {
            colours.put((byte) (i % 200)).put((byte) (i / 200)).put((byte) (255 - i % 200)).put((byte) 255);
        }
        try {
            GreyImage.fromRgba(colours, 200, 200);
            throw new AssertionError("a colour photo passed");
        } catch (RefusedException refusal) {
            check(refusal.refusal() == Refusal.COLOUR_PHOTO, refusal.refusal().toString());
        }
    }

    private static void refused(Refusal wanted, GreyImage image) throws Exception {
        try {
            GreyImage.fromRgba(rgba(image), image.height(), image.width());
        } catch (RefusedException refusal) {
            check(refusal.refusal() == wanted && refusal.getMessage().length() > 10, refusal.getMessage());
            return;
        }
        throw new AssertionError("not refused: " + wanted);
    }

    private static void badBundles(File bundle) throws Exception {
        fails(Status.BUNDLE_NOT_FOUND, () -> CxrClassifier.open(new File("/no/such \uD83E\uDE7B folder")));
        fails(Status.NO_SUCH_ARTIFACT, () -> CxrClassifier.open(bundle, "lite-fp64", 0));
        Path copy = Files.createTempDirectory("cxr-jni-\u00e9-");
        try {
            try (Stream<Path> files = Files.walk(bundle.toPath())) {
                for (Path file : (Iterable<Path>) files::iterator) {
                    Path target = copy.resolve(bundle.toPath().relativize(file).toString());
                    Files.copy(file, target, StandardCopyOption.REPLACE_EXISTING);
                }
            }
            CxrClassifier.open(copy.toFile()).close();
            Path model = copy.resolve("artifacts/lite-fp32.ptl");
            byte[] whole = Files.readAllBytes(model);
            Files.write(model, java.util.Arrays.copyOf(whole, whole.length / 2));
            fails(Status.FILE_CHANGED, () -> CxrClassifier.open(copy.toFile()));
            whole[whole.length / 2] ^= 1;
            Files.write(model, whole);
            fails(Status.FILE_CHANGED, () -> CxrClassifier.open(copy.toFile()));
            Files.delete(model);
            fails(Status.FILE_MISSING, () -> CxrClassifier.open(copy.toFile()));
            Files.write(copy.resolve("manifest.json"), new byte[] {'{'});
            fails(Status.BUNDLE_INVALID, () -> CxrClassifier.open(copy.toFile()));
        } finally {
            try (Stream<Path> files = Files.walk(copy)) {
                files.sorted(java.util.Comparator.reverseOrder()).forEach(path -> path.toFile().delete());
            }
        }
    }

    private static void threads(File bundle) throws Exception {
        CxrClassifier classifier = CxrClassifier.open(bundle, null, 1);
        GreyImage image = waves(200, 150);
        float wanted = classifier.classify(image).logits()[0];
        List<Thread> workers = new ArrayList<>();
        AtomicInteger right = new AtomicInteger();
        AtomicInteger closed = new AtomicInteger();
        for (int t = 0; t < 4; ++t) {
            Thread worker =
                    new Thread(
                            () -> {
                                while (true) {
                                    try {
                                        float got = classifier.classify(image).logits()[0];
                                        check(Math.abs(got - wanted) < 1e-5, got + " instead of " + wanted);
                                        right.incrementAndGet();
                                    } catch (IllegalStateException end) {
                                        closed.incrementAndGet();
                                        return;
                                    } catch (CxrException failure) {
                                        throw new AssertionError(failure);
                                    }
                                }
                            });
            worker.start();
            workers.add(worker);
        }
        while (right.get() < 12 && workers.stream().anyMatch(Thread::isAlive)) {
            Thread.onSpinWait();
        }
        classifier.close(); // while the others are in it
        classifier.close();
        for (Thread worker : workers) {
            worker.join(60_000);
        }
        check(closed.get() == 4, closed.get() + " of 4 threads ended by closing");
    }

    private static void repeated(File bundle) throws Exception {
        for (int i = 0; i < 5; ++i) {
            round(bundle);
        }
        long before = residentKib();
        long model = new File(bundle, "artifacts/lite-fp32.ptl").length() / 1024;
        for (int i = 0; i < 15; ++i) {
            round(bundle);
        }
        long after = residentKib();
        System.out.printf("resident %d KiB, then %d KiB; the model has %d KiB%n", before, after, model);
        check(after < before + 7 * (model + 1024), "memory grows");
    }

    private static void round(File bundle) throws Exception {
        try (CxrClassifier classifier = CxrClassifier.open(bundle)) {
            GreyImage image = waves(1024, 1024);
            for (int i = 0; i < 3; ++i) {
                classifier.classify(image);
            }
        }
        fails(Status.NO_SUCH_ARTIFACT, () -> CxrClassifier.open(bundle, "none", 0));
        System.gc();
    }

    private static long residentKib() throws IOException {
        String[] pages = new String(Files.readAllBytes(Paths.get("/proc/self/statm"))).split(" ");
        return Long.parseLong(pages[1]) * 4;
    }

    private static void gate(File bundle) throws Exception {
        try (CxrClassifier classifier = CxrClassifier.open(bundle)) {
            check(classifier.info().hasGate(), "no gate");
            Prediction prediction = classifier.classify(waves(200, 200));
            check(prediction.refusal() == Refusal.BY_GATE, prediction.refusal().toString());
            check(prediction.refusalReason().equals("not_a_radiograph"), prediction.refusalReason());
            check(prediction.refusalMessage().contains("unlike"), prediction.refusalMessage());
            try {
                prediction.label();
                throw new AssertionError("a refused image has a label");
            } catch (IllegalStateException wanted) {
                check(wanted.getMessage().contains("refused"), wanted.getMessage());
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        File bundle = new File(arguments[1]);
        switch (arguments[0]) {
            case "selfTest":
                selfTest(bundle, arguments[2]);
                break;
            case "predict":
                List<File> files = new ArrayList<>();
                for (int i = 3; i < arguments.length; ++i) {
                    files.add(new File(arguments[i]));
                }
                predict(bundle, arguments[2], files);
                break;
            case "open":
                open(bundle);
                break;
            case "badImages":
                badImages(bundle);
                break;
            case "badBundles":
                badBundles(bundle);
                break;
            case "threads":
                threads(bundle);
                break;
            case "repeated":
                repeated(bundle);
                break;
            case "gate":
                gate(bundle);
                break;
            default:
                throw new IllegalArgumentException(arguments[0]);
        }
    }

    private DesktopTest() {}
}
