"""A filter for Penstock: at one path it says who is asking, and everywhere else who has answered."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from penstock.proxy.filters import Request, Response, Target, TargetResponse


class Whoami:
    class Config(BaseModel):
        model_config = ConfigDict(extra="forbid")

        path: str = "/whoami"
        """Where to ask."""
        header: str = "x-served-by"
        """The field of an answer that names the target it is from."""

    def __init__(self, config: Config) -> None:
        self._path = config.path
        self._header = config.header

    def on_request(self, request: Request) -> Response | None:
        if request.path != self._path:
            return None
        lines = [f"{request.method} {request.target} from {request.client[0]}"]
        lines += [f"{name}: {value}" for name, value in request.headers.items()]
        return Response(200, "\n".join(lines) + "\n")

    def on_upstream_request(self, request: Request, target: Target) -> None:
        request.state["whoami"] = target.key

    def on_response(self, request: Request, response: TargetResponse) -> None:
        response.headers[self._header] = request.state["whoami"]
