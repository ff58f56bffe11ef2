"""An import contract that names what is allowed: everything else that a part imports of the project is a violation."""

from __future__ import annotations

from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class AllowListContract(Contract):
    """``parts`` are modules with all below them; ``allowed`` are lines ``importer -> part, part``, and what those may
    import is allowed with them.

    Modules of ``ground`` may be imported by all but those of ``alone``. One that belongs to no part is a violation too.
    """

    parts = fields.ListField(subfield=fields.StringField())
    ground = fields.ListField(subfield=fields.StringField())
    alone = fields.ListField(subfield=fields.StringField())
    allowed = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002 the library's signature
        root = self.session_options["root_packages"][0]
        allowed = {part: {part} for part in [*self.parts, *self.ground]}
        for line in self.allowed:
            importer, _, imported = str(line).partition("->")
            allowed[importer.strip()] |= {part.strip() for part in imported.split(",")}
        for part in self.parts:
            allowed[part] |= set() if part in self.alone else set(self.ground)
        for _ in allowed:
            allowed = {part: own.union(*(allowed[each] for each in own)) for part, own in allowed.items()}
        problems = []
        for module in sorted(graph.modules):
            if module.split(".")[0] != root or module.startswith(f"{root}.__"):
                continue
            importer = self._part_of(module)
            if importer is None:
                if not any(part.startswith(f"{module}.") for part in allowed):
                    problems.append(f"{module} belongs to no part")
                continue
            for imported in sorted(graph.find_modules_directly_imported_by(module)):
                part = self._part_of(imported)
                if part is None or part in allowed[importer]:
                    continue
                lines = graph.get_import_details(importer=module, imported=imported)
                problems.append(f"{module} (l. {lines[0]['line_number']}) imports {imported}")
        return ContractCheck(kept=not problems, metadata={"problems": problems})

    def render_broken_contract(self, check: ContractCheck) -> None:
        problems: list[Any] = check.metadata["problems"]
        for problem in problems:
            output.print_error(problem)

    def _part_of(self, module: str) -> str | None:
        """The narrowest part that the module is in."""
        parts = [str(part) for part in [*self.parts, *self.ground] if f"{module}.".startswith(f"{part}.")]
        return max(parts, key=len, default=None)
