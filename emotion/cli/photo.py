"""One photo: lines of text, JSON, an annotated copy, a window."""

import argparse
import json

from emotion.cli.options import choose_window
from emotion.cli.sources import PhotoSource
from emotion.cli.tools import TITLE, Tools, is_stdout, json_stream, load, write_lines
from emotion.drawing import annotate
from emotion.images.encoding import write_image
from emotion.rows import results_to_dict
from emotion.video.window import QUIT, fitted


def read_photo(source: PhotoSource, options: argparse.Namespace, tools: Tools) -> int:
    """Recognize a photo and write, print and show what was found; return the exit code."""
    wants_window = choose_window(options, source, tools)
    recognizer = load(options, source, tools)
    faces, model = recognizer.recognize(source.photo), recognizer.model
    if options.output:
        write_image(options.output, annotate(source.photo.full, faces))
    if options.json:
        with json_stream(options.json) as stream:
            content = results_to_dict(faces, source.photo.size_wh, model.name, model.sha256)
            stream.write(json.dumps(content, indent=2) + "\n")
    if not is_stdout(options.json):
        write_lines(str(faces).splitlines()[1:])
    if wants_window:
        view = fitted(annotate(source.photo.full, faces))
        with tools.open_window(TITLE) as window:
            while window.show(view, wait_s=0.05) != QUIT:
                pass
    return 0
