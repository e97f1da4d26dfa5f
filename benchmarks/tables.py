"""The tables of the documentation, made from the results on disk: `python -m benchmarks.tables`."""

import functools
import json
import re
from pathlib import Path
from typing import Any

from benchmarks.doctor.matrix import CAUSES, UNDECIDED

RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parents[1] / "docs"
PAGES = (DOCS / "engines.md", DOCS / "diagnose.md", DOCS / "learning.md")


def main() -> None:
    """Write the tables into the pages."""
    for path in PAGES:
        path.write_text(page(path.read_text(encoding="utf-8")), encoding="utf-8")


def page(text: str) -> str:
    """The page with each table made anew.

    Arguments:
        text: the page, tables between `<!-- NAME -->` and `<!-- end -->`.
    """

    def table(match: re.Match[str]) -> str:
        return f"<!-- {match[1]} -->\n{TABLES[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", table, text, flags=re.S)


def read(name: str) -> dict[str, Any]:
    """A benchmark's results."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def of_engines() -> list[dict[str, Any]]:
    """Results of `engines`, of each processor that was at hand."""
    return [json.loads(path.read_text("utf-8")) for path in sorted(RESULTS.glob("engines*.json"))]


def conditions(found: dict[str, Any]) -> str:
    """Conditions of a benchmark's measurement."""
    environment = found["environment"]
    return (
        f"{found['hardware']['processor']}, {environment['device']}, {environment['threads']} "
        f"threads, torch {environment['torch']}, {found['date']}, {found['rounds']} rounds."
    )


def speed() -> str:
    """Training and inference against torch.nn, by shape, of each processor that was at hand."""
    return "\n\n".join(f"{conditions(found)}\n\n{_speed(found)}" for found in of_engines())


