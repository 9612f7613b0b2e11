"""Train the model that the app serves, and tell how good it is.

python emotion_model_training.py --dataset fer2013.csv
python emotion_model_training.py inspect --dataset fer2013.csv
python emotion_model_training.py evaluate models/detection_model --dataset fer2013.csv
"""

import signal
import sys

from emotion.errors import EmotionError
from emotion.files import stdout_was_closed, user_path
from emotion.text import printable
from emotion.training.arguments import build_parser
from emotion.training.settings import read_settings


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments = ["train", *arguments]
    options = build_parser().parse_args(arguments)
    try:
        if options.settings:  # what follows on the command line wins
            command, *flags = arguments
            words = [command, *read_settings(user_path(options.settings)), *flags]
            options = build_parser().parse_args(words)
        options.run(options)
        sys.stdout.flush()
    except (EmotionError, OSError) as error:  # such as a full disk while a report is written
        if not (isinstance(error, BrokenPipeError) and stdout_was_closed()):
            is_ours = isinstance(error, EmotionError)
            words = error if is_ours else f"expected to read and to write files; received: {error}"
            # names of files and columns are other people's
            lines = "\n".join(map(printable, str(words).splitlines()))
            print(f"emotion_model_training: {lines}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        words = "Interrupted; what was finished is kept: run the same command again to go on"
        print(f"\n{words}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    killed = []

    def end(number, frame) -> None:  # `kill`, `timeout`, a container's stop: as at Ctrl-C
        killed.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    code = main()
    sys.exit(128 + signal.SIGTERM if killed and code == 130 else code)
