"""Asks TF Serving over gRPC what an image shows, and where the network looked.

Run: python examples/serving_grpc.py localhost:8500 lesions a.jpg b.png \
         --class-names naevus,melanoma --out served

As serving_rest.py, with smaller answers: a pixel of the map is 4 bytes, and a dozen
characters in JSON. Needs TF Serving's stubs: pip install tensorflow-serving-api
"""

import sys
from collections.abc import Sequence

import numpy as np
from serving_rest import SIGNATURE, make_parser, read_arguments, show_all

try:
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse
    from tensorflow_serving.apis.prediction_service_pb2_grpc import (
        PredictionServiceStub,
    )
except ImportError as error:
    sys.exit(
        f"{error}. serving_grpc.py needs TF Serving's stubs: "
        "pip install tensorflow-serving-api (serving_rest.py needs no package)."
    )

AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
OPTIONS = [("grpc.max_receive_message_length", -1)]  # 4 MB, else: a map of 1024 x 1024


def main() -> None:
    """Asks about every image."""
    parser = make_parser()
    parser.add_argument("address", help="HOST:PORT")
    parser.add_argument("name", help="of the model")
    args = read_arguments(parser)
    with grpc.insecure_channel(args.address, OPTIONS) as channel:
        stub = PredictionServiceStub(channel)
        show_all(lambda data: predict(stub, args.name, data, args.timeout), args)


def predict(stub, name: str, data: bytes, timeout: float) -> dict[str, np.ndarray]:
    """Sends one image file.

    Args:
        stub: `PredictionServiceStub` of the server.
        name: Of the model.
        data: The bytes of a PNG or JPEG file.
        timeout: Seconds to wait.

    Returns:
        The answer, see `read_response`.

    Raises:
        ConnectionError: If there is no server.
        ValueError: If it refuses the request, with its reason.
    """
    try:
        response = stub.Predict(request_body(name, [data]), timeout)
    except grpc.RpcError as error:
        code, reason = error.code(), error.details()
        if code in AWAY:
            raise ConnectionError(
                f"No answer from the server: {reason}. Is it running, and is it the "
                "gRPC port (8500, where REST has 8501)?"
            ) from error
        raise ValueError(f"the server answered {code.name}: {reason}") from error
    (answer,) = read_response(response)
    return answer


def request_body(name: str, images: Sequence[bytes]) -> PredictRequest:
    """Makes the request for image files.

    Args:
        name: Of the model.
        images: The bytes of PNG or JPEG files.
    """
    request = PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = SIGNATURE
    tensor = tf.make_tensor_proto(images, tf.string, [len(images)])
    request.inputs["image_bytes"].CopyFrom(tensor)
    return request


def read_response(response: PredictResponse) -> list[dict[str, np.ndarray]]:
    """Reads the answer to `request_body`.

    Args:
        response: The server's.

    Returns:
        For each image `"probabilities"` float32 (k,), `"class_index"` an int, and
        `"heatmap"` float32 (h, w): raw, of the size that the model works at.
    """
    outputs = {key: tf.make_ndarray(value) for key, value in response.outputs.items()}
    return [
        {
            "probabilities": outputs["probabilities"][row],
            "class_index": int(outputs["class_index"][row]),
            "heatmap": outputs["heatmap"][row],
        }
        for row in range(len(outputs["class_index"]))
    ]


if __name__ == "__main__":
    main()
