"""The history of the nights as static pages: a folder that opens from a disk and from any web server."""
