"""Run a model's golden inputs in another Python that has tflite-runtime; started by ``oldest.py``, never imported.

Needs numpy and tflite-runtime, nothing of edgekit: the other environment has another numpy.
Usage: ``python oldest_child.py MODEL.tflite GOLDEN.npz OUTPUTS.npz``; prints the runtime's name and version.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Write the outputs of each sample as ``<kernel set>_<sample>_<place>``."""
    import numpy as np
    import tflite_runtime
    from tflite_runtime import interpreter as tflite

    # First of all, so that a crash below is known to be this runtime's.
    print(f"tflite-runtime {tflite_runtime.__version__}", flush=True)
    model, golden, target = sys.argv[1:4]
    with np.load(golden) as arrays:
        places = sum(1 for name in arrays.files if name.startswith("input_"))
        inputs = [arrays[f"input_{place}"] for place in range(places)]
    resolvers = tflite.OpResolverType
    results = {}
    for name, resolver in (("xnnpack", resolvers.BUILTIN), ("none", resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES)):
        runner = tflite.Interpreter(model_path=model, num_threads=1, experimental_op_resolver_type=resolver)
        runner.allocate_tensors()
        ins, outs = runner.get_input_details(), runner.get_output_details()
        for sample in range(len(inputs[0])):
            for place, item in enumerate(ins):
                value = inputs[place][sample]
                if tuple(item["shape"]) != value.shape:
                    runner.resize_tensor_input(item["index"], value.shape)
                    runner.allocate_tensors()
                runner.set_tensor(item["index"], value)
            runner.invoke()
            for place, item in enumerate(outs):
                results[f"{name}_{sample}_{place}"] = runner.get_tensor(item["index"])
    np.savez(target, **results)


if __name__ == "__main__":
    main()
