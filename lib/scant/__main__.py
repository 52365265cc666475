"""python -m scant doctor: what is installed, which device will be used, what is missing and how to mend it."""

from __future__ import annotations

import sys

from scant.doctor import examine

USAGE = "usage: python -m scant doctor"


def main(arguments: list[str]) -> int:
    """0 when the main job can run, 1 when something it needs is missing, 2 for an unknown command."""
    if arguments != ["doctor"]:
        print(USAGE, file=sys.stderr)
        return 2
    findings = examine()
    width = max(len(f.name) for f in findings)
    for finding in findings:
        print(f"{'ok     ' if finding.ok else ('MISSING' if finding.needed else 'absent ')}  {finding.name:<{width}}  {finding.detail}")
        if not finding.ok:
            print(f"{'':9}{'':<{width}}  remedy: {finding.remedy}")
    return 1 if any(f.needed and not f.ok for f in findings) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
