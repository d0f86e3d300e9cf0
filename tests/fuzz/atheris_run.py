"""Looks for inputs that break a promise of an entry, by coverage: `make fuzz ARGS="--seconds 60 request chunked"`.

atheris is no dependency of anything here, since it has wheels for few platforms: `.venv/bin/pip install atheris` for
CPython 3.11 to 3.13 on Linux. It starts from the corpus; what it learns it keeps in build/fuzz, and what it finds is
written there too. With a name that says what it is, `refused-` in front if the bytes are to be refused, a find belongs
into tests/fuzz/corpus, where every run of the tests replays it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ALONE = "--in-this-process"  # atheris instruments what is imported after it, and libFuzzer ends its process
LONGEST = 2048  # bytes of an input: no rule of these formats needs more to be broken, but for its limits


def fuzz(name: str, seconds: int) -> None:
    """Never returns."""
    import atheris  # pyright: ignore[reportMissingImports]

    with atheris.instrument_imports(include=["penstock", "support.entries"]):
        from support.entries import CORPUS, ENTRIES
    learnt = ROOT / "build" / "fuzz" / name
    learnt.mkdir(parents=True, exist_ok=True)
    words = learnt.with_name(f"{name}.words")
    words.write_text("".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in ENTRIES[name].words))

    def once(data: bytes) -> None:
        ENTRIES[name].check(data)

    options = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", f"-dict={words}", "-timeout=10", "-verbosity=0"]
    found = f"-artifact_prefix={learnt.parent}/{name}-"
    atheris.Setup([sys.argv[0], *options, found, str(learnt), str(CORPUS / name)], once)
    atheris.Fuzz()


def main() -> int:
    from support.entries import ENTRIES

    parser = argparse.ArgumentParser(description="Fuzz what takes bytes from strangers, one entry after the other.")
    parser.add_argument("entry", nargs="*", help=f"which of {', '.join(ENTRIES)}; all of them if none is named")
    parser.add_argument("--seconds", type=int, default=20, help="for each entry (default: 20)")
    asked = parser.parse_args()
    if unknown := set(asked.entry) - ENTRIES.keys():
        parser.error(f"no such entry: {', '.join(sorted(unknown))}")
    try:
        import atheris  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        print(
            "atheris is not installed; it has wheels for CPython on Linux: .venv/bin/pip install atheris",
            file=sys.stderr,
        )
        return 2
    broken = []
    for name in asked.entry or ENTRIES:
        print(f"{name}: {asked.seconds} s", flush=True)
        command = [sys.executable, __file__, ALONE, name, str(asked.seconds)]
        if subprocess.run(command, check=False).returncode:
            broken.append(name)
    print(f"broken: {', '.join(broken)}; the inputs are in build/fuzz" if broken else "nothing found")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "tests"))  # as pytest has it
    if sys.argv[1:2] == [ALONE]:
        fuzz(sys.argv[2], int(sys.argv[3]))
    sys.exit(main())
