"""What runs in the ONNX environment's own Python, in a process of its own: reads, converts, runs and compares.

These modules import each other, numpy and that environment's packages, and nothing else of edgekit. ``frontends.from_onnx`` is
the side of edgekit's own Python.
"""
