"""Names of Arm cores by the numbers that each core has for its maker and its design (``MIDR_EL1``).

Facts from the Linux kernel's ``arch/arm64/include/asm/cputype.h``, util-linux' ``lscpu-arm.c`` and the makers' manuals.
"""

from __future__ import annotations

# Maker's number -> its name, and the names of its 64-bit designs by their part numbers.
CORES: dict[int, tuple[str, dict[int, str]]] = {
    0x41: (
        "Arm",
        {
            0xD02: "Cortex-A34",
            0xD03: "Cortex-A53",
            0xD04: "Cortex-A35",
            0xD05: "Cortex-A55",
            0xD06: "Cortex-A65",
            0xD07: "Cortex-A57",
            0xD08: "Cortex-A72",
            0xD09: "Cortex-A73",
            0xD0A: "Cortex-A75",
            0xD0B: "Cortex-A76",
            0xD0C: "Neoverse N1",
            0xD0D: "Cortex-A77",
            0xD0E: "Cortex-A76AE",
            0xD40: "Neoverse V1",
            0xD41: "Cortex-A78",
            0xD42: "Cortex-A78AE",
            0xD43: "Cortex-A65AE",
            0xD44: "Cortex-X1",
            0xD46: "Cortex-A510",
            0xD47: "Cortex-A710",
            0xD48: "Cortex-X2",
            0xD49: "Neoverse N2",
            0xD4A: "Neoverse E1",
            0xD4B: "Cortex-A78C",
            0xD4C: "Cortex-X1C",
            0xD4D: "Cortex-A715",
            0xD4E: "Cortex-X3",
            0xD4F: "Neoverse V2",
            0xD80: "Cortex-A520",
            0xD81: "Cortex-A720",
            0xD82: "Cortex-X4",
            0xD83: "Neoverse V3AE",
            0xD84: "Neoverse V3",
            0xD85: "Cortex-X925",
            0xD87: "Cortex-A725",
            0xD88: "Cortex-A520AE",
            0xD89: "Cortex-A720AE",
            0xD8A: "C1-Nano",
            0xD8B: "C1-Pro",
            0xD8C: "C1-Ultra",
            0xD8E: "Neoverse N3",
            0xD8F: "Cortex-A320",
            0xD90: "C1-Premium",
        },
    ),
    0x42: ("Broadcom", {0x100: "Brahma B53", 0x516: "ThunderX2"}),
    0x43: ("Cavium", {0x0A1: "ThunderX", 0x0AF: "ThunderX2", 0x0B8: "ThunderX3"}),
    0x46: ("Fujitsu", {0x001: "A64FX", 0x003: "MONAKA"}),
    0x48: ("HiSilicon", {0xD01: "TaiShan v110", 0xD02: "HIP09", 0xD06: "HIP12"}),
    0x4E: ("NVIDIA", {0x000: "Denver", 0x003: "Denver 2", 0x004: "Carmel", 0x010: "Olympus"}),
    0x50: ("APM", {0x000: "X-Gene"}),
    0x51: (
        "Qualcomm",
        {
            0x001: "Oryon",
            0x200: "Kryo",
            0x201: "Kryo",
            0x205: "Kryo",
            0x211: "Kryo",
            0x800: "Falkor or Kryo 2xx Gold",
            0x801: "Kryo 2xx Silver",
            0x802: "Kryo 3xx Gold",
            0x803: "Kryo 3xx Silver",
            0x804: "Kryo 4xx Gold",
            0x805: "Kryo 4xx Silver",
            0xC00: "Falkor",
            0xC01: "Saphira",
        },
    ),
    0x53: ("Samsung", {0x001: "Exynos M1", 0x002: "Exynos M3", 0x003: "Exynos M4", 0x004: "Exynos M5"}),
    0x61: (
        "Apple",
        {
            0x020: "A14 Icestorm",
            0x021: "A14 Firestorm",
            0x022: "M1 Icestorm",
            0x023: "M1 Firestorm",
            0x024: "M1 Pro Icestorm",
            0x025: "M1 Pro Firestorm",
            0x028: "M1 Max Icestorm",
            0x029: "M1 Max Firestorm",
            0x030: "A15 Blizzard",
            0x031: "A15 Avalanche",
            0x032: "M2 Blizzard",
            0x033: "M2 Avalanche",
            0x034: "M2 Pro Blizzard",
            0x035: "M2 Pro Avalanche",
            0x038: "M2 Max Blizzard",
            0x039: "M2 Max Avalanche",
        },
    ),
    0x6D: ("Microsoft", {0xD49: "Azure Cobalt 100"}),
    0x70: ("Phytium", {0x660: "FTC660", 0x661: "FTC661", 0x662: "FTC662", 0x663: "FTC663"}),
    0xC0: ("Ampere", {0xAC3: "Ampere-1", 0xAC4: "Ampere-1A", 0xAC5: "Ampere-1B"}),
}


def core_name(implementer: int, part: int) -> str:
    """The maker's name and the design's, or the numbers of a core that is not in the table."""
    maker, designs = CORES.get(implementer, ("", {}))
    if part not in designs:
        return f"implementer 0x{implementer:02x} part 0x{part:03x}"
    name = designs[part]
    return name if name.startswith(maker) else f"{maker} {name}"
