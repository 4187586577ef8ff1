"""The same bundle in an app and in a phone's browser; see its README."""
