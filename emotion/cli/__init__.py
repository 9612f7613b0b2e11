"""What `emotion_detector.py` does: checks its options, reads its sources, tells what came of it."""
