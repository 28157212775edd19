"""Coverage-guided fuzzing of the parsers of records and pictures: libFuzzer through atheris, one target a call.

    python benchmarks/fuzz_records.py TARGET CORPUS [-max_total_time=SECONDS] [other flags of libFuzzer]

CORPUS is a folder, filled with small inputs first. An input that fails is written to the working directory, and
``python benchmarks/fuzz_records.py TARGET FILE`` runs it once more.
"""

from __future__ import annotations

import hashlib
import random
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["scalselect", "tarfile", "PIL"], enable_loader_override=False):
    from PIL import Image  # isort: skip
    from fuzz_mutators import mutated_json, with_checksums
    from fuzz_seeds import WORDS, seeds
    from fuzz_targets import TARGETS

    Image.init()  # imports the decoders, which else would not be watched

_JSON_TARGETS = {"json_record", "conversation"}
_LIMITS = ("-timeout=25", "-rss_limit_mb=3000", "-print_final_stats=1")


def _mutate_json(data: bytes, most: int, seed: int) -> bytes:
    generator = random.Random(seed)
    changed = mutated_json(data, generator) if generator.random() < 0.8 else None
    return atheris.Mutate(data, most) if changed is None or len(changed) > most else changed


def _mutate_tar(data: bytes, most: int, seed: int) -> bytes:
    changed = atheris.Mutate(data, most)
    return with_checksums(changed) if random.Random(seed).random() < 0.9 else changed


def main() -> None:
    """Fuzz the target that the command line names."""
    if len(sys.argv) < 3 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: fuzz_records.py {{{','.join(TARGETS)}}} CORPUS [flags of libFuzzer]")
    target, corpus = sys.argv[1], Path(sys.argv[2])
    flags = [*_LIMITS]
    if not corpus.is_file():
        corpus.mkdir(parents=True, exist_ok=True)
        for content in seeds(target):
            (corpus / hashlib.sha1(content).hexdigest()).write_bytes(content)
    words = corpus.with_name(f"{corpus.name}.dict")
    if target.startswith("json") or target == "conversation":
        words.write_text("".join(f'"\\"{word}\\""\n' for word in WORDS))
        flags.append(f"-dict={words}")
    mutator = {"custom_mutator": _mutate_json} if target in _JSON_TARGETS else {}
    if target == "tar":
        mutator = {"custom_mutator": _mutate_tar}
    atheris.Setup([sys.argv[0], str(corpus), *flags, *sys.argv[3:]], TARGETS[target], **mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
