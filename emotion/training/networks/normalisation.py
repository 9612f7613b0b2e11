"""Batch normalisation that takes fewer passes over the features, for training on processors.

Measured on `se_cnn`, batches of 128 in mixed_bfloat16 on two cores: 22 % more images for the same
processor time than with Keras' own layer (median of 16 epochs in turns). Below 15 % it should go.

Keras' layer computes in float32 throughout and leaves its gradient to be derived step by step. This
one has the gradient written out (Ioffe and Szegedy 2015), takes sums as matrix products, and keeps
only the sums in float32. Weights, names and answers are those of Keras' layer.
"""

import keras
from keras import ops


def use_fast_normalisation(network: keras.Model) -> keras.Model:
    """Return the same network with faster batch normalisations; on a GPU, as it is."""
    if keras.backend.backend() != "tensorflow" or keras.distribution.list_devices("gpu"):
        return network

    def clone_faster(layer: keras.layers.Layer) -> keras.layers.Layer:
        is_normalisation = type(layer) is keras.layers.BatchNormalization
        kind = FastBatchNormalization if is_normalisation else type(layer)
        return kind.from_config(layer.get_config())

    faster = keras.models.clone_model(network, clone_function=clone_faster, recursive=True)
    faster.set_weights(network.get_weights())
    return faster


class FastBatchNormalization(keras.layers.BatchNormalization):
    """Keras' batch normalisation over the last axis, faster in training on TensorFlow."""

    def call(self, inputs, training=None, mask=None):
        """Normalise by the batch in training, by the running averages otherwise."""
        if not (training and self.trainable):
            return super().call(inputs, training=training, mask=mask)

        @ops.custom_gradient
        def normalise(features, gamma, beta):
            count = ops.cast(ops.size(features) // features.shape[-1], "float32")
            accurate = ops.cast(features, "float32")
            mean = _sum_of_channels(accurate) / count
            variance = _sum_of_channels(ops.square(accurate)) / count - ops.square(mean)
            variance = ops.maximum(variance, 0.0)  # rounding may take it below
            inverse = ops.rsqrt(variance + self.epsilon)
            scale = gamma * inverse

            def gradient(upstream, *_of_mean_and_variance):
                upwards = ops.cast(upstream, "float32")
                of_beta = _sum_of_channels(upwards)
                product = _sum_of_channels(upwards * ops.cast(features, "float32"))
                of_gamma = (product - mean * of_beta) * inverse
                slope = -scale * inverse * of_gamma / count
                constant = -scale * of_beta / count - slope * mean
                of_features = _affine(upstream, scale, constant) + _affine(features, slope)
                return of_features, of_gamma, of_beta

            return (_affine(features, scale, beta - mean * scale), mean, variance), gradient

        gamma, beta = ops.copy(self.gamma), ops.copy(self.beta)  # a gradient of tensors alone
        outputs, *of_batch = normalise(inputs, gamma, beta)
        for average, new in zip((self.moving_mean, self.moving_variance), of_batch, strict=True):
            average.assign(average * self.momentum + ops.stop_gradient(new) * (1 - self.momentum))
        return outputs


def _sum_of_channels(features):
    """Return the sum over all but the last axis, (channels,)."""
    rows = ops.reshape(features, (-1, features.shape[-1]))
    ones = ops.ones((1, ops.shape(rows)[0]), features.dtype)
    return ops.reshape(ops.matmul(ones, rows), (-1,))


def _affine(features, scale, shift=None):
    """Return scale times features plus shift, a number a channel each, in their precision."""
    scaled = features * ops.cast(scale, features.dtype)
    return scaled if shift is None else scaled + ops.cast(shift, features.dtype)
