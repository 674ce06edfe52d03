"""Keras 3 on TensorFlow, or an error that says what to install."""

from __future__ import annotations

from secureagg.errors import MissingExtraError, ParameterError

try:
    import keras
    import tensorflow as tf
except ModuleNotFoundError as error:
    if error.name not in ("keras", "tensorflow"):
        raise  # the package is there but one of its own imports is not: not ours to explain
    raise MissingExtraError("tensorflow", "tensorflow") from error

__all__ = ["keras", "tf"]

if keras.backend.backend() != "tensorflow":
    raise ParameterError(f"KERAS_BACKEND={keras.backend.backend()}: DP-SGD needs tensorflow; set it before importing")
