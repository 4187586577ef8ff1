package org.cxredge.classifier;

import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** What the model says of one radiograph, or why it does not say anything. */
public final class Prediction {
    private final List<String> labels;
    private final Refusal refusal;
    private final String refusalReason;
    private final String refusalMessage;
    private final int label;
    private final float[] probabilities;
    private final boolean[] set;
    private final boolean refer;
    private final float[] logits;
    private final float[] heatmap;
    private final int heatmapHeight;
    private final int heatmapWidth;
    private final float[] embedding;
    private final float gateScore;
    private final double runMillis;

    Prediction(
            CxrClassifier.Info info,
            String refusalReason,
            String refusalMessage,
            float[] probabilities,
            float[] logits,
            float[] heatmap,
            float[] embedding,
            boolean[] set,
            double[] scalars) {
        this.labels = info.labels();
        this.refusal = Refusal.of((int) scalars[0]);
        this.refusalReason = refusalReason;
        this.refusalMessage = refusalMessage;
        this.label = (int) scalars[1];
        this.probabilities = probabilities;
        this.set = set;
        this.refer = scalars[4] != 0;
        this.logits = logits;
        this.heatmap = heatmap;
        this.heatmapHeight = info.heatmapHeight();
        this.heatmapWidth = info.heatmapWidth();
        this.embedding = embedding;
        this.gateScore = (float) scalars[2];
        this.runMillis = scalars[3];
    }

    /** NOT_REFUSED, or BY_GATE where the bundle's gate turned the image down: then there is no answer. */
    public Refusal refusal() {
        return refusal;
    }

    /** A code of the bundle's gate such as not_a_radiograph; null where not refused. */
    public String refusalReason() {
        return refusalReason;
    }

    /** A plain sentence; null where not refused. */
    public String refusalMessage() {
        return refusalMessage;
    }

    /** The class of the largest probability. */
    public String label() {
        answered();
        return labels.get(label);
    }

    /** Its index in the labels. */
    public int labelIndex() {
        answered();
        return label;
    }

    /** By label, in the bundle's order; calibrated, sum 1. */
    public Map<String, Float> probabilities() {
        answered();
        Map<String, Float> byLabel = new LinkedHashMap<>();
        for (int i = 0; i < probabilities.length; ++i) {
            byLabel.put(labels.get(i), probabilities[i]);
        }
        return Collections.unmodifiableMap(byLabel);
    }

    /** The labels that cannot be told apart here; null where the bundle has no prediction sets. */
    public List<String> predictionSet() {
        answered();
        if (set == null) {
            return null;
        }
        List<String> names = new ArrayList<>();
        for (int i = 0; i < set.length; ++i) {
            if (set[i]) {
                names.add(labels.get(i));
            }
        }
        return names;
    }

    /** Whether the set does not hold exactly one label: then refer to a reader, and show no single label. */
    public boolean refer() {
        answered();
        return refer;
    }

    /** Before the temperature, in the order of the labels. */
    public float[] logits() {
        return logits.clone();
    }

    /** What weighed for a class, 0 to 1, over the whole image; row y of {@link #heatmapHeight}, column x. */
    public float heat(int classIndex, int y, int x) {
        answered();
        return heatmap[(classIndex * heatmapHeight + y) * heatmapWidth + x];
    }

    public int heatmapHeight() {
        return heatmapHeight;
    }

    public int heatmapWidth() {
        return heatmapWidth;
    }

    public float[] embedding() {
        return embedding.clone();
    }

    /** Below the gate's threshold: let through; 0 where the bundle has no gate. */
    public float gateScore() {
        return gateScore;
    }

    /** Pixels to outputs. */
    public double runMillis() {
        return runMillis;
    }

    private void answered() {
        if (refusal != Refusal.NOT_REFUSED) {
            throw new IllegalStateException("refused: " + refusalMessage);
        }
    }
}
