"""A gRPC server with TF Serving's own stubs, on a SavedModel; needs no hrcam.

Run: python serve_grpc.py FOLDER NAME

`Predict` of the model's name runs the signature that is asked for, on the inputs that
it asks for, as `predict.proto` says; outputs are sent in the typed fields, the server's
default. Prints its port, and ends with its standard input.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import tensorflow as tf
from grpc import StatusCode
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

FIELDS = {tf.float32: "float_val", tf.int32: "int_val"}


class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, folder, name):
        self.signatures = tf.saved_model.load(folder).signatures
        self.name = name

    def Predict(self, request, context):  # noqa: N802, the stubs' name
        if request.model_spec.name != self.name:
            context.abort(StatusCode.NOT_FOUND, "Servable not found for request")
        signature = request.model_spec.signature_name or "serving_default"
        if signature not in self.signatures:
            context.abort(StatusCode.INVALID_ARGUMENT, f"{signature} not found")
        function = self.signatures[signature]
        if set(request.inputs) != set(function.structured_input_signature[1]):
            context.abort(StatusCode.INVALID_ARGUMENT, "inputs do not match")
        arrays = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
        try:
            outputs = function(**{k: tf.constant(v) for k, v in arrays.items()})
        except tf.errors.InvalidArgumentError as error:
            context.abort(StatusCode.INVALID_ARGUMENT, error.message)
        response = predict_pb2.PredictResponse()
        for key, value in outputs.items():
            fill(response.outputs[key], value)
        return response


def fill(tensor, value):
    tensor.dtype = value.dtype.as_datatype_enum
    tensor.tensor_shape.CopyFrom(value.shape.as_proto())
    getattr(tensor, FIELDS[value.dtype]).extend(value.numpy().ravel())


server = grpc.server(ThreadPoolExecutor(1))
prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
    Service(*sys.argv[1:]), server
)
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
sys.stdin.read()
server.stop(None)
