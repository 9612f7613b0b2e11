"""Videos, cameras and windows: frames in, faces followed over time, videos and tables out."""
