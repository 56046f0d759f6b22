"""What runs on the device: bundles, pre- and post-processing, the detector, timing and the device's own command line.

Imports on a bare Python 3.10 with NumPy and OpenCV; a runtime such as onnxruntime is imported when a bundle needs it::

    from yolo_slim.bundle import open_bundle
    from yolo_slim.runtime.detector import Detector

    with Detector(open_bundle("bundle")) as detector:
        detections = detector.detect(image_bgr)
"""
