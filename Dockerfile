# The web app alone, unless asked otherwise: no TensorFlow, no desktop libraries.
#   docker build -t emotion .
#   docker run --rm -p 127.0.0.1:5000:5000 -v emotion-uploads:/app/uploads \
#     -v emotion-instance:/app/instance -v emotion-feedback:/app/dataset/feedback emotion
FROM python:3.11-slim

# 1 adds the reader of phone photos (HEIC), whose wheel carries parts under the GPL
ARG HEIC=0
# 1 adds the reader and writer of videos (av), whose wheel carries such parts, too
ARG VIDEO=0
# 1 adds what trains models (TensorFlow): docs/training.md has the command
ARG TRAIN=0

ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app

# only what has the very bytes that were tried (docs/security.md)
COPY requirements.lock requirements.txt ./
RUN if [ "$HEIC" != 1 ]; then sed -i '/^pillow-heif==/,/[^\\]$/d' requirements.lock; fi \
    && if [ "$VIDEO" != 1 ]; then sed -i '/^av==/,/[^\\]$/d' requirements.lock; fi \
    && pip install --no-cache-dir --require-hashes -r requirements.lock \
    && if [ "$TRAIN" = 1 ]; then \
        sed -e '/^# Tests/,$d' -e '/^opencv/d' -e '/^av[<>=]/d' -e '/^pillow-heif/d' \
            requirements.txt > train.txt \
        && pip install --no-cache-dir -r train.txt; \
    fi

COPY app.py emotion_model_training.py ./
COPY emotion/ emotion/
COPY templates/ templates/
COPY static/ static/
COPY models/ models/

# a volume takes over owner and mode of the folder it is first mounted on
RUN useradd --uid 10001 --no-create-home emotion \
    && mkdir -p -m 0700 uploads instance dataset/feedback \
    && chown -R emotion: uploads instance dataset
USER emotion
# what is being received lies on the volume, without a name: it may be too large for memory
ENV TMPDIR=/app/uploads
VOLUME ["/app/uploads", "/app/instance", "/app/dataset/feedback"]

EXPOSE 5000
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:5000/healthz', timeout=4)"]

CMD ["python", "app.py", "--host", "0.0.0.0"]
