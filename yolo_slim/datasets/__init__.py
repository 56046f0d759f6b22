"""Read an Ultralytics data set, check all of it before hours are spent on it, and hand it on safely.

Nothing here writes into the user's folders: :func:`write_absolute_yaml` builds a folder of links for Ultralytics, which
otherwise leaves ``*.cache`` files beside the labels and re-encodes JPEG files that lack their end marker.
"""
