"""The server as its clients see it: real sockets on this machine, one server for most tests."""

import asyncio
import contextlib
import http.client
import io
import json
import re
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

from lenet import __version__
from lenet.page import build_page, content_security_policy
from lenet.reading.decode import FORMATS
from lenet.reading.inference import read_network
from lenet.reading.reader import Reader
from lenet.serve.app import build_app
from lenet.serve.classifier import Classifier, load_classifier
from lenet.serve.guard import AccessLog
from lenet.serve.problems import ProblemError
from lenet.serve.server import build_server, listen
from lenet.serve.service import Service
from lenet.serve.settings import Limits

MODEL = Path(__file__).parent.parent / "src" / "lenet" / "pretrained" / "robust.safetensors"
KEY = b"0123456789abcdef"
API = json.loads(files("lenet").joinpath("serve", "openapi.json").read_text())


def valid(name: str, value: Any) -> Any:
    """Return a response's JSON, after a check against its schema in the OpenAPI description."""
    schema = {**API["components"]["schemas"][name], "components": API["components"]}
    jsonschema.validate(value, schema)
    return value


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True)
class Running:
    """A server in a thread."""

    port: int
    service: Service
    log: io.StringIO

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, names)
            return read_answer(connection.getresponse())
        finally:
            connection.close()

    def post_json(self, path: str, value: Any) -> Answer:
        return self.ask("POST", path, json.dumps(value).encode(), content_type="application/json")

    def talk(self, data: bytes) -> bytes:
        """Send bytes on a new connection and return all that comes until it ends."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(data)
            return read_all(connection)


def read_answer(response: http.client.HTTPResponse) -> Answer:
    headers = {name.lower(): value for name, value in response.getheaders()}
    answer = Answer(status=response.status, headers=headers, body=response.read())
    if answer.status >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json
        assert problem["status"] == answer.status
        assert problem["detail"]
        valid("Problem", problem)
        assert ("retry-after" in headers) == (answer.status in (429, 503))
    assert headers["x-content-type-options"] == "nosniff"
    assert "content-security-policy" in headers
    return answer


def read_all(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(65_536):
        parts.append(part)
    return b"".join(parts)


@pytest.fixture(scope="session")
def classifier() -> Classifier:
    return load_classifier(MODEL, engine="numpy")


@contextmanager
def running(
    classifier: Classifier,
    *,
    num_workers: int = 0,
    key: bytes | None = None,
    cors_origins: tuple[str, ...] = (),
    trusted_proxies: tuple[str, ...] = (),
    **limits: Any,
) -> Iterator[Running]:
    service = Service(
        classifier=classifier,
        limits=replace(Limits(), **limits),
        num_workers=num_workers,
        key=key,
    )
    stream = io.StringIO()
    log = AccessLog(stream)
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        app = build_app(service, log, cors_origins=cors_origins)
        server = build_server(app, service, listener, trusted_proxies=trusted_proxies)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            yield Running(port=port, service=service, log=stream)
        finally:
            server.should_exit = True
            thread.join()
            log.close()


@pytest.fixture(scope="session")
def server(classifier: Classifier) -> Iterator[Running]:
    with running(classifier, num_workers=1, max_pictures=3, max_images=40) as found:
        yield found


@pytest.fixture(scope="session")
def images() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Digits of no writer: blots (37, 28, 28)."""
    rng = np.random.default_rng(0)
    blots = rng.random((37, 28, 28)) ** 4 * 255
    blots[:, :4] = blots[:, -4:] = 0
    return blots.astype(np.uint8)


@pytest.fixture(scope="session")
def logits(images: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, Any]:
    """What the model says of `images`, by the oracle."""
    found = read_network(MODEL)
    assert found is not None
    return found[0].logits(images)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def multipart(*files: bytes) -> tuple[bytes, str]:
    parts = [
        b'--xyz\r\nContent-Disposition: form-data; name="picture"; filename="p.png"\r\n\r\n'
        + data
        + b"\r\n"
        for data in files
    ]
    return b"".join(parts) + b"--xyz--\r\n", "multipart/form-data; boundary=xyz"


def tensor(x: np.ndarray[Any, Any], **more: Any) -> dict[str, Any]:
    shape = [len(x), 1, 28, 28]
    return {"name": "x", "shape": shape, "datatype": "FP32", "data": x.ravel().tolist(), **more}


# /predict and /read


