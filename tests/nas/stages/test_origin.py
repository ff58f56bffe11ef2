from __future__ import annotations

from pathlib import Path

import pytest

from ortnas.nas.stages.origin import Origin, read_origin


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlanguage: en\nlicense: apache-2.0\n---\n\n# A model", "apache-2.0"),
        ("\ufeff---\r\nlicense: cc-by-nc-4.0\r\n---\r\n", "cc-by-nc-4.0"),
        ("---\nlicense: [mit]\n---\n", "mit"),
        ("---\nlicense: [mit, apache-2.0]\n---\n", None),
        ("---\nlicense: '<b>mine</b>'\n---\n", None),
        ("---\nlicense: [\n---\n", None),
        ("---\n- license\n---\n", None),
        ("# A model\n\nlicense: mit\n", None),
        ("", None),
    ],
)
def test_the_licence_is_what_the_checkpoints_card_states(tmp_path: Path, card: str, licence: str | None) -> None:
    (tmp_path / "README.md").write_bytes(card.encode())
    assert read_origin(str(tmp_path)) == Origin(None, licence)


@pytest.mark.slow
def test_a_folder_without_a_readable_card_states_nothing(tmp_path: Path) -> None:
    assert read_origin(str(tmp_path)) == Origin(None, None)
    for content in (b"license: \xff", b"license: mit\ndate: 2024-13-45", b"license: " + b"[" * 5000):
        (tmp_path / "README.md").write_bytes(b"---\n" + content + b"\n---\n")
        assert read_origin(str(tmp_path)) == Origin(None, None)


def test_a_hub_name_is_the_base_model_and_its_card_may_lie_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "models--org--bert" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "README.md").write_text("---\nlicense: mit\n---\n")
    (tmp_path / "models--org--bert" / "refs").mkdir()
    (tmp_path / "models--org--bert" / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert read_origin("org/bert") == Origin("org/bert", "mit")
    assert read_origin("org/unknown") == Origin("org/unknown", None)
    assert read_origin("/nowhere/bert") == Origin(None, None)
