"""The engine ``tensorflow``: ``tf.lite.Interpreter``, for machines where nothing smaller is installed."""

from __future__ import annotations

import types
import warnings

from edgekit.runtime.engines.interpreter import Loaded

NAME = "tensorflow"


def load() -> Loaded:
    """Import TensorFlow (seconds).

    Raises:
        ImportError: it is not installed.
    """
    import tensorflow as tf

    def interpreter(*args: object, **kwargs: object) -> object:
        with warnings.catch_warnings():
            # TensorFlow announces here that LiteRT replaces this class; edgekit prefers LiteRT already.
            warnings.simplefilter("ignore")
            return tf.lite.Interpreter(*args, **kwargs)

    module = types.SimpleNamespace(
        Interpreter=interpreter,
        OpResolverType=tf.lite.experimental.OpResolverType,
        load_delegate=tf.lite.experimental.load_delegate,
    )
    return Loaded(NAME, f"tensorflow {tf.__version__}", module)
