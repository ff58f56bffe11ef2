"""Packages on the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ortnas.nas.failures import OrtnasError

_NAME = re.compile(r"(\w[\w.-]*/)?\w[\w.-]{0,60}", re.ASCII)


class HubError(OrtnasError):
    """An upload that cannot be made; the message says why and what to do."""


def check_login(name: str) -> str:
    """The name of the account that is logged in, so that a long export does not end in a refusal.

    ``name`` is the repository's, with or without its owner. Raises HubError where it is malformed, nobody is logged in
    or the hub cannot be reached.
    """
    from huggingface_hub import HfApi, get_token

    if not _NAME.fullmatch(name):
        raise HubError(
            f"--push-to-hub {name}: no name of a model; write NAME or OWNER/NAME of letters, digits, '-', '_' and '.'"
        )
    if get_token() is None:
        raise HubError("--push-to-hub: not logged in to the hub; run `hf auth login`, or set HF_TOKEN")
    with _in_a_sentence("--push-to-hub"):
        return str(HfApi().whoami()["name"])


def push(packages: Sequence[Path], name: str) -> list[str]:
    """Uploads each package and returns its address. A repository that does not exist yet becomes a private one: the
    bundled sample holds texts of the report part.

    One package takes ``name``, several take ``name-PACKAGE``. Raises HubError.
    """
    from huggingface_hub import HfApi

    interface, addresses = HfApi(), []
    for package in packages:
        hub_name = name if len(packages) == 1 else f"{name}-{package.name}"
        with _in_a_sentence(f"{package}: not uploaded as {hub_name}"):
            repository = interface.create_repo(hub_name, repo_type="model", private=True, exist_ok=True)
            interface.upload_folder(
                repo_id=repository.repo_id,
                folder_path=package,
                commit_message=f"{package.name}, exported by ortnas",
                ignore_patterns=["__pycache__/*"],
            )
        addresses.append(str(repository))
    return addresses


@contextmanager
def _in_a_sentence(what: str) -> Iterator[None]:
    """The library's own failures, and those of the network below it, as HubError."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        if status == 401:
            raise HubError(f"{what}: the hub does not accept the token; run `hf auth login` again") from error
        if status == 403:
            raise HubError(f"{what}: the token may not write there; take one with write access") from error
        raise HubError(f"{what}: the hub answers {_first_line(error)}") from error
    except Exception as error:  # the library passes on what its HTTP client raises, which has changed between releases
        raise HubError(f"{what}: the hub cannot be reached: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
