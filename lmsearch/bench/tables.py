"""The tables that `lmsearch bench` prints, one per section, from the values of the JSON file."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

TITLES = {"forward": "forward", "both": "forward + backward", "step": "one training step", "compared": "one training step"}
KINDS = ("forward", "both")  # of a scan


def tables(section: str, values: dict) -> list[Table]:
    """Return the tables of one section."""
    return TABLES[section](values)


def table(title: str, *columns: str) -> Table:
    """Return an empty table whose first column is text and whose others are numbers."""
    made = Table(title=title, title_justify="left", min_width=len(title))
    for index, column in enumerate(columns):
        made.add_column(column, justify="right" if index else "left", overflow="fold")
    return made


def milliseconds(spread: dict) -> str:
    """Median with (smallest to largest), in ms."""
    return "{median:,.2f} ({min:,.2f} to {max:,.2f})".format(**{k: 1e3 * v for k, v in spread.items()})


def times(spread: dict) -> str:
    """Median with (smallest to largest), as a factor."""
    return "{median:.2f} ({min:.2f} to {max:.2f})".format(**spread)


def check_tables(values: dict) -> list[Table]:
    """Worst relative errors, and what is absent."""
    title = f"relative errors against float64, forward and gradients: at most {values['tolerance']:.0e}"
    made = table(title, "what", "worst", "of")
    for group in ("backends", "peers", "layers"):
        for name, row in values[group].items():
            made.add_row(f"{group[:-1]} {name}", f"{row['error']:.1e}", row["part"])
    absent = values["absent_backends"] | values["absent_peers"]
    if not absent:
        return [made]
    missing = Table("absent", "why", title="not compared", title_justify="left")
    shown: dict[str, list[str]] = {}
    for name, reason in absent.items():
        shown.setdefault(reason, []).append(name)
    for reason, names in shown.items():
        missing.add_row(", ".join(names), escape(reason))
    return [made, missing]


def timing_table(title: str, rows: dict) -> Table:
    """Seconds and factors of one comparison."""
    made = table(title, "what", "ms: median (range)", "times ours: median (range)")
    for name, row in rows.items():
        made.add_row(name, milliseconds(row["seconds"]), times(row["times_first"]))
    return made


def scan_tables(values: dict) -> list[Table]:
    """Forward beside forward + backward, and longer sequences."""
    where = f"{values['shape']}, random order; one process, threads: {values['threads']}, freed memory {values['memory']}"
    made = table(
        f"scan: {where}", "what", *(f"{TITLES[kind]}: {unit}" for kind in KINDS for unit in ("ms", "Gel/s", "times ours"))
    )
    for name in values["forward"]:
        rows = [values[kind].get(name) for kind in KINDS]
        made.add_row(name, *(cell for row in rows for cell in scan_cells(row)))
    longer = table("our scan at longer sequences", "shape", "forward Gel/s", "of the first", "both Gel/s", "of the first")
    for name, row in values["longer"].items():
        cells = [(f"{row[k]['gel_s']:.3f}", times(row[k]["fraction_of_first"])) for k in KINDS]
        longer.add_row(name, *cells[0], *cells[1])
    return [made, longer]


def calls_tables(values: dict) -> list[Table]:
    """One table per call, forward and forward + backward."""
    made = []
    for name, found in values["calls"].items():
        columns = [f"{TITLES[kind]}: {unit}" for kind in KINDS for unit in ("ms", "times ours")]
        rows = table(f"{name}: {values['shape']}, threads: {values['threads']}", "what", *columns)
        for who in found["forward"]:
            cells = [(milliseconds(found[k][who]["seconds"]), times(found[k][who]["times_first"])) for k in KINDS]
            rows.add_row(who, *cells[0], *cells[1])
        made.append(rows)
    return made


def scan_cells(row: dict | None) -> tuple[str, str, str]:
    """Milliseconds, Gel/s and factor of one scan; empty for one without a backward pass."""
    return ("", "", "") if row is None else (milliseconds(row["seconds"]), f"{row['gel_s']:.3f}", times(row["times_first"]))


def layer_tables(values: dict) -> list[Table]:
    """The mixer."""
    title = f"mixer, {TITLES['both']}: {values['shape']}, threads: {values['threads']}"
    return [timing_table(title, values["both"])]


def supernet_tables(values: dict) -> list[Table]:
    """The whole step, and the compared smaller one."""
    parts = (("step", values["shape"]), ("compared", values["compared_shape"]))
    return [timing_table(f"supernet, {TITLES[k]}: {s}, threads: {values['threads']}", values[k]) for k, s in parts]


def policies_tables(values: dict) -> list[Table]:
    """One row per way of a search, and what shrinking costs over a whole one."""
    made = timing_table(f"supernet step by policy: {values['shape']}, threads: {values['threads']}", values["step"])
    for keep, cost in values["shrinking"]["cost_of_keep"].items():
        made.add_row(f"search=shrink, keep {keep}: mean over a search", "", f"{cost:.2f}")
    return [made]


def growth_tables(values: dict) -> list[Table]:
    """One row per axis."""
    title = f"growth of our scan from {values['base']}: time ~ size ^ exponent"
    made = table(title, "axis", "exponent", "sizes", "beyond the cache", "ms")
    for axis, row in values["axes"].items():
        seconds = ", ".join(f"{1e3 * point['seconds']:.1f}" for point in row["sizes"])
        made.add_row(axis, f"{row['exponent']:.3f}", str(row["points"]), "yes" if row["beyond_cache"] else "no", seconds)
    return [made]


def memory_tables(values: dict) -> list[Table]:
    """One row per arrangement."""
    made = table(f"peak memory of the mixer, {TITLES['both']}: {values['shape']}", "what", "MiB", "times ours")
    if "absent" in values:
        made.add_row(values["absent"], "", "")
    for name, row in values.get("peaks", {}).items():
        made.add_row(name, f"{row['peak_bytes'] / 2**20:,.0f}", f"{row['times_first']:.2f}")
    return [made]


def ceiling_tables(values: dict) -> list[Table]:
    """Ceilings, and what the scan reaches."""
    made = table(f"ceilings of this machine, threads: {values['threads']}", "what", "rate")
    for name, rate in values["exp_g_s"].items():
        made.add_row(f"torch.{name}", f"{rate:.2f} G/s")
    made.add_row("float32 matrix product", f"{values['sgemm_gflop_s']:.1f} GFLOP/s")
    made.add_row("copy, read + write", f"{values['copy_gb_s']:.1f} GB/s")
    for kind, fraction in values["scan_fraction_of_exp"].items():
        exps = values["exps_per_element"][kind]
        made.add_row(f"our scan, {TITLES[kind]}, of the best exp rate ({exps} per element)", f"{100 * fraction:.0f} %")
    return [made]


def process_tables(values: dict) -> list[Table]:
    """With and without the settings of a process."""
    title = f"mixer, {TITLES['both']}, in a process of its own: {values['shape']}"
    if "absent" in values:
        made = table(title, "what")
        made.add_row(values["absent"])
        return [made]
    return [timing_table(f"{title}, threads: {values['threads']}", values["both"])]


TABLES = {
    "correctness": check_tables,
    "scan": scan_tables,
    "calls": calls_tables,
    "layer": layer_tables,
    "supernet": supernet_tables,
    "policies": policies_tables,
    "growth": growth_tables,
    "memory": memory_tables,
    "ceiling": ceiling_tables,
    "process": process_tables,
}
