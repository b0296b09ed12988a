"""The page docs/reliability.md, from what the parts of `faults.py` found."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fault_runs import FORMATS
from image_files import KINDS

HEAD = """# When things go wrong

What becomes of a run of `hrcam explain` over many files when some of them are broken,
when it is killed, when the disk is full. Written by a script, not by hand:

```
python benchmarks/faults.py --work DIR --out docs/reliability.md
```

What a run promises:

- One file cannot end it. A file that cannot be read gets no map, but a line in
  `manifest.jsonl` with the reason; the others get theirs. The exit code is 3 then.
- Every file that it writes is there whole or not at all. A file's line is added to the
  manifest when its maps are on the disk.
- The same command goes on where it was stopped, however that was, and ends with the
  same bits as a run that nobody has stopped (DICOM objects hold the time at which they
  were made: set `SOURCE_DATE_EPOCH`, as is done here).
- What cannot be written ends it with one line that says why, and exit code 1.
"""
BROKEN = """
## Broken files

{count:,} files of {kinds} kinds, simulated pictures of 96 px; {broken} of them are
broken, in {ways} ways. {odd} good ones have odd names or other oddities. The run ended
with exit code {code} after {seconds:.0f} s and drew {images:,} maps.

- good files mapped: **{good} of {all_good}** (every image of theirs: all files there,
  map float32, finite, 64 x 64, of the range that the manifest tells; picture 96 x 96)
- broken files listed with a reason: **{listed} of {broken}**; of a file with several
  images the whole ones are mapped
- crashes: **{crashes}**; printed as errors or warnings: {printed}
"""
UNSEEN = """
Not noticed, because nothing in the file tells of it, and mapped ({files} more): {ways}.
"""
TABLE = """
| way | files | as due | the reason that the manifest gives |
|---|---|---|---|"""
ODD = """
Good files, all of which must be mapped:

| file | files | mapped |
|---|---|---|"""
KILLS = """
## Kills

The same {files:,} files, broken ones included, and the same command; `SIGKILL` at
random moments. {count} moments are drawn uniformly over the {seconds:.0f} s of the
unbroken run, of which {start:.0f} s are its start, before the first map, and used in
order: one in the start is after as many seconds; a later one when as many files are
done as in the unbroken run by then, and up to 0.3 s more. After every fourth the run
that goes on is killed once more, in its start.

`done` are files in the manifest; `again` are those with maps on the disk but not in the
manifest yet (none is counted twice): they are made again, to the same bits;
`unfinished` are temporary files, which the next run removes; `lost` are files that were
done at the kill before and are not any more.

| kill | seconds after its start | done | again | unfinished | lost |
|---|---|---|---|---|---|"""
INTERRUPTS = """
## Ctrl-C

The same with `SIGINT`. The run ends after its batch, with exit code 130.

| interrupt | seconds after its start | to its end | exit code | done | again | lost |
|---|---|---|---|---|---|---|"""
FULL = """
## Full disk

{files} files into a file system in memory that is too small; then it is made larger, and
the same command is started again.

| disk | exit code | what it says | files written | of them not whole | in the manifest but missing | again: exit code | differs from an unbroken run |
|---|---|---|---|---|---|---|---|"""  # noqa: E501
REFUSED = """
## Folders that cannot be used

| out | exit code | what it says |
|---|---|---|"""
RAY = """
## Ray

