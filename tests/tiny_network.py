"""A small Keras network of the kind tutorials make."""

from emotion.model.keras import import_keras


def build_tiny_network(class_count: int = 7, activation: str = "softmax", shape=(48, 48, 1)):
    """Return a small Keras network of the kind tutorials make, with random weights."""
    keras = import_keras()
    keras.utils.set_random_seed(1)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(4, 3, activation="relu"),
            layers.MaxPooling2D(4),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(class_count, activation=activation),
        ]
    )
