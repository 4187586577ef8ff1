package org.cxredge.demo;

import android.content.Context;
import android.graphics.Bitmap;
import android.graphics.Canvas;
import android.graphics.Color;
import android.graphics.Paint;
import android.graphics.Rect;
import android.util.AttributeSet;
import android.view.MotionEvent;
import android.view.View;
import org.cxredge.classifier.Prediction;

/** The radiograph with one class's heat map over it; a touch hides the map while it lasts. */
public final class HeatMapView extends View {
    // The palette of edge_runtime/heatmap.py: equal steps of lightness, clear at 0.
    private static final int[] STOPS = {
        0x612f8d, 0x83398d, 0xa44386, 0xc2517b, 0xdb646d, 0xef7a5c, 0xfb954d, 0xffb346, 0xfed252
    };
    private static final float STRONGEST = 0.6f;

    private final Paint smooth = new Paint(Paint.FILTER_BITMAP_FLAG);
    private final Rect target = new Rect();
    private Bitmap radiograph;
    private Bitmap heat;
    private boolean heatShown = true;

    public HeatMapView(Context context, AttributeSet attributes) {
        super(context, attributes);
    }

    /** Shows a radiograph; prediction null shows it without a map. */
    void show(Bitmap picture, Prediction prediction) {
        // the canvas takes premultiplied bitmaps only
        if (picture != null) {
            picture.setPremultiplied(true);
        }
        radiograph = picture;
        heat = prediction == null ? null : colours(prediction);
        requestLayout();
        invalidate();
    }

    private static Bitmap colours(Prediction prediction) {
        int height = prediction.heatmapHeight();
        int width = prediction.heatmapWidth();
        int[] pixels = new int[height * width];
        for (int y = 0; y < height; ++y) {
            for (int x = 0; x < width; ++x) {
                pixels[y * width + x] = colour(prediction.heat(prediction.labelIndex(), y, x));
            }
        }
        return Bitmap.createBitmap(pixels, width, height, Bitmap.Config.ARGB_8888);
    }

    private static int colour(float value) {
        float level = Math.max(0, Math.min(1, value));
        float at = level * (STOPS.length - 1);
        int below = Math.min(STOPS.length - 2, (int) at);
        float share = at - below;
        int red = mix(Color.red(STOPS[below]), Color.red(STOPS[below + 1]), share);
        int green = mix(Color.green(STOPS[below]), Color.green(STOPS[below + 1]), share);
        int blue = mix(Color.blue(STOPS[below]), Color.blue(STOPS[below + 1]), share);
        return Color.argb(Math.round(255 * STRONGEST * level), red, green, blue);
    }

    private static int mix(int from, int to, float share) {
        return Math.round(from + share * (to - from));
    }

    @Override
    protected void onMeasure(int widthSpec, int heightSpec) {
        int width = MeasureSpec.getSize(widthSpec);
        int height = radiograph == null ? 0 : (int) ((long) width * radiograph.getHeight() / radiograph.getWidth());
        setMeasuredDimension(width, height);
    }

    @Override
    protected void onDraw(Canvas canvas) {
        if (radiograph == null) {
            return;
        }
        target.set(0, 0, getWidth(), getHeight());
        canvas.drawBitmap(radiograph, null, target, smooth);
        if (heat != null && heatShown) {
            canvas.drawBitmap(heat, null, target, smooth);
        }
    }

    @Override
    public boolean onTouchEvent(MotionEvent event) {
        int action = event.getActionMasked();
        if (action == MotionEvent.ACTION_DOWN) {
            heatShown = false;
            invalidate();
            return true;
        }
        if (action == MotionEvent.ACTION_UP || action == MotionEvent.ACTION_CANCEL) {
            heatShown = true;
            invalidate();
            performClick();
            return true;
        }
        return super.onTouchEvent(event);
    }

    @Override
    public boolean performClick() {
        return super.performClick();
    }
}
