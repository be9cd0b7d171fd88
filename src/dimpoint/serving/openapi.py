"""The OpenAPI description of the service."""

from __future__ import annotations

from typing import Any

import dimpoint

RAW_TYPES = ("uint8", "uint16", "float32")
SUFFIXES = {
    "image/png": ".png",
    "image/tiff": ".tif",
    "image/jpeg": ".jpg",
    "image/bmp": ".bmp",
    "application/x-npy": ".npy",
}

_ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
_NUMBER = {"type": "number"}
_TARGET = {
    "type": "object",
    "required": ["x", "y", "score"],
    "properties": {
        "x": {**_NUMBER, "description": "pixels; the centre of the top-left pixel is (0, 0)"},
        "y": _NUMBER,
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "area": {**_NUMBER, "description": "pixels; of segmentation networks"},
    },
}
_IMAGE = {
    "type": "object",
    "required": ["file", "width", "height", "detections"],
    "properties": {
        "file": {"type": "string"},
        "width": {"type": "integer"},
        "height": {"type": "integer"},
        "detections": {"type": "array", "items": {"$ref": "#/components/schemas/Target"}},
    },
}
_FAILED = {
    "type": "object",
    "required": ["file", "error"],
    "properties": {"file": {"type": "string"}, "error": {"type": "string"}},
}
_THRESHOLD = {
    "name": "threshold",
    "in": "query",
    "description": "Leave out targets whose score is not above this; the model's own threshold applies too.",
    "schema": {"type": "number", "minimum": 0, "maximum": 1},
}
_RAW = [
    {
        "name": "shape",
        "in": "query",
        "description": "HEIGHTxWIDTH of raw counts.",
        "schema": {"type": "string", "pattern": "^[1-9][0-9]{0,5}x[1-9][0-9]{0,5}$"},
    },
    {
        "name": "dtype",
        "in": "query",
        "description": "Type of raw counts, little-endian.",
        "schema": {"type": "string", "enum": list(RAW_TYPES)},
    },
]
_WHY = {
    "400": "The request ended early.",
    "401": "The token is missing or wrong.",
    "408": "The body arrived too slowly.",
    "413": "The body is too large.",
    "415": "The body is not a form.",
    "422": "The body is not a frame, or an option is wrong.",
    "429": "Too many requests are waiting.",
    "503": "The detection took too long.",
}


def description(with_token: bool) -> dict[str, Any]:
    """The OpenAPI 3.1 description; with_token: requests below `/v1/` need a bearer token."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    frame = dict.fromkeys((*SUFFIXES, "application/octet-stream"), binary)
    files = {
        "type": "object",
        "properties": {"files": {"type": "array", "items": {"type": "string", "format": "binary"}}},
    }
    found = {"allOf": [{"$ref": "#/components/schemas/Image"}, {"properties": {"model": {"type": "string"}}}]}
    many = {
        "type": "object",
        "required": ["model", "images"],
        "properties": {
            "model": {"type": "string"},
            "images": {
                "type": "array",
                "items": {"anyOf": [{"$ref": "#/components/schemas/Image"}, _FAILED]},
            },
        },
    }
    model = {
        "type": "object",
        "required": ["name", "network", "threshold"],
        "properties": {"name": {"type": "string"}, "network": {"type": "string"}, "threshold": _NUMBER},
    }
    status = {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}}
    content: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "dimpoint", "version": dimpoint.__version__, "license": {"name": "Apache-2.0"}},
        "paths": {
            "/v1/detect": {
                "post": {
                    "summary": "The targets of one frame: an image file, or raw counts with shape and dtype.",
                    "parameters": [_THRESHOLD, *_RAW],
                    "requestBody": {"required": True, "content": frame},
                    "responses": _responses(found, *_WHY),
                }
            },
            "/v1/detect/batch": {
                "post": {
                    "summary": "The targets of several image files.",
                    "parameters": [_THRESHOLD],
                    "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": files}}},
                    "responses": _responses(many, *_WHY),
                }
            },
            "/v1/model": {"get": {"summary": "The model in use.", "responses": _responses(model, "401")}},
            "/health": {"get": {"summary": "The process is alive.", "responses": _responses(status)}},
            "/ready": {
                "get": {"summary": "The service accepts requests.", "responses": _responses(status, "503")}
            },
        },
        "components": {"schemas": {"Target": _TARGET, "Image": _IMAGE, "Error": _ERROR}},
    }
    if with_token:
        content["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        content["security"] = [{"token": []}]
    return content


def _responses(schema: dict[str, Any], *errors: str) -> dict[str, Any]:
    answers: dict[str, Any] = {
        "200": {"description": "Success.", "content": {"application/json": {"schema": schema}}}
    }
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    for status in errors:
        answers[status] = {"description": _WHY[status], "content": error}
    return answers
