"""Writes tests/golden/train/events.tfevents: what TensorBoard's own writer puts into an event file for the scalars and the
picture of tests/train/metrics_test.cpp, with a wall time of 0."""

import pathlib

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

from manifest import note

TARGET = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/train/events.tfevents"


def main():
    picture = (TARGET.parent / "two_pixels.png").read_bytes()
    values = [summary_pb2.Summary.Value(tag="loss", simple_value=0.125),
              summary_pb2.Summary.Value(tag="validation/loss", simple_value=float("nan"))]
    image = summary_pb2.Summary.Image(height=1, width=2, colorspace=3, encoded_image_string=picture)
    events = [
        event_pb2.Event(file_version="brain.Event:2"),
        event_pb2.Event(step=300, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START)),
        event_pb2.Event(step=300, summary=summary_pb2.Summary(value=values)),
        event_pb2.Event(step=70000, summary=summary_pb2.Summary(
            value=[summary_pb2.Summary.Value(tag="samples", image=image)])),
    ]
    with open(TARGET, "wb") as file:
        writer = RecordWriter(file)
        for event in events:
            writer.write(event.SerializeToString(deterministic=True))
    note(TARGET, "tensorboard_events.py", ["tensorboard"], "none", "bytes, the wall time and the picture's apart")


if __name__ == "__main__":
    main()