def _speed(found: dict[str, Any]) -> str:
    rows = [r for r in found["rows"] if r["baseline"].startswith("nn.")]
    names = ["LSTM", "RNN", "GRU"]
    lines = [
        "| B, T, I, H | " + " | ".join(f"{n} train | {n} infer" for n in names) + " |",
        "|---|" + "---:|" * 2 * len(names),
    ]
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        mode, name, *sizes = row["case"].split()
        where = ", ".join(s.partition("=")[2] for s in sizes if "=" in s) or "geometric mean"
        spread = f" ({row['low']:.1f} to {row['high']:.1f})" if row["low"] < row["high"] else ""
        cells.setdefault(where, {})[f"{name.strip(',')} {mode}"] = f"{row['ratio']:.2f}{spread}"
    for where, own in cells.items():
        values = [own.get(f"{n} {mode}", "") for n in names for mode in ("train", "infer")]
        lines.append(f"| {where} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def small() -> str:
    """Small batches: rates of training steps, and both passes against torch.nn."""
    found = read("small")
    environment = found["environment"]
    lines = [
        f"{found['hardware']['processor']}, {environment['device']}, {environment['threads']} "
        f"threads, {found['rounds']} rounds, load average {found['load_average']:.1f}.",
        "",
        "| case | ms | GFLOP/s | train, times faster than torch.nn | infer |",
        "|---|---:|---:|---:|---:|",
    ]
    rows = found["rows"]
    for train, infer, rate in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
        lines.append(
            f"| {train['case'].removeprefix('train ')} | {train['milliseconds']:.1f} | "
            f"{rate['ratio']:.0f} | {_with_quartiles(train)} | {_with_quartiles(infer)} |"
        )
    return "\n".join(lines)


def shares() -> str:
    """Shares of the peak of fused multiply-adds, of each processor that was at hand."""
    return "\n\n".join(
        f"{found['hardware']['processor']}, {found['environment']['device']}:\n\n{_shares(found)}"
        for found in of_engines()
    )


def _shares(found: dict[str, Any]) -> str:
    rows = [r for r in found["rows"] if r["baseline"] == "FMA peak"]
    sizes = list(dict.fromkeys(r["case"][r["case"].index("B=") :] for r in rows))
    names = list(dict.fromkeys(r["case"][: r["case"].index(" B=")] for r in rows))
    values = {r["case"]: f"{100 * r['ratio']:.0f} %" for r in rows}
    lines = [f"| cell | {' | '.join(sizes)} |", "|---|" + "---:|" * len(sizes)]
    lines += [f"| {n} | " + " | ".join(values[f"{n} {s}"] for s in sizes) + " |" for n in names]
    return "\n".join(lines)


def others() -> str:
    """Loops, memory, and a busy neighbour."""
    lines = ["| case | what | against | measured |", "|---|---|---|---:|"]
    loops = [r for r in read("engines")["rows"] if r["baseline"] in ("Python loop", COMPILED)]
    more = [row for name in ("memory", "neighbour", "compiling") for row in read(name)["rows"]]
    for row in [*loops, *more]:
        measured = (
            f"{row['ratio']:.2f} {row['unit']}"
            if row["ratio"] < 50
            else (f"{row['ratio']:.0f} {row['unit']}")
        )
        lines.append(f"| {row['case']} | {row['candidate']} | {row['baseline']} | {measured} |")
    return "\n".join(lines)


def vanishing() -> str:
    """Training steps with a loss of all outputs, and of the last."""
    lines = ["| case | what | against | times faster |", "|---|---|---|---:|"]
    for row in read("vanishing")["rows"]:
        who = f"{row['candidate']} | {row['baseline']}"
        lines.append(f"| {row['case']} | {who} | {_with_quartiles(row)} |")
    return "\n".join(lines)


def budget() -> str:
    """What is kept, and how much slower a training step is."""
    lines = ["| case | what is kept | MB | times slower |", "|---|---|---:|---:|"]
    rows = read("budget")["rows"]
    slower = {
        (row["case"], row["candidate"]): f"{1 / row['ratio']:.2f}"
        for row in rows
        if row["unit"] == "x faster"
    }
    for row in rows:
        if row["unit"] == "MB kept":
            case, name = row["case"], row["candidate"]
            time = slower.get((case, name), "1")
            lines.append(f"| {case} | {name} | {row['ratio']:.2f} | {time} |")
    return "\n".join(lines)


def penalty() -> str:
    """Times of an update with the penalty, as multiples of those without."""
    lines = ["| case | times as long as BPTT | as eager BPTT |", "|---|---:|---:|"]
    rows = read("penalty")["rows"]
    for native, eager in zip(rows[::2], rows[1::2], strict=True):
        measured = f"{_with_quartiles(native)} | {_with_quartiles(eager)}"
        lines.append(f"| {native['case']} | {measured} |")
    return "\n".join(lines)


def variance() -> str:
    """Standard deviations of random gradients, as multiples of the gradient's length."""
    rows = read("variance")["rows"]
    names = list(dict.fromkeys(row["candidate"] for row in rows))
    found = {(row["case"], row["candidate"]): f"{row['ratio']:.2g}" for row in rows}
    lines = [f"| | {' | '.join(names)} |", "|---|" + "---:|" * len(names)]
    for case in dict.fromkeys(row["case"] for row in rows):
        lines.append(f"| {case} | {' | '.join(found.get((case, n), '-') for n in names)} |")
    return "\n".join(lines)


def learners() -> str:
    """Time a step by units, and exponents beside those of theory."""
    found = read("learners")
    rows = found["rows"]
    times = {(r["candidate"], r["case"]): r["ratio"] for r in rows if r["unit"] == "ms a step"}
    cases = [case for case in dict.fromkeys(c for _, c in times) if " T=20 " in case]
    exponents = {(r["candidate"], r["case"]): r for r in rows if r["unit"] == "the exponent"}
    units = " | ".join(f"{case.rpartition('=')[2]} units" for case in cases)
    lines = [
        f"| ms a step | {units} | by units | memory by units | by steps |",
        "|---|" + "---:|" * (len(cases) + 3),
    ]
    for name in dict.fromkeys(name for name, _ in times):
        own = {case: row for (n, case), row in exponents.items() if n == name}
        by_units, *_, last = [r for c, r in own.items() if c.startswith("time a step, H")]
        memory = [r for c, r in own.items() if c.startswith("memory")]
        assert by_units is not last, "the last doubling has an exponent of its own"
        measured = [f"{times[name, c]:.3g}" if (name, c) in times else "-" for c in cases]
        parts = [*measured, *(_beside_theory(row) for row in (last, *memory))]
        lines.append(f"| {name} | {' | '.join(parts)} |")
    load = f"{found['date']}, load average {found['load_average']:.1f} on 2 cores"
    return "\n".join([*lines, "", f"Measured on {load}."])


def _beside_theory(row: dict[str, Any]) -> str:
    theory = row["baseline"].removesuffix(" in theory").partition("^")[2]
    return f"{row['ratio']:.2f} ({theory})"


def _with_quartiles(row: dict[str, Any]) -> str:
    return f"{row['ratio']:.1f} ({row['low']:.1f} to {row['high']:.1f})"


def doctor() -> str:
    """Verdicts on planted faults of the second held-out family, and what they amount to."""
    found = read("doctor-held-out-2")
    summary, environment = found["summary"], found["environment"]
    confusion = summary["confusion"]
    seen = {verdict for row in confusion.values() for verdict in row}
    columns = [c for c in (*CAUSES, UNDECIDED, "ERROR") if c in seen]
    lines = [
        "| planted \\ said | " + " | ".join(map(_in_words, columns)) + " | right |",
        "|---|" + "---:|" * (len(columns) + 1),
    ]
    for cause, row in confusion.items():
        cells = [str(row.get(column, "")) for column in columns]
        right = f"{100 * summary['recall'][cause]:.0f} %"
        lines.append(f"| {_in_words(cause)} | {' | '.join(cells)} | {right} |")
    cases, healthy = summary["cases"], summary["healthy"]
    lines += [
        "",
        f"{cases} cases, {healthy} of them healthy; right where it decides: "
        f"{100 * summary['accuracy_where_decided']:.1f} %; inconclusive: "
        f"{100 * summary['inconclusive']:.1f} %; healthy models called faulty or without a long "
        f"dependency: {summary['false_alarms']} of {healthy} (at most "
        f"{100 * summary['false_alarm_bound']:.1f} % with 95 % confidence); errors: "
        f"{summary['errors']}; models changed: {summary['changed']}; median "
        f"{summary['median_seconds']:.0f} s a case on one thread of "
        f"{found['hardware']['processor']}, longest {summary['longest_seconds']:.0f} s; budget "
        f"{found['settings']['budget']}. "
        f"Measured on {found['date']} at commit {str(environment['commit'])[:10]}.",
    ]
    return "\n".join(lines)


def _in_words(name: str) -> str:
    return name.lower().replace("_", " ")


COMPILED = "torch.compile of the step"


def profile() -> str:
    """The parts of training steps, of each processor that was at hand."""
    lines: list[str] = []
    for path in sorted(RESULTS.glob("profile-*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        own, limits = found["processor"], found["limits"]
        names = [name.partition(",")[0] for name in limits]
        rates = ", ".join(
            f"{name} {value:.0f} {key.rpartition(' ')[2]}"
            for (key, value), name in zip(limits.items(), names, strict=True)
        )
        peak = limits["multiply-add, GFLOP/s"]
        parts = list(found["steps"][0]["shares"])
        lines += [
            f"{own['name']}, family {own['family']}, model {own['model']}, {own['vectors']}, "
            f"{found['threads']} threads: {rates}.",
            "",
            "| cell, B, T, I, H | ms | of the peak | " + " | ".join(parts) + " |",
            "|---|" + "---:|" * (2 + len(parts)),
        ]
        for step in found["steps"]:
            shares = " | ".join(f"{100 * step['shares'][part]:.0f} %" for part in parts)
            sizes = ", ".join(map(str, step["shape"]))
            of_peak = f"{100 * step['GFLOP/s'] / peak:.0f} %"
            lines.append(
                f"| {step['cell']} {sizes} | {step['milliseconds']:.1f} | {of_peak} | {shares} |"
            )
        lines.append("")
    return "\n".join(lines).rstrip()


def compared(name: str) -> str:
    """Every row of a benchmark: times faster than its baseline, with quartiles."""
    found = read(name)
    environment = found["environment"]
    lines = [
        f"{found['hardware']['processor']}, {environment['device']}, {environment['threads']} "
        f"threads, {found['rounds']} rounds, load average {found['load_average']:.1f}.",
        "",
        "| case | candidate | against | times faster |",
        "|---|---|---|---:|",
    ]
    for row in found["rows"]:
        spread = f"{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
        lines.append(f"| {row['case']} | {row['candidate']} | {row['baseline']} | {spread} |")
    return "\n".join(lines)


TABLES = {
    "stepping": functools.partial(compared, "stepping"),
    "generation": functools.partial(compared, "generation"),
    "steps": functools.partial(compared, "steps"),
    "profile": profile,
    "speed": speed,
    "small": small,
    "shares": shares,
    "others": others,
    "doctor": doctor,
    "vanishing": vanishing,
    "budget": budget,
    "penalty": penalty,
    "variance": variance,
    "learners": learners,
}

if __name__ == "__main__":
    main()
