"""Write the generated files anew."""

from __future__ import annotations

from grafana.build import GENERATED, files


def main() -> None:
    """Write each file, and remove those that are no more."""
    texts = files()
    for name, text in texts.items():
        path = GENERATED / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for path in GENERATED.rglob("*"):
        if path.is_file() and path.relative_to(GENERATED).as_posix() not in texts:
            path.unlink()
    print(f"{len(texts)} files in {GENERATED}")


if __name__ == "__main__":
    main()