def test_predict_reads_a_picture_as_the_reader_does(server: Running, seven: Image.Image) -> None:
    expected = Reader.from_pretrained().read_digit(seven)
    body, kind = multipart(png(seven))
    for answer in (
        server.ask("POST", "/predict", body, content_type=kind),
        server.ask("POST", "/predict", png(seven), content_type="image/png"),
        server.post_json("/predict", {"pictures": [np.asarray(seven.convert("L")).tolist()]}),
    ):
        assert answer.status == 200
        found = valid("Digits", answer.json)
        (digit,) = found["digits"]
        assert digit["label"] == expected.label == "7"
        assert digit["probability"] == pytest.approx(expected.probability, abs=0.02)
        assert digit["box"] is not None
        assert found["model"] == "lenet5"


@pytest.mark.parametrize("kind", [*FORMATS, "MPO"])
def test_a_worker_reads_every_format(server: Running, seven: Image.Image, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 1
    options = {"save_all": True, "append_images": [seven]} if kind == "MPO" else {"exif": exif}
    buffer = io.BytesIO()
    seven.save(buffer, kind, **options)
    answer = server.ask("POST", "/predict", buffer.getvalue(), content_type="image/x")
    assert answer.json["digits"][0]["label"] == "7"


def test_predict_takes_several_pictures_and_keeps_their_order(
    server: Running, seven: Image.Image
) -> None:
    blank = Image.new("L", (50, 50), 255)
    body, kind = multipart(png(blank), png(seven), png(blank))
    answer = server.ask("POST", "/predict", body, content_type=kind)
    digits = valid("Digits", answer.json)["digits"]
    assert [(digit["label"], digit["status"]) for digit in digits] == [
        (None, "empty"),
        ("7", "read"),
        (None, "empty"),
    ]


def test_predict_takes_mnist_s_own_pixels(
    server: Running, images: np.ndarray[Any, Any], logits: np.ndarray[Any, Any]
) -> None:
    """Few enough to be parsed at once, and so many that a worker does it."""
    network = read_network(MODEL)
    assert network is not None
    temperature = network[1].temperature
    for part in (images[:3], images):
        answer = server.post_json("/predict", {"images": part.tolist()})
        digits = valid("Digits", answer.json)["digits"]
        # The last one is no digit.
        scaled = np.pad(logits[: len(part)] / temperature, ((0, 0), (0, 1)))
        likely = np.exp(scaled)
        likely /= likely.sum(axis=1, keepdims=True)
        names = [*"0123456789", None]
        assert [digit["label"] for digit in digits] == [names[k] for k in likely.argmax(axis=1)]
        found = np.array([digit["probabilities"] for digit in digits])
        np.testing.assert_allclose(found, likely[:, :-1], atol=1e-5)


def test_unlikely_labels_are_kept_back(server: Running, seven: Image.Image) -> None:
    for path, kind in (("/predict", "digits"), ("/read", "numbers")):
        answer = server.ask("POST", f"{path}?reject=1", png(seven), content_type="image/png")
        (row,) = answer.json[kind]
        assert row["status"] == "rejected"
        assert row.get("label") is None
        assert row.get("number") is None
        for bad in ("2", "-1", "nan", "x"):
            bad_answer = server.ask("POST", f"{path}?reject={bad}", b"x", content_type="image/png")
            assert bad_answer.status == 422


def test_read_reads_a_number(server: Running, seven: Image.Image) -> None:
    two = Image.new("RGB", (600, 300), (230, 230, 225))
    two.paste(seven, (0, 0))
    two.paste(seven, (300, 0))
    answer = server.ask("POST", "/read", png(two), content_type="application/octet-stream")
    (number,) = valid("Numbers", answer.json)["numbers"]
    assert number["number"] == "77"
    assert [line["text"] for line in number["lines"]] == ["77"]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b"{"),
        (400, b'{"images": [[[NaN]]]}'),
        (400, b"\xff"),
        (422, b"[]"),
        (422, b"{}"),
        (422, b'{"images": []}'),
        (422, b'{"images": 7}'),
        (422, b'{"images": [1, 2]}'),
        (422, b'{"images": [[[0, 1], [2]]]}'),
        (422, b'{"images": [[[0.5]]]}'),
        (422, b'{"images": [[["a"]]]}'),
        (422, json.dumps({"images": [[[True] + [0] * 27] * 28]}).encode()),
        (422, json.dumps({"pictures": [[[1, True], [0, 0]]]}).encode()),
        (422, b'{"images": [[[null]]]}'),
        (422, json.dumps({"images": [[[256] * 28] * 28]}).encode()),
        (422, json.dumps({"images": [[[-1] * 28] * 28]}).encode()),
        (422, json.dumps({"images": [[[10**30] * 28] * 28]}).encode()),
        (422, json.dumps({"images": [[[0] * 27] * 28]}).encode()),
        (422, b'{"images": ' + b"[" * 200 + b"1" + b"]" * 200 + b"}"),
        (422, b'{"images": ' + b"[" * 5000 + b"]" * 5000 + b"}"),
        (422, b'{"images": [[[0]]], "pictures": [[[0]]]}'),
        (422, b'{"pictures": [[1, 2]]}'),
        (413, json.dumps({"images": [[[0] * 28] * 28] * 41}).encode()),
        (413, json.dumps({"pictures": [[[0]]] * 4}).encode()),
    ],
)
def test_pixels_that_are_none_are_refused(server: Running, status: int, body: bytes) -> None:
    answer = server.ask("POST", "/predict", body, content_type="application/json")
    assert answer.status == status, answer.json


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (422, b"no picture", "image/png"),
        (422, b"", "image/png"),
        (415, b"x", "text/plain"),
        (415, b"x", ""),
        (400, b"x", "multipart/form-data"),
        (400, b"x", "multipart/form-data; boundary=xyz"),
        (422, multipart()[0], multipart()[1]),
        (422, multipart(b"no picture")[0], multipart()[1]),
        (413, multipart(*[b"x"] * 4)[0], multipart()[1]),
    ],
)
def test_bodies_that_hold_no_picture_are_refused(
    server: Running, status: int, body: bytes, kind: str
) -> None:
    for path in ("/predict", "/read"):
        answer = server.ask("POST", path, body, content_type=kind)
        assert answer.status == status, answer.json


