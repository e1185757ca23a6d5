"""Where the rules of the Edge TPU compiler are known from.

The compiler is not open source. What is published is a page of Google's; the rest was read off what the compiler said of models
that people showed, and off models that were published before and after it.
"""

from __future__ import annotations

#: The table of operations, their limits and the runtime that each needs; read in the copies of 2019 to 2022.
TABLE = 'Coral documentation, "TensorFlow models on the Edge TPU", "Supported operations"'
REQUIREMENTS = 'Coral documentation, "TensorFlow models on the Edge TPU", "Model requirements"'
COMPILING = 'Coral documentation, "TensorFlow models on the Edge TPU", "Compiling"'
#: A repository with models before and after the compiler.
PAIRS = "google-coral/test_data"
#: A toolchain from litert-quantizer's predecessor to compiler 16.0; what it mends was measured there on many models.
TOOLCHAIN = "jiaheguo521/int8-pruning-pipeline, src/int8_pruning/convert/flatbuffer.py"


def issue(number: int) -> str:
    """An issue of the repository in which the compiler's bugs are collected.

    Args:
        number: the issue's.
    """
    return f"google-coral/edgetpu issue {number}"
