"""`make drawing`: the floors of the house, top first: each room's lines, and which rooms below it imports."""

import tomllib
from collections import Counter, defaultdict

import grimp

from tools.dev.devenv import ROOT


def main() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = next(contract["layers"] for contract in config["contracts"] if contract["type"] == "layers")
    floors = [[room.strip() for room in layer.split("|")] for layer in layers]
    height = {room: len(floors) - number for number, floor in enumerate(floors) for room in floor}
    lines, imports = _measured(config["root_packages"], list(height))
    total = sum(lines.values())
    for floor in [*floors, [room for room in lines if room not in height]]:
        for room in floor:
            names = ", ".join(
                f"{other} (UP)" if height.get(other, 0) > height.get(room, 99) else other
                for other in sorted(imports[room], key=lambda other: (-height.get(other, 0), other))
            )
            print(
                f"{room:20} {lines[room]:6} lines {100 * lines[room] / total:3.0f} %  {'-> ' + names if names else ''}"
            )
        print()


def _measured(packages: list[str], rooms: list[str]) -> tuple[Counter[str], dict[str, set[str]]]:
    """Return the lines of each room without its tests and migrations, and the other rooms that it imports."""
    graph = grimp.build_graph(*packages, cache_dir=None)
    lines: Counter[str] = Counter()
    imports: dict[str, set[str]] = defaultdict(set)
    for module in graph.modules:
        if {"tests", "migrations"} & set(module.split(".")):
            continue
        room = _room(module, rooms)
        path = ROOT.joinpath(*module.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        lines[room] += len(path.read_text().splitlines())
        imports[room] |= {_room(other, rooms) for other in graph.find_modules_directly_imported_by(module)} - {room}
    return lines, imports


def _room(module: str, rooms: list[str]) -> str:
    inside = [room for room in rooms if f"{module}.".startswith(f"{room}.")]
    return max(inside, key=len, default=module.split(".", maxsplit=1)[0])


if __name__ == "__main__":
    main()
