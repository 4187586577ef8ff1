package org.cxredge.demo;

import android.app.Activity;
import android.content.Intent;
import android.net.Uri;
import android.os.Bundle;
import android.view.View;
import android.widget.Button;
import android.widget.TextView;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import org.cxredge.classifier.CxrClassifier;
import org.cxredge.classifier.CxrException;
import org.cxredge.classifier.Prediction;
import org.cxredge.classifier.Refusal;
import org.cxredge.classifier.RefusedException;

/** Pick a radiograph, or share one into the app; see the answer and its heat map. */
public final class MainActivity extends Activity {
    private static final int PICKED = 1;

    private final ExecutorService worker = Executors.newSingleThreadExecutor();
    private CxrClassifier classifier; // of the worker

    @Override
    protected void onCreate(Bundle state) {
        super.onCreate(state);
        setContentView(R.layout.main);
        this.<Button>findViewById(R.id.pick).setOnClickListener(view -> pick());
        this.<Button>findViewById(R.id.self_test)
                .setOnClickListener(view -> startActivity(new Intent(this, SelfTestActivity.class)));
        worker.execute(this::open);
        if (state == null) {
            classifyShared(getIntent());
        }
    }

    @Override
    protected void onNewIntent(Intent intent) {
        super.onNewIntent(intent);
        classifyShared(intent);
    }

    @Override
    protected void onDestroy() {
        worker.execute(
                () -> {
                    if (classifier != null) {
                        classifier.close();
                    }
                });
        worker.shutdown();
        super.onDestroy();
    }

    @Override
    protected void onActivityResult(int request, int result, Intent data) {
        super.onActivityResult(request, result, data);
        if (request == PICKED && result == RESULT_OK && data != null && data.getData() != null) {
            classify(data.getData());
        }
    }

    private void pick() {
        Intent intent = new Intent(Intent.ACTION_OPEN_DOCUMENT);
        intent.addCategory(Intent.CATEGORY_OPENABLE);
        intent.setType("image/*");
        startActivityForResult(intent, PICKED);
    }

    private void classifyShared(Intent intent) {
        if (Intent.ACTION_SEND.equals(intent.getAction())) {
            Uri uri = intent.getParcelableExtra(Intent.EXTRA_STREAM);
            if (uri != null) {
                classify(uri);
            }
        }
    }

    private void open() {
        try {
            classifier = CxrClassifier.open(BundleFolder.get(this));
            boolean synthetic = classifier.info().trainedOnSyntheticImages();
            runOnUiThread(
                    () -> {
                        findViewById(R.id.synthetic).setVisibility(synthetic ? View.VISIBLE : View.GONE);
                        findViewById(R.id.pick).setEnabled(true);
                        findViewById(R.id.self_test).setEnabled(true);
                        say(getString(R.string.start));
                    });
        } catch (FileNotFoundException missing) {
            say(getString(R.string.no_bundle));
        } catch (CxrException | IOException | UnsatisfiedLinkError failure) {
            say(getString(R.string.failed, failure.getMessage()));
        }
    }

    private void classify(Uri uri) {
        say(getString(R.string.working));
        worker.execute(
                () -> {
                    if (classifier == null) {
                        return; // opening failed, and has said so
                    }
                    RadiographFile.Picture picture = null;
                    Prediction prediction = null;
                    String answer;
                    try {
                        picture = RadiographFile.read(getContentResolver(), uri);
                        prediction = classifier.classify(picture.grey);
                        answer = words(prediction);
                    } catch (RefusedException refusal) {
                        answer = getString(R.string.refused, refusal.getMessage());
                    } catch (CxrException | IOException failure) {
                        answer = getString(R.string.failed, failure.getMessage());
                    }
                    show(picture, prediction, answer);
                });
    }

    private void show(RadiographFile.Picture picture, Prediction prediction, String answer) {
        boolean answered = prediction != null && prediction.refusal() == Refusal.NOT_REFUSED;
        String caption = answered ? getString(R.string.heat_map, prediction.label()) : "";
        runOnUiThread(
                () -> {
                    say(answer);
                    this.<TextView>findViewById(R.id.caption).setText(caption);
                    HeatMapView view = findViewById(R.id.picture);
                    view.setContentDescription(caption);
                    view.show(picture == null ? null : picture.bitmap, answered ? prediction : null);
                });
    }

    private String words(Prediction prediction) {
        if (prediction.refusal() != Refusal.NOT_REFUSED) {
            return getString(R.string.refused, prediction.refusalMessage());
        }
        // without exactly one class in the prediction set no single label is shown
        String first =
                prediction.refer()
                        ? getString(R.string.refer, String.join(", ", prediction.predictionSet()))
                        : prediction.label();
        StringBuilder text = new StringBuilder(first).append('\n');
        for (Map.Entry<String, Float> entry : prediction.probabilities().entrySet()) {
            text.append(getString(R.string.probability, entry.getKey(), Math.round(100 * entry.getValue()))).append('\n');
        }
        CxrClassifier.Info info = classifier.info();
        return text.append(getString(R.string.model, info.bundle(), info.artifact(), prediction.runMillis())).toString();
    }

    private void say(String text) {
        runOnUiThread(() -> this.<TextView>findViewById(R.id.answer).setText(text));
    }
}
