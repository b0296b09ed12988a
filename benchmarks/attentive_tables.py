"""Markdown tables of the attentive response maps; a missed bound is marked."""

from typing import Any

from tables import ratio_cells, versions_line

AIM, BOUND = 1.1, 1.3  # forward passes a unit
MORE_UNITS = 1.1  # MB that 256 units need / MB that 8 need, without single maps


def _cost_table(part: dict[str, Any]) -> list[str]:
    lines = [
        f"{versions_line(part)}; {part['size']} px, {part['units']} units, "
        f"{part['rounds']} rounds; aim {AIM}, bound {BOUND}",
        "",
        "| model | batch | way | forward passes a unit | lowest to highest | seconds "
        "| bound |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in part["rows"]:
        name = f"| {row['model'].replace('_', ' ')} | {row['batch']} | {row['way']} "
        judged = "" if row["way"].startswith("plain") else _judged(row["ratio"])
        lines.append(f"{name}| {ratio_cells(row)} | {judged} |")
    return lines


def _judged(ratio: float) -> str:
    if ratio > BOUND:
        return "**missed**"
    return "aim met" if ratio <= AIM else "met, aim missed"


def _memory_table(part: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| units | at a time | single maps | MB above the built model "
        "| their size, MB | MB without it | peak of the process, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in part:
        kind = "yes" if row["unit_maps"] else "no"
        name = f"| {row['units']} | {row['chunk']} | {kind} "
        if not row["units"]:
            name = "| plain forward pass | | "
        if "failed" in row:
            lines.append(f"{name}| did not run: {row['failed']} | | | |")
            continue
        needs, output = row["peak_mb"] - row["rest_mb"], row["output_mb"]
        lines.append(
            f"{name}| {needs:.0f} | {output:.1f} | {needs - output:.0f} "
            f"| {row['peak_mb']:.0f} |"
        )
    return [*lines, "", _growth(part)]


def _growth(part: list[dict[str, Any]]) -> str:
    """What 256 units need beside what 8 need, without single maps."""
    needs = {
        row["units"]: row["peak_mb"] - row["rest_mb"]
        for row in part
        if not row["unit_maps"] and row["chunk"] == 4 and "failed" not in row
    }
    if not needs.get(8) or not needs.get(256):
        return "256 units against 8: did not run"
    ratio = needs[256] / needs[8]
    mark = "" if ratio <= MORE_UNITS else f": **above {MORE_UNITS}**"
    return f"256 units against 8, without single maps: {ratio:.2f} of the MB{mark}"


def _peers_table(part: dict[str, Any]) -> list[str]:
    reference, peers = part["reference"], part["peers"]
    lines = [
        f"deeper net, {reference['size']} px, batch 1, {reference['units']} units of "
        f"`{reference['layer']}`; reference: {versions_line(reference)}",
        "",
        "| environment | way | its forward passes a unit | lowest to highest | seconds "
        "| difference, seed map | difference, seed peak |",
        "|---|---|---|---|---|---|---|",
    ]
    notes = []
    for peer, ran in peers.items():
        if "failed" in ran:
            lines.append(f"| {peer} | did not run: {ran['failed']} | | | | | |")
            continue
        for way, row in ran["rows"].items():
            found = ran["differences"].get(way, {})
            cells = [f"{found[s]:.1e}" if s in found else "" for s in ("map", "peak")]
            line = f"| {peer} | {way} | {ratio_cells(row)} | {' | '.join(cells)} |"
            lines.append(line)
        notes.append(f"{peer}: {versions_line(ran)}{_extra(ran)}")
    return [*lines, "", *(f"- {note}" for note in notes)]


def _extra(ran: dict[str, Any]) -> str:
    if "features_difference" not in ran:
        return ""
    return (
        f"; {ran['threads']} threads; the layer's own values differ from TensorFlow's "
        f"by {ran['features_difference']:.1e} of the largest"
    )


WRITERS = {
    "attentive": _cost_table,
    "attentive_memory": _memory_table,
    "attentive_peers": _peers_table,
}
