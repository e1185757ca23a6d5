"""The stages of a conversion, one module each; ``pipeline.convert`` puts them in order.

Each takes what the ones before it made, and returns a frozen dataclass with its result and what it found on the way.
"""