def test_what_is_wrong_with_one_picture_is_told_of_that_one(
    server: Running, seven: Image.Image
) -> None:
    body, kind = multipart(png(seven), b"no picture")
    answer = server.ask("POST", "/predict", body, content_type=kind)
    assert answer.status == 422
    (wrong,) = answer.json["pictures"]
    assert wrong["picture"] == 1
    assert wrong["name"] == "p.png"


# The Open Inference Protocol


def test_inference_in_json_and_binary(
    server: Running, images: np.ndarray[Any, Any], logits: np.ndarray[Any, Any]
) -> None:
    for num in (2, 37):  # parsed at once, and by a worker
        x = images[:num].astype(np.float32) / 255
        plain = server.post_json("/v2/models/lenet5/infer", {"id": "a", "inputs": [tensor(x)]})
        found = valid("InferenceAnswer", plain.json)
        assert (found["model_name"], found["model_version"], found["id"]) == ("lenet5", "1", "a")
        outputs = found["outputs"]
        assert [output["name"] for output in outputs] == ["logits", "probabilities", "labels"]
        values = np.array(outputs[0]["data"]).reshape(outputs[0]["shape"])
        np.testing.assert_allclose(values, logits[:num], atol=1e-4)
        assert outputs[2]["data"] == logits[:num].argmax(axis=1).tolist()
        head = tensor(x, parameters={"binary_data_size": x.nbytes})
        del head["data"]
        asked = [
            {"name": name, "parameters": {"binary_data": True}} for name in ("labels", "logits")
        ]
        text = json.dumps({"inputs": [head], "outputs": asked}).encode()
        binary = server.ask(
            "POST",
            "/v2/models/lenet5/versions/1/infer",
            text + x.tobytes(),
            inference_header_content_length=str(len(text)),
        )
        assert binary.status == 200, binary.json
        length = int(binary.headers["inference-header-content-length"])
        assert [o["name"] for o in json.loads(binary.body[:length])["outputs"]] == [
            "labels",
            "logits",
        ]
        rest = binary.body[length:]
        assert (np.frombuffer(rest[: 8 * num], "<i8") == logits[:num].argmax(axis=1)).all()
        raw = np.frombuffer(rest[8 * num :], "<f4").reshape(num, 10)
        np.testing.assert_allclose(raw, logits[:num], atol=1e-4)


ONE = np.zeros((1, 28, 28), np.float32)


