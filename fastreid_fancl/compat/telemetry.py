"""OpenVINO's telemetry: a fix outside fast-reid, applied when `openvino` first needs the library."""

import sys


def block_telemetry() -> None:
    """Symptom: each conversion of a model is reported over the network.

    Cause: openvino/tools/ovc/convert_impl.py:16 imports openvino_telemetry, and asks no setting of the process.
    Fix: the import fails, so that OpenVINO takes its own stand-in, openvino/tools/ovc/telemetry_stub.py.
    """
    sys.modules.setdefault("openvino_telemetry", None)
