"""A pretrained encoder as a Hugging Face folder: weights, statistics, record and card, whole or not."""

from __future__ import annotations

import datetime
import json
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dimpoint.errors import DimpointError
from dimpoint.foundation.loading import quiet
from dimpoint.foundation.pretrain_run import PretrainRun


def publish(run: PretrainRun, out: Path, story: dict[str, Any]) -> None:
    """Write the folder `out`, which must not exist, from a finished run.

    story: how the run was started, as its run.json holds it. Raises DimpointError where the system refuses.
    """
    record = _record(run, story)
    temporary = None
    try:
        temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
        with quiet():
            run.model.encoder.save_pretrained(temporary)
        _write_json(temporary / "preprocessor_config.json", _statistics(run))
        _write_json(temporary / "pretraining.json", record)
        (temporary / "README.md").write_text(_card(run, out.name, record), encoding="utf-8")
        temporary.chmod(0o755)
        for file in temporary.iterdir():
            file.chmod(0o644)
        temporary.rename(out)
    except OSError as error:
        raise DimpointError(f"{out}: cannot be written: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _record(run: PretrainRun, story: dict[str, Any]) -> dict[str, Any]:
    names = ("dimpoint", "torch", "transformers")
    kept = {name: value for name, value in story.items() if name != "roots"}  # a machine's paths
    return kept | {
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "frames": run.crops.counts,
        "crops_seen": run.step * run.settings.batch,
        "seconds": round(run.seconds, 1),
        "loss": round(run.recent_loss, 4),
        "versions": {name: version(name) for name in names},
    }


def _statistics(run: PretrainRun) -> dict[str, Any]:
    """What `FoundationEncoder` and other users of the folder standardise frames with."""
    return {
        "image_processor_type": "BitImageProcessor",
        "do_resize": False,
        "do_center_crop": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [run.crops.mean] * 3,
        "image_std": [run.crops.std] * 3,
    }


def _card(run: PretrainRun, name: str, record: dict[str, Any]) -> str:
    chosen = run.settings
    parameters = sum(value.numel() for value in run.model.encoder.parameters())
    data = "\n".join(
        f"  - {part}: {count} frames, sha256 {record['data'][part]}"
        for part, count in record["frames"].items()
    )
    return f"""# {name}

A small vision transformer that learned infrared frames without labels: a foundation encoder for
`dimpoint train fdep-... --foundation`.

- **Architecture**: `Dinov2Model` of transformers, {parameters:,} parameters: patch {chosen.patch},
  {chosen.layers} layers, {chosen.heads} heads, {chosen.hidden} channels. None of DINOv2's published weights
  is in it.
- **Learned from** (the train split where a data set has one; sha256 over the decoded frames):
{data}
- **How**: masked autoencoding (He et al., arXiv 2111.06377), 75 % of the patches dropped, standardised
  patches, on crops of {chosen.size}x{chosen.size} pixels, flipped, turned by quarters, with random contrast
  and offset; {record["steps"]:,} steps of {chosen.batch} crops, AdamW, highest rate {chosen.lr:g}, cosine
  schedule, seed {chosen.seed}; {record["seconds"] / 60:.1f} minutes on `{run.device.type}`. Mean loss of the
  last steps: {record["loss"]:.3f}.
- **Input**: one channel in network range by the intensity rule `{chosen.intensity.kind}`, repeated to
  three, less {run.crops.mean:.4f}, over {run.crops.std:.4f} (preprocessor_config.json).
- **Record**: pretraining.json. Finished {record["finished"]}.
- **Licence**: yours to state; the frames it learned from may bind you.
"""


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
