"""Asks TF Serving over REST what an image shows, and where the network looked.

Run: python examples/serving_rest.py http://localhost:8501/v1/models/lesions a.jpg \
         --class-names naevus,melanoma --out served

The server has a model from `hrcam.export_saved_model` (docs/serving.md). Each file is
sent as it is, in a request of its own: a broken one fails all that it is sent with.
Class and probability are printed. The heat map is drawn over the image,
`served/a.jpg.png`, or kept as it came, `served/a.jpg.npy` (`--raw`, which needs NumPy
alone).
"""

import argparse
import base64
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

SIGNATURE = "predict_bytes"


def main() -> None:
    """Asks about every image."""
    parser = make_parser()
    parser.add_argument("url", help="of the model, with or without /versions/N")
    args = read_arguments(parser)
    url = args.url.removesuffix(":predict").rstrip("/") + ":predict"
    if not url.startswith(("http://", "https://")) or "/v1/models/" not in url:
        parser.error(
            "URL must be like http://localhost:8501/v1/models/NAME. "
            f"Received: {args.url}"
        )
    show_all(lambda data: post(url, data, args.timeout), args)


def post(url: str, data: bytes, timeout: float) -> dict[str, np.ndarray]:
    """Sends one image file.

    Args:
        url: Of the model, with `:predict`.
        data: The bytes of a PNG or JPEG file.
        timeout: Seconds to wait.

    Returns:
        The answer, see `read_response`.

    Raises:
        ConnectionError: If there is no server.
        ValueError: If it refuses the request, with its reason.
    """
    request = urllib.request.Request(
        url, request_body([data]), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            (answer,) = read_response(response.read())
    except urllib.error.HTTPError as error:
        reason = read_error(error.read())
        raise ValueError(f"the server answered {error.code}: {reason}") from error
    except OSError as error:  # urllib's own errors and time-outs are OSErrors
        raise ConnectionError(
            f"No answer from {url}: {error}. Is the server running, and is it the REST "
            "port (8501, where gRPC has 8500)?"
        ) from error
    return answer


def request_body(images: Sequence[bytes]) -> bytes:
    """Makes the body of `POST .../v1/models/NAME:predict`, in the row format.

    Args:
        images: The bytes of PNG or JPEG files.
    """
    instances = [{"b64": base64.b64encode(data).decode()} for data in images]
    return json.dumps({"signature_name": SIGNATURE, "instances": instances}).encode()


def read_response(body: bytes) -> list[dict[str, np.ndarray]]:
    """Reads the answer to `request_body`.

    Args:
        body: JSON.

    Returns:
        For each image `"probabilities"` float32 (k,), `"class_index"` an int, and
        `"heatmap"` float32 (h, w): raw, of the size that the model works at.

    Raises:
        ValueError: If the body is something else.
    """
    try:
        return [
            {
                "probabilities": np.array(row["probabilities"], np.float32),
                "class_index": int(row["class_index"]),
                "heatmap": np.array(row["heatmap"], np.float32),
            }
            for row in json.loads(body)["predictions"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            "the answer must hold `predictions` with probabilities, class_index and "
            f"heatmap. Received: {body[:80]!r}"
        ) from error


def read_error(body: bytes) -> str:
    """The message of an error's body, `{"error": ...}`; else the body itself."""
    try:
        return str(json.loads(body)["error"])
    except (KeyError, TypeError, ValueError):
        return repr(body[:200])


# What follows is shared with serving_grpc.py.


def make_parser() -> argparse.ArgumentParser:
    """The arguments behind the server's."""
    parser = argparse.ArgumentParser(description="Heat maps from TF Serving.")
    parser.add_argument("--class-names", type=lambda text: text.split(","))
    parser.add_argument("--out", type=Path, default=Path("served"))
    parser.add_argument("--raw", action="store_true", help="maps as .npy, no pictures")
    parser.add_argument("--timeout", type=float, default=60, help="seconds an image")
    return parser


def read_arguments(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Reads the command line, which ends in image files."""
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    args = parser.parse_args()
    if len({path.name for path in args.images}) < len(args.images):
        parser.error("Two images have the same name, and so would their maps.")
    return args


def show_all(ask: Callable[[bytes], dict[str, np.ndarray]], args) -> None:
    """Prints and writes the answer for each image; ends with 1 if any had none."""
    args.out.mkdir(parents=True, exist_ok=True)
    failed = False
    for path in args.images:
        try:
            data = path.read_bytes()
            answer = ask(data)
            text = describe(answer, args.class_names)
        except ConnectionError as error:
            sys.exit(str(error))
        except (OSError, ValueError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            failed = True
            continue
        print(f"{path}: {text}")
        if args.raw:
            np.save(args.out / f"{path.name}.npy", answer["heatmap"])
        else:
            draw(data, answer["heatmap"], text, args.out / f"{path.name}.png")
    sys.exit(int(failed))


def describe(answer: dict[str, np.ndarray], class_names: Sequence[str] | None) -> str:
    """The class and its probability; one sigmoid unit gives that of class 1."""
    index, probabilities = answer["class_index"], answer["probabilities"]
    if len(probabilities) == 1:
        probabilities = np.append(1 - probabilities, probabilities)
    names = class_names or [f"class {n}" for n in range(len(probabilities))]
    if len(names) != len(probabilities):
        raise ValueError(
            f"--class-names must be {len(probabilities)} names. Received: {names}"
        )
    return f"{names[index]}, {probabilities[index]:.4f}"


def draw(data: bytes, heatmap: np.ndarray, title: str, path: Path) -> None:
    """Draws the image and, beside it, the map over it."""
    import cv2

    from hrcam.plots import comparison_sheet

    # As the server reads it: without alpha, and not turned by what EXIF says.
    how = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(data, np.uint8), how)
    image = image[..., ::-1] / np.iinfo(image.dtype).max
    # The server resized the image without keeping its proportions: back the same way.
    height, width = image.shape[:2]
    heatmap = cv2.resize(heatmap, (width, height), interpolation=cv2.INTER_LINEAR)
    figure = comparison_sheet(image[None], {title: heatmap[None]})
    figure.savefig(path, dpi=300)


if __name__ == "__main__":
    main()
