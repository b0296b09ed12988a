"""Markdown tables of what the parts measured."""

from typing import Any


def _speed_table(part: dict[str, Any]) -> list[str]:
    lines = [
        f"{versions_line(part)}; {part['size']} px",
        "",
        "| model | batch | way | times the forward pass "
        "| lowest to highest | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for model, groups in part["models"].items():
        for batch in (b for b in groups if b.startswith("batch")):
            for way, row in groups[batch]["rows"].items():
                lines.append(f"| {model} | {batch[6:]} | {way} | {ratio_cells(row)} |")
    differences = {
        m: f"{g['literal_difference']:.1e}" for m, g in part["models"].items()
    }
    return [*lines, "", f"`hr_cam` against the literal map, relative: {differences}"]


def _methods_table(part: dict[str, Any]) -> list[str]:
    return [
        f"{versions_line(part)}; ResNet50, {part['size']} px, batch {part['batch']}",
        "",
        *_ratio_rows("method", part),
    ]


def _ratio_rows(what: str, part: dict[str, Any]) -> list[str]:
    """The table of a part whose rows are against the forward pass."""
    return [
        f"| {what} | times the forward pass | lowest to highest | seconds |",
        "|---|---|---|---|",
        *(f"| {way} | {ratio_cells(row)} |" for way, row in part["rows"].items()),
    ]


def _serving_table(part: dict[str, Any]) -> list[str]:
    return [
        f"{versions_line(part)}; {part['model']}, {part['size']} px, batch "
        f"{part['batch']}; the SavedModel has {part['megabytes']} MB; its map differs "
        f"from the library's by at most {part['difference']:.1e} of the range",
        "",
        *_ratio_rows("call", part),
    ]


def _runner_table(part: dict[str, Any]) -> list[str]:
    return [
        f"{versions_line(part)}; {part['model']}, {part['size']} px, batch "
        f"{part['batch']}; {part['images']} JPEG files of {part['file_size']} px; the "
        f"forward pass takes {part['baseline_seconds']:.1f} s for arrays of them",
        "",
        "| stored | images/s, as a share of the forward pass | lowest to highest |",
        "|---|---|---|",
        *(
            f"| {name} | {1 / row['ratio']:.2f} | {1 / row['highest']:.2f} to "
            f"{1 / row['lowest']:.2f} |"
            for name, row in part["rows"].items()
        ),
    ]


def _runner_memory_table(rows: list[dict[str, Any]]) -> list[str]:
    return [
        "| images | peak MB of the process |",
        "|---|---|",
        *(
            f"| {row['images']} | {row.get('failed') or round(row['peak_mb'])} |"
            for row in rows
        ),
    ]


def _head_table(part: dict[str, Any]) -> list[str]:
    return [
        f"{versions_line(part)}; ResNet50, {part['images']} images of "
        f"{part['size']} px, {part['epochs']} epochs, {part['rounds']} rounds",
        "",
        "| `fit`, s | `fit_hrcam_head`, s | times faster | lowest to highest "
        "| last losses | largest difference of a loss |",
        "|---|---|---|---|---|---|",
        f"| {part['fit_seconds']:.2f} | {part['fit_hrcam_head_seconds']:.2f} "
        f"| {part['ratio']:.1f} | {part['lowest']:.1f} to {part['highest']:.1f} "
        f"| {' and '.join(f'{loss:.5f}' for loss in part['final_losses'])} "
        f"| {part['largest_loss_difference']:.1e} |",
    ]


def _memory_table(part: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| model | batch | way | MB above the built model | times the forward pass "
        "| peak of the process, MB |",
        "|---|---|---|---|---|---|",
    ]
    forward = {}
    for row in part:
        name = f"| {row['model']} | {row['batch']} | {row['way']} "
        if "failed" in row:
            lines.append(name + f"| did not run: {row['failed']} | | |")
        else:
            needs = row["peak_mb"] - row["rest_mb"]
            base = forward.setdefault((row["model"], row["batch"]), needs)
            times = f"{needs / base:.2f}" if base else ""
            lines.append(name + f"| {needs:.0f} | {times} | {row['peak_mb']:.0f} |")
    return lines


def _peers_table(part: dict[str, Any]) -> list[str]:
    ours = part["rows"]["hrcam `grad_cam`"]["seconds"]
    lines = [
        f"{versions_line(part)}; ResNet50, {part['size']} px, batch {part['batch']}, "
        f"layer `{part['layer']}`",
        "",
        "| Grad-CAM of | times the forward pass | lowest to highest | seconds "
        "| times hrcam's | difference, same resizing | as returned | after min-max |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for way, row in part["rows"].items():
        difference = " | ".join(f"{d:.1e}" for d in part["differences"][way].values())
        times = row["seconds"] / ours
        lines.append(f"| {way} | {ratio_cells(row)} | {times:.2f} | {difference} |")
    lines += [f"| {way} | {why} |" for way, why in part["did_not_run"].items()]
    return lines


def versions_line(part: dict[str, Any]) -> str:
    """Names and numbers, for the line above a table."""
    return ", ".join(f"{name} {number}" for name, number in part["versions"].items())


def ratio_cells(row: dict[str, float]) -> str:
    """Three cells: the ratio, its range, the seconds."""
    return (
        f"{row['ratio']:.2f} | {row['lowest']:.2f} to {row['highest']:.2f} "
        f"| {row['seconds']:.3f}"
    )


WRITERS = {
    "speed": _speed_table,
    "methods": _methods_table,
    "serving": _serving_table,
    "runner": _runner_table,
    "runner_memory": _runner_memory_table,
    "head": _head_table,
    "memory": _memory_table,
    "peers": _peers_table,
}
