"""The same bundle in an app and in a phone's browser; nothing is here yet but the README."""