@pytest.mark.parametrize(
    "request_",
    [
        [],
        {},
        {"inputs": []},
        {"inputs": [tensor(ONE), tensor(ONE)]},
        {"inputs": [{}]},
        {"inputs": [tensor(ONE, name="y")]},
        {"inputs": [tensor(ONE, datatype="UINT8")]},
        {"inputs": [tensor(ONE, shape=[1, 28, 28])]},
        {"inputs": [tensor(ONE, shape=[0, 1, 28, 28])]},
        {"inputs": [tensor(ONE, shape=[-1, 1, 28, 28])]},
        {"inputs": [tensor(ONE, shape=[True, 1, 28, 28])]},
        {"inputs": [tensor(ONE, shape=[2, 1, 28, 28])]},
        {"inputs": [tensor(ONE, shape="1")]},
        {"inputs": [tensor(ONE, data=None)]},
        {"inputs": [tensor(ONE, data=[0] * 783)]},
        {"inputs": [tensor(ONE, data=["0"] * 784)]},
        {"inputs": [tensor(ONE, data=[True] + [0.5] * 783)]},
        {"inputs": [tensor(ONE, data=[[0], [0, 1]])]},
        {"inputs": [tensor(ONE, data=[[0] * 392] * 2)]},
        {"inputs": [tensor(ONE, data=[2] * 784)]},
        {"inputs": [tensor(ONE, data=[-0.1] * 784)]},
        {"inputs": [tensor(ONE, data=[1e300] * 784)]},
        {"inputs": [tensor(ONE, parameters=[])]},
        {"inputs": [tensor(ONE, parameters={"binary_data_size": 3136})]},
        {"inputs": [tensor(ONE)], "outputs": [{"name": "none"}]},
        {"inputs": [tensor(ONE)], "outputs": [{"name": []}]},
        {"inputs": [tensor(ONE)], "outputs": 1},
        {"inputs": [tensor(ONE)], "id": 7},
        {"inputs": [tensor(ONE)], "id": "x" * 257},
        {"inputs": [tensor(ONE)], "parameters": 1},
        {
            "inputs": [tensor(ONE)],
            "outputs": [{"name": "logits", "parameters": {"classification": 3}}],
        },
    ],
)
def test_tensors_that_are_none_are_refused(server: Running, request_: Any) -> None:
    answer = server.post_json("/v2/models/lenet5/infer", request_)
    assert answer.status == 400
    assert answer.json["error"] == answer.json["detail"]


@pytest.mark.parametrize(("field", "value"), [("name", "y"), ("datatype", "UINT8")])
def test_what_is_wrong_with_a_tensor_is_named_alone(
    server: Running, field: str, value: str
) -> None:
    request = {"inputs": [tensor(ONE, **{field: value})]}
    detail = server.post_json("/v2/models/lenet5/infer", request).json["detail"]
    assert f".{field}`" in detail
    assert ("datatype" in detail) == (field == "datatype")


def test_binary_tensors_that_are_none_are_refused(server: Running) -> None:
    path = "/v2/models/lenet5/infer"
    for value in (np.nan, np.inf, -1.0, 1.5):
        x = np.full((1, 28, 28), value, np.float32)
        head: dict[str, Any] = {"name": "x", "shape": [1, 1, 28, 28], "datatype": "FP32"}
        head["parameters"] = {"binary_data_size": 3136}
        text = json.dumps({"inputs": [head]}).encode()
        length = str(len(text))
        answer = server.ask(
            "POST", path, text + x.tobytes(), inference_header_content_length=length
        )
        assert answer.status == 400
        assert "[0, 1]" in answer.json["detail"]
        for bad in ("x", "-1", "0", "99999", "9" * 50, "1e3", ""):
            answer = server.ask(
                "POST", path, text + x.tobytes(), inference_header_content_length=bad
            )
            assert answer.status == 400
        short = server.ask("POST", path, text + b"1234", inference_header_content_length=length)
        assert short.status == 400
    plain = json.dumps({"inputs": [tensor(ONE)]}).encode()
    length = str(len(plain))
    extra = server.ask("POST", path, plain + b"1234", inference_header_content_length=length)
    assert extra.status == 400
    many = server.post_json(path, {"inputs": [tensor(ONE, shape=[41, 1, 28, 28])]})
    assert many.status == 413
    assert server.ask("POST", path, b"{}", content_type="text/html").status == 415


