package org.cxredge.demo;

import android.app.Activity;
import android.os.Bundle;
import android.widget.TextView;
import java.io.IOException;
import org.cxredge.classifier.CxrClassifier;
import org.cxredge.classifier.CxrException;
import org.cxredge.classifier.SelfTest;

/** The bundle's golden vectors on this phone: agreement with the full model, and latency. */
public final class SelfTestActivity extends Activity {
    private volatile boolean gone;

    @Override
    protected void onCreate(Bundle state) {
        super.onCreate(state);
        setContentView(R.layout.self_test);
        new Thread(this::run, "self-test").start();
    }

    @Override
    protected void onDestroy() {
        gone = true;
        super.onDestroy();
    }

    private void run() {
        try (CxrClassifier classifier = CxrClassifier.open(BundleFolder.get(this))) {
            SelfTest test =
                    SelfTest.run(
                            classifier,
                            RadiographFile::readGolden,
                            (done, of) -> say(R.id.verdict, getString(R.string.running_self_test, done, of)));
            CxrClassifier.Info info = classifier.info();
            say(R.id.verdict, getString(test.agrees() ? R.string.agrees : R.string.differs));
            say(
                    R.id.figures,
                    getString(
                            R.string.self_test_figures,
                            info.artifact(),
                            test.vectors(),
                            test.maxAbsProbabilityDifference(),
                            info.allowedProbabilityDifference(),
                            test.differingDecisions(),
                            info.allowedDifferingDecisions(),
                            test.maxAbsHeatmapDifference(),
                            info.checkMillis(),
                            info.loadMillis(),
                            test.medianMillis(),
                            info.engine()));
        } catch (CxrException | IOException | UnsatisfiedLinkError failure) {
            say(R.id.verdict, getString(R.string.failed, failure.getMessage()));
        }
    }

    private void say(int view, String text) {
        runOnUiThread(
                () -> {
                    if (!gone) {
                        this.<TextView>findViewById(view).setText(text);
                    }
                });
    }
}
