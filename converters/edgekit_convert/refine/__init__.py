"""Better constants in the int8 file: same graph, same kernels, same size."""