def test_metadata_and_health(server: Running) -> None:
    assert server.ask("GET", "/v2/health/live").status == 200
    assert server.ask("GET", "/v2/health/ready").status == 200
    assert valid("ServerMetadata", server.ask("GET", "/v2").json)["name"] == "lenet"
    for base in ("/v2/models/lenet5", "/v2/models/lenet5/versions/1"):
        found = valid("ModelMetadata", server.ask("GET", base).json)
        assert found["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 1, 28, 28]}]
        assert server.ask("GET", f"{base}/ready").status == 200
    for path in ("/v2/models/lenet6", "/v2/models/lenet5/versions/2/ready"):
        answer = server.ask("GET", path)
        assert answer.status == 404
        assert answer.json["error"]
    assert valid("Health", server.ask("GET", "/health").json)["status"] == "ok"


# Everything else that is answered


def test_unknown_paths_and_methods_are_problems(server: Running) -> None:
    assert server.ask("GET", "/nope").status == 404
    assert server.ask("GET", "/predict/").status == 404
    answer = server.ask("DELETE", "/predict")
    assert answer.status == 405
    assert answer.headers["allow"] == "POST"
    assert server.ask("TRACE", "/health").status == 405


def test_the_page_is_the_network_s_own_and_may_load_nothing(server: Running) -> None:
    answer = server.ask("GET", "/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.body.decode() == build_page([MODEL.read_bytes()])
    assert answer.headers["content-security-policy"] == content_security_policy()


def test_the_description_s_page_runs_and_loads_nothing(server: Running) -> None:
    first, again = server.ask("GET", "/docs"), server.ask("GET", "/docs")
    assert first.headers.keys() == again.headers.keys()
    assert first.headers["content-length"] == again.headers["content-length"]
    text = first.body.decode()
    assert "default-src 'none'" in first.headers["content-security-policy"]
    assert "script-src" not in first.headers["content-security-policy"]
    assert "<script" not in text
    assert not re.search(r"(src|href)=\"(https?:)?//", text)
    assert "/v2/models/lenet5/infer" in text
    assert "InferenceAnswer" in text


def test_metrics_count_what_was_answered(server: Running) -> None:
    server.post_json("/predict", {"images": [[[0] * 28] * 28]})
    server.ask("GET", "/nope")
    text = server.ask("GET", "/metrics").body.decode()
    for line in (
        r'lenet_requests_total\{method="POST",route="/predict",status="200"\} \d',
        r'lenet_requests_total\{method="other",route="other",status="404"\} \d',
        r'lenet_request_seconds_bucket\{le="10.0",route="/predict"\} \d',
        r"lenet_batch_images_count \d",
        r"lenet_requests_in_work 1.0",
        r'lenet_info\{engine="numpy",model="lenet5",version="[\d.]+"\} 1.0',
    ):
        assert re.search(line, text), line


def test_the_log_has_a_line_for_each_request(server: Running) -> None:
    answer = server.ask("GET", "/v2/health/live?x=1")
    for _ in range(100):
        rows = [json.loads(line) for line in server.log.getvalue().splitlines()]
        found = [row for row in rows if row["id"] == answer.headers["x-request-id"]]
        if found:
            break
        time.sleep(0.05)
    (row,) = found
    assert (row["method"], row["path"], row["status"]) == ("GET", "/v2/health/live", 200)
    assert row["client"] == "127.0.0.1"
    assert row["ms"] > 0


def test_the_description_is_whole_and_names_every_route(server: Running) -> None:
    api = server.ask("GET", "/openapi.json").json
    assert api == API
    assert api["info"]["version"] == __version__
    for path, methods in api["paths"].items():
        for method in methods:
            answer = server.ask(method.upper(), path)
            assert answer.status not in (404, 405), path
            assert str(answer.status) in methods[method]["responses"], path
    for reference in re.findall(r'"#/components/(\w+)/(\w+)"', json.dumps(api)):
        assert reference[1] in api["components"][reference[0]]


def test_a_key_is_asked_for(classifier: Classifier) -> None:
    with running(classifier, key=KEY) as server:
        for path in ("/docs", "/openapi.json", "/health", "/v2/health/ready"):
            assert server.ask("GET", path).status == 200
        root = server.ask("GET", "/")
        assert (root.status, root.headers["location"], root.body) == (307, "docs", b"")
        for path in ("/v2", "/metrics", "/v2/models/lenet5"):
            answer = server.ask("GET", path)
            assert answer.status == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
            rights: tuple[dict[str, Any], ...] = (
                {"authorization": "Bearer " + KEY.decode()},
                {"authorization": "bearer " + KEY.decode()},
                {"x_api_key": KEY.decode()},
            )
            for headers in rights:
                assert server.ask("GET", path, **headers).status == 200
            for bad in ("", "Bearer ", "Bearer 0123456789abcdeg", "Basic 0123456789abcdef"):
                assert server.ask("GET", path, authorization=bad).status == 401
        for path in ("/predict", "/read", "/v2/models/lenet5/infer"):
            assert server.post_json(path, {}).status == 401
        assert server.ask("GET", "/openapi.json").json["security"]


def test_no_other_origin_may_use_it_unless_named(server: Running, classifier: Classifier) -> None:
    origin = "https://example.org"
    assert "access-control-allow-origin" not in server.ask("GET", "/v2", origin=origin).headers
    with running(classifier, cors_origins=(origin,)) as open_server:
        body = json.dumps({"images": [[[0] * 28] * 28]}).encode()
        answer = open_server.ask(
            "POST", "/predict", body, origin=origin, content_type="application/json"
        )
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == origin
        other = open_server.ask("GET", "/v2", origin="https://example.com")
        assert "access-control-allow-origin" not in other.headers


# Limits


def test_a_page_of_another_origin_may_send_the_key(classifier: Classifier) -> None:
    origin = "https://example.org"
    with running(classifier, cors_origins=(origin,), key=KEY) as server:
        preflight = server.talk(
            b"OPTIONS /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"Origin: https://example.org\r\nAccess-Control-Request-Method: POST\r\n"
            b"Access-Control-Request-Headers: x-api-key,content-type\r\n\r\n"
        ).decode()
        assert preflight.startswith("HTTP/1.1 200 ")
        assert f"access-control-allow-origin: {origin}" in preflight
        assert "x-api-key" in preflight.partition("access-control-allow-headers:")[2]
        refused = server.ask("POST", "/predict", b"{}", origin=origin)
        assert refused.status == 401
        assert refused.headers["access-control-allow-origin"] == origin


def test_head_is_get_without_a_body(server: Running) -> None:
    for path in ("/health", "/v2/health/live", "/"):
        answer = server.ask("HEAD", path)
        assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("trusted", [(), ("127.0.0.1",)])
def test_a_trusted_proxy_names_the_client(classifier: Classifier, trusted: tuple[str, ...]) -> None:
    with running(classifier, rate=0.5, trusted_proxies=trusted) as server:
        statuses = [
            server.ask("GET", "/v2", x_forwarded_for=client).status
            for client in ("10.0.0.1", "10.0.0.1", "10.0.0.1", "10.0.0.2")
        ]
    assert statuses == [200, 200, 429, 200 if trusted else 429]


@pytest.fixture
def memory() -> Iterator[Callable[[], int]]:
    """Bytes that Python has allocated beyond those at the start, at most so far."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    yield lambda: tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()


def send_until_ended(connection: socket.socket, part: bytes, most: int) -> bytes:
    """Send a part again and again until the server ends the connection; return its answer."""
    connection.settimeout(1)
    with contextlib.suppress(OSError):
        for _ in range(most // len(part)):
            connection.sendall(part)
    with contextlib.suppress(OSError):
        return connection.recv(12)
    return b""


def test_headers_take_little_memory_while_a_request_is_in_work(
    server: Running, memory: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(*args: Any) -> Any:
        await asyncio.sleep(3)
        raise ProblemError(422, "slow")

    monkeypatch.setattr(server.service.workers, "run", slow)
    first = (
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
        b"Content-Length: 1\r\n\r\nx"
    )
    header = b"".join(b"X-%07d: a\r\n" % i for i in range(1000))
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(first + b"GET / HTTP/1.1\r\n")
        send_until_ended(connection, header, 40_000_000)
        assert memory() < 8_000_000


def test_trailers_have_the_limit_of_headers(server: Running, memory: Callable[[], int]) -> None:
    head = (
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head)
        answer = send_until_ended(connection, b"X: a\r\n" * 1000, 40_000_000)
    assert answer in (b"HTTP/1.1 431", b"")  # a reset may overtake it
    assert memory() < 8_000_000


def test_requests_that_wait_on_a_connection_have_a_limit(
    server: Running, memory: Callable[[], int]
) -> None:
    request = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /health HTTP/1.0\r\n\r\n"
    assert server.talk(request * 99 + last).count(b" 200 OK") == 100
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        answer = send_until_ended(connection, request * 1000, 4_000_000)
    assert answer in (b"HTTP/1.1 503", b"")  # a reset may overtake it
    assert memory() < 8_000_000


def test_large_bodies_are_refused_before_they_are_read(classifier: Classifier) -> None:
    with running(classifier, max_body_bytes=100_000) as server:
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            connection.sendall(head + b"Content-Length: 1000000000\r\n\r\n")
            assert b" 413 " in connection.recv(65_536)
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
            chunk = b"%x\r\n" % 50_000 + b"x" * 50_000 + b"\r\n"
            connection.sendall(chunk * 3)
            assert b" 413 " in connection.recv(65_536)
        answer = server.ask("POST", "/predict", b"x", content_encoding="gzip")
        assert answer.status == 415
        assert server.service.held_bytes == 0


def test_all_bodies_together_have_a_limit(classifier: Classifier) -> None:
    with running(classifier, max_held_bytes=1000) as server:
        assert server.post_json("/predict", {"images": [[[0] * 28] * 28]}).status == 503
        assert server.service.held_bytes == 0
        assert server.post_json("/predict", {}).status == 422


def test_slow_and_long_senders_are_cut_off(classifier: Classifier) -> None:
    with running(classifier, header_s=0.3, body_s=0.3) as server:
        assert server.talk(b"") == b""  # silence is ended in silence
        assert b" 408 " in server.talk(b"GET / HTTP/1.1\r\nHost:")
        body = server.talk(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
            b"Content-Length: 10\r\n\r\nabc"
        )
        assert b" 408 " in body
        assert b"connection: close" in body
        assert b" 431 " in server.talk(b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000)
        garbage = server.talk(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        assert b" 400 " in garbage
        assert b"application/problem+json" in garbage
        assert server.ask("GET", "/health").status == 200


def test_connections_have_a_limit(classifier: Classifier) -> None:
    with running(classifier, max_connections=2) as server:
        with (
            socket.create_connection(("127.0.0.1", server.port)),
            socket.create_connection(("127.0.0.1", server.port)),
        ):
            time.sleep(0.1)
            assert b" 503 " in server.talk(b"")
        time.sleep(0.1)
        assert server.ask("GET", "/health").status == 200


def test_requests_in_work_have_a_limit_and_health_has_none(classifier: Classifier) -> None:
    with running(classifier, max_requests=1) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as waiting:
            waiting.sendall(
                b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: 2\r\n\r\n"
            )
            while not server.service.num_requests:
                time.sleep(0.01)
            assert server.post_json("/predict", {}).status == 503
            assert server.ask("GET", "/health").status == 200
            waiting.sendall(b"{}")
            assert b" 422 " in waiting.recv(65_536)
        assert server.post_json("/predict", {}).status == 422


def test_clients_have_a_rate(classifier: Classifier) -> None:
    with running(classifier, rate=0.5) as server:
        statuses = [server.ask("GET", "/v2").status for _ in range(4)]
        assert statuses == [200, 200, 429, 429]
        assert server.ask("GET", "/health").status == 200


def test_a_request_has_a_time(classifier: Classifier) -> None:
    def slow(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if len(x) == 3:
            time.sleep(0.5)
        return np.zeros((len(x), 10), np.float32)

    with running(replace(classifier, logits=slow), request_s=0.1) as server:
        blank = [[0] * 28] * 28
        assert server.post_json("/predict", {"images": [blank] * 3}).status == 503
        while server.service.batcher.num_waiting:
            time.sleep(0.01)
        time.sleep(0.5)
        assert server.post_json("/predict", {"images": [blank]}).status == 200


def test_a_mistake_of_ours_is_a_problem_and_not_the_end(
    classifier: Classifier, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if x.any():
            raise RuntimeError("broken")
        return np.zeros((len(x), 10), np.float32)

    with running(replace(classifier, logits=broken)) as server:
        answer = server.post_json("/predict", {"images": [[[1] * 28] * 28]})
        assert answer.status == 500
        assert "broken" not in answer.body.decode()
        assert "broken" in caplog.text
        assert server.post_json("/predict", {"images": [[[0] * 28] * 28]}).status == 200
