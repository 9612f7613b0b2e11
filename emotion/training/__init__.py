"""Everything that makes a model; the only rooms that import Keras at the top of a file."""
