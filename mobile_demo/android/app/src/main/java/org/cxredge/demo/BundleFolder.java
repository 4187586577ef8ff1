package org.cxredge.demo;

import android.content.Context;
import android.content.res.AssetManager;
import java.io.File;
import java.io.FileNotFoundException;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;

/** The app's bundle as a folder: copied from the assets once a version, whole or not at all. */
final class BundleFolder {
    private static final String ASSETS = "bundle";

    private BundleFolder() {}

    /**
     * @throws FileNotFoundException the app was built without a bundle
     */
    static synchronized File get(Context context) throws IOException {
        long version = context.getPackageCodePath().hashCode() & 0xffffffffL; // another installation, another path
        File folder = new File(context.getNoBackupFilesDir(), "bundle-" + Long.toHexString(version));
        if (folder.isDirectory()) {
            return folder;
        }
        AssetManager assets = context.getAssets();
        String[] names = assets.list(ASSETS);
        if (names == null || names.length == 0) {
            throw new FileNotFoundException(ASSETS);
        }
        File[] old = context.getNoBackupFilesDir().listFiles((parent, name) -> name.startsWith("bundle-"));
        for (File left : old == null ? new File[0] : old) {
            delete(left);
        }
        File part = new File(folder.getPath() + ".part");
        copy(assets, ASSETS, part);
        if (!part.renameTo(folder)) {
            throw new IOException(folder + " cannot be written");
        }
        return folder;
    }

    private static void copy(AssetManager assets, String path, File target) throws IOException {
        String[] children = assets.list(path);
        if (children != null && children.length > 0) {
            if (!target.mkdirs()) {
                throw new IOException(target + " cannot be made");
            }
            for (String child : children) {
                copy(assets, path + "/" + child, new File(target, child));
            }
            return;
        }
        try (InputStream in = assets.open(path);
                OutputStream out = new FileOutputStream(target)) {
            byte[] buffer = new byte[1 << 16];
            for (int count = in.read(buffer); count >= 0; count = in.read(buffer)) {
                out.write(buffer, 0, count);
            }
        }
    }

    private static void delete(File file) {
        File[] children = file.listFiles();
        for (File child : children == null ? new File[0] : children) {
            delete(child);
        }
        file.delete();
    }
}