The same {files:,} files with `--engine ray`. When {done} were done, the worker process
`{killed}` was killed (`SIGKILL`). The run ended with exit code {code} after
{seconds:.0f} s; {same}.
"""


def page(known: Mapping[str, Any]) -> str:
    """The whole page."""
    parts: dict[str, Callable] = {
        "broken": _broken,
        "kills": _kills,
        "interrupts": _interrupts,
        "full": _full,
        "refused": _refused,
        "ray": _ray,
    }
    lines = [HEAD, _setting(known)]
    for name, write in parts.items():
        if name in known:
            lines += write(known[name], known)
    return "\n".join(lines).rstrip() + "\n"


def _setting(known: Mapping[str, Any]) -> str:
    host = known["machine"]
    using = ", ".join(f"{name} {number}" for name, number in known["versions"].items())
    return (
        f"{host['date']}; seed {known['seed']}; {host['cores']} cores, "
        f"{host['system']}, "
        f"{using}; model `saved_models/simulated/hrcam.keras` (64 px, HR-CAM); "
        f"`--format {FORMATS}`. The machine was not idle: seconds only say how long "
        "things took there."
    )


def _broken(found: Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
    ways = found["ways"]
    by = {
        outcome: {n: w for n, w in ways.items() if w["outcome"] == outcome}
        for outcome in ("listed", "part", "mapped", "not noticed")
    }
    bad = by["listed"] | by["part"]
    kinds = {name: way for name, way in by["mapped"].items() if name in KINDS}
    odd = {name: way for name, way in by["mapped"].items() if name not in KINDS}
    printed = [_without_folder(line) for line in found["error"].splitlines()]
    told = BROKEN.format(
        count=found["files"],
        kinds=len(kinds),
        broken=_sum(bad, "files"),
        ways=len(bad),
        odd=_sum(odd, "files"),
        code=found["code"],
        seconds=found["seconds"],
        images=found["images"],
        crashes=int(found["traceback"] or found["code"] != 3),
        printed=_plain(printed[0]) if printed else "nothing",
        good=_sum(by["mapped"], "as due"),
        all_good=_sum(by["mapped"], "files"),
        listed=_sum(bad, "as due"),
    )
    lines = [told.rstrip()]
    if found["wrong"]:
        lines += ["", "Not as it must be:", ""]
        lines += [f"- {_plain(text)}" for text in found["wrong"]]
    if by["not noticed"]:
        names = "; ".join(by["not noticed"])
        told = UNSEEN.format(files=_sum(by["not noticed"], "files"), ways=names)
        lines.append(told.rstrip())
    lines.append(TABLE)
    for name, way in _with_depths_together(bad).items():
        cells = [name, way["files"], way["as due"], "; ".join(way["reasons"][:3])]
        lines.append(_row(cells))
    lines.append(ODD)
    lines += [_row([n, w["files"], w["as due"]]) for n, w in (odd | kinds).items()]
    return lines


def _with_depths_together(ways: Mapping[str, Mapping]) -> dict[str, dict[str, Any]]:
    """Files of one kind that were cut off at several depths are one row."""
    rows: dict[str, dict] = {}
    for name, way in ways.items():
        short = re.sub(r", \d+% left$", " (2, 50, 98 % left)", name)
        row = rows.setdefault(short, {"files": 0, "as due": 0, "reasons": []})
        row["files"] += way["files"]
        row["as due"] += way["as due"]
        for reason in way["reasons"]:  # one of those that differ in numbers only
            if _worded(reason) not in map(_worded, row["reasons"]):
                row["reasons"].append(reason)
    return rows


def _worded(reason: str) -> str:
    return re.sub(r"\d+", "N", reason)


def _kills(found: Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
    rows = [row for row in found["rows"] if row["sent"]]
    facts = {k: found[k] for k in ("files", "seconds", "start")}
    lines = [KILLS.format(count=_moments(found), **facts)]
    for number, row in enumerate(rows, start=1):
        cells = [number, f"{row['seconds']:.1f}", row["done"], row["again"]]
        lines.append(_row([*cells, row["unfinished"], row["lost"]]))
    again = sum(row["again"] for row in rows)
    lines += [
        "",
        f"{len(rows)} kills; {again} files were done twice. The last run ended with "
        f"exit code {found['code']}. {_same(found)}.",
    ]
    return lines


def _moments(found: Mapping[str, Any]) -> int:
    """How many moments were drawn: after every fourth there is one more kill."""
    return len(found["rows"]) * 4 // 5


def _interrupts(found: Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
    lines = [INTERRUPTS]
    rows = [row for row in found["rows"] if row["sent"]]
    for number, row in enumerate(rows, start=1):
        times = [f"{row['seconds']:.1f}", f"{row['to the end']:.1f}"]
        counts = [row["done"], row["again"], row["lost"]]
        note = " (with a traceback)" if row["traceback"] else ""
        lines.append(_row([number, *times, f"{row['code']}{note}", *counts]))
    end = f"The last run ended with exit code {found['code']}. {_same(found)}."
    return [*lines, "", end]


def _full(found: Sequence[Mapping[str, Any]], known: Mapping[str, Any]) -> list[str]:
    lines = [FULL.format(files=max(40, known["files"] // 10))]
    for row in found:
        if "skipped" in row:
            lines.append(_row([row["what"], "-", row["skipped"], *"-----"]))
            continue
        written = [row["written"], len(row["not whole"]), len(row["named but missing"])]
        then = [row["code then"], len(row["differ"]) or "no"]
        lines.append(_row([f"`{row['what']}`", *_said(row), *written, *then]))
    return lines


def _refused(found: Sequence[Mapping[str, Any]], known: Mapping[str, Any]) -> list[str]:
    lines = [REFUSED]
    for row in found:
        if "skipped" in row:
            lines.append(_row([row["what"], "-", f"skipped: {row['skipped']}"]))
            continue
        lines.append(_row([row["what"], *_said(row)]))
        if "differ" in row:
            code, same = row["code of the other"], _same(row)
            lines += ["", f"The other run ended with exit code {code}. {same}."]
    return lines


def _ray(found: Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
    facts = {k: found[k] for k in ("files", "done", "killed", "code", "seconds")}
    same = _same(found)
    return [RAY.format(same=same[0].lower() + same[1:], **facts).rstrip()]


# ------------------------------------------------------------------------------ wording


def _same(found: Mapping[str, Any]) -> str:
    differ = found["differ"]
    if not differ:
        return "All files are bit-identical to those of the unbroken local run"
    return (
        f"{len(differ)} FILES DIFFER from the unbroken run, {_plain(differ[0])} first"
    )


def _said(row: Mapping[str, Any]) -> list[Any]:
    text = "; ".join(row["lines"][:2])
    more = len(row["lines"]) - 1
    note = " (WITH A TRACEBACK)" if row["traceback"] else ""
    return [
        row["code"],
        _without_folder(text) + (f" ({more} more lines)" if more > 1 else "") + note,
    ]


def _without_folder(text: str) -> str:
    """Paths of this machine mean nothing to others."""
    return re.sub(r"(/[^/\s:]+)+/(?=[^/\s:]+)", "", text)


def _sum(ways: Mapping[str, Mapping[str, Any]], key: str) -> int:
    return sum(way[key] for way in ways.values())


def _plain(text: str) -> str:
    """Without control characters."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _row(cells: Sequence[Any]) -> str:
    texts = [_plain(str(cell)).replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(texts)} |"
