"""Find faces in photos and read their emotions; importing this package loads no TensorFlow."""
