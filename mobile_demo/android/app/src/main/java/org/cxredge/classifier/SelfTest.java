package org.cxredge.classifier;

import java.io.File;
import java.io.IOException;
import java.util.Arrays;

/** The device tests itself: the opened artifact against the bundle's golden vectors. */
public final class SelfTest {
    /** Decodes an 8-bit grey PNG to its grey values as they are. */
    public interface Decoder {
        GreyImage decode(File png) throws IOException;
    }

    /** Told after each vector. */
    public interface Progress {
        void done(int vectors, int of);
    }

    private final int vectors;
    private final double maxAbsProbabilityDifference;
    private final double maxAbsHeatmapDifference;
    private final int differingDecisions;
    private final double medianMillis;
    private final boolean agrees;

    private SelfTest(CxrClassifier.Info info, double probability, double heatmap, int decisions, double[] millis) {
        vectors = millis.length;
        maxAbsProbabilityDifference = probability;
        maxAbsHeatmapDifference = heatmap;
        differingDecisions = decisions;
        double[] sorted = millis.clone();
        Arrays.sort(sorted);
        medianMillis = sorted[sorted.length / 2];
        agrees = probability <= info.allowedProbabilityDifference() && decisions <= info.allowedDifferingDecisions();
    }

    /**
     * @throws CxrException a golden file is missing or was changed, or the model failed
     * @throws IOException a golden input could not be decoded
     */
    public static SelfTest run(CxrClassifier classifier, Decoder decoder, Progress progress)
            throws CxrException, IOException {
        int count = classifier.goldenCount();
        double probability = 0;
        double heatmap = 0;
        int decisions = 0;
        double[] millis = new double[count];
        for (int i = 0; i < count; ++i) {
            GreyImage image = decoder.decode(classifier.goldenInput(i));
            CxrClassifier.Comparison comparison = classifier.goldenCompare(i, image);
            probability = Math.max(probability, comparison.maxAbsProbabilityDifference());
            heatmap = Math.max(heatmap, comparison.maxAbsHeatmapDifference());
            decisions += comparison.sameDecision() ? 0 : 1;
            millis[i] = comparison.runMillis();
            progress.done(i + 1, count);
        }
        return new SelfTest(classifier.info(), probability, heatmap, decisions, millis);
    }

    /** Whether no more decisions differ, and no probability by more, than the bundle allows this artifact. */
    public boolean agrees() {
        return agrees;
    }

    public int vectors() {
        return vectors;
    }

    public double maxAbsProbabilityDifference() {
        return maxAbsProbabilityDifference;
    }

    public double maxAbsHeatmapDifference() {
        return maxAbsHeatmapDifference;
    }

    public int differingDecisions() {
        return differingDecisions;
    }

    public double medianMillis() {
        return medianMillis;
    }
}
